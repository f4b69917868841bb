"""Pixels that are given by their corners, anywhere in space, on their way to the laboratory."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from azimuthal import threads
from azimuthal.detector import Detector
from azimuthal.geometry import kernels
from azimuthal.geometry.placing import Corrections, Floats, Placing
from azimuthal.units.kernels import fill_azimuth, fill_radial


@dataclass(frozen=True, eq=False)
class FreePixels:
    """Quadrilaterals in space.

    Attributes
    ----------
    detector
        Whose pixels they are.
    placing
        Where it is.
    """

    detector: Detector
    placing: Placing

    def lab_centres(self) -> tuple[Floats, Floats, Floats]:
        """Return y, x and z of all centres: (rows, columns) each, metres."""
        shape = self.detector.shape
        y, x, z = self._to_lab(self._centres())
        return y.reshape(shape), x.reshape(shape), z.reshape(shape)

    def fill_centres(self, code: int, factor: float, radial: Floats, chi: Floats) -> None:
        """Fill radial coordinate and azimuth of all centres, each (rows, columns) or empty."""
        self._fill(self._centres(), code, factor, radial, chi)

    def corners(self, code: int, factor: float, rows: slice, columns: slice) -> tuple[Floats, Floats]:
        """Return radial coordinate and azimuth of the corners A, B, C, D of some pixels: (rows, columns, 4) each."""
        positions = self.detector.corner_positions[rows, columns]
        radial, chi = np.empty(positions.shape[:3]), np.empty(positions.shape[:3])
        self._fill(self._points(positions.reshape(-1, 3)), code, factor, radial, chi)
        return radial, chi

    def correct(
        self, solid_angle: float | None, polarization: Floats, given: Corrections, norm: Floats
    ) -> tuple[int, int]:
        """Fill the normalization; see `Corrections`."""
        norm[:] = 1.0 if solid_angle is None else solid_angle * self._relative_solid_angle()
        if polarization.size:
            y, x, z = self._to_lab(self._centres())
            kernels.multiply_polarization(y, x, z, polarization, norm.reshape(-1))
        if not given.skipped.size:
            return 0, 0
        pieces = threads.row_pieces(*norm.shape)
        finished = threads.run(lambda a, b: kernels.finish(a, b, *given.arrays, norm, given.unused), pieces)
        return Corrections.total(finished)

    def _points(self, zyx: npt.NDArray[np.floating[Any]]) -> Floats:
        """Return points (n, 3) of the detector as float64 (3, n), relative to the PONI."""
        origin = np.array([[0.0], [self.placing.poni1], [self.placing.poni2]])
        return np.ascontiguousarray(zyx.astype(np.float64).T) - origin

    def _centres(self, rows: slice = slice(None)) -> Floats:
        corners = self.detector.corner_positions[rows]
        return self._points(corners.mean(axis=2, dtype=np.float64).reshape(-1, 3))

    def _to_lab(self, points: Floats) -> tuple[Floats, Floats, Floats]:
        y, x, z = (np.empty(points.shape[1]) for _ in range(3))
        numbers = self.placing.numbers
        pieces = threads.pieces(y.size)
        threads.run(lambda a, b: kernels.points_to_lab(points, *numbers, a, b, y, x, z), pieces)
        return y, x, z

    def _fill(self, points: Floats, code: int, factor: float, radial: Floats, chi: Floats) -> None:
        y, x, z = self._to_lab(points)

        def fill(a: int, b: int) -> None:
            if radial.size:
                fill_radial(code, factor, y[a:b], x[a:b], z[a:b], radial.reshape(-1)[a:b])
            if chi.size:
                fill_azimuth(1.0, y[a:b], x[a:b], chi.reshape(-1)[a:b])

        threads.run(fill, threads.pieces(y.size))

    def _relative_solid_angle(self) -> Floats:
        detector, distance = self.detector, self.placing.distance
        centres = (self._centres() + np.array([[distance], [0.0], [0.0]])).T
        area = detector.vector_areas().reshape(-1, 3) / (detector.pixel1 * detector.pixel2)
        radius = np.sqrt(np.einsum("ij,ij->i", centres, centres))
        relative: Floats = np.abs(np.einsum("ij,ij->i", area, centres)) * distance**2 / radius**3
        return relative.reshape(detector.shape)
