"""Dark images: their mean over several, with its variance, and where means are kept that may be needed again."""

import shutil
import tempfile
import weakref
from abc import ABC, abstractmethod
from collections import OrderedDict
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from azimuthal.integrator.frame import Dummy
from bluesky_powder.errors import FrameSkipped
from bluesky_powder.frames.frame import Frame, Wanted
from bluesky_powder.recipe import ArrayFile, Recipe

SCRATCH_BYTES = 2**32
"""What the darks of one run may occupy on disk; beyond it the oldest is dropped."""


@dataclass(frozen=True, slots=True)
class Dark:
    """What is subtracted from an image.

    Attributes
    ----------
    values
        Number, or (rows, columns) float64.
    variance
        Likewise; None where nothing is known of it.
    mask
        (rows, columns), True where the dark has no data; None where it has data everywhere.
    """

    values: NDArray[np.float64] | float
    variance: NDArray[np.float64] | float | None = None
    mask: NDArray[np.bool_] | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return sum(getattr(array, "nbytes", 0) for array in (self.values, self.variance, self.mask))

    def keywords(self) -> dict[str, Any]:
        """Return what the engine is given besides an image."""
        given = {"dark": self.values, "dark_variance": self.variance, "mask": self.mask}
        return {name: value for name, value in given.items() if value is not None}

    def times(self, images: int) -> "Dark":
        """Return what is subtracted from the sum of several images: the same dark from each, so its errors add up."""
        variance = None if self.variance is None else images**2 * self.variance
        return Dark(images * self.values, variance, self.mask)


class DarkSource(Protocol):
    """Where a dark can be had again, for frames that are read again."""

    @property
    def uid(self) -> str:
        """Uid of the dark's event or run; "" for a file or number."""

    def read(self) -> Dark:
        """Return the dark.

        Raises
        ------
        FrameSkipped
            If it is gone.
        """


class Darks(Protocol):
    """Tells which dark belongs to a frame."""

    def take(self, name: str, document: Any) -> bool:
        """Take a document of the run; return whether it was one about darks."""

    def decided(self, frame: Frame) -> bool:
        """Tell whether the dark of a frame is known by now, or that there is none."""

    def of(self, frame: Frame) -> DarkSource | None:
        """Return the dark of a frame; None where nothing is to be subtracted.

        Raises
        ------
        FrameSkipped
            If there is none, and the recipe does without.
        """

    def finish(self) -> list[str]:
        """Decide what is still open, now that the run is over; return what went wrong with darks."""

    def close(self) -> None:
        """Remove scratch files."""


@dataclass(frozen=True, slots=True)
class HeldDark:
    """A dark in memory."""

    uid: str
    dark: Dark

    def read(self) -> Dark:
        """Return the dark."""
        return self.dark


class KnownDark(ABC):
    """The dark of a run whose own documents have nothing to do with it."""

    def take(self, name: str, document: Any) -> bool:  # noqa: ARG002 - as other darks do
        """Return False."""
        return False

    def decided(self, frame: Frame) -> bool:  # noqa: ARG002
        """Return True."""
        return True

    @abstractmethod
    def of(self, frame: Frame) -> DarkSource | None:
        """Return the dark, the same for every frame; see `Darks.of`."""

    def finish(self) -> list[str]:
        """Return nothing."""
        return []

    def close(self) -> None:
        """Do nothing."""
        return


class OneDark(KnownDark):
    """A file, a number, or nothing.

    Parameters
    ----------
    recipe
        Whose `dark` is not one that the run brings.
    """

    def __init__(self, recipe: Recipe) -> None:
        corrections = recipe.corrections
        self._dark: HeldDark | None = None
        if isinstance(corrections.dark, ArrayFile | float):
            variance = corrections.dark_variance
            self._dark = HeldDark("", Dark(_plane(corrections.dark), None if variance is None else _plane(variance)))

    def of(self, frame: Frame) -> DarkSource | None:  # noqa: ARG002
        """Return the dark."""
        return self._dark


def _plane(given: ArrayFile | float) -> NDArray[np.float64] | float:
    return given.array.astype(np.float64) if isinstance(given, ArrayFile) else given


def images_only(wanted: Wanted, stream: str) -> Wanted:
    """Return what to look for in a stream of darks: images, without positions or a monitor."""
    return Wanted(wanted.frames, stream, {}, None)


def without_dark(policy: Literal["skip", "unsubtracted"], why: str) -> None:
    """Let a frame without a dark pass, if the recipe says so.

    Raises
    ------
    FrameSkipped
        If it does not.
    """
    if policy == "skip":
        raise FrameSkipped(f"{why} (`missing_dark: unsubtracted` in the recipe keeps such frames)")


class NoData:
    """Tells which pixels of an image have no data, as the engine does: dummies of recipe or detector, NaN, infinity.

    Parameters
    ----------
    recipe
        That says which values stand for no data.
    """

    def __init__(self, recipe: Recipe) -> None:
        corrections, detector = recipe.corrections, recipe.geometry.detector
        makers = (detector.dummy, detector.delta_dummy) if detector is not None else (None, None)
        self._dummy = Dummy(corrections.dummy, corrections.delta_dummy, *makers)

    def where(self, images: NDArray[Any]) -> NDArray[np.bool_]:
        """Return booleans of the images' shape.

        Raises
        ------
        azimuthal.errors.FrameError
            If the images' dtype cannot hold the recipe's dummy.
        """
        low, high = self._dummy.interval(images.dtype)
        absent: NDArray[np.bool_] = (images >= low) & (images <= high)
        if images.dtype.kind == "f":
            absent |= ~np.isfinite(images)
        return absent


