"""Integrators by geometry, under a byte budget: a goniometer comes back to its positions."""

import threading
from collections import OrderedDict
from typing import Any

from numpy.typing import ArrayLike

from azimuthal.bins import RadialBins
from azimuthal.errors import BinningError
from azimuthal.geometry import Geometry
from azimuthal.integrator import Integrator, IntegratorKey
from azimuthal.integrator.corrections import digest_of


class IntegratorCache:
    """Integrators of many geometries onto the same bins; the least recently used goes first.

    Parameters
    ----------
    bins
        With a range: bins that change with the geometry would not merge.
    byte_budget
        What the integrators may occupy; the newest one is kept even if it is larger.
    **keywords
        As for `Integrator`.

    Attributes
    ----------
    hits, misses, dropped
        How many integrators were at hand, had to be made, and went to keep to the budget.

    Raises
    ------
    BinningError
        If the bins have no range.
    """

    def __init__(self, bins: RadialBins, *, byte_budget: int = 2**30, **keywords: Any) -> None:
        if bins.range is None:
            raise BinningError(
                "bins: several geometries need common bins; give a range, "
                "or use RadialBins.covering(unit, npt, geometries)"
            )
        self.bins = bins
        self.byte_budget = byte_budget
        self.hits = 0
        self.misses = 0
        self.dropped = 0
        self._keywords = keywords
        self._lock = threading.Lock()
        self._building: dict[IntegratorKey, threading.Lock] = {}
        self._integrators: OrderedDict[IntegratorKey, Integrator] = OrderedDict()
        self._sizes: dict[IntegratorKey, int] = {}

    def __len__(self) -> int:
        """Return the number of integrators kept."""
        return len(self._integrators)

    @property
    def nbytes(self) -> int:
        """Bytes that the kept integrators occupy."""
        return sum(self._sizes.values())

    def integrator(self, geometry: Geometry, flat: ArrayLike | None = None) -> Integrator:
        """Return the integrator of `geometry`, built at first need.

        Parameters
        ----------
        geometry
            Where the detector is.
        flat
            Of this geometry; it stands in for the one of the keywords.

        Raises
        ------
        FrameError, UnitError
            If the integrator cannot be made.
        """
        key = geometry, digest_of(flat)
        with self._lock:
            building = self._building.setdefault(key, threading.Lock())
        with building:  # two threads that want the same one make it once
            try:
                return self._known_or_made(key, flat)
            finally:
                with self._lock:
                    self._building.pop(key, None)

    def _known_or_made(self, key: IntegratorKey, flat: ArrayLike | None) -> Integrator:
        with self._lock:
            known = self._integrators.get(key)
            if known is not None:
                self.hits += 1
                self._integrators.move_to_end(key)
                self._sizes[key] = known.nbytes  # what is computed at first need has grown it
                return known
            self.misses += 1
        keywords = self._keywords if flat is None else {**self._keywords, "flat": flat}
        made = Integrator(key[0], self.bins, **keywords)
        with self._lock:
            self._integrators[key] = made
            self._sizes[key] = made.nbytes
            while len(self._integrators) > 1 and self.nbytes > self.byte_budget:
                oldest, _ = self._integrators.popitem(last=False)
                del self._sizes[oldest]
                self.dropped += 1
        return made
