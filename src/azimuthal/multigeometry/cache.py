"""Integrators by geometry, under a byte budget: a goniometer comes back to its positions.

A position seen once is a small integrator; when it is asked for again it gets its matrix, and its size is noted anew.
"""

import threading
from collections import OrderedDict
from functools import partial
from typing import Any
from weakref import ref

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
        self._total = 0

    def __len__(self) -> int:
        """Return the number of integrators kept."""
        return len(self._integrators)

    def __contains__(self, integrator: object) -> bool:
        """Tell whether an integrator is kept."""
        return isinstance(integrator, Integrator) and self._integrators.get(integrator.key) is integrator

    @property
    def nbytes(self) -> int:
        """Bytes that the kept integrators occupy."""
        return self._total

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
            else:
                self.misses += 1
        if known is not None:
            _ = known.matrix  # whoever comes back needs it; and its size is known before it is used
            with self._lock:
                if self._integrators.get(key) is known:
                    self._note_size(key)  # what is computed at first need has grown it
            return known
        keywords = self._keywords if flat is None else {**self._keywords, "flat": flat}
        made = Integrator(key[0], self.bins, **keywords)
        with self._lock:
            self._integrators[key] = made
            self._note_size(key)
        made.when_grown(partial(_note_growth, ref(self), key, ref(made)))
        return made

    def _note_size(self, key: IntegratorKey) -> None:
        """Note what an integrator occupies, and drop others to keep to the budget; the lock is held."""
        size = self._integrators[key].nbytes
        self._total += size - self._sizes.get(key, 0)
        self._sizes[key] = size
        while len(self._integrators) > 1 and self._total > self.byte_budget:
            oldest = next(known for known in self._integrators if known != key)
            del self._integrators[oldest]
            self._total -= self._sizes.pop(oldest)
            self.dropped += 1


def _note_growth(cache: "ref[IntegratorCache]", key: IntegratorKey, grown: "ref[Integrator]") -> None:
    """Note that an integrator has become larger, if the cache still has it."""
    here = cache()
    if here is None:
        return
    with here._lock:  # noqa: SLF001  our own class
        if here._integrators.get(key) is grown():  # noqa: SLF001
            here._note_size(key)  # noqa: SLF001
