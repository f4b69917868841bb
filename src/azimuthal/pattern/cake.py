"""A cake: sums over azimuthal and radial bins."""

from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np

from azimuthal.errors import PatternError
from azimuthal.pattern.powder import Pattern
from azimuthal.pattern.rebin import warn_of_low_errors
from azimuthal.pattern.sums import SUMS, Array, BinnedSums, edges_difference

ON_EDGE = 1e-9
"""Degrees within which a bin's centre counts as being on a sector's bound."""


@dataclass(frozen=True, eq=False)
class Cake(BinnedSums):
    """A two-dimensional pattern; every array is (azimuthal bins, radial bins), the sums (7, azimuthal, radial).

    Attributes
    ----------
    azimuthal_edges
        (azimuthal bins + 1,) float64, degrees, ascending; those above 180 go on behind the jump to -180.
    """

    _: KW_ONLY
    azimuthal_edges: Array

    def __post_init__(self) -> None:
        """Freeze the arrays and check that they fit."""
        edges = np.asarray(self.azimuthal_edges, np.float64).view()
        edges.flags.writeable = False
        object.__setattr__(self, "azimuthal_edges", edges)
        super().__post_init__()
        expected = (len(SUMS), self.npt_azimuthal, self.npt)
        if self.sums.shape != expected:
            raise PatternError(f"sums: shape {self.sums.shape} does not fit a cake's {expected}")

    @property
    def npt(self) -> int:
        """Number of radial bins."""
        return self.edges.size - 1

    @property
    def npt_azimuthal(self) -> int:
        """Number of azimuthal bins."""
        return self.azimuthal_edges.size - 1

    @property
    def shape(self) -> tuple[int, int]:
        """(azimuthal bins, radial bins), as all arrays have it."""
        return self.npt_azimuthal, self.npt

    @property
    def azimuthal(self) -> Array:
        """Centres of the azimuthal bins in degrees, (azimuthal bins,)."""
        return 0.5 * (self.azimuthal_edges[:-1] + self.azimuthal_edges[1:])

    def sector(self, lo: float, hi: float) -> Pattern:
        """Return the pattern of the azimuthal bins whose centres lie from `lo` up to, but not on, `hi`.

        Intensities are exact for these bins. Errors are exact without splitting; with splitting a UserWarning says that
        they come out low, because neighbouring bins share pixels. The pattern says of left out pixels what the cake
        says: how many there were in all.

        Parameters
        ----------
        lo, hi
            Degrees; (170, -170) is the sector of 20 degrees across the jump, (-180, 180) the full turn.

        Raises
        ------
        BinningError
            If the sector is empty or over 360 degrees.
        PatternError
            If no bin has its centre there.
        """
        from azimuthal.bins import FULL_TURN, wrapped_range

        low, high = wrapped_range(float(lo), float(hi), FULL_TURN)
        inside = np.mod(self.azimuthal - low + ON_EDGE, FULL_TURN) < high - low
        if not inside.any():
            first, last = self.azimuthal_edges[[0, -1]]
            raise PatternError(
                f"sector: no azimuthal bin has its centre in ({lo:g}, {hi:g}) degrees; {self.npt_azimuthal} bins go "
                f"from {first:g} to {last:g}"
            )
        if inside.sum() > 1:
            warn_of_low_errors("sector", self.conditions.splitting)
        return Pattern(
            unit=self.unit,
            edges=self.edges,
            sums=self.sums[:, inside].sum(axis=1),
            conditions=self.conditions,
            error_model=self.error_model,
            gain=self.gain,
            masked_pixels=self.masked_pixels,
            wavelength=self.wavelength,
        )

    def _difference_elsewhere(self, other: Any) -> str | None:
        return edges_difference("azimuthal edges", self.azimuthal_edges, other.azimuthal_edges)

    def __repr__(self) -> str:
        """Say what a user wants to know first: axes, bins, how many are filled."""
        lo, hi, first, last = *self.edges[[0, -1]], *self.azimuthal_edges[[0, -1]]
        return (
            f"<Cake {self.unit} {lo:g}..{hi:g}, {self.npt} bins, azimuth {first:g}..{last:g}, {self.npt_azimuthal} "
            f"bins, {int(self.filled.sum())} filled, splitting {self.conditions.splitting}>"
        )
