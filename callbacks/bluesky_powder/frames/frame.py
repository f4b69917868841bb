"""What comes out of this room: the images of one raw event with everything that reducing them needs, or why not."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bluesky_powder.errors import FrameSkipped
from bluesky_powder.recipe import Recipe
from bluesky_powder.recipe.sources import KeySource, key_of

MOST_BYTES = 2**34
"""What the images of one event may occupy."""


@dataclass(frozen=True)
class Wanted:
    """What is looked for in the documents.

    Attributes
    ----------
    frames
        Data key of the frames.
    stream
        Stream to take them from; None: the first that has the key, `dark` and `baseline` apart.
    positions
        Goniometer position -> where it comes from, or a number.
    monitor
        Likewise; None where none is wanted.
    exposure
        Likewise, in seconds.
    """

    frames: str
    stream: str | None
    positions: Mapping[str, str | float | KeySource]
    monitor: str | float | KeySource | None
    exposure: str | float | KeySource | None = None

    @classmethod
    def by(cls, recipe: Recipe) -> "Wanted":
        """Return what a recipe looks for."""
        corrections = recipe.corrections
        return cls(recipe.frames, recipe.stream, recipe.geometry.motors, corrections.monitor, corrections.exposure)

    @property
    def data_keys(self) -> set[str]:
        """Data keys of positions, monitor and exposure."""
        return {key for key in map(key_of, (*self.positions.values(), self.monitor, self.exposure)) if key is not None}


class Images(Protocol):
    """Where the images of one event are."""

    @property
    def nbytes_held(self) -> int:
        """Bytes that this object itself keeps in memory."""

    def read(self) -> NDArray[Any]:
        """Return the images, (k, rows, columns).

        Raises
        ------
        FrameSkipped
            If they cannot be had; the message is the reason.
        """


class NotHeld:
    """Images that stay where they are until they are read."""

    __slots__ = ()

    @property
    def nbytes_held(self) -> int:
        """Nothing is held."""
        return 0


@dataclass(frozen=True, slots=True)
class Frame:
    """The images that share one raw event; usually one.

    Attributes
    ----------
    run, stream, seq_num
        Uid of the raw run, name of the stream, number of the event in it.
    count
        How many images the documents announce.
    images
        Where they are.
    positions
        Goniometer position -> value, in the units that the goniometer's file means.
    monitor
        What an image is divided by: as recorded, times the exposure where the recipe has one; NaN where it is missing;
        None where the recipe wants neither. The mean of `monitors` where there are those.
    monitor_problem
        Why the monitor is missing or not above 0, "" where it is fine.
    event_uid
        Of the raw event, "" where there is none (fly scans).
    time
        Of the raw event; without one, when the frame was announced.
    monitors
        What each image is divided by, where the documents have one value for each; None where `monitor` holds for all.
    told
        Number of the document, among all of the run, that told where the images are.
    """

    run: str
    stream: str
    seq_num: int
    count: int
    images: Images
    positions: Mapping[str, float]
    monitor: float | None
    monitor_problem: str
    event_uid: str
    time: float
    monitors: tuple[float, ...] | None = None
    told: int = 0


@dataclass(frozen=True, slots=True)
class Skipped:
    """Images that cannot be reduced.

    Attributes
    ----------
    seq_num
        Of the event; None where even that is unknown.
    count
        How many images.
    reason
        Why, and the way out.
    """

    seq_num: int | None
    count: int
    reason: str


def as_images(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array as images, (k, rows, columns).

    Parameters
    ----------
    array
        (rows, columns), (k, rows, columns), (1, k, rows, columns) or (k, 1, rows, columns).

    Raises
    ------
    FrameSkipped
        If it holds no images.
    """
    array = np.asarray(array)
    if array.dtype.kind not in "buif":
        raise FrameSkipped(f"the frame's dtype {array.dtype} is not a real number")
    if array.nbytes > MOST_BYTES:
        raise FrameSkipped(
            f"the event has {array.nbytes / 1e9:.0f} GB of images, shape {array.shape}; too much at once"
        )
    if array.ndim == 2:
        return array[np.newaxis]
    if array.ndim == 4 and 1 in array.shape[:2]:
        array = array.reshape(-1, *array.shape[2:])
    if array.ndim != 3 or 0 in array.shape:
        raise FrameSkipped(f"the frame has shape {array.shape}; need (rows, columns) or (k, rows, columns)")
    return array


def one_after_another(parts: Sequence[NDArray[Any]], what: str) -> NDArray[Any]:
    """Return the images of several places, each (k, rows, columns), as those of one event.

    Raises
    ------
    FrameSkipped
        If they differ in shape; `what` says of what there are several.
    """
    if len({part.shape[1:] for part in parts}) > 1:
        raise FrameSkipped(f"the {what} of one event differ in shape: {', '.join(str(part.shape) for part in parts)}")
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def is_image(data_key: Mapping[str, Any]) -> bool:
    """Tell whether a data key's shape is that of an image, rather than a number or a spectrum."""
    return sum(size != 1 for size in data_key.get("shape") or ()) >= 2


def event_shape(data_key: Mapping[str, Any], parameters: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the shape of an event's images, (k, rows, columns), or (rows, columns) where nothing tells of a k.

    Parameters
    ----------
    data_key
        The descriptor's entry.
    parameters
        Of the StreamResource; `multiplier` (older: `frame_per_point`) is put before a shape that does not have it.
    """
    given: Sequence[Any] = data_key.get("shape") or ()
    shape = tuple(size if isinstance(size, int) else 1 for size in given)
    count = int(parameters.get("multiplier") or parameters.get("frame_per_point") or 0)
    if count and (len(shape) < 3 or shape[0] != count):
        return (count, *(shape[1:] if len(shape) > 2 and shape[0] == 1 else shape))
    return shape


def images_per_event(data_key: Mapping[str, Any], parameters: Mapping[str, Any]) -> int:
    """Return how many images an event has, after its descriptor and the file's parameters."""
    return max(math.prod(event_shape(data_key, parameters)[:-2]), 1)
