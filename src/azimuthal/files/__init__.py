"""Pattern files that refinement programs read: .xye, .chi, .fxye and NXazint HDF5.

Every writer gives positions in what its format is for (a q pattern is converted with its wavelength), intensity and
standard error. Bins that are empty, or whose error is unknown, are left out or given weight 0, as the format allows.
A file appears under its name when it is complete, never before.
"""

from azimuthal.files.axis import two_theta_degrees
from azimuthal.files.chi import write_chi
from azimuthal.files.fxye import write_fxye
from azimuthal.files.nxazint import write_nxazint
from azimuthal.files.xye import write_xye, write_xye_columns

__all__ = ["two_theta_degrees", "write_chi", "write_fxye", "write_nxazint", "write_xye", "write_xye_columns"]
