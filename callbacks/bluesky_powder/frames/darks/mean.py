"""The mean of dark images, with its variance."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from azimuthal.integrator.frame import Dummy
from bluesky_powder.errors import FrameSkipped
from bluesky_powder.frames.darks.dark import Dark
from bluesky_powder.recipe import Recipe


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
