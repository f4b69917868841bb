"""From crystallites to counts: what a detector at one place sees of a specimen."""

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from azimuthal.detector import Detector
from azimuthal.geometry import Geometry
from bluesky_powder.sim.specimen import Crystallites, Powder, Specimen

Floats = npt.NDArray[np.float64]

# Spots and rings end at this many standard deviations: a part in 10⁴ of their height.
_REACH = 4.3
_TABLE_STEPS = 40
# Windows of spots are worked through in blocks of this many pixels, to bound memory.
_BLOCK = 2_000_000


class View:
    """A detector at one place: everything about its pixels that does not change from exposure to exposure.

    Parameters
    ----------
    geometry
        Where the detector is. Flat, with uniform pixels.
    specimen
        What stands in the beam.
    polarization
        Polarization factor of the beam, as :meth:`azimuthal.Geometry.polarization` has it.
    """

    def __init__(self, geometry: Geometry, specimen: Specimen, polarization: float) -> None:
        self.geometry = geometry
        powder = _blurred(specimen.powder, geometry)
        self._powder = powder
        self._two_theta = geometry.two_theta().ravel()
        self._chi = geometry.azimuth().ravel()
        solid_angle = geometry.solid_angle("absolute")
        assert solid_angle is not None  # noqa: S101 - "absolute" always has one; for the type checker
        self._acceptance = (solid_angle * geometry.polarization(polarization)).ravel()
        # Off a table: thirty times faster than pixel by pixel, and right to 1e-4 of a ring's height.
        low, high = self._two_theta.min(), self._two_theta.max()
        table = np.linspace(low, high, math.ceil((high - low) / powder.ring_width * _TABLE_STEPS) + 2)
        profile = powder.smooth(table, specimen.rings)
        self._smooth = np.interp(self._two_theta, table, profile) * self._acceptance
        self._gaps = geometry.detector.mask
        self._grid = _PixelGrid(geometry)

    def expected(self, crystallites: Crystallites) -> Floats:
        """Return the mean photons per pixel and count of the monitor, shape (rows, columns)."""
        image = self._smooth.copy()
        row, column = self._grid.find(crystallites.two_theta, crystallites.chi)
        half = self._half_window()
        rows, columns = self.geometry.shape
        seen = (row > -half) & (row < rows + half) & (column > -half) & (column < columns + half)
        step = max(1, _BLOCK // (2 * half + 1) ** 2)
        places = np.flatnonzero(seen)
        for start in range(0, len(places), step):
            here = places[start : start + step]
            spots = Crystallites(crystallites.two_theta[here], crystallites.chi[here], crystallites.power[here])
            self._add_spots(image, spots, row[here], column[here], half)
        return image.reshape(self.geometry.shape)

    def expose(self, crystallites: Crystallites, monitor: float, rng: np.random.Generator) -> npt.NDArray[np.uint32]:
        """Return one exposure: Poisson counts, gaps at the type's largest value as Eiger detectors write them."""
        frame = rng.poisson(self.expected(crystallites) * monitor).astype(np.uint32)
        frame[self._gaps] = np.iinfo(np.uint32).max
        return frame

    def _half_window(self) -> int:
        """Return how many pixels a spot reaches from its centre, seen from the nearest point of the detector."""
        geometry = self.geometry
        pitch = min(geometry.detector.pixel1, geometry.detector.pixel2) / geometry.distance
        # Towards the corners pixels look smaller; by cos² of the angle of incidence at most.
        y, x, z = (c.ravel() for c in geometry.lab_centres())
        farthest = float(np.sqrt((y * y + x * x + z * z).max()))
        pitch *= (geometry.distance / farthest) ** 2
        return int(np.ceil(_REACH * max(self._powder.ring_width, self._powder.spot_width) / pitch))

    def _add_spots(self, image: Floats, spots: Crystallites, row: Floats, column: Floats, half: int) -> None:
        """Add Gaussian spots, each through a window of pixels around it.

        Across the ring the distance is that in 2 theta, along it that in chi times sin(2 theta), so the density per sr
        integrates to the spot's power.
        """
        powder = self._powder
        rows, columns = self.geometry.shape
        reach = np.arange(-half, half + 1)
        i = np.rint(row).astype(np.intp)[:, None, None] + reach[None, :, None]
        j = np.rint(column).astype(np.intp)[:, None, None] + reach[None, None, :]
        inside = (i >= 0) & (i < rows) & (j >= 0) & (j < columns)
        which = np.broadcast_to(np.arange(len(row))[:, None, None], inside.shape)[inside]
        pixel = (i * columns + j)[inside]
        across = (self._two_theta[pixel] - spots.two_theta[which]) / powder.ring_width
        turn = self._chi[pixel] - spots.chi[which]
        turn -= 2 * np.pi * np.rint(turn / (2 * np.pi))
        along = turn * np.sin(spots.two_theta[which]) / powder.spot_width
        density = np.exp(-0.5 * (across**2 + along**2)) / (2 * np.pi * powder.ring_width * powder.spot_width)
        counts = spots.power[which] * density * self._acceptance[pixel]
        image += np.bincount(pixel, weights=counts, minlength=image.size)


def compile_rendering(geometry: Geometry, specimen: Specimen, polarization: float) -> None:
    """Render a few pixels, so that numba has compiled all that rendering takes.

    In a scan it could take longer than the frame is waited for, as the reduction is compiled at the same time.
    """
    given = geometry.detector
    few = Detector.from_name("Detector", shape=(2, 2), pixel1=given.pixel1, pixel2=given.pixel2)
    nothing = Crystallites(np.empty(0), np.empty(0), np.empty(0))
    View(replace(geometry, detector=few), specimen, polarization).expected(nothing)


def _blurred(powder: Powder, geometry: Geometry) -> Powder:
    """Return the powder as pixels see it: a pixel averages over itself, a box of variance pitch²/12."""
    pitch = math.sqrt(geometry.detector.pixel1 * geometry.detector.pixel2 / 12) / geometry.distance
    return replace(
        powder,
        ring_width=math.hypot(powder.ring_width, pitch),
        spot_width=math.hypot(powder.spot_width, pitch),
    )


class _PixelGrid:
    """Where on a flat, uniform detector a direction arrives.

    Pixel centres are o + i a + j b; the ray t u meets them where (a, b, -u) (i, j, t) = -o. With the reciprocal
    vectors of the triple that is i = -(u x b).o / (u x b).a and j = -(u x a).o / (u x a).b.
    """

    def __init__(self, geometry: Geometry) -> None:
        y, x, z = geometry.lab_centres()
        points = np.stack([y, x, z], axis=-1)
        rows, columns = geometry.shape
        self._o = points[0, 0]
        self._a = (points[-1, 0] - points[0, 0]) / (rows - 1)
        self._b = (points[0, -1] - points[0, 0]) / (columns - 1)

    def find(self, two_theta: Floats, chi: Floats) -> tuple[Floats, Floats]:
        """Return fractional rows and columns, NaN for rays that go away from the detector."""
        sine = np.sin(two_theta)
        u = np.stack([sine * np.sin(chi), sine * np.cos(chi), np.cos(two_theta)], axis=-1)
        normal = np.cross(self._a, self._b)
        normal *= np.sign(normal @ self._o)
        across_b = np.cross(u, self._b)
        across_a = np.cross(u, self._a)
        with np.errstate(divide="ignore", invalid="ignore"):
            row = -(across_b @ self._o) / (across_b @ self._a)
            column = -(across_a @ self._o) / (across_a @ self._b)
        away = u @ normal <= 0
        row[away] = np.nan
        column[away] = np.nan
        return row, column
