"""The geometry: a frozen description of where the detector is, and the arrays that follow from it."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from azimuthal import threads
from azimuthal.detector import Detector, Sensor, known_sensors
from azimuthal.errors import GeometryError
from azimuthal.geometry import kernels
from azimuthal.geometry.parallax import parallax_table
from azimuthal.units import RadialUnit, fill_azimuth, fill_radial, radial_unit

Floats = npt.NDArray[np.float64]
SolidAngle = Literal["relative", "absolute"]

_NOTHING = np.empty((0, 0))
_NO_TABLE = (np.empty(0), np.empty(0))


@dataclass(frozen=True)
class Geometry:
    """Where a detector is, in pyFAI's parameters.

    Attributes
    ----------
    detector
        What stands there.
    distance
        Distance, in metres, from the sample to the detector's plane, along its normal.
    poni1, poni2
        Coordinates, in metres, of the foot of that perpendicular on the detector.
    rot1, rot2, rot3
        Rotations in radians, applied in this order: about the detector's first axis, its second (both left-handed)
        and the beam (right-handed).
    wavelength
        In metres, or None.
    parallax
        Whether positions are corrected for the depth at which the sensor absorbs; needs a wavelength, a sensor and a
        flat detector.

    Raises
    ------
    GeometryError
        When a number is not finite or has the wrong sign, or the parallax correction lacks what it needs.
    """

    detector: Detector
    distance: float
    poni1: float
    poni2: float
    rot1: float = 0.0
    rot2: float = 0.0
    rot3: float = 0.0
    wavelength: float | None = None
    parallax: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.detector, Detector):
            raise GeometryError(f"detector must be an azimuthal Detector, not {type(self.detector).__name__}")
        for key in ("distance", "poni1", "poni2", "rot1", "rot2", "rot3"):
            object.__setattr__(self, key, _finite(key, getattr(self, key)))
        if self.wavelength is not None:
            object.__setattr__(self, "wavelength", _finite("wavelength", self.wavelength))
        for key in ("distance", "wavelength"):
            value = getattr(self, key)
            if value is not None and value <= 0:
                raise GeometryError(f"{key} must be positive, in metres, not {value!r}")
        if self.parallax:
            self._parallax_table()

    @classmethod
    def from_poni(cls, path: str | Path, shape: tuple[int, int] | None = None) -> "Geometry":
        """Read a PONI file of version 1, 2, 2.1 or 3.

        Parameters
        ----------
        path
            The file.
        shape
            (rows, columns) of the frames: required by files that name no detector, must agree with the detector
            otherwise.

        Raises
        ------
        PoniError
            When the file is malformed or incomplete; key and file are named.
        DetectorError
            When the detector is unknown, cannot be done right, or contradicts `shape`.
        OSError
            When the file cannot be read.
        """
        from azimuthal.poni import read_poni

        return read_poni(path, shape)

    def to_poni(self, path: str | Path) -> None:
        """Write a PONI file (version 2.1, or 3 with parallax) that pyFAI reads; an existing one is replaced."""
        from azimuthal.poni import poni_text

        Path(path).write_text(poni_text(self), encoding="utf-8")

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) of the frames."""
        return self.detector.shape

    @property
    def contiguous(self) -> bool:
        """Whether :meth:`vertices` exist: neighbouring pixels share their edges."""
        return self.detector.contiguous

    def rotation(self) -> Floats:
        """Return the (3, 3) matrix that turns (rows, columns, normal) into (y, x, z)."""
        c1, s1 = math.cos(self.rot1), math.sin(self.rot1)
        c2, s2 = math.cos(self.rot2), math.sin(self.rot2)
        c3, s3 = math.cos(self.rot3), math.sin(self.rot3)
        about1 = np.array([[1, 0, 0], [0, c1, s1], [0, -s1, c1]])
        about2 = np.array([[c2, 0, -s2], [0, 1, 0], [s2, 0, c2]])
        about3 = np.array([[c3, -s3, 0], [s3, c3, 0], [0, 0, 1]])
        matrix: Floats = about3 @ about2 @ about1
        return np.ascontiguousarray(matrix)

    def lab_centres(self) -> tuple[Floats, Floats, Floats]:
        """Return y (up), x (to the ring's centre) and z (along the beam) of all pixel centres: (rows, columns), m."""
        y, x, z = (np.empty(self.shape) for _ in range(3))
        if self.detector.corners is None:
            one, two = self._centre_lines()
            _by_rows(kernels.grid_to_lab, (one, two, self.distance, *self._placing()), (y, x, z))
        else:
            self._points_to_lab(self._centre_points(), y, x, z)
        return y, x, z

    def radial(self, unit: str | RadialUnit) -> Floats:
        """Return the radial coordinate of all pixel centres in the unit: (rows, columns) float64.

        Raises
        ------
        UnitError
            When the unit is unknown, or needs a wavelength and there is none.
        """
        code, factor = radial_unit(unit).kernel_arguments(self.wavelength)
        out = np.empty(self.shape)
        self._fill_centres(code, factor, out, _NOTHING)
        return out

    def azimuth(self) -> Floats:
        """Return the azimuth χ = atan2(y, x) of all pixel centres, radians in ]-π, π]: (rows, columns) float64."""
        out = np.empty(self.shape)
        self._fill_centres(0, 0.0, _NOTHING, out)
        return out

    def two_theta(self) -> Floats:
        """Return the scattering angle of all pixel centres in radians: (rows, columns) float64."""
        return self.radial("2th_rad")

    def q(self) -> Floats:
        """Return the momentum transfer of all pixel centres in nm⁻¹: (rows, columns) float64."""
        return self.radial("q_nm^-1")

    def vertices(self, unit: str | RadialUnit) -> tuple[Floats, Floats]:
        """Return the radial coordinate (in the unit) and the azimuth (radians) of the grid of pixel vertices.

        Returns
        -------
        radial, chi
            Both (rows + 1, columns + 1) float64; pixel (i, j) has the vertices (i, j), (i+1, j), (i+1, j+1), (i, j+1).

        Raises
        ------
        DetectorError
            When pixels do not share their edges: use :meth:`corners`.
        UnitError
            As :meth:`radial`.
        """
        code, factor = radial_unit(unit).kernel_arguments(self.wavelength)
        one, two = self.detector.edges()
        return self._grid(one - self.poni1, two - self.poni2, code, factor)

    def corners(self, unit: str | RadialUnit) -> tuple[Floats, Floats]:
        """Return the radial coordinate (in the unit) and the azimuth (radians) of the four corners of every pixel.

        Returns
        -------
        radial, chi
            Both (rows, columns, 4) float64, in the order A(i, j), B(i+1, j), C(i+1, j+1), D(i, j+1).

        Raises
        ------
        UnitError
            As :meth:`radial`.
        """
        code, factor = radial_unit(unit).kernel_arguments(self.wavelength)
        rows, columns = self.shape
        radial, chi = np.empty((rows, columns, 4)), np.empty((rows, columns, 4))
        if self.detector.corners is not None:
            y, x, z = (np.empty(radial.shape) for _ in range(3))
            self._points_to_lab(self._points(self.detector.corner_positions.reshape(-1, 3)), y, x, z)
            fill_radial(code, factor, y.reshape(-1), x.reshape(-1), z.reshape(-1), radial.reshape(-1))
            fill_azimuth(1.0, y.reshape(-1), x.reshape(-1), chi.reshape(-1))
        elif self.contiguous:
            for grid, out in zip(self.vertices(unit), (radial, chi), strict=True):
                kernels.corners_of_vertices(grid, 0, rows, out)
        else:
            one, two = self.detector.spans()
            for k, (a, b) in enumerate(((0, 0), (1, 0), (1, 1), (0, 1))):
                lines = np.ascontiguousarray(one[:, a] - self.poni1), np.ascontiguousarray(two[:, b] - self.poni2)
                radial[:, :, k], chi[:, :, k] = self._grid(*lines, code, factor)
        return radial, chi

    def solid_angle(self, kind: SolidAngle | None = "relative") -> Floats | None:
        """Return the solid angle of every pixel: (rows, columns) float64, or None for kind None.

        ``"relative"`` is the solid angle over that of a nominal pixel at the PONI, which is (distance / R)³ on a flat
        detector of equal pixels; ``"absolute"`` is in steradian: relative times pixel1 pixel2 / distance². Parallax
        moves no pixel here.

        Raises
        ------
        GeometryError
            For another kind.
        """
        if kind is None:
            return None
        if kind not in ("relative", "absolute"):
            raise GeometryError(f"solid angle must be 'relative', 'absolute' or None, not {kind!r}")
        out = self._relative_solid_angle()
        if kind == "absolute":
            out *= self.detector.pixel1 * self.detector.pixel2 / self.distance**2
        return out

    def polarization(self, factor: float, axis_offset: float = 0.0) -> Floats:
        """Return the polarization correction of all pixels: (rows, columns) float64.

        (1 + cos² 2θ - f cos(2 (χ + offset)) sin² 2θ) / 2 (reference: pyFAI), written without any angle.

        Parameters
        ----------
        factor
            f, from -1 to 1; 1 is a beam polarized along x, the horizontal.
        axis_offset
            Radians.

        Raises
        ------
        GeometryError
            When a number is out of range or not finite.
        """
        factor, axis_offset = _finite("polarization", factor), _finite("axis_offset", axis_offset)
        if not -1.0 <= factor <= 1.0:
            raise GeometryError(f"polarization must be between -1 and 1, not {factor!r}")
        pair = math.cos(2.0 * axis_offset), math.sin(2.0 * axis_offset)
        out = np.empty(self.shape)
        if self.detector.corners is None:
            one, two = self._centre_lines()
            _by_rows(kernels.grid_polarization, (one, two, self.distance, *self._placing()), (factor, *pair, out))
        else:
            y, x, z = (a.reshape(-1) for a in self.lab_centres())
            kernels.fill_polarization(y, x, z, factor, *pair, out.reshape(-1))
        return out

    def _placing(self) -> tuple[Floats, Floats, Floats]:
        return (self.rotation(), *(self._parallax_table() if self.parallax else _NO_TABLE))

    def _parallax_table(self) -> tuple[Floats, Floats]:
        if self.wavelength is None:
            raise GeometryError("the parallax correction needs a wavelength and the geometry has none")
        if not self.detector.flat:
            raise GeometryError(
                f"the parallax correction is known for flat detectors only, and {self.detector.name!r} is not flat"
            )
        if self.detector.sensor is None:
            sensor = (*known_sensors(self.detector.name), Sensor("Si", 4.5e-4))[0]
            raise GeometryError(
                f"the parallax correction needs to know the sensor, and detector {self.detector.name!r} does not: add "
                f'"sensor": {json.dumps(sensor.config())} (or what it is) to Detector_config in the PONI file, '
                f"or sensor={sensor!r} to the Detector"
            )
        return parallax_table(self.detector.sensor, self.wavelength, self.distance)

    def _centre_lines(self) -> tuple[Floats, Floats]:
        one, two = self.detector.spans()
        return 0.5 * (one[:, 0] + one[:, 1]) - self.poni1, 0.5 * (two[:, 0] + two[:, 1]) - self.poni2

    def _points(self, zyx: npt.NDArray[np.floating[Any]]) -> Floats:
        """Return points (n, 3) of the detector as float64 (3, n), relative to the PONI."""
        return np.ascontiguousarray(zyx.astype(np.float64).T) - np.array([[0.0], [self.poni1], [self.poni2]])

    def _centre_points(self) -> Floats:
        return self._points(self.detector.corner_positions.mean(axis=2, dtype=np.float64).reshape(-1, 3))

    def _points_to_lab(self, points: Floats, y: Floats, x: Floats, z: Floats) -> None:
        flat = y.reshape(-1), x.reshape(-1), z.reshape(-1)
        kernels.points_to_lab(points, self.distance, *self._placing(), 0, points.shape[1], *flat)

    def _fill_centres(self, code: int, factor: float, radial: Floats, chi: Floats) -> None:
        """Fill radial coordinate and azimuth of the pixel centres, each (rows, columns) or (0, 0)."""
        if self.detector.corners is None:
            one, two = self._centre_lines()
            _by_rows(kernels.grid_to_radial, (one, two, self.distance, *self._placing()), (code, factor, radial, chi))
            return
        y, x, z = (a.reshape(-1) for a in self.lab_centres())
        if radial.size:
            fill_radial(code, factor, y, x, z, radial.reshape(-1))
        if chi.size:
            fill_azimuth(1.0, y, x, chi.reshape(-1))

    def _grid(self, one: Floats, two: Floats, code: int, factor: float) -> tuple[Floats, Floats]:
        radial, chi = np.empty((one.size, two.size)), np.empty((one.size, two.size))
        _by_rows(kernels.grid_to_radial, (one, two, self.distance, *self._placing()), (code, factor, radial, chi))
        return radial, chi

    def _relative_solid_angle(self) -> Floats:
        detector = self.detector
        out = np.empty(self.shape)
        if detector.corners is None:
            sizes = [
                np.ones(n) if detector.uniform else np.abs(spans[:, 1] - spans[:, 0]) / pixel
                for n, spans, pixel in zip(
                    self.shape, detector.spans(), (detector.pixel1, detector.pixel2), strict=True
                )
            ]
            one, two = self._centre_lines()
            _by_rows(kernels.grid_solid_angle, (one, two, *sizes, self.distance), (out,))
            return out
        centres = (self._centre_points() + np.array([[self.distance], [0.0], [0.0]])).T
        area = detector.vector_areas().reshape(-1, 3) / (detector.pixel1 * detector.pixel2)
        radius = np.sqrt(np.einsum("ij,ij->i", centres, centres))
        out.reshape(-1)[:] = np.abs(np.einsum("ij,ij->i", area, centres)) * self.distance**2 / radius**3
        return out


def _by_rows(kernel: Callable[..., Any], grid: tuple[Any, ...], rest: tuple[Any, ...]) -> None:
    """Run a kernel over rows of a grid, whose lines come first, in pieces; each writes its own rows."""
    rows, columns = grid[0].size, grid[1].size
    threads.run(lambda start, stop: kernel(*grid, start, stop, *rest), threads.row_pieces(rows, columns))


def _finite(key: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise GeometryError(f"{key} must be a finite number, not {value!r}")
    return number
