"""Which pixel has which share of which bin: bins and splitting to a sparse matrix."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from azimuthal.bins import AZIMUTH_UNIT, FULL_TURN, AzimuthalBins, RadialBins, corners_of, poles_of, turn_of
from azimuthal.csr import TiledMatrix
from azimuthal.errors import BinningError
from azimuthal.geometry import Geometry
from azimuthal.splitting import Splitting, half_widths, share_bbox, share_full, share_whole
from azimuthal.splitting.cake import Grid, cake_bbox, cake_full, cake_whole, half_azimuths
from azimuthal.units import radial_unit


@dataclass(frozen=True)
class Footprints:
    """Where pixels lie on the axes of a pattern or a cake.

    Attributes
    ----------
    geometry
        Where the pixels are.
    unit
        The radial unit.
    splitting
        "no", "bbox" or "full".
    skipped
        (rows, columns) bool, pixels that have no share in anything.
    """

    geometry: Geometry
    unit: str
    splitting: Splitting
    skipped: NDArray[np.bool_]

    def on_line(self, edges: NDArray[np.float64]) -> TiledMatrix:
        """Return the shares of radial bins."""
        if self.splitting == "no":
            return share_whole(self.geometry.radial(self.unit), self.skipped, edges)
        if self.splitting == "full":
            poles = poles_of(self.geometry, self.unit)
            return share_full(partial(corners_of, self.geometry, self.unit), self.skipped, edges, poles)
        corners = corners_of(self.geometry, self.unit)
        centres = self.geometry.radial(self.unit)
        return share_bbox(centres, half_widths(centres, corners), self.skipped, edges, self._floor)

    def on_grid(self, grid: Grid) -> TiledMatrix:
        """Return the shares of a cake's cells."""
        azimuths = self.geometry.azimuth()
        if self.splitting == "no":
            return cake_whole(self.geometry.radial(self.unit), azimuths, self.skipped, grid)
        corners, poles = corners_of(self.geometry, self.unit), poles_of(self.geometry, self.unit)
        if self.splitting == "full":
            return cake_full(corners, self.skipped, grid, poles)
        centres = self.geometry.radial(self.unit)
        extents = centres, half_widths(centres, corners), azimuths, half_azimuths(azimuths, corners, poles)
        return cake_bbox(*extents, self.skipped, grid, self._floor)

    @property
    def _floor(self) -> float | None:
        return 0.0 if radial_unit(self.unit).nonnegative else None


def share_pixels(
    geometry: Geometry,
    bins: RadialBins,
    azimuth: AzimuthalBins | None,
    splitting: Splitting,
    skipped: NDArray[np.bool_],
) -> TiledMatrix:
    """Return the matrix of a pattern, or of a cake where there are azimuthal bins.

    A pattern over the azimuth is a cake over 2theta with a single radial bin, which holds everything.
    """
    turn = turn_of(radial_unit(bins.unit))
    if turn is not None:
        everything = np.array([0.0, np.pi])
        return Footprints(geometry, AZIMUTH_UNIT, splitting, skipped).on_grid(Grid(everything, bins.edges, turn))
    footprints = Footprints(geometry, bins.unit, splitting, skipped)
    if azimuth is None:
        return footprints.on_line(bins.edges)
    return footprints.on_grid(Grid(bins.edges, azimuth.edges, FULL_TURN))


def check_bins(bins: Any, azimuth: Any) -> None:
    """Refuse what are no bins.

    Raises
    ------
    BinningError
        If they are of another kind, or both are azimuths.
    """
    if not isinstance(bins, RadialBins):
        raise BinningError(f"bins: {bins!r} is no RadialBins; give az.RadialBins(unit, npt, range)")
    if azimuth is None:
        return
    if not isinstance(azimuth, AzimuthalBins):
        raise BinningError(f"azimuth: {azimuth!r} is no AzimuthalBins; give az.AzimuthalBins(npt, (low, high))")
    if turn_of(radial_unit(bins.unit)) is not None:
        raise BinningError(f"azimuth: bins over {bins.unit} are azimuths already; leave azimuth out")
