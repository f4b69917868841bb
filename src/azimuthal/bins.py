"""Radial and azimuthal bins: what a pattern is sorted into."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from azimuthal import threads
from azimuthal.errors import BinningError
from azimuthal.geometry import Geometry
from azimuthal.geometry.extent import around_beam, corner_extent
from azimuthal.geometry.grid import GridPixels
from azimuthal.splitting import Corners, Poles, kernels
from azimuthal.units import RadialUnit, radial_unit

FULL_TURN = 360.0
AZIMUTH_UNIT = "2th_rad"
"""What stands across the azimuth where that is the axis of a pattern; it needs no wavelength."""


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
        Lower and upper bound in that unit; None stands for what the geometry covers. Ranges of the azimuth
        ("chi_deg", "chi_rad") wrap, as those of `AzimuthalBins` do.

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
        unit = radial_unit(self.unit)
        object.__setattr__(self, "unit", unit.name)
        object.__setattr__(self, "npt", _number_of_bins(self.npt))
        if self.range is not None:
            object.__setattr__(self, "range", _checked_range(self.range, turn_of(unit)))

    @classmethod
    def covering(cls, unit: str, npt: int, geometries: "Iterable[Geometry] | Geometry") -> Self:
        """Return bins that cover every pixel vertex, masked or not, of all `geometries`.

        They begin at 0 where a pixel holds the beam. Azimuths cover the full turn, -180 to 180 degrees, as soon as a
        pixel holds the beam or lies across the half line where they jump.

        Raises
        ------
        BinningError
            If there are no geometries, or the unit diverges on the detector (a logarithm at the beam).
        """
        several = [geometries] if isinstance(geometries, Geometry) else list(geometries)
        if not several:
            raise BinningError("covering: no geometries given")
        ranges = np.array([_covered(geometry, radial_unit(unit)) for geometry in several])
        return cls(unit, npt, (float(ranges[:, 0].min()), float(ranges[:, 1].max())))

    def resolved(self, geometry: Geometry) -> Self:
        """Return these bins with a range: their own, or what `geometry` covers."""
        if self.range is not None:
            return self
        return replace(self, range=_covered(geometry, radial_unit(self.unit)))

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


@dataclass(frozen=True)
class AzimuthalBins:
    """Equidistant bins of the azimuth in degrees, half open, the last one closed.

    Attributes
    ----------
    npt
        Number of bins.
    range
        Lower and upper bound, going up from the lower one: (170, -170) is 20 degrees wide. It is kept with the lower
        bound in [-180, 180), so that (150, -150), (150, 210) and (-210, -150) are all (150, 210). The full turn from
        -180 to 180 unless said.

    Raises
    ------
    BinningError
        If there are no bins, or the range is empty, over 360 degrees or not finite.
    """

    npt: int
    range: tuple[float, float] = (-180.0, 180.0)

    def __post_init__(self) -> None:
        """Normalise the fields and refuse what cannot be."""
        object.__setattr__(self, "npt", _number_of_bins(self.npt))
        object.__setattr__(self, "range", _checked_range(self.range, FULL_TURN))

    @property
    def edges(self) -> NDArray[np.float64]:
        """Bin edges in degrees, (npt + 1,) float64, ascending; the last ones may be above 180."""
        return np.linspace(*self.range, self.npt + 1)


def turn_of(unit: RadialUnit) -> float | None:
    """Return a full turn in `unit` where that is one of azimuths, else None."""
    return FULL_TURN * math.radians(1.0) * unit.scale if unit.kind == "chi" else None


def corners_of(geometry: Geometry, unit: str, first: int = 0, last: int | None = None) -> Corners:
    """Return the corners of the pixels of a geometry, in the cheapest layout that it has; of rows first..last only."""
    rows = slice(first, last)
    if geometry.contiguous:
        return Corners.from_vertices(*geometry.vertices(unit, rows)).from_row(first)
    return Corners.from_corners(*geometry.corners(unit, rows)).from_row(first)


def poles_of(geometry: Geometry, unit: str) -> Poles:
    """Return where a radial unit has no azimuth."""
    towards = radial_unit(unit).from_lab([0.0, 1.0, 0.0], [0.0, 0.0, 0.0], [1.0, 0.0, -1.0], geometry.wavelength)
    if radial_unit(unit).kind == "radius":
        return Poles(0.0)  # a radius is 0 on either side
    return Poles(*towards.tolist())


def wrapped_range(low: float, high: float, turn: float) -> tuple[float, float]:
    """Return an azimuth range going up from `low`, which is brought into [-turn / 2, turn / 2).

    Raises
    ------
    BinningError
        If the range is empty, over a full turn or not finite.
    """
    what = f"azimuth range ({low:g}, {high:g})"
    if not (math.isfinite(low) and math.isfinite(high)):
        raise BinningError(f"{what} is not finite")
    width = high - low
    if abs(width) > turn * (1.0 + 1e-12):
        raise BinningError(f"{what} is over a full turn of {turn:g}")
    turns = -math.floor((low + 0.5 * turn) / turn)
    start = low if turns == 0 else low + turns * turn
    if math.isclose(width, turn, rel_tol=1e-12):
        return start, start + turn
    if width <= 0.0:
        turns += 1
        if width + turn <= 1e-12 * turn or width == 0.0:
            raise BinningError(f"{what} is empty; give (low, high), going up from low")
    return start, high if turns == 0 else high + turns * turn


def _number_of_bins(npt: Any) -> int:
    try:
        whole = int(npt)
    except (TypeError, ValueError, OverflowError):
        whole = 0
    if isinstance(npt, bool) or whole != npt or whole < 1:
        raise BinningError(f"npt: {npt!r} bins; give a whole number of at least 1")
    return whole


def _checked_range(given: Any, turn: float | None) -> tuple[float, float]:
    """Return a range as two numbers in order; `turn` is the period of azimuths, None for other units."""
    try:
        low, high = (float(x) for x in given)
    except (TypeError, ValueError):
        raise BinningError(f"range: {given!r} is not a pair of numbers (low, high)") from None
    if turn is not None:
        return wrapped_range(low, high, turn)
    if not (math.isfinite(low) and math.isfinite(high)) or low >= high:
        raise BinningError(f"range: ({low:g}, {high:g}) is empty or not finite; give (low, high) with low < high")
    return low, high


def _covered(geometry: Geometry, unit: RadialUnit) -> tuple[float, float]:
    turn = turn_of(unit)
    if turn is not None:
        low, high = _azimuth_span(geometry)
        if low < -math.pi or high > math.pi:
            return -0.5 * turn, 0.5 * turn
        return low * unit.scale, high * unit.scale
    span = _radial_span(geometry, unit)
    if not (math.isfinite(span[0]) and math.isfinite(span[1])):
        raise BinningError(f"range: {unit.name} diverges on the detector ({span[0]:g} to {span[1]:g}); give a range")
    return span


def _azimuth_span(geometry: Geometry) -> tuple[float, float]:
    """Return the least and largest azimuth, radians, of all pixels, each unwrapped from its first corner."""
    corners = corners_of(geometry, AZIMUTH_UNIT)
    return _span(kernels.azimuth_spans, corners, geometry.shape, poles_of(geometry, AZIMUTH_UNIT))


def _radial_span(geometry: Geometry, unit: RadialUnit) -> tuple[float, float]:
    """Return the least and largest radial position of all pixels: those of corners, and the beam inside a pixel."""
    poles = poles_of(geometry, unit.name)
    if not unit.nonnegative:
        poles = replace(poles, front=math.nan)
    pixels = geometry.pixels
    if not isinstance(pixels, GridPixels):
        return _span(kernels.radial_spans, corners_of(geometry, unit.name), geometry.shape, poles)
    spans = [corner_extent(geometry, pixels, unit)]
    block = around_beam(pixels)
    if block is not None:
        radial, azimuth = geometry.corners(unit, *block)
        shape = radial.shape[0], radial.shape[1]
        spans.append(_span(kernels.radial_spans, Corners.from_corners(radial, azimuth), shape, poles))
    return min(low for low, _ in spans), max(high for _, high in spans)


def _span(kernel: Callable[..., None], corners: Corners, shape: tuple[int, int], poles: Poles) -> tuple[float, float]:
    """Return the least and largest of what a kernel says about each pixel."""
    low, high = np.empty(shape[0] * shape[1]), np.empty(shape[0] * shape[1])
    where = (shape[1], corners.radial, corners.azimuth, *corners.layout, poles.array)
    threads.run(lambda start, stop: kernel(start, stop, *where, low, high), threads.pieces(low.size))
    return float(low.min()), float(high.max())
