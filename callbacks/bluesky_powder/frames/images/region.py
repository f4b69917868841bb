"""Parts of HDF5 datasets, and images that several files hold together."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import EllipsisType
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from bluesky_powder.errors import FrameSkipped, FramesUnavailable
from bluesky_powder.frames.files.handles import open_file
from bluesky_powder.frames.files.hdf5 import Hdf5Files
from bluesky_powder.frames.files.trouble import telling_what_is_wrong
from bluesky_powder.frames.frame import Images, NotHeld, as_images, one_after_another
from bluesky_powder.frames.patience import Patience

Region = tuple[int | slice | EllipsisType, ...]
_SLICE = re.compile(r"(-?\d*):(-?\d*)(?::(-?\d*))?")


def region_of(text: str | Sequence[Any]) -> Region:
    """Read the `slice` of a StreamResource, written as numpy has it: ``:, 0, 10:20``, or a list of its parts.

    Raises
    ------
    FrameSkipped
        If it is no slice.
    """
    parts = re.sub(r"[\s()\[\]]", "", text).split(",") if isinstance(text, str) else [str(part) for part in text]
    return tuple(_part(part.strip(), text) for part in parts if part)


def _part(part: str, text: Any) -> int | slice | EllipsisType:
    if part in ("...", "Ellipsis"):
        return ...
    if re.fullmatch(r"-?\d+", part):
        return int(part)
    found = _SLICE.fullmatch(part)
    if not found or found[3] == "0":
        raise FrameSkipped(f"the slice {text!r} in the StreamResource cannot be read at {part!r}")
    return slice(*(int(number) if number else None for number in found.groups()))


@dataclass(frozen=True, slots=True)
class RegionImages(NotHeld):
    """Images of one event in a part of an HDF5 dataset.

    Attributes
    ----------
    files, patience
        What the readers share.
    path, dataset
        (n, rows, columns) or (n, k, rows, columns).
    region
        Part of the dataset that is meant, as `region_of` returns it; its first axis still counts the events.
    index, count
        Number of the event in that part, and its images.
    """

    files: Hdf5Files
    patience: Patience
    path: Path
    dataset: str
    region: Region
    index: int
    count: int

    def read(self) -> NDArray[Any]:
        """Return the images, (k, rows, columns).

        Raises
        ------
        FramesUnavailable
            If the file is missing, damaged, or does not have the frame in time.
        FrameSkipped
            If the part is none of images.
        """
        axes = self.patience.until_read(str(self.path), self._axes)
        rows, *within = expanded(self.region, axes)
        image = len([part for part in within if isinstance(part, slice)])
        if not isinstance(rows, slice) or image not in (2, 3):
            raise FrameSkipped(
                f"{self.path}: the slice {_shown(self.region)} leaves no frames, one an event, of {axes} axes"
            )
        events = range(self.index * self.count, (self.index + 1) * self.count) if image == 2 else (self.index,)
        return np.concatenate([self._row(_nth(rows, event), within) for event in events])

    def _row(self, row: int, within: Sequence[Any]) -> NDArray[Any]:
        """Return what is wanted of one row of the dataset."""
        images = self.files.read(self.path, self.dataset, row, 1)
        try:
            return as_images(images[tuple(within)] if len(within) == images.ndim else images[(0, *within)])
        except IndexError as error:
            raise FrameSkipped(f"{self.path}: the slice {_shown(self.region)} is beyond its frames: {error}") from error

    def _axes(self) -> int:
        """Return how many axes the dataset has."""
        with telling_what_is_wrong(self.path, "HDF5"), open_file(self.path) as file:
            node = file.get(self.dataset)
            if not isinstance(node, h5py.Dataset):
                raise FramesUnavailable(f"{self.path} has no dataset {self.dataset} (yet)")
            return int(node.ndim)


def expanded(region: Region, axes: int) -> tuple[int | slice, ...]:
    """Return a region with one entry an axis.

    Raises
    ------
    FrameSkipped
        If it has more entries than there are axes.
    """
    named = sum(part is not ... for part in region)
    if named > axes:
        raise FrameSkipped(f"the slice {_shown(region)} has {named} parts, the dataset {axes} axes")
    at = region.index(...) if ... in region else len(region)
    fill = (slice(None),) * (axes - named)
    return tuple(part for part in (*region[:at], *fill, *region[at + 1 :]) if not isinstance(part, EllipsisType))


def _nth(rows: slice, event: int) -> int:
    """Return which row of the dataset an event is in. The dataset may grow, so nothing counts from its end.

    Raises
    ------
    FrameSkipped
        If the slice ends before it, or counts from the end.
    """
    step = rows.step or 1
    row = (rows.start or 0) + event * step
    if step < 0 or row < 0 or (rows.start or 0) < 0 or (rows.stop or 0) < 0:
        raise FrameSkipped("a slice that counts frames from the end is not read here")
    if rows.stop is not None and row >= rows.stop:
        raise FrameSkipped(f"frame {event} is beyond the slice of its StreamResource")
    return row


def _shown(region: Region) -> str:
    def part(of: int | slice | EllipsisType) -> str:
        if isinstance(of, slice):
            return ":".join("" if n is None else str(n) for n in (of.start, of.stop, of.step)).removesuffix(":")
        return "..." if of is ... else str(of)

    return ",".join(part(of) for of in region) or ":"


@dataclass(frozen=True, slots=True)
class JoinedImages:
    """Images of one event in several places.

    Attributes
    ----------
    parts
        In order.
    """

    parts: tuple[Images, ...]

    @property
    def nbytes_held(self) -> int:
        """Bytes that the parts keep in memory."""
        return sum(part.nbytes_held for part in self.parts)

    def read(self) -> NDArray[Any]:
        """Return the images, (k, rows, columns)."""
        return one_after_another([part.read() for part in self.parts], "parts")
