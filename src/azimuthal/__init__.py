"""Azimuthal integration of area-detector frames into exact, mergeable powder patterns.

A frame's way: `Geometry` (where the detector is) and `RadialBins` make an `Integrator`; it turns frames into
`Pattern` objects, which merge with ``|`` or `union`; `MultiGeometry` does so for detectors that move.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from azimuthal.bins import AzimuthalBins, RadialBins
    from azimuthal.detector import Detector
    from azimuthal.errors import AzimuthalError
    from azimuthal.files import write_chi, write_fxye, write_nxazint, write_xye
    from azimuthal.geometry import Geometry
    from azimuthal.goniometer import Goniometer
    from azimuthal.integrator import Integrator
    from azimuthal.multigeometry import IntegratorCache, MeanFrames, MultiGeometry
    from azimuthal.pattern import (
        Cake,
        Difference,
        Pattern,
        grade,
        independent_frames,
        independent_frames_from,
        load_pattern,
        union,
    )
    from azimuthal.units import RadialUnit, radial_unit

__all__ = [
    "AzimuthalBins",
    "AzimuthalError",
    "Cake",
    "Detector",
    "Difference",
    "Geometry",
    "Goniometer",
    "Integrator",
    "IntegratorCache",
    "MeanFrames",
    "MultiGeometry",
    "Pattern",
    "RadialBins",
    "RadialUnit",
    "grade",
    "independent_frames",
    "independent_frames_from",
    "load_pattern",
    "radial_unit",
    "union",
    "write_chi",
    "write_fxye",
    "write_nxazint",
    "write_xye",
]

# Rooms are opened at first use: a program that only reads a pattern does not wait for numba.
_ROOMS = {
    "AzimuthalBins": "azimuthal.bins",
    "AzimuthalError": "azimuthal.errors",
    "Cake": "azimuthal.pattern",
    "Detector": "azimuthal.detector",
    "Difference": "azimuthal.pattern",
    "Geometry": "azimuthal.geometry",
    "Goniometer": "azimuthal.goniometer",
    "Integrator": "azimuthal.integrator",
    "IntegratorCache": "azimuthal.multigeometry",
    "MeanFrames": "azimuthal.multigeometry",
    "MultiGeometry": "azimuthal.multigeometry",
    "Pattern": "azimuthal.pattern",
    "RadialBins": "azimuthal.bins",
    "RadialUnit": "azimuthal.units",
    "grade": "azimuthal.pattern",
    "independent_frames": "azimuthal.pattern",
    "independent_frames_from": "azimuthal.pattern",
    "load_pattern": "azimuthal.pattern",
    "radial_unit": "azimuthal.units",
    "union": "azimuthal.pattern",
    "write_chi": "azimuthal.files",
    "write_fxye": "azimuthal.files",
    "write_nxazint": "azimuthal.files",
    "write_xye": "azimuthal.files",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its room."""
    if name not in _ROOMS:
        raise AttributeError(f"module 'azimuthal' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_ROOMS[name]), name)
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
