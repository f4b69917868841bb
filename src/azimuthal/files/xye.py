"""The .xye file of TOPAS and GSAS-II: comments, then 2theta, intensity and standard error."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from azimuthal.errors import FileFormatError
from azimuthal.files.axis import WritablePattern, describe, describe_wavelength, positions, trusted_sem
from azimuthal.files.whole import plain_lines, write_lines


def write_xye(path: str | Path, pattern: WritablePattern, comments: Iterable[str] = ()) -> None:
    """Write 2theta in degrees, intensity and its standard error as text, one bin a line (TOPAS, GSAS-II).

    Bins that are empty or have no standard error (one pixel, or pixels that all agree) are left out: GSAS-II stops
    reading at an error of 0.

    Parameters
    ----------
    path
        The file; it is replaced.
    pattern
        A Pattern, or one less a background; over 2theta, or over q with its wavelength: bin centres are then converted
        (and no longer equidistant, which this format allows).
    comments
        Lines for the head of the file, such as sample, geometry and run; written after an apostrophe, as TOPAS takes
        them. GSAS-II reads ``temperature = 300`` (kelvin). A small q is written as Q: GSAS-II takes a comment with a q
        in it for the sign of a q axis.

    Raises
    ------
    FileFormatError
        If the pattern's unit is not, and cannot be converted to, 2theta, or no bin is left.
    FileNotFoundError
        If there is no such folder.
    """
    check_pattern(path, pattern)
    sem = trusted_sem(pattern)
    keep = sem > 0.0
    check_bins(path, pattern, int(keep.sum()))
    two_theta = positions(pattern, pattern.radial[keep], "2theta")
    head = [*comments, describe(pattern)] if not isinstance(comments, str) else [comments, describe(pattern)]
    if pattern.wavelength is not None:
        head.append(describe_wavelength(pattern.wavelength))
    lost = int((pattern.filled & ~keep).sum())
    if lost:
        head.append(f"{lost} bins without a standard error are left out")
    write_xye_columns(path, two_theta, pattern.intensity[keep], sem[keep], head)


def write_xye_columns(
    path: str | Path, two_theta: ArrayLike, intensity: ArrayLike, sem: ArrayLike, comments: Iterable[str] = ()
) -> None:
    """Write three columns as `write_xye` does; for patterns of which only these are left, such as stored ones.

    Parameters
    ----------
    path
        The file; it is replaced.
    two_theta, intensity, sem
        (n,), degrees; lines with a value that is not finite, or an error that is not above 0, are left out.
    comments
        Lines for the head of the file, as for `write_xye`.

    Raises
    ------
    FileFormatError
        If no line is left.
    FileNotFoundError
        If there is no such folder.
    """
    columns = np.array([two_theta, intensity, sem], dtype=np.float64)
    rows = columns[:, np.isfinite(columns).all(axis=0) & (columns[2] > 0)].T
    if not len(rows):
        raise FileFormatError(f"{path}: the pattern has no bin with an intensity and a standard error to write")
    head = [*plain_lines(comments), "2theta (degrees)  intensity  standard error"]
    lines = [f"' {line}".rstrip().replace("q", "Q") for line in head]
    write_lines(path, lines + [f"{x:.8f} {y:.9g} {error:.9g}" for x, y, error in rows])


def check_pattern(path: str | Path, pattern: WritablePattern) -> None:
    """Refuse what is no single pattern."""
    if pattern.intensity.ndim != 1:
        raise FileFormatError(
            f"{path}: a cake is no single pattern; write cake.sector(lo, hi), or the whole cake with write_nxazint"
        )


def check_bins(path: str | Path, pattern: WritablePattern, kept: int) -> None:
    """Refuse a pattern of which nothing would be written."""
    if not pattern.filled.any():
        raise FileFormatError(f"{path}: the pattern has no filled bin to write")
    if not kept:
        raise FileFormatError(
            f"{path}: no bin has a standard error under the {pattern.error_model} model (one pixel a bin, or all "
            'pixels equal); write pattern.with_errors("poisson")'
        )
