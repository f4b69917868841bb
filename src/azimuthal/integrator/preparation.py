"""What an integrator works out about its geometry, when it is needed: a position seen once needs little."""

import threading
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any
from weakref import ref

import numpy as np
from numpy.typing import ArrayLike, NDArray

from azimuthal.bins import AzimuthalBins, RadialBins
from azimuthal.geometry import Geometry
from azimuthal.integrator.corrections import normalization
from azimuthal.integrator.once import Once
from azimuthal.integrator.shares import share_pixels
from azimuthal.integrator.summing import Summing
from azimuthal.pattern import Conditions
from azimuthal.splitting import Splitting

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


@lru_cache(maxsize=64)
def shared_edges(bins: RadialBins) -> Floats:
    """Return the edges of bins, the same array for all integrators; nobody writes to it."""
    return bins.edges


@lru_cache(maxsize=64)
def frozen_edges(bins: RadialBins) -> Floats:
    """Return the same edges read-only: patterns see at once that they have the same ones."""
    edges = shared_edges(bins).view()
    edges.flags.writeable = False
    return edges


class Preparation:
    """Sums the first frame on the way, and builds the matrix of shares at the second need; safe to share.

    Either way gives the same bits. There are geometries without a short way (see `Once`): they begin with the matrix.

    Parameters
    ----------
    geometry, bins, azimuth, conditions
        Of the patterns; bins with a range.
    factors
        Flat and absorption, or None.
    skipped
        (rows, columns) bool, pixels that are left out; is kept.
    gain, read_noise
        Of the detector.

    Raises
    ------
    FrameError, GeometryError, UnitError
        As `Integrator`.
    """

    def __init__(
        self,
        geometry: Geometry,
        bins: RadialBins,
        azimuth: AzimuthalBins | None,
        conditions: Conditions,
        factors: tuple[ArrayLike | None, ArrayLike | None],
        skipped: Mask,
        gain: float,
        read_noise: float,
    ) -> None:
        self._what = geometry, bins, azimuth, conditions
        self._splitting: Splitting = conditions.splitting  # type: ignore[assignment]  # was checked
        self._noise = gain, read_noise
        self._skipped = skipped
        self._lock = threading.Lock()
        self._grown: Callable[[], None] | None = None
        self._built: Summing | None = None
        self._used: Mask | None = None
        self._unused: int | None = None
        self._span: slice | None = None
        self._taken = False
        self._taking = threading.Lock()
        # What a user gave is used now: it may change before the matrix is built.
        self._normalized: tuple[Floats, Mask] | None = None
        if any(factor is not None for factor in factors):
            self._normalized = normalization(geometry, conditions, *factors, skipped)
        self._once = Once.of(geometry, bins.unit, shared_edges(bins), conditions, skipped, self._normalized)
        if self._once is None or azimuth is not None:
            self._build()

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled: all but the locks, and whoever wants to be told."""
        return {name: value for name, value in self.__dict__.items() if name not in ("_lock", "_taking", "_grown")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take what was pickled."""
        self.__dict__.update(state, _lock=threading.Lock(), _taking=threading.Lock(), _grown=None)
        if self._built is not None:
            self._built.matrix.when_grown(partial(_tell, ref(self)))

    def when_grown(self, tell: Callable[[], None]) -> None:
        """Have `tell` called whenever `nbytes` has become larger, by the thread that made it so."""
        self._grown = tell

    @property
    def summing(self) -> Summing:
        """The sums over the matrix, which is built at first need."""
        built = self._built
        if built is not None:
            return built
        with self._lock:
            if self._built is None:
                self._build()
        self._tell()
        assert self._built is not None  # noqa: S101  never unbuilt
        return self._built

    def first(self, frame: NDArray[Any], masked: Mask, low: Any, high: Any) -> tuple[Floats, int] | None:
        """Return what `Summing.raw` gives for the first frame that comes, and None ever after.

        Where a bin lost most of its pixels, it is None too.
        """
        once = self._once
        if once is None or self._taken:
            return None
        with self._taking:
            taken, self._taken = self._taken, True
        if taken:
            return None
        summed = once(frame, masked, low, high)
        self._unused, self._span = summed.unused, summed.weighted.span
        self._used = summed.used
        if self._built is not None:
            self._used = None  # another thread has built the matrix meanwhile, which knows
        self._tell()
        sums, poor = summed.weighted.complete(summed.signal, *self._noise)
        return None if poor is not None else (sums, summed.lost)

    @property
    def used_pixels(self) -> Mask:
        """Which pixels, flat, have a share in any bin."""
        used = self._used
        return self.summing.matrix.used if used is None else used

    @property
    def span(self) -> slice:
        """The bins that pixels reach, from the lowest to the highest."""
        span = self._span
        return self.summing.matrix.span if span is None else span

    @property
    def unused(self) -> int:
        """How many pixels no frame can use."""
        if self._unused is None:
            _ = self.summing
        assert self._unused is not None  # noqa: S101  known with the matrix
        return self._unused

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays that are kept."""
        built = self._built
        arrays = [self._skipped, self._used, *(self._normalized or ())]
        return sum(array.nbytes for array in arrays if array is not None) + (0 if built is None else built.nbytes)

    def _build(self) -> None:
        geometry, bins, azimuth, conditions = self._what
        norm, unused = self._normalized or normalization(geometry, conditions, None, None, self._skipped)
        matrix = share_pixels(geometry, bins, azimuth, self._splitting, unused)
        matrix.when_grown(partial(_tell, ref(self)))
        self._unused = int(np.count_nonzero(unused))
        self._built = Summing(matrix, norm.ravel(), *self._noise)
        self._once = self._used = self._normalized = None
        self._skipped = np.empty((0, 0), np.bool_)

    def _tell(self) -> None:
        if self._grown is not None:
            self._grown()


def _tell(grown: "ref[Preparation]") -> None:
    """Tell that a preparation has become larger, if there still is one."""
    if (here := grown()) is not None:
        here._tell()  # noqa: SLF001  our own class
