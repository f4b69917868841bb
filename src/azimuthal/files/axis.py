"""What goes into the columns: positions in 2theta or q, and errors that a refinement may trust."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from azimuthal.errors import FileFormatError
from azimuthal.pattern import BinnedSums, Difference, Pattern
from azimuthal.units import RadialUnit, radial_unit

Array = NDArray[np.float64]
Axis = Literal["2theta", "q"]
Writable = BinnedSums | Difference[Any]
WritablePattern = Pattern | Difference[Pattern]

HC_ANGSTROM_KEV = 12.398419843320026
ROUNDING = 1e-12
"""An azimuthal variance below this share of the terms that it is the difference of is rounding, not an error."""


def own_axis(pattern: Writable) -> Axis:
    """Tell whether a pattern is over 2theta or over q.

    Raises
    ------
    FileFormatError
        If it is over something else.
    """
    kind = radial_unit(pattern.unit).kind
    if kind == "2theta" or kind == "q":
        return kind
    raise FileFormatError(
        f"a pattern over {pattern.unit} has neither 2theta nor q to write; integrate in 2th_deg or q_A^-1"
    )


def positions(pattern: Writable, values: Array, axis: Axis, wavelength: float | None = None) -> Array:
    """Convert radial `values` of a pattern's unit to degrees of 2theta or to q in 1/angstrom.

    `wavelength` is in metres; None takes the pattern's.

    Raises
    ------
    FileFormatError
        If the unit is neither, the wavelength is missing, or a q lies beyond 2theta = 180 degrees.
    """
    unit = radial_unit(pattern.unit)
    own = own_axis(pattern)
    inner = values / unit.scale  # radians, or 1/nm
    if own == axis:
        if axis == "q":
            return values if unit.name == "q_A^-1" else inner * 0.1
        return values if unit.name == "2th_deg" else np.degrees(inner)
    nm = 1e9 * (_wavelength(pattern, unit, axis) if wavelength is None else wavelength)
    if axis == "q":
        return 0.4 * np.pi / nm * np.sin(0.5 * inner)
    sine = inner * nm / (4.0 * np.pi)
    if (np.abs(sine) > 1.0).any():
        raise FileFormatError(
            f"{int((np.abs(sine) > 1.0).sum())} bins lie beyond 2theta = 180 degrees, where q ends at this wavelength; "
            "give the pattern a narrower range"
        )
    return np.degrees(2.0 * np.arcsin(sine))


def two_theta_degrees(pattern: Writable) -> Array:
    """Return the bin centres of a pattern in degrees of 2theta, (npt,).

    Raises
    ------
    FileFormatError
        If the unit has no 2theta, the wavelength is unknown, or a bin lies beyond 180 degrees.
    """
    return positions(pattern, pattern.radial, "2theta")


def trusted_sem(pattern: Writable) -> Array:
    """Return the standard error, in the shape of the intensity; 0 where it is unknown: nothing, or nothing to compare.

    A bin of one pixel, or of pixels that all agree, has an azimuthal variance of 0 up to rounding. Written as it is, it
    would outweigh the whole pattern.
    """
    if isinstance(pattern, Difference):
        sample, background = trusted_sem(pattern.sample), trusted_sem(pattern.background)
        return np.where((sample > 0.0) & (background > 0.0), np.hypot(sample, pattern.scale * background), 0.0)
    sem = np.where(pattern.filled, pattern.sem, 0.0)
    if pattern.error_model != "poisson":
        second_moment = pattern.sums[5]
        sem[pattern.azimuthal_variance <= ROUNDING * second_moment] = 0.0
    return np.nan_to_num(sem, nan=0.0, posinf=0.0)


def describe(pattern: Writable) -> str:
    """Tell in a line how a pattern was made."""
    made = pattern.conditions
    parts = [
        f"{made.splitting} splitting",
        f"{made.solid_angle or 'no'} solid angle",
        "no polarization" if made.polarization is None else f"polarization {made.polarization[0]:g}",
    ]
    if made.parallax:
        parts.append("parallax corrected")
    if made.outliers:
        parts.append(f"outliers {made.outliers}")
    if isinstance(pattern, Difference):
        parts.append(f"{pattern.scale:g} times a background subtracted")
    return f"azimuthal pattern: {', '.join(parts)}, {pattern.error_model} errors"


def describe_wavelength(wavelength: float) -> str:
    """Tell a wavelength given in metres."""
    angstrom = wavelength * 1e10
    return f"wavelength {angstrom:.8g} A ({HC_ANGSTROM_KEV / angstrom:.6g} keV)"


def _wavelength(pattern: Writable, unit: RadialUnit, axis: Axis) -> float:
    if pattern.wavelength is None:
        better = "2th_deg" if axis == "2theta" else "q_A^-1"
        raise FileFormatError(
            f"a pattern over {unit.name} needs one wavelength to be written against {axis}, and this one has none "
            f"(or several were merged); integrate in {better}"
        )
    return pattern.wavelength
