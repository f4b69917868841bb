"""What a dark is, where it can be had again, and those that are known before the run: a file, a number, or nothing."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from bluesky_powder.errors import FrameSkipped
from bluesky_powder.frames.frame import Frame, Wanted
from bluesky_powder.recipe import ArrayFile, Recipe


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
