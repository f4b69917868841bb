"""Several values where one is needed: what documents and files give, and what `take` makes of it."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from bluesky_powder.errors import FrameSkipped
from bluesky_powder.recipe.sources import Take

Values = Sequence[float]


def as_values(value: Any, shape: Any = None) -> Values:
    """Return what a document holds as one or more finite numbers.

    Parameters
    ----------
    value
        Number, or array or list of numbers.
    shape
        As the descriptor has it; [] allows one number only.

    Raises
    ------
    FrameSkipped
        If it is something else; the message goes on from the name of the data key.
    """
    if type(value) is not float:
        try:
            array = np.asarray(value)
        except (TypeError, ValueError):
            array = np.empty(0)
        if array.dtype.kind not in "buif" or array.size == 0 or (array.size > 1 and _is_scalar(shape)):
            raise FrameSkipped(f"is {_shown(value)}, not a number")
        value = array.astype(float).ravel().tolist()
        return checked(value)
    return checked((value,))


def checked(values: Values) -> Values:
    """Return the values.

    Raises
    ------
    FrameSkipped
        If one is not finite.
    """
    for value in values:
        if not math.isfinite(value):
            raise FrameSkipped(f"is {value if len(values) == 1 else _shown(list(values))}, not a number")
    return values


def taken(values: Values, take: Take | None) -> float:
    """Return the mean, the first, or the sum of values."""
    if len(values) == 1 or take == "first":
        return values[0]
    total = math.fsum(values)
    return total if take == "sum" else total / len(values)


def shares(values: Values, take: Take | None, images: int) -> Values:
    """Return one value for each image of an event, or a single one that holds for all.

    Values that divide evenly among the images are taken image by image. Others are taken together; their sum is no
    image's.

    Raises
    ------
    FrameSkipped
        If a sum cannot be told apart; the message goes on from the name of the data key.
    """
    if images > 1 and len(values) > 1 and len(values) % images == 0:
        each = len(values) // images
        return [taken(values[start : start + each], take) for start in range(0, len(values), each)]
    if images > 1 and len(values) > 1 and take == "sum":
        raise FrameSkipped(f"has {len(values)} values for the {images} images of an event; `take: mean` does without")
    return (taken(values, take),)


def _is_scalar(shape: Any) -> bool:
    return isinstance(shape, list | tuple) and all(size == 1 for size in shape)


def _shown(value: Any) -> str:
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) < 60 else text[:57] + "..."
