"""Which edges stay when bins are put together, and what that does to errors."""

import warnings

import numpy as np
from numpy.typing import ArrayLike, NDArray

from azimuthal.errors import PatternError

COINCIDES = 1e-6
"""Part of a bin within which an edge counts as an old one."""


def kept_edges(edges: NDArray[np.float64], factor: int | ArrayLike) -> NDArray[np.intp]:
    """Return the numbers of the edges that stay, ascending, (new bins + 1,).

    Parameters
    ----------
    edges
        (npt + 1,) float64.
    factor
        How many bins become one, or the edges to keep.

    Raises
    ------
    PatternError
        If the factor does not divide the bins, or an edge does not coincide with an old one.
    """
    npt = edges.size - 1
    if np.ndim(factor) == 0:
        try:
            step = int(factor)  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError):
            step = 0
        if isinstance(factor, bool) or step != factor or step < 1 or npt % step:
            divisors = ", ".join(str(d) for d in range(1, npt + 1) if npt % d == 0)
            raise PatternError(f"rebin: {factor!r} does not divide {npt} bins; what does: {divisors}")
        return np.arange(0, npt + 1, step)
    try:
        wanted = np.asarray(factor, np.float64)
    except (TypeError, ValueError):
        raise PatternError(f"rebin: {factor!r} are no edges") from None
    if wanted.ndim != 1 or wanted.size < 2 or not (np.diff(wanted) > 0).all():
        raise PatternError("rebin: edges must ascend, at least two of them")
    kept = np.abs(edges[None, :] - wanted[:, None]).argmin(axis=1)
    off = ~(np.abs(edges[kept] - wanted) <= COINCIDES * np.diff(edges).min())
    if off.any():
        at = int(np.flatnonzero(off)[0])
        edge, nearest = float(wanted[at]), float(edges[kept[at]])
        raise PatternError(f"rebin: edge {edge} is none of the pattern's; the nearest is {nearest}")
    return kept


def warn_of_low_errors(what: str, splitting: str) -> None:
    """Warn that bins which share pixels were put together as if they did not."""
    if splitting != "no":
        warnings.warn(
            f"{what}: with splitting {splitting!r} neighbouring bins share pixels, so that errors come out low; "
            "intensities are exact",
            UserWarning,
            stacklevel=3,
        )
