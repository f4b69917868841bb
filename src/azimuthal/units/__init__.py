"""Radial units: from a point in the laboratory to q, 2θ, radius, (q/2π)² or azimuth, and their names.

Names, meanings and scales are those of pyFAI.
"""

import difflib
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from azimuthal.errors import UnitError
from azimuthal.units import kernels
from azimuthal.units.kernels import fill_azimuth, fill_radial

__all__ = ["Kind", "RadialUnit", "fill_azimuth", "fill_radial", "radial_unit", "radial_unit_names"]

Floats = npt.NDArray[np.float64]
Kind = Literal["2theta", "q", "radius", "d*2", "chi", "log10 q", "ln q", "log1p q", "arcsinh q"]

_CODES: dict[Kind, int] = {
    "2theta": kernels.TWO_THETA,
    "q": kernels.Q,
    "radius": kernels.RADIUS,
    "d*2": kernels.DSTAR2,
    "chi": kernels.CHI,
    "log10 q": kernels.LOG10,
    "ln q": kernels.LN,
    "log1p q": kernels.LOG1P,
    "arcsinh q": kernels.ARCSINH,
}


@dataclass(frozen=True)
class RadialUnit:
    """A radial coordinate and the unit it is told in.

    Attributes
    ----------
    name
        pyFAI's name, e.g. ``"q_A^-1"``.
    quantity, symbol
        What is on the axis and in which unit, for people: ``"q"`` and ``"Å⁻¹"``.
    scale
        Factor from the internal unit (radians, nm⁻¹, metres, nm⁻²; reference: pyFAI's ``units.py``) to this one. For
        the logarithms of q it is the factor of q inside the logarithm.
    kind
        Which formula.
    nonnegative
        Whether values below zero cannot occur.
    """

    name: str
    quantity: str
    symbol: str
    scale: float
    kind: Kind
    nonnegative: bool = True

    @property
    def needs_wavelength(self) -> bool:
        """Whether the coordinate depends on the wavelength."""
        return self.kind not in ("2theta", "radius", "chi")

    @property
    def label(self) -> str:
        """Axis label, e.g. ``"q (Å⁻¹)"``."""
        return f"{self.quantity} ({self.symbol})" if self.symbol else self.quantity

    def __str__(self) -> str:
        """Return the name."""
        return self.name

    def kernel_arguments(self, wavelength: float | None) -> tuple[int, float]:
        """Return the code and factor that the kernels take.

        Parameters
        ----------
        wavelength
            In metres; may be None for units that do not need it.

        Raises
        ------
        UnitError
            When the unit needs a wavelength and there is none.
        """
        code = _CODES[self.kind]
        if not self.needs_wavelength:
            return code, self.scale
        if wavelength is None:
            raise UnitError(
                f"{self.name} needs a wavelength and the geometry has none: add a line 'Wavelength: ...' (metres) to "
                'the PONI file, "wavelength" to the goniometer file, or dataclasses.replace(geometry, wavelength=...)'
            )
        if self.kind == "d*2":
            return code, self.scale * (2e-9 / wavelength) ** 2
        return code, self.scale * (4e-9 * math.pi / wavelength)

    def from_lab(self, y: npt.ArrayLike, x: npt.ArrayLike, z: npt.ArrayLike, wavelength: float | None = None) -> Floats:
        """Return the radial coordinate of points in the laboratory.

        Parameters
        ----------
        y, x, z
            Coordinates in metres that broadcast against each other: up, towards the ring's centre, along the beam.
        wavelength
            In metres; may be None for units that do not need it.

        Returns
        -------
        ndarray of float64
            In this unit, of the broadcast shape.

        Raises
        ------
        UnitError
            When the unit needs a wavelength and there is none.
        """
        code, factor = self.kernel_arguments(wavelength)
        points = np.broadcast_arrays(*(np.asarray(a, dtype=np.float64) for a in (y, x, z)))
        out = np.empty(points[0].shape)
        flat_y, flat_x, flat_z = (np.ascontiguousarray(a).reshape(-1) for a in points)
        fill_radial(code, factor, flat_y, flat_x, flat_z, out.reshape(-1))
        return out


_UNITS = {
    unit.name: unit
    for unit in (
        RadialUnit("2th_deg", "2θ", "°", 180.0 / math.pi, "2theta"),
        RadialUnit("2th_rad", "2θ", "rad", 1.0, "2theta"),
        RadialUnit("q_nm^-1", "q", "nm⁻¹", 1.0, "q"),
        RadialUnit("q_A^-1", "q", "Å⁻¹", 0.1, "q"),
        RadialUnit("r_m", "r", "m", 1.0, "radius"),
        RadialUnit("r_mm", "r", "mm", 1000.0, "radius"),
        RadialUnit("d*2_nm^-2", "d*²", "nm⁻²", 1.0, "d*2"),
        RadialUnit("d*2_A^-2", "d*²", "Å⁻²", 0.01, "d*2"),
        RadialUnit("chi_deg", "χ", "°", 180.0 / math.pi, "chi", nonnegative=False),
        RadialUnit("chi_rad", "χ", "rad", 1.0, "chi", nonnegative=False),
        RadialUnit("log10(q.m)_None", "log₁₀(q·m)", "", 1e9, "log10 q", nonnegative=False),
        RadialUnit("log(q.nm)_None", "ln(q·nm)", "", 1.0, "ln q", nonnegative=False),
        RadialUnit("log(1+q.nm)_None", "ln(1 + q·nm)", "", 1.0, "log1p q"),
        RadialUnit("log(1+q.A)_None", "ln(1 + q·Å)", "", 0.1, "log1p q"),
        RadialUnit("arcsinh(q.nm)_None", "arcsinh(q·nm)", "", 1.0, "arcsinh q"),
        RadialUnit("arcsinh(q.A)_None", "arcsinh(q·Å)", "", 0.1, "arcsinh q"),
    )
}
# What people write, and the spelling nearest to it is not what they mean.
_MEANT = dict.fromkeys(("2theta", "2-theta", "two_theta", "twotheta", "tth", "2th", "2θ"), ("2th_deg",))


def radial_unit(name: str | RadialUnit) -> RadialUnit:
    """Return the unit of this name.

    Parameters
    ----------
    name
        A name out of :func:`radial_unit_names` (the ``_None`` of dimensionless ones may be left out), or a unit,
        which is returned as it is.

    Raises
    ------
    UnitError
        For an unknown name; the message lists what exists.
    """
    if isinstance(name, RadialUnit):
        return name
    unit = _UNITS.get(name) or _UNITS.get(f"{name}_None") if isinstance(name, str) else None
    if unit is None:
        near = _MEANT.get(str(name).lower()) or difflib.get_close_matches(str(name), _UNITS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UnitError(f"unknown radial unit {name!r}: {hint}there are {', '.join(_UNITS)}")
    return unit


def radial_unit_names() -> tuple[str, ...]:
    """Return the names of all radial units."""
    return tuple(_UNITS)
