"""The geometry: a frozen description of where the detector is, and the arrays that follow from it."""

import math
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from azimuthal.detector import Detector
from azimuthal.errors import DetectorError, GeometryError
from azimuthal.geometry.free import FreePixels
from azimuthal.geometry.grid import GridPixels
from azimuthal.geometry.parallax import table_of
from azimuthal.geometry.placing import NO_CORRECTIONS, NO_NUMBERS, NO_TABLE, NOTHING, Corrections, Floats, Mask, Placing
from azimuthal.units import RadialUnit, radial_unit

SolidAngle = Literal["relative", "absolute"]

_ALL = slice(None)


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
        self._parallax_table()

    def __hash__(self) -> int:
        """Return a hash of the numbers: cheap, for there are few detectors to each."""
        return self._hash

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled: the fields, and nothing that was worked out from them."""
        return {key.name: getattr(self, key.name) for key in fields(self)}

    @cached_property
    def _hash(self) -> int:
        wavelength = self.wavelength or 0.0
        return hash((self.distance, self.poni1, self.poni2, self.rot1, self.rot2, self.rot3, wavelength))

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

    @cached_property
    def pixels(self) -> GridPixels | FreePixels:
        """The pixels, ready to be computed with."""
        table = self._parallax_table()
        placing = Placing(self.poni1, self.poni2, self.distance, self.rotation(), *table)
        return (
            GridPixels(self.detector, placing) if self.detector.corners is None else FreePixels(self.detector, placing)
        )

    def lab_centres(self) -> tuple[Floats, Floats, Floats]:
        """Return y (up), x (to the ring's centre) and z (along the beam) of all pixel centres: (rows, columns), m."""
        return self.pixels.lab_centres()

    def radial(self, unit: str | RadialUnit) -> Floats:
        """Return the radial coordinate of all pixel centres in the unit: (rows, columns) float64.

        Raises
        ------
        UnitError
            When the unit is unknown, or needs a wavelength and there is none.
        """
        code, factor = radial_unit(unit).kernel_arguments(self.wavelength)
        out = np.empty(self.shape)
        self.pixels.fill_centres(code, factor, out, NOTHING)
        return out

    def azimuth(self) -> Floats:
        """Return the azimuth χ = atan2(y, x) of all pixel centres, radians in ]-π, π]: (rows, columns) float64."""
        out = np.empty(self.shape)
        self.pixels.fill_centres(0, 0.0, NOTHING, out)
        return out

    def two_theta(self) -> Floats:
        """Return the scattering angle of all pixel centres in radians: (rows, columns) float64."""
        return self.radial("2th_rad")

    def q(self) -> Floats:
        """Return the momentum transfer of all pixel centres in nm⁻¹: (rows, columns) float64."""
        return self.radial("q_nm^-1")

    def vertices(self, unit: str | RadialUnit, rows: slice = _ALL) -> tuple[Floats, Floats]:
        """Return the radial coordinate (in the unit) and the azimuth (radians) of the grid of pixel vertices.

        Parameters
        ----------
        unit
            Of the radial coordinate.
        rows
            Of which pixels, one after the other; all unless said.

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
        pixels = self.pixels
        if not isinstance(pixels, GridPixels) or not self.contiguous:
            raise DetectorError(f"detector {self.detector.name!r}: its pixels are not contiguous, ask for its corners")
        return pixels.vertices(code, factor, rows)

    def corners(self, unit: str | RadialUnit, rows: slice = _ALL, columns: slice = _ALL) -> tuple[Floats, Floats]:
        """Return the radial coordinate (in the unit) and the azimuth (radians) of the four corners of every pixel.

        Parameters
        ----------
        unit
            Of the radial coordinate.
        rows, columns
            Which pixels; all unless said.

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
        return self.pixels.corners(code, factor, rows, columns)

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
        out = np.empty(self.shape)
        self.pixels.correct(self._solid_angle_scale(kind), NO_NUMBERS, NO_CORRECTIONS, out)
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
        out = np.empty(self.shape)
        self.pixels.correct(None, _polarization_numbers((factor, axis_offset)), NO_CORRECTIONS, out)
        return out

    def normalization(
        self,
        solid_angle: SolidAngle | None,
        polarization: tuple[float, float] | None,
        flat: Floats | None,
        absorption: Floats | None,
        skipped: Mask,
    ) -> tuple[Floats, Mask, tuple[int, int]]:
        """Return the product of all corrections, in one pass.

        Parameters
        ----------
        solid_angle
            As :meth:`solid_angle`.
        polarization
            Factor and axis offset as for :meth:`polarization`, or None.
        flat, absorption
            (rows, columns) float64, C-contiguous, or None.
        skipped
            (rows, columns) bool, pixels that are left out anyway.

        Returns
        -------
        norm, unused
            (rows, columns) float64 and bool: the product, 0 where it is not finite; and what is skipped or 0.
        negative
            How many pixels that are not skipped are below 0 in flat and in absorption.

        Raises
        ------
        GeometryError
            As :meth:`solid_angle` and :meth:`polarization`.
        """
        scale, numbers = self._solid_angle_scale(solid_angle), _polarization_numbers(polarization)
        norm, unused = np.empty(self.shape), np.empty(self.shape, np.bool_)
        negative = self.pixels.correct(scale, numbers, Corrections(flat, absorption, skipped, unused), norm)
        return norm, unused, negative

    def normalization_factors(
        self, solid_angle: SolidAngle | None, polarization: tuple[float, float] | None, given: Corrections
    ) -> tuple[Any, ...]:
        """Return what :meth:`normalization` multiplies, as kernels over a grid of pixels take it.

        Raises
        ------
        GeometryError
            As :meth:`normalization`; also if the pixels are no grid.
        """
        pixels = self.pixels
        if not isinstance(pixels, GridPixels):
            raise GeometryError(f"detector {self.detector.name!r}: its pixels are no grid")
        return pixels.factors(self._solid_angle_scale(solid_angle), _polarization_numbers(polarization), given)

    def _parallax_table(self) -> tuple[Floats, Floats]:
        if not self.parallax:
            return NO_TABLE, NO_TABLE
        return table_of(self.detector, self.wavelength, self.distance)

    def _solid_angle_scale(self, kind: SolidAngle | None) -> float | None:
        """Return what the relative solid angle is multiplied by; None where there is none."""
        if kind not in (None, "relative", "absolute"):
            raise GeometryError(f"solid angle must be 'relative', 'absolute' or None, not {kind!r}")
        if kind == "absolute":
            return self.detector.pixel1 * self.detector.pixel2 / self.distance**2
        return None if kind is None else 1.0


def _polarization_numbers(polarization: tuple[float, float] | None) -> Floats:
    """Return what ``kernels.multiply_polarization`` takes, from factor and axis offset; empty for None."""
    if polarization is None:
        return NO_NUMBERS
    factor, axis_offset = _finite("polarization", polarization[0]), _finite("axis_offset", polarization[1])
    if not -1.0 <= factor <= 1.0:
        raise GeometryError(f"polarization must be between -1 and 1, not {factor!r}")
    return np.array([factor, math.cos(2.0 * axis_offset), math.sin(2.0 * axis_offset)])


def _finite(key: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise GeometryError(f"{key} must be a finite number, not {value!r}")
    return number
