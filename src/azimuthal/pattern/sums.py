"""The seven sums of DESIGN 3 and everything that is read from them directly.

All are float64 and additive, so patterns merge by adding them. ``c`` is a pixel's share of the bin, ``s`` its signal,
``n`` its normalization, ``w = c n`` its weight and ``v = s / n`` its value.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, Self, TypeVar, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from azimuthal.errors import MergeError, PatternError
from azimuthal.pattern.rebin import kept_edges, warn_of_low_errors

if TYPE_CHECKING:
    from azimuthal.pattern.difference import Difference

Array = NDArray[np.float64]
ErrorModel = Literal["azimuthal", "poisson"]

SUMS = ("count", "sum_signal", "sum_normalization", "sum_normalization2", "sum_w2v", "sum_w2v2", "sum_poisson")
"""Rows of a sums array: N, V, W, Q, A = sum w^2 v, B = sum w^2 v^2, P = sum c^2 var."""


ROUNDING = 2.0**-49
"""Part of the sum of squares below which a variance is the rounding of its terms: 8 times that of float64."""

T = TypeVar("T", bound="BinnedSums")

_EVERYTHING = slice(None)


@dataclass(frozen=True)
class Conditions:
    """How a pattern came about, as far as patterns must agree in it to be merged.

    Attributes
    ----------
    splitting
        "no", "bbox" or "full".
    solid_angle
        "relative", "absolute" or None.
    polarization
        Factor and axis offset in radians, or None.
    parallax
        Whether pixel positions were corrected for it.
    outliers
        What was done about outliers, such as "sigma_clip 5", or None.
    """

    splitting: str
    solid_angle: Literal["relative", "absolute"] | None = None
    polarization: tuple[float, float] | None = None
    parallax: bool = False
    outliers: str | None = None

    def difference(self, other: "Conditions") -> str | None:
        """Name the first thing in which `other` differs, with both values; None where nothing does."""
        if self == other:
            return None
        for item in fields(self):
            mine, theirs = getattr(self, item.name), getattr(other, item.name)
            if mine != theirs:
                return f"{item.name} differs ({mine!r} and {theirs!r})"
        return None


@dataclass(frozen=True, eq=False)
class BinnedSums:
    """Sums over bins, and what follows from them bin by bin.

    Attributes
    ----------
    unit
        Name of the radial unit, such as "q_A^-1".
    edges
        (npt + 1,) float64, radial bin edges in that unit.
    sums
        (7, ...) float64, read-only, rows as in `SUMS`.
    conditions
        What must agree for a merge.
    error_model
        Which variance `sem`, `std` and `sum_variance` speak of.
    gain
        Variance of one count, which a bin without counts falls back to.
    masked_pixels
        Pixels that were left out, summed over the frames.
    wavelength
        Metres; None where unknown or different between merged parts.
    """

    unit: str
    edges: Array
    sums: Array
    conditions: Conditions
    error_model: ErrorModel = "azimuthal"
    gain: float = 1.0
    masked_pixels: int = 0
    wavelength: float | None = None

    def __post_init__(self) -> None:
        """Freeze the arrays; a pattern is a value."""
        for name in ("edges", "sums"):
            object.__setattr__(self, name, _frozen(getattr(self, name)))
        if self.sums.shape[0] != len(SUMS) or self.sums.shape[-1] != self.edges.size - 1:
            raise PatternError(f"sums: shape {self.sums.shape} does not fit {self.edges.size - 1} bins")

    @property
    def radial(self) -> Array:
        """Bin centres, (npt,), in the pattern's unit."""
        return 0.5 * (self.edges[:-1] + self.edges[1:])

    @property
    def count(self) -> Array:
        """N, the number of pixels in each bin, split ones by their share."""
        return self.sums[0]

    @property
    def sum_signal(self) -> Array:
        """V, counts less dark."""
        return self.sums[1]

    @property
    def sum_normalization(self) -> Array:
        """W, flat * solid angle * polarization * absorption * monitor."""
        return self.sums[2]

    @property
    def sum_normalization2(self) -> Array:
        """Q, squared weights."""
        return self.sums[3]

    @property
    def sum_poisson(self) -> Array:
        """P, the variance that counting statistics (or a given variance array) explains."""
        return self.sums[6]

    @cached_property
    def filled(self) -> NDArray[np.bool_]:
        """Whether a bin holds anything; read-only."""
        filled: NDArray[np.bool_] = (self.sums[0] > 0) & (self.sums[2] != 0)
        filled.flags.writeable = False
        return filled

    @property
    def intensity(self) -> Array:
        """V / W; NaN in an empty bin."""
        return _ratio(self.sum_signal, self.sum_normalization, self.filled)

    @cached_property
    def azimuthal_variance(self) -> Array:
        """Sum w^2 (v - I)^2 = B - 2 I A + I^2 Q; 0 in an empty bin, or where only rounding is left; read-only."""
        mean = np.where(self.filled, self.intensity, 0.0)
        _, _, _, Q, A, B, _ = self.sums
        variance = B - mean * (2.0 * A - mean * Q)
        return _frozen(np.where(variance > ROUNDING * B, variance, 0.0))

    @property
    def sum_variance(self) -> Array:
        """The variance of the sum of signals, after the pattern's error model."""
        return self.azimuthal_variance if self.error_model == "azimuthal" else self.sum_poisson

    @property
    def sem(self) -> Array:
        """Standard error of the intensity, sqrt(VV) / W; NaN in an empty bin."""
        return _ratio(np.sqrt(self._variance_to_report()), np.abs(self.sum_normalization), self.filled)

    @property
    def std(self) -> Array:
        """Spread of one pixel, sqrt(VV / Q); NaN in an empty bin."""
        return np.sqrt(_ratio(self._variance_to_report(), self.sum_normalization2, self.filled))

    def with_errors(self, error_model: ErrorModel) -> Self:
        """Return the same sums with `sem`, `std` and `sum_variance` after another error model.

        Raises
        ------
        PatternError
            If there is no such error model.
        """
        if error_model not in get_args(ErrorModel):
            raise PatternError(f"error_model: {error_model!r} does not exist; choose 'azimuthal' or 'poisson'")
        return self._replace(error_model=error_model)

    def with_sums(self, sums: Array, masked_pixels: int = 0) -> Self:
        """Return a pattern of the same kind with other sums, (7, ...); `masked_pixels` goes with them."""
        return self._replace(sums=np.array(sums, np.float64), masked_pixels=masked_pixels)

    def rebin(self, factor: int | ArrayLike) -> Self:
        """Return the same sums in wider radial bins.

        Intensities are exact. Errors are exact without splitting; with splitting a UserWarning says that they come out
        low, because neighbouring bins share pixels.

        Parameters
        ----------
        factor
            How many bins become one, a divisor of their number; or the edges of the new bins, each of which must be an
            edge of the old ones. Bins outside the new edges are dropped.

        Raises
        ------
        PatternError
            If the factor does not divide the bins, or an edge does not coincide.
        """
        kept = kept_edges(self.edges, factor)
        if kept.size - 1 < kept[-1] - kept[0]:
            warn_of_low_errors("rebin", self.conditions.splitting)
        inside = self.sums[..., kept[0] : kept[-1]]
        return self._replace(edges=self.edges[kept], sums=np.add.reduceat(inside, kept[:-1] - kept[0], axis=-1))

    def subtract(self, background: Self, scale: float = 1.0) -> "Difference[Self]":
        """Return this pattern's intensity less `scale` times another one's, with the errors of both.

        Raises
        ------
        MergeError
            If unit, bins, solid angle, polarization or parallax differ; the message names it.
        PatternError
            If the scale is not finite.
        """
        from azimuthal.pattern.difference import Difference

        return Difference(self, background, scale)

    def __sub__(self, background: Self) -> "Difference[Self]":
        """Subtract a background; see `subtract`."""
        if not isinstance(background, BinnedSums):
            return NotImplemented
        return self.subtract(background)

    def save(self, path: str | Path) -> None:
        """Write all sums and fields to an HDF5 file, which `azimuthal.load_pattern` reads; the file is replaced.

        Raises
        ------
        OSError
            If the file cannot be written; an existing one is then as before.
        """
        from azimuthal.pattern.store import save_pattern

        save_pattern(self, path)

    def _variance_to_report(self) -> Array:
        if self.error_model == "azimuthal":
            return self.azimuthal_variance
        # A ring that saw no counts is not known exactly: it reports the variance of one count.
        return np.where(self.sum_poisson == 0.0, self.gain, self.sum_poisson)

    def _replace(self, **changes: Any) -> Self:
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return type(self)(**(values | changes))

    def difference_from(self, other: "BinnedSums") -> str | None:
        """Name what keeps `other` from being merged with this pattern, with both values; None where nothing does."""
        if type(other) is not type(self):
            return f"kind differs ({type(self).__name__} and {type(other).__name__})"
        if self.unit != other.unit:
            return f"unit differs ({self.unit!r} and {other.unit!r})"
        return (
            edges_difference("edges", self.edges, other.edges)
            or self._difference_elsewhere(other)
            or self.conditions.difference(other.conditions)
        )

    def _difference_elsewhere(self, other: Any) -> str | None:  # noqa: ARG002  for what has other axes
        return None

    def __or__(self, other: Self) -> Self:
        """Merge two patterns exactly, by adding their sums."""
        if not isinstance(other, BinnedSums):
            return NotImplemented
        return union((self, other))


