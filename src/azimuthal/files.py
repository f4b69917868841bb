"""Pattern files that refinement programs read."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from azimuthal.errors import FileFormatError
from azimuthal.pattern import Pattern
from azimuthal.units import radial_unit

HC_ANGSTROM_KEV = 12.398419843320026


def write_xye(path: str | Path, pattern: Pattern, comments: Iterable[str] = ()) -> None:
    """Write position, intensity and its standard error as text, one filled bin a line (TOPAS, GSAS-II).

    Parameters
    ----------
    path
        The file; it is replaced.
    pattern
        In a 2theta unit; degrees are written.  A q pattern is converted with its wavelength.
    comments
        Lines for the head of the file, such as sample and run; written after an apostrophe, as TOPAS takes them.

    Raises
    ------
    FileFormatError
        If the pattern's unit is not, and cannot be converted to, 2theta, or it is empty.
    """
    keep = pattern.filled
    if not keep.any():
        raise FileFormatError(f"{path}: the pattern has no filled bin to write")
    two_theta = two_theta_degrees(pattern)
    head = [*comments, f"azimuthal pattern, {pattern.conditions.splitting} splitting, {pattern.error_model} errors"]
    if pattern.wavelength is not None:
        angstrom = pattern.wavelength * 1e10
        head.append(f"wavelength {angstrom:.8g} A ({HC_ANGSTROM_KEV / angstrom:.6g} keV)")
    write_xye_columns(path, two_theta[keep], pattern.intensity[keep], pattern.sem[keep], head)


def write_xye_columns(
    path: str | Path, two_theta: ArrayLike, intensity: ArrayLike, sem: ArrayLike, comments: Iterable[str] = ()
) -> None:
    """Write three columns as `write_xye` does; for patterns of which only these are left, such as stored ones.

    Parameters
    ----------
    path
        The file; it is replaced.
    two_theta, intensity, sem
        (n,), degrees; lines with a value that is not finite are left out.
    comments
        Lines for the head of the file.

    Raises
    ------
    FileFormatError
        If no line is left.
    """
    columns = np.array([two_theta, intensity, sem], dtype=np.float64)
    rows = columns[:, np.isfinite(columns).all(axis=0)].T
    if not len(rows):
        raise FileFormatError(f"{path}: the pattern has no filled bin to write")
    head = [*comments, "2theta (degrees)  intensity  standard error"]
    lines = ["' " + part for line in head for part in str(line).splitlines()]
    lines += [f"{x:.8f} {y:.9g} {error:.9g}" for x, y, error in rows]
    Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")


def two_theta_degrees(pattern: Pattern) -> np.ndarray:
    """Return the bin centres of a pattern in degrees of 2theta, (npt,).

    Raises
    ------
    FileFormatError
        If the unit has no 2theta, the wavelength is unknown, or a bin lies beyond 180 degrees.
    """
    unit = radial_unit(pattern.unit)
    if unit.name.startswith("2th"):
        return pattern.radial if unit.name == "2th_deg" else np.degrees(pattern.radial)
    if not unit.name.startswith("q_"):
        raise FileFormatError(f"a pattern over {unit.name} cannot be written against 2theta; integrate in 2th_deg")
    if pattern.wavelength is None:
        raise FileFormatError(
            f"a pattern over {unit.name} needs one wavelength to be written against 2theta, and this one has none "
            "(or several were merged); integrate in 2th_deg"
        )
    sine = pattern.radial / unit.scale * pattern.wavelength / (4e-9 * np.pi)
    if (sine > 1).any():
        raise FileFormatError("bins beyond 2theta = 180 degrees; give the pattern a narrower range")
    return np.degrees(2.0 * np.arcsin(sine))
