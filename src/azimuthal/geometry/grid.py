"""Pixels that are rectangles of a flat grid, on their way to the laboratory."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from azimuthal import threads
from azimuthal.detector import Detector
from azimuthal.geometry import kernels
from azimuthal.geometry.placing import NO_NUMBERS, NOTHING, Corrections, Floats, Placing

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class GridPixels:
    """Pixels of a flat grid.

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
        y, x, z = (np.empty(self.detector.shape) for _ in range(3))
        self._run(kernels.grid_to_lab, *self.centre_lines(), (y, x, z))
        return y, x, z

    def fill_centres(self, code: int, factor: float, radial: Floats, chi: Floats) -> None:
        """Fill radial coordinate and azimuth of all centres, each (rows, columns) or empty."""
        self._run(kernels.grid_to_radial, *self.centre_lines(), (code, factor, radial, chi))

    def vertices(self, code: int, factor: float, rows: slice) -> tuple[Floats, Floats]:
        """Return radial coordinate and azimuth of the grid of vertices of some rows: (rows + 1, columns + 1) each."""
        one, two = self.vertex_lines()
        first, last, _ = rows.indices(one.size - 1)
        return self._crossings(one[first : last + 1], two, code, factor)

    def corners(self, code: int, factor: float, rows: slice, columns: slice) -> tuple[Floats, Floats]:
        """Return radial coordinate and azimuth of the corners A, B, C, D of some pixels: (rows, columns, 4) each."""
        one, two = (lines[cut] for lines, cut in zip(self.corner_lines(), (rows, columns), strict=True))
        radial, chi = np.empty((len(one), len(two), 4)), np.empty((len(one), len(two), 4))
        if self.detector.contiguous:
            lines = np.append(one[:, 0], one[-1:, 1]), np.append(two[:, 0], two[-1:, 1])
            for grid, out in zip(self._crossings(*lines, code, factor), (radial, chi), strict=True):
                kernels.corners_of_vertices(grid, 0, len(one), out)
            return radial, chi
        for k, (a, b) in enumerate(((0, 0), (1, 0), (1, 1), (0, 1))):
            lines = np.ascontiguousarray(one[:, a]), np.ascontiguousarray(two[:, b])
            radial[:, :, k], chi[:, :, k] = self._crossings(*lines, code, factor)
        return radial, chi

    def radial_of_corners(self, code: int, factor: float, rows: npt.NDArray[np.intp] | slice) -> Floats:
        """Return the radial coordinates of all corners of some rows of pixels, in any order; the bits of `corners`."""
        one, two = self.corner_lines()
        one, two = np.unique(one[rows]), np.unique(two)
        radial = np.empty((one.size, two.size))
        self._run(kernels.grid_to_radial, one, two, (code, factor, radial, NOTHING))
        return radial

    def vertex_lines(self) -> tuple[Floats, Floats]:
        """Return the lines between rows and between columns: (rows + 1,) and (columns + 1,), metres from the PONI."""
        one, two = self.detector.edges()
        return one - self.placing.poni1, two - self.placing.poni2

    def centre_grid(self) -> tuple[Any, ...]:
        """Return lines of centres and numbers of the placing, as kernels take them."""
        return *self.centre_lines(), *self.placing.numbers

    def factors(self, solid_angle: float | None, polarization: Floats, given: Corrections) -> tuple[Any, ...]:
        """Return what kernels multiply to a normalization."""
        sizes = (NO_NUMBERS, NO_NUMBERS) if solid_angle is None else self._relative_sizes(solid_angle)
        return *sizes, polarization, *given.arrays

    def correct(
        self, solid_angle: float | None, polarization: Floats, given: Corrections, norm: Floats
    ) -> tuple[int, int]:
        """Fill the normalization; see `Corrections`."""
        rest = (*self.factors(solid_angle, polarization, given), norm, given.unused)
        return Corrections.total(self._run(kernels.grid_normalization, *self.centre_lines(), rest))

    def centre_lines(self) -> tuple[Floats, Floats]:
        """Return where the centres of rows and of columns are: metres from the PONI."""
        one, two = self.corner_lines()
        return 0.5 * (one[:, 0] + one[:, 1]), 0.5 * (two[:, 0] + two[:, 1])

    def corner_lines(self) -> tuple[Floats, Floats]:
        """Return where rows and columns begin and end: (rows, 2) and (columns, 2), metres from the PONI."""
        one, two = self.detector.spans()
        return one - self.placing.poni1, two - self.placing.poni2

    def _crossings(self, one: Floats, two: Floats, code: int, factor: float) -> tuple[Floats, Floats]:
        radial, chi = np.empty((one.size, two.size)), np.empty((one.size, two.size))
        self._run(kernels.grid_to_radial, one, two, (code, factor, radial, chi))
        return radial, chi

    def _run(self, kernel: Callable[..., T], one: Floats, two: Floats, rest: tuple[Any, ...]) -> list[T]:
        """Run a kernel over rows of a grid of lines, in pieces; each writes its own rows."""
        grid = one, two, *self.placing.numbers
        pieces = threads.row_pieces(one.size, two.size)
        return threads.run(lambda start, stop: kernel(*grid, start, stop, *rest), pieces)

    def _relative_sizes(self, scale: float) -> tuple[Floats, Floats]:
        """Return sizes of rows, times `scale`, and of columns over the nominal ones: their product is that of areas."""
        detector = self.detector
        if detector.uniform:
            return np.full(detector.shape[0], scale), np.ones(detector.shape[1])
        one, two = (
            np.abs(spans[:, 1] - spans[:, 0]) / pixel
            for spans, pixel in zip(detector.spans(), (detector.pixel1, detector.pixel2), strict=True)
        )
        return scale * one, two
