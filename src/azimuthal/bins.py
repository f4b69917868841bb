"""Radial and azimuthal bins: what a pattern is sorted into."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from azimuthal.errors import BinningError
from azimuthal.geometry import Geometry
from azimuthal.splitting import Corners, kernels
from azimuthal.units import radial_unit


@dataclass(frozen=True)
class RadialBins:
    """Equidistant radial bins, half open, the last one closed.

    Attributes
    ----------
    unit
        Name of a radial unit, such as "2th_deg" or "q_A^-1".
    npt
        Number of bins.
    range
        Lower and upper bound in that unit; None stands for what the geometry covers.

    Raises
    ------
    UnitError
        If there is no such unit.
    BinningError
        If there are no bins, or the range is empty or not finite.
    """

    unit: str
    npt: int
    range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        """Normalise the fields and refuse what cannot be."""
        object.__setattr__(self, "unit", radial_unit(self.unit).name)
        if isinstance(self.npt, bool) or int(self.npt) != self.npt or self.npt < 1:
            raise BinningError(f"npt: {self.npt!r} bins; give a whole number of at least 1")
        object.__setattr__(self, "npt", int(self.npt))
        if self.range is not None:
            low, high = (float(x) for x in self.range)
            if not (math.isfinite(low) and math.isfinite(high)) or low >= high:
                raise BinningError(
                    f"range: ({low:g}, {high:g}) is empty or not finite; give (low, high) with low < high"
                )
            object.__setattr__(self, "range", (low, high))

    @classmethod
    def covering(cls, unit: str, npt: int, geometries: "Iterable[Geometry] | Geometry") -> Self:
        """Return bins that cover every pixel vertex, masked or not, of all `geometries`.

        They begin at 0 where a pixel holds the beam.

        Raises
        ------
        BinningError
            If there are no geometries, or the unit diverges on the detector (a logarithm at the beam).
        """
        several = [geometries] if isinstance(geometries, Geometry) else list(geometries)
        if not several:
            raise BinningError("covering: no geometries given")
        ranges = np.array([_covered(geometry, unit) for geometry in several])
        return cls(unit, npt, (ranges[:, 0].min(), ranges[:, 1].max()))

    def resolved(self, geometry: Geometry) -> Self:
        """Return these bins with a range: their own, or what `geometry` covers."""
        if self.range is not None:
            return self
        return replace(self, range=_covered(geometry, self.unit))

    @property
    def edges(self) -> NDArray[np.float64]:
        """Bin edges, (npt + 1,) float64.

        Raises
        ------
        BinningError
            If the range is None.
        """
        if self.range is None:
            raise BinningError("bins have no range yet; give one, or use RadialBins.covering(unit, npt, geometries)")
        return np.linspace(*self.range, self.npt + 1)


def corners_of(geometry: Geometry, unit: str) -> Corners:
    """Return the corners of all pixels of a geometry, in the cheapest layout that it has."""
    if geometry.contiguous:
        return Corners.from_vertices(*geometry.vertices(unit))
    return Corners.from_corners(*geometry.corners(unit))


def _covered(geometry: Geometry, unit: str) -> tuple[float, float]:
    corners = corners_of(geometry, unit)
    rows, columns = geometry.shape
    low, high = np.empty(rows * columns), np.empty(rows * columns)
    kernels.radial_spans(
        0, low.size, columns, corners.radial, corners.azimuth, *corners.layout, radial_unit(unit).nonnegative, low, high
    )
    span = float(low.min()), float(high.max())
    if not (math.isfinite(span[0]) and math.isfinite(span[1])):
        raise BinningError(f"range: {unit} diverges on the detector ({span[0]:g} to {span[1]:g}); give a range")
    return span
