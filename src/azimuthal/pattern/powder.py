"""A powder pattern: sums over radial bins, and the spottiness of its rings."""

from dataclasses import dataclass
from functools import cached_property
from typing import Self

from azimuthal.pattern import spottiness as _spottiness
from azimuthal.pattern.spottiness import Grade, SpottinessNumbers, grade
from azimuthal.pattern.sums import Array, BinnedSums


@dataclass(frozen=True, eq=False)
class Pattern(BinnedSums):
    """A one-dimensional powder pattern: seven sums over radial bins, and all that follows from them.

    Patterns of one unit, one set of edges and one treatment merge exactly with ``|`` or `union`.
    """

    @property
    def npt(self) -> int:
        """Number of radial bins."""
        return self.edges.size - 1

    def spottiness(self, weighted: bool = False, excess: bool = False, pyfai: bool = False) -> float:
        """Return the spottiness S; NaN where no ring counts.

        Parameters
        ----------
        weighted
            Weight rings by their intensity: sqrt(sum(I R) / sum(I)).
        excess
            Take off what counting statistics explain; rings of at least 10 effective pixels only.
        pyfai
            Use the formula of pyFAI's `calc_spottiness` (all bins, floors at 1 count) on the exact variance.

        Raises
        ------
        PatternError
            If `pyfai` and `excess` are asked for together.
        """
        return _spottiness.spottiness(self, weighted, excess, pyfai)

    def spottiness_profile(self, excess: bool = False) -> Array:
        """Return R = (sem / I)^2, or its excess over counting statistics, ring by ring, (npt,); NaN where undefined."""
        return _spottiness.profile(self, excess)

    def spottiness_error(self, weighted: bool = False) -> float:
        """Return the standard error of the square of the (weighted) excess spottiness; NaN below two rings."""
        return _spottiness.excess_error(self, weighted)

    def spottiness_numbers(self) -> SpottinessNumbers:
        """Return all forms of the spottiness, and its error, at the cost of one: for what follows fast frames."""
        return self._numbers

    @cached_property
    def _numbers(self) -> SpottinessNumbers:
        return _spottiness.numbers(self)

    @property
    def mean_excess(self) -> float:
        """Mean of R_excess over the rings, not clipped at 0; NaN where no ring counts."""
        return self._numbers.mean_excess

    @property
    def grade(self) -> Grade | None:
        """The plain spottiness in a word: smooth below 0.05, mild to 0.15, strong above; None without rings."""
        return grade(self.spottiness())

    def __repr__(self) -> str:
        """Say what a user wants to know first: axis, bins, how many are filled."""
        lo, hi = self.edges[0], self.edges[-1]
        return (
            f"<{type(self).__name__} {self.unit} {lo:g}..{hi:g}, {self.npt} bins, {int(self.filled.sum())} filled, "
            f"splitting {self.conditions.splitting}>"
        )

    def __or__(self, other: Self) -> Self:
        """Merge two patterns exactly, by adding their sums."""
        return super().__or__(other)
