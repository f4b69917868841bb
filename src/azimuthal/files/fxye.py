"""The .fxye file of GSAS: records of 80 columns, positions in centidegrees."""

import textwrap
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from azimuthal.errors import FileFormatError
from azimuthal.files.axis import WritablePattern, describe, describe_wavelength, own_axis, positions, trusted_sem
from azimuthal.files.whole import plain_lines, write_lines
from azimuthal.files.xye import check_bins, check_pattern

WIDTH = 80


def write_fxye(
    path: str | Path, pattern: WritablePattern, comments: Iterable[str] = (), *, title: str | None = None, bank: int = 1
) -> None:
    """Write a pattern for GSAS: title, comments, a BANK record, then centidegrees, intensity and standard error.

    Every record has 80 columns and ends with CR and LF. The BANK record promises constant steps, so empty bins inside
    the pattern are written with intensity and error 0, which GSAS and GSAS-II take as weight 0; so are errors that are
    unknown (one pixel, or pixels that all agree). Empty bins at both ends are left out.

    Parameters
    ----------
    path
        The file; it is replaced.
    pattern
        A Pattern, or one less a background; over 2theta in equal steps.
    comments
        Records that begin with ``#`` between title and BANK, folded at 80 columns. GSAS-II reads
        ``Temperature = 300`` (kelvin).
    title
        The first record, at most 80 columns; None takes the first comment.
    bank
        Number of the bank.

    Raises
    ------
    FileFormatError
        If the pattern is not over 2theta, its steps are not equal, or no bin is left.
    FileNotFoundError
        If there is no such folder.
    """
    check_pattern(path, pattern)
    _check_steps(pattern)
    filled = np.flatnonzero(pattern.filled)
    sem = trusted_sem(pattern)
    check_bins(path, pattern, int((sem > 0).sum()))
    kept = slice(int(filled[0]), int(filled[-1]) + 1)
    centidegrees = 100.0 * positions(pattern, pattern.radial, "2theta")[kept]
    step = 100.0 * float(positions(pattern, pattern.edges[[0, -1]], "2theta") @ [-1.0, 1.0]) / (pattern.edges.size - 1)
    lines = plain_lines(comments)
    if title is None:
        title = lines.pop(0) if lines else "azimuthal pattern"
    lines.append(describe(pattern))
    if pattern.wavelength is not None:
        lines.append(describe_wavelength(pattern.wavelength))
    points = centidegrees.size
    records = ["".join(plain_lines(title.replace("\n", " ")))[:WIDTH]]
    for line in lines:
        records += textwrap.wrap(line, WIDTH, initial_indent="# ", subsequent_indent="#   ") or ["#"]
    records.append(f"BANK {bank:d} {points:d} {points:d} CONS {centidegrees[0]:.6f} {step:.6f} 0 0 FXYE")
    intensity = np.where(pattern.filled, pattern.intensity, 0.0)[kept]
    rows = zip(centidegrees, intensity, sem[kept], strict=True)
    records += [f"{x:20.6f} {y:20.9E} {error:20.9E}" for x, y, error in rows]
    write_lines(path, (record.ljust(WIDTH) for record in records), end="\r\n")


def _check_steps(pattern: WritablePattern) -> None:
    """Refuse what has no constant step in 2theta."""
    if own_axis(pattern) == "q":
        raise FileFormatError(
            f"a pattern over {pattern.unit} has no constant step in 2theta, which GSAS's CONS records need, and "
            "interpolating would correlate its errors; integrate in 2th_deg, or use write_xye or write_nxazint"
        )
    widths = np.diff(pattern.edges)
    if np.ptp(widths) > 1e-6 * widths.mean():
        raise FileFormatError(
            f"the bins of this pattern are {widths.min():g} to {widths.max():g} wide, and GSAS's CONS records need a "
            "constant step; rebin by a whole number, or use write_xye or write_nxazint"
        )