def union(patterns: Iterable[T]) -> T:
    """Merge patterns exactly: every sum is the sum of theirs, added in the order given.

    Parameters
    ----------
    patterns
        At least one; all of one unit, one set of edges and one treatment. Mask, flat, monitor and geometry may differ.

    Raises
    ------
    MergeError
        If there is nothing to merge, or patterns differ in what must agree; the message names it.
    """
    merged: RunningUnion[T] = RunningUnion()
    for part in patterns:
        merged.add(part)
    return merged.pattern


class RunningUnion(Generic[T]):
    """A union that grows pattern by pattern, with the bits of `union`; it can be read at any moment.

    Attributes
    ----------
    patterns
        How many there are in it.
    """

    def __init__(self) -> None:
        self.patterns = 0
        self._first: T | None = None
        self._sums: Array = np.empty(0)
        self._read = False  # a pattern has the array: others are added to a copy
        self._gain = 0.0
        self._masked_pixels = 0
        self._wavelengths: set[float | None] = set()
        self._merged: T | None = None

    def add(self, pattern: T, span: slice = _EVERYTHING) -> None:
        """Add a pattern.

        Parameters
        ----------
        pattern
            Like all others in unit, edges and treatment.
        span
            Radial bins outside of which it is known to be empty.

        Raises
        ------
        MergeError
            If it differs in what must agree, which the message names; nothing is changed.
        """
        if self._first is None:
            self._first, self._sums, self._read = pattern, pattern.sums, True
        else:
            difference = self._first.difference_from(pattern)
            if difference:
                number = self.patterns + 1
                raise MergeError(f"union: pattern {number} cannot be merged with the first one: {difference}")
            if self._read:
                self._sums, self._read = self._sums.copy(), False
            self._sums[..., span] += pattern.sums[..., span]
        self.patterns += 1
        self._gain = max(self._gain, pattern.gain)
        self._masked_pixels += pattern.masked_pixels
        self._wavelengths.add(pattern.wavelength)
        self._merged = None

    @property
    def pattern(self) -> T:
        """The union so far.

        Raises
        ------
        MergeError
            If there is nothing in it.
        """
        if self._first is None:
            raise MergeError("union: no patterns given")
        if self._merged is None:
            self._read = True
            self._merged = self._first._replace(
                sums=self._sums,
                gain=self._gain,
                masked_pixels=self._masked_pixels,
                wavelength=next(iter(self._wavelengths)) if len(self._wavelengths) == 1 else None,
            )
        return self._merged


SAME_EDGE = 1e-10
"""Edges closer than this part of a bin are the same edge, computed in another way."""


def edges_difference(what: str, one: Array, two: Array) -> str | None:
    """Name the first difference between two sets of edges, None where there is none beyond rounding."""
    if one is two or np.array_equal(one, two):
        return None
    if one.shape != two.shape:
        return f"{what} differ ({one.size - 1} and {two.size - 1} bins)"
    different = np.abs(one - two) > SAME_EDGE * np.diff(one).min()
    if not different.any():
        return None
    at = int(np.flatnonzero(different)[0])
    return f"{what} differ (edge {at} is {float(one[at])} and {float(two[at])})"


def _frozen(array: Array) -> Array:
    """Return a read-only view; the caller hands the array over."""
    if type(array) is np.ndarray and array.dtype == np.float64 and not array.flags.writeable:
        return array
    view = np.asarray(array, np.float64).view()
    view.flags.writeable = False
    return view


def _ratio(above: Array, below: Array, where: NDArray[np.bool_]) -> Array:
    """Divide where there is something to divide; NaN elsewhere."""
    return np.divide(above, below, out=np.full(np.shape(above), np.nan), where=where)
