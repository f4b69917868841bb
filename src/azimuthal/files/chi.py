"""The .chi file of Fit2D: title, two axis labels, number of points, then columns."""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from azimuthal.files.axis import Axis, WritablePattern, describe_wavelength, own_axis, positions, trusted_sem
from azimuthal.files.whole import plain_lines, write_lines
from azimuthal.files.xye import check_bins, check_pattern


def write_chi(
    path: str | Path,
    pattern: WritablePattern,
    comments: Iterable[str] = (),
    *,
    axis: Axis | None = None,
    columns: Literal[2, 3] = 3,
) -> None:
    """Write a pattern as Fit2D does: four lines of head, then position, intensity and (in a third column) its error.

    Fit2D itself writes two columns; programs that expect them take the first two of three. With two, GSAS-II weights
    by 1/intensity, which is wrong for anything but raw counts. With three, bins without a standard error are left out.

    Parameters
    ----------
    path
        The file; it is replaced. GSAS-II wants ``.chi`` in its name.
    pattern
        A Pattern, or one less a background; over 2theta or q.
    comments
        Go into the title, the first line, separated by semicolons.
    axis
        "2theta" (degrees) or "q" converts with the wavelength; None takes what the pattern is over. q is written in
        the unit of the pattern, in 1/angstrom when converted. GSAS-II reads q in 1/angstrom with the wavelength in
        front of the title, which is where it goes when it is known; Fit2D's own 1/nm it cannot read.
    columns
        2 or 3.

    Raises
    ------
    FileFormatError
        If the unit is neither 2theta nor q, cannot be converted, or no bin is left.
    FileNotFoundError
        If there is no such folder.
    """
    check_pattern(path, pattern)
    sem = trusted_sem(pattern)
    keep = sem > 0.0 if columns == 3 else pattern.filled
    check_bins(path, pattern, int(keep.sum()))
    target = own_axis(pattern) if axis is None else axis
    in_nm = target == "q" and pattern.unit == "q_nm^-1"
    centres = pattern.radial[keep]
    x = centres if in_nm else positions(pattern, centres, target)
    title = "; ".join(plain_lines(comments)) or "azimuthal pattern"
    if pattern.wavelength is not None:
        title = f"{title}; {describe_wavelength(pattern.wavelength)}"
    head = _head_of_two_theta(title) if target == "2theta" else _head_of_q(title, pattern.wavelength, in_nm)
    lines = [*head, f"{x.size:12d}"]
    values = (x, pattern.intensity[keep], sem[keep])[:columns]
    lines += ["".join(f" {value: .9E}" for value in row) for row in zip(*values, strict=True)]
    write_lines(path, lines)


def _head_of_two_theta(title: str) -> list[str]:
    # "2-theta" in the title keeps GSAS-II from taking a "q " in it for the sign of a q axis.
    return [f"{title}: 2-theta Scan", "2-Theta Angle (Degrees)", "Intensity"]


def _head_of_q(title: str, wavelength: float | None, in_nm: bool) -> list[str]:
    # The same the other way round; and GSAS-II takes the second word of a line with "q " in it as the wavelength.
    for sign in ("2-theta", "2-Theta", "2-THETA"):
        title = title.replace(sign, "2theta")
    title = title.replace("chi_2theta", "chi 2theta")
    if in_nm:
        return [f"{title}: Q-Space Scan", "Q (Inverse Nanometres)", "Intensity"]
    front = f"Q {wavelength * 1e10:.8g} A; " if wavelength is not None else ""
    return [f"{front}{title}: Q-Space Scan", "Q (Inverse Angstroms)", "Intensity"]
