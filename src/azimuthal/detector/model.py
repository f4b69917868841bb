"""The detector: a frozen, hashable description that knows where its pixels are and which of them count."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from azimuthal.detector.masks import Mask, MaskRule, NoMask
from azimuthal.detector.sensor import Sensor
from azimuthal.errors import DetectorError

Floats = npt.NDArray[np.float64]

NATIVE_ORIENTATION = 3


class FrozenArray:
    """A read-only array that compares and hashes by its content."""

    __slots__ = ("_digest", "array")

    def __init__(self, array: npt.ArrayLike) -> None:
        self.array = np.array(array, order="C", copy=True)
        self.array.setflags(write=False)
        content = hashlib.sha256(str((self.array.dtype.str, self.array.shape)).encode())
        content.update(self.array.data)
        self._digest = content.hexdigest()

    @property
    def sha256(self) -> str:
        """Hexadecimal digest of dtype, shape and bytes."""
        return self._digest

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FrozenArray) and self._digest == other._digest

    def __hash__(self) -> int:
        return hash(self._digest)

    def __repr__(self) -> str:
        return f"FrozenArray({self.array.dtype} {self.array.shape}, sha256 {self._digest[:12]})"

    def on(self, shape: tuple[int, int], binning: tuple[int, int]) -> Mask:
        """Return the array as a mask rule does: it is the mask of the frame as it comes."""
        expected = tuple(n // b for n, b in zip(shape, binning, strict=True))
        if self.array.shape != expected:
            raise DetectorError(f"the mask has shape {self.array.shape}, frames have {expected}")
        return self.array.astype(np.bool_)


@dataclass(frozen=True)
class AxisLayout:
    """How pixels follow each other along one axis, before binning.

    Attributes
    ----------
    module
        Pixels per module; 0 when modules do not matter.
    wide
        Size, in pixels, of the two pixels on either side of an inner module border.
    gap
        Metres between one module and the next that no pixel covers.
    """

    module: int = 0
    wide: float = 1.0
    gap: float = 0.0

    def uniform(self, n: int) -> bool:
        """Return whether `n` pixels all have one size."""
        return not self.module or self.wide == 1.0 or n <= self.module

    def contiguous(self, n: int) -> bool:
        """Return whether `n` pixels leave no gap between them."""
        return not self.module or self.gap == 0.0 or n <= self.module

    def spans(self, n: int, pixel: float) -> Floats:
        """Return where each of `n` pixels begins and ends, in metres: (n, 2), increasing."""
        if not self.module:
            edges = pixel * np.arange(n + 1)
            return np.stack([edges[:-1], edges[1:]], axis=1)
        size = np.ones(n)
        for border in range(self.module, n, self.module):
            size[border - 1 : border + 1] = self.wide
        edges = pixel * np.concatenate([[0.0], np.cumsum(size)])
        shift = self.gap * (np.arange(n) // self.module)
        return np.stack([edges[:-1] + shift, edges[1:] + shift], axis=1)


_UNIFORM = (AxisLayout(), AxisLayout())


@dataclass(frozen=True)
class Detector:
    """An area detector.

    Indices are array indices: 1 = slow (rows), 2 = fast (columns). Lengths are in metres. Make one with
    :meth:`from_name`, :meth:`from_config` or :meth:`from_file`.

    Attributes
    ----------
    name
        Name in the table of known detectors, ``"Detector"`` for a generic one.
    shape
        (rows, columns) of its frames, i.e. after binning.
    pixel1, pixel2
        Size of a (binned) pixel along rows' index and columns' index.
    orientation
        1 to 4 as in EXIF; 3 is native. 1 and 2 reverse the rows, 1 and 4 the columns: a pure re-indexing of positions.
        The mask belongs to the array and stays.
    binning
        How many of the detector's own pixels went into one of the frame's.
    dummy, delta_dummy
        Value of pixels that carry no data and how far from it still counts as it; None when the detector has none.
    sensor
        What absorbs the photons; needed for the parallax correction only.
    layout
        How pixels follow each other along both axes; ignored when `corners` are given.
    mask_rule
        Which pixels are masked.
    max_shape
        (rows, columns) before binning.
    corners
        For detectors that are no flat grid of rectangles: (rows, columns, 4, 3) positions (z, y, x) of the corners
        A(i, j), B(i+1, j), C(i+1, j+1), D(i, j+1) of every pixel of a frame in the native orientation.
    source
        File that it was read from.
    """

    name: str
    shape: tuple[int, int]
    pixel1: float
    pixel2: float
    orientation: int = NATIVE_ORIENTATION
    binning: tuple[int, int] = (1, 1)
    dummy: float | None = None
    delta_dummy: float | None = None
    sensor: Sensor | None = None
    layout: tuple[AxisLayout, AxisLayout] = _UNIFORM
    mask_rule: MaskRule = field(default=NoMask())
    max_shape: tuple[int, int] | None = None
    corners: FrozenArray | None = None
    source: str | None = None

    def __post_init__(self) -> None:
        who = f"detector {self.name!r}"
        object.__setattr__(self, "shape", two_counts(self.shape, f"{who}: shape"))
        object.__setattr__(self, "binning", two_counts(self.binning, f"{who}: binning"))
        for key in ("pixel1", "pixel2"):
            object.__setattr__(self, key, length(getattr(self, key), f"{who}: {key}"))
        if self.orientation not in (1, 2, 3, 4):
            raise DetectorError(f"{who}: orientation must be 1, 2, 3 or 4 (3 is native), not {self.orientation!r}")
        object.__setattr__(self, "orientation", int(self.orientation))
        full = self.max_shape or (self.shape[0] * self.binning[0], self.shape[1] * self.binning[1])
        object.__setattr__(self, "max_shape", two_counts(full, f"{who}: max_shape"))
        if self.corners is not None and self.corners.array.shape != (*self.shape, 4, 3):
            raise DetectorError(
                f"{who}: pixel corners have shape {self.corners.array.shape}, expected {(*self.shape, 4, 3)}"
            )

    @classmethod
    def from_name(
        cls,
        name: str,
        *,
        shape: Sequence[int] | None = None,
        pixel1: float | None = None,
        pixel2: float | None = None,
        orientation: int = NATIVE_ORIENTATION,
        binning: int | Sequence[int] | None = None,
        max_shape: Sequence[int] | None = None,
        sensor: Sensor | None = None,
    ) -> "Detector":
        """Return a known detector, or a generic one (``"Detector"``).

        Parameters
        ----------
        name
            Name or alias, in any case, with or without spaces, underscores and hyphens.
        shape
            (rows, columns) of the frames. A generic detector takes it; for a known one it chooses the binning when
            nothing else does, and must agree.
        pixel1, pixel2
            Pixel sizes in metres; multiples of the detector's own imply binning, as in pyFAI.
        orientation
            1 to 4, 3 is native.
        binning
            One number or (rows, columns).
        max_shape
            Shape before binning, when it is not the usual one.
        sensor
            What absorbs the photons, for the parallax correction.

        Raises
        ------
        DetectorError
            When the name is unknown (near names are told), when the detector cannot be done right, when shape and
            detector contradict each other, when a generic detector lacks shape or pixel sizes.
        """
        from azimuthal.detector.table import build

        return build(
            cls,
            name,
            shape=shape,
            pixel1=pixel1,
            pixel2=pixel2,
            orientation=orientation,
            binning=binning,
            max_shape=max_shape,
            sensor=sensor,
        )

    @classmethod
    def from_file(cls, path: str | Path) -> "Detector":
        """Return the detector that a NeXus detector file (as pyFAI writes them) describes.

        Raises
        ------
        DetectorError
            When the file is missing, is no such file, or describes pixels that are not quadrilaterals.
        """
        from azimuthal.detector.nexus import read_detector

        return read_detector(cls, Path(path))

    @cached_property
    def uniform(self) -> bool:
        """Whether all pixels are equal rectangles on one plane."""
        return self.corners is None and all(axis.uniform(n) for axis, n in zip(self.layout, self._full(), strict=True))

    @cached_property
    def flat(self) -> bool:
        """Whether all pixels lie in the plane z = 0."""
        return self.corners is None or not bool(np.any(self.corners.array[..., 0]))

    @cached_property
    def contiguous(self) -> bool:
        """Whether neighbouring pixels share their edges, so that a grid of vertices describes them all."""
        return self.corners is None and all(
            axis.contiguous(n) for axis, n in zip(self.layout, self._full(), strict=True)
        )

    @cached_property
    def mask(self) -> Mask:
        """Gaps and dead pixels: (rows, columns) bool, True = masked, read-only."""
        mask = self.mask_rule.on(self._full(), self.binning)
        if mask.shape != self.shape:
            raise DetectorError(f"detector {self.name!r}: mask {mask.shape} and frames {self.shape} differ in shape")
        mask.setflags(write=False)
        return mask

    def _full(self) -> tuple[int, int]:
        assert self.max_shape is not None  # noqa: S101  set in __post_init__
        return self.max_shape

    def spans(self) -> tuple[Floats, Floats]:
        """Return where each row and each column of pixels begins and ends, in metres.

        Returns
        -------
        (rows, 2) and (columns, 2) float64 arrays
            Boundaries at index i and at index i + 1; they decrease where the orientation reverses an axis.

        Raises
        ------
        DetectorError
            For a detector that is described by corners.
        """
        first, second = self._spans
        return first.copy(), second.copy()

    @cached_property
    def _spans(self) -> tuple[Floats, Floats]:
        if self.corners is not None:
            raise DetectorError(f"detector {self.name!r}: its pixels are no grid, ask for its corners")
        reverse = _reversed_axes(self.orientation)
        first, second = (
            _binned_spans(axis, n, pixel, b, flip)
            for axis, n, pixel, b, flip in zip(
                self.layout, self.shape, (self.pixel1, self.pixel2), self.binning, reverse, strict=True
            )
        )
        return first, second

    @cached_property
    def corner_positions(self) -> npt.NDArray[np.floating[Any]]:
        """Positions (z, y, x) of the corners A, B, C, D of the array's pixels, in metres: (rows, columns, 4, 3).

        The precision is that of the stored corners.

        Raises
        ------
        DetectorError
            For a detector that is not described by corners.
        """
        if self.corners is None:
            raise DetectorError(f"detector {self.name!r}: its pixels are a grid, ask for spans()")
        return oriented_corners(self.corners.array, self.orientation)

    def vector_areas(self) -> Floats:
        """Return area times normal of every pixel, in m²: (rows, columns, 3) float64, components (z, y, x).

        Where the corners, as they were stored, cannot be told from those of a nominal pixel in the plane z = 0, the
        pixel is taken for one: rounding of corners would otherwise become noise of the solid angle.

        Raises
        ------
        DetectorError
            For a detector that is not described by corners.
        """
        stored = self.corner_positions
        areas = _vector_areas(stored.astype(np.float64))
        nominal = self.pixel1 * self.pixel2
        rounding = 4.0 * float(np.finfo(stored.dtype).eps) * float(np.nanmax(np.abs(stored)))
        same = np.abs(np.abs(areas[..., 0]) - nominal) < rounding * (self.pixel1 + self.pixel2)
        same &= np.abs(areas[..., 1:]).max(axis=-1) < rounding * (self.pixel1 + self.pixel2)
        areas[same] = (nominal, 0.0, 0.0)
        return areas

    def edges(self) -> tuple[Floats, Floats]:
        """Return the boundaries between rows and between columns, in metres.

        Returns
        -------
        (rows + 1,) and (columns + 1,) float64 arrays
            They decrease where the orientation reverses an axis.

        Raises
        ------
        DetectorError
            When neighbouring pixels do not share their edges.
        """
        if not self.contiguous:
            raise DetectorError(f"detector {self.name!r}: its pixels are not contiguous, ask for spans() or corners")
        first, second = self.spans()
        return np.append(first[:, 0], first[-1, 1]), np.append(second[:, 0], second[-1, 1])


def oriented_corners(corners: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """Re-index corners (rows, columns, 4, 3) from the native orientation to another one, or back; read-only."""
    rows, columns = _reversed_axes(orientation)
    if rows:
        corners = corners[::-1, :, [1, 0, 3, 2]]
    if columns:
        corners = corners[:, ::-1, [3, 2, 1, 0]]
    if corners.flags.writeable or not corners.flags.c_contiguous:
        corners = np.ascontiguousarray(corners)
        corners.setflags(write=False)
    return corners


def _reversed_axes(orientation: int) -> tuple[bool, bool]:
    return orientation in (1, 2), orientation in (1, 4)


def _vector_areas(corners: Floats) -> Floats:
    """Return half the cross product of the diagonals: (..., 3) in (z, y, x), the area's vector of a quadrilateral."""
    return 0.5 * np.cross(corners[..., 2, :] - corners[..., 0, :], corners[..., 3, :] - corners[..., 1, :])


def _binned_spans(axis: AxisLayout, n: int, pixel: float, binning: int, flip: bool) -> Floats:
    if axis.uniform(n * binning) and axis.contiguous(n * binning):
        spans = AxisLayout().spans(n, pixel)
    else:
        own = axis.spans(n * binning, pixel / binning)
        spans = np.stack([own[::binning, 0], own[binning - 1 :: binning, 1]], axis=1)
    return np.ascontiguousarray(spans[::-1, ::-1]) if flip else spans


def two_counts(value: Any, what: str) -> tuple[int, int]:
    """Return `value` as two positive integers; DetectorError that says `what` when it is not."""
    try:
        first, second = (int(v) for v in value)
        exact = (first, second) == tuple(float(v) for v in value)
    except (TypeError, ValueError):
        exact = False
    if not exact or first < 1 or second < 1:
        raise DetectorError(f"{what} must be two positive integers (rows, columns), not {value!r}")
    return first, second


def length(value: Any, what: str) -> float:
    """Return `value` as a positive number; DetectorError that says `what` when it is not."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise DetectorError(f"{what} must be a positive length in metres, not {value!r}")
    return number
