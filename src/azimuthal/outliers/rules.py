"""What counts as an outlier: rules with their parameters, checked, and how a pattern says which one it went through."""

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypedDict, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from azimuthal.errors import FrameError
from azimuthal.outliers import kernels
from azimuthal.pattern import ErrorModel

ClipModel = Literal["azimuthal", "poisson", "hybrid"]


class FrameKeywords(TypedDict, total=False):
    """What goes with a frame; see `Integrator.integrate`."""

    dark: ArrayLike | None
    dark_variance: ArrayLike | None
    variance: ArrayLike | None
    monitor: float | Sequence[float] | NDArray[np.floating]
    mask: ArrayLike | None


class Rule(Protocol):
    """Finds, ring by ring, what to keep, and sums it."""

    @property
    def treatment(self) -> str:
        """What patterns say of it; patterns that differ in this do not merge."""

    @property
    def error_model(self) -> ErrorModel:
        """The error model of the patterns."""

    def sum_rings(self, start: int, stop: int, entries: tuple[Any, ...], sums: NDArray[Any]) -> int:
        """Write the sums of rings start..stop to columns of `sums`, (7, bins); return the pixels left out."""


@dataclass(frozen=True)
class SigmaClip:
    """Drop |v - I| > cut * std, strictly, ring by ring, until nothing goes any more.

    ``cut`` = max(threshold, sqrt(2 ln(n / sqrt(2 pi)))) with n = max(3, N): Chauvenet's criterion, so that the longer a
    ring, the further out its values may lie. A threshold below about 2 leaves nothing of rings of few pixels.

    Attributes
    ----------
    threshold
        In standard deviations; 0 leaves Chauvenet's criterion alone.
    max_iter
        Rounds at most; 0 drops nothing.
    model
        Where the standard deviation comes from: "azimuthal", the scatter along the ring; "poisson", counting
        statistics; "hybrid", the scatter for clipping and counting statistics for the errors of the result.

    Raises
    ------
    FrameError
        If the threshold is negative or not finite, max_iter is negative or no whole number, or there is no such model.
    """

    threshold: float = 5.0
    max_iter: int = 5
    model: ClipModel = "azimuthal"

    def __post_init__(self) -> None:
        """Check and normalise."""
        threshold = float(self.threshold)
        if not math.isfinite(threshold) or threshold < 0.0:
            raise FrameError(
                f"threshold: {self.threshold!r} standard deviations; give a finite number of at least 0 "
                "(0: Chauvenet's criterion alone)"
            )
        object.__setattr__(self, "threshold", threshold)
        try:
            rounds = operator.index(self.max_iter)
        except TypeError:
            rounds = -1
        if rounds < 0:
            raise FrameError(f"max_iter: {self.max_iter!r} rounds; give a whole number of at least 0")
        object.__setattr__(self, "max_iter", rounds)
        if self.model not in get_args(ClipModel):
            raise FrameError(
                f"error_model: {self.model!r} does not exist; choose one of {', '.join(get_args(ClipModel))}"
            )

    @property
    def treatment(self) -> str:
        """What patterns say of it; hybrid clips as azimuthal does and may be merged with it."""
        spread = "poisson" if self.model == "poisson" else "azimuthal"
        return f"sigma_clip threshold={self.threshold!r} max_iter={self.max_iter} {spread}"

    @property
    def error_model(self) -> ErrorModel:
        """The error model of the patterns."""
        return "azimuthal" if self.model == "azimuthal" else "poisson"

    def sum_rings(self, start: int, stop: int, entries: tuple[Any, ...], sums: NDArray[Any]) -> int:
        """Write the sums of rings start..stop to columns of `sums`, (7, bins); return the pixels left out."""
        model = self.model == "poisson"
        return int(kernels.clip_rings(start, stop, *entries, self.threshold, self.max_iter, model, sums))


@dataclass(frozen=True)
class Quantiles:
    """Keep what lies between two quantiles of a ring, in cumulative weight; equal values are one entry.

    Kept are the entries wholly inside the interval, and one that holds all of it. Where that is nothing, the interval
    lies across the boundary of two entries: the one that holds its middle is kept, or both when the middle is their
    boundary. Lower = upper = 0.5 is the median; of two equally heavy middle entries, their mean.

    Attributes
    ----------
    lower, upper
        Fractions of the ring's weight, 0 <= lower <= upper <= 1.

    Raises
    ------
    FrameError
        If they are outside 0..1, not a number, or in the wrong order.
    """

    lower: float
    upper: float

    def __post_init__(self) -> None:
        """Check and normalise."""
        for name in ("lower", "upper"):
            value = float(getattr(self, name))
            if not 0.0 <= value <= 1.0:
                raise FrameError(f"quantiles: {name} is {value!r}; give fractions from 0 to 1 (0.1 for 10 %)")
            object.__setattr__(self, name, value)
        if self.lower > self.upper:
            raise FrameError(f"quantiles: lower {self.lower!r} is above upper {self.upper!r}; swap them")

    @property
    def treatment(self) -> str:
        """What patterns say of it."""
        return "median" if self.lower == self.upper == 0.5 else f"quantile_mean {self.lower!r} {self.upper!r}"

    @property
    def error_model(self) -> ErrorModel:
        """The error model of the patterns."""
        return "azimuthal"

    def sum_rings(self, start: int, stop: int, entries: tuple[Any, ...], sums: NDArray[Any]) -> int:
        """Write the sums of rings start..stop to columns of `sums`, (7, bins); return the pixels left out."""
        return int(kernels.quantile_rings(start, stop, *entries, self.lower, self.upper, sums))