class DarkMean:
    """The mean of dark images.

    Its variance in a pixel is ``(gain * max(mean, 0) + read_noise**2) / images``: that of one image, by the formula of
    frames, over their number. A pixel without data in any of the images has none in the mean.

    Parameters
    ----------
    recipe
        With gain, read noise and dummies.

    Attributes
    ----------
    images
        How many there are so far.
    """

    def __init__(self, recipe: Recipe) -> None:
        self._no_data = NoData(recipe)
        self._gain, self._read_noise = recipe.integration.gain, recipe.integration.read_noise
        self._sum: NDArray[Any] | None = None
        self._absent: NDArray[np.bool_] = np.empty(0, np.bool_)
        self.images = 0

    def add(self, images: NDArray[Any]) -> None:
        """Add images, (k, rows, columns).

        Raises
        ------
        FrameSkipped
            If they differ in shape from those before.
        azimuthal.errors.FrameError
            If their dtype cannot hold the recipe's dummy.
        """
        if self._sum is None:
            # Sums of whole numbers are exact in any order; uint64 would need more than int64 has.
            whole = images.dtype.kind in "bui" and images.dtype != np.uint64
            self._sum = np.zeros(images.shape[1:], np.int64 if whole else np.float64)
            self._absent = np.zeros(images.shape[1:], np.bool_)
        if images.shape[1:] != self._sum.shape:
            raise FrameSkipped(f"dark images differ in shape: {self._sum.shape} and {images.shape[1:]}")
        for image in images:
            absent = self._no_data.where(image)
            self._absent |= absent
            self._sum += np.where(absent, 0, image)
            self.images += 1

    def result(self) -> Dark:
        """Return the mean.

        Raises
        ------
        FrameSkipped
            If there are no images.
        """
        if self._sum is None:
            raise FrameSkipped("there are no dark images")
        mean = self._sum / self.images
        mean[self._absent] = 0.0
        variance = (self._gain * np.maximum(mean, 0.0) + self._read_noise**2) / self.images
        return Dark(mean, variance, self._absent if self._absent.any() else None)


class DarkStore:
    """Darks of one run. Those used last are in memory, the others in scratch files.

    Parameters
    ----------
    byte_budget
        What may be in memory; one dark always may.
    scratch
        Folder for the scratch files; None for the system's.
    scratch_budget
        What may be on disk; the oldest goes first.
    """

    def __init__(
        self, *, byte_budget: int = 2**28, scratch: str | Path | None = None, scratch_budget: int = SCRATCH_BYTES
    ) -> None:
        self._byte_budget = byte_budget
        self._scratch_budget = scratch_budget
        self._scratch = scratch
        self._folder: Path | None = None
        self._live: OrderedDict[int, Dark] = OrderedDict()
        self._on_disk: OrderedDict[int, Path] = OrderedDict()
        self._numbers = count()

    def put(self, uid: str, dark: Dark) -> "KeptDark":
        """Keep a dark; return where it can be had."""
        number = next(self._numbers)
        self._live[number] = dark
        self._keep_to_budget()
        return KeptDark(uid, self, number)

    def get(self, number: int) -> Dark:
        """Return a dark.

        Raises
        ------
        FrameSkipped
            If it was dropped.
        """
        if number in self._live:
            self._live.move_to_end(number)
        elif number in self._on_disk:
            self._live[number] = _load(self._on_disk[number])
            self._keep_to_budget()
        else:
            raise FrameSkipped("its dark frame is no longer at hand; replay the run")
        return self._live[number]

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return sum(dark.nbytes for dark in self._live.values())

    def close(self) -> None:
        """Drop everything."""
        self._live.clear()
        self._on_disk.clear()
        if self._folder is not None:
            self._remove()
            self._folder = None

    def _keep_to_budget(self) -> None:
        while len(self._live) > 1 and self.nbytes > self._byte_budget:
            number, dark = self._live.popitem(last=False)
            if number not in self._on_disk:
                self._on_disk[number] = self._write(number, dark)
        while len(self._on_disk) > 1 and sum(p.stat().st_size for p in self._on_disk.values()) > self._scratch_budget:
            self._on_disk.popitem(last=False)[1].unlink()

    def _write(self, number: int, dark: Dark) -> Path:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="bluesky-powder-darks-", dir=self._scratch))
            self._remove = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        path = self._folder / f"{number}.npz"
        arrays = {"values": dark.values, "variance": dark.variance, "mask": dark.mask}
        np.savez(path, allow_pickle=False, **{name: array for name, array in arrays.items() if array is not None})
        return path


def _load(path: Path) -> Dark:
    with np.load(path) as arrays:
        return Dark(arrays["values"], arrays.get("variance"), arrays.get("mask"))


@dataclass(frozen=True, slots=True)
class KeptDark:
    """A dark in a `DarkStore`."""

    uid: str
    store: DarkStore
    number: int

    def read(self) -> Dark:
        """Return the dark."""
        return self.store.get(self.number)
