"""Where dark frames come from: the recipe's ``corrections.dark``."""

import math
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo

from bluesky_powder.recipe.files import ArrayFile, read_array_field

WAYS = "write `stream`, `{stream: name}`, `{run: key}`, a file or a number"


class DarkFromStream(BaseModel):
    """Darks that are taken within the run: the latest before a frame is subtracted from it.

    Attributes
    ----------
    stream
        That holds them, under the data key of the frames.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    stream: str = Field(min_length=1)


class DarkFromRun(BaseModel):
    """Darks that are a run of their own: the mean of its images is subtracted from each frame.

    Attributes
    ----------
    run
        Key of the raw run's start document that has the uid of the dark run, such as sc_dk_field_uid.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: str = Field(min_length=1)


Dark = DarkFromStream | DarkFromRun | ArrayFile | float


def read_dark(value: Any, info: ValidationInfo) -> Dark | None:
    """Return what ``corrections.dark`` means.

    Raises
    ------
    ValueError
        If it is none of what it can be.
    """
    if value is None or isinstance(value, DarkFromStream | DarkFromRun):
        return value
    if isinstance(value, bool):
        raise ValueError(f"{value!r} is no dark; {WAYS}")
    if isinstance(value, str) and value == "stream":
        return DarkFromStream(stream="dark")
    if isinstance(value, Mapping) and "file" not in value:
        return _from_run(value)
    return number_or_array(value, info)


def number_or_array(value: Any, info: ValidationInfo) -> ArrayFile | float:
    """Return a number as it is, and the array of a file.

    Raises
    ------
    ValueError
        If it is neither.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise ValueError(f"{value!r} is no number to calculate with; give a finite number or a file")
        return float(value)
    array: ArrayFile = read_array_field(value, info)
    return array


def _from_run(value: Mapping[str, Any]) -> DarkFromStream | DarkFromRun:
    for name, kind in (("stream", DarkFromStream), ("run", DarkFromRun)):
        if set(value) == {name} and isinstance(value[name], str) and value[name].strip():
            return kind.model_validate(value)
    raise ValueError(f"{dict(value)!r} says not where darks come from; {WAYS}")
