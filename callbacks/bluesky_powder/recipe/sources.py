"""Where a number of each frame comes from: a data key, a data key with more to say about it, or the number itself."""

import difflib
import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, model_validator

from bluesky_powder.recipe.conversions import factor, unit_name
from bluesky_powder.recipe.mistakes import Key, at_keys

Take = Literal["mean", "first", "sum"]


class KeySource(BaseModel):
    """A data key, and what is made of its values.

    Attributes
    ----------
    key
        The data key.
    take
        What becomes of several values: mean, first or sum. Left out: sum of a monitor, mean of anything else.
    unit
        What the values are in; left out: the data key's own ``units``.
    to_unit
        What they become before they are used; left out: nothing is converted, but an exposure to seconds.
    stream
        Stream to take them from; left out: that of the frames, its configuration, or the baseline.
    samples
        Of another stream: how many values each frame has, or ``time`` for those between the times of a frame's event
        and of the one before it. Left out: found out when the run is over.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    take: Take | None = None
    unit: str | None = None
    to_unit: str | None = None
    stream: str | None = None
    samples: int | Literal["time"] | None = None

    @model_validator(mode="before")
    @classmethod
    def _in_words(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and (mistakes := list(_mistakes(data))):
            raise at_keys(*mistakes)
        return data

    @model_validator(mode="after")
    def _units_fit(self) -> Self:
        if self.to_unit is not None and self.unit is not None:
            try:
                factor(self.unit, self.to_unit)
            except ValueError as error:
                raise at_keys((("to_unit",), str(error))) from None
        return self

    def __str__(self) -> str:
        """Return the data key."""
        return self.key


def _read(value: object) -> object:
    if isinstance(value, KeySource):
        return value
    if isinstance(value, Mapping):
        return KeySource.model_validate(dict(value))
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"{value!r} is neither a data key nor a number")
    if isinstance(value, str):
        if not value.strip():
            raise ValueError("is empty; give a data key or a number")
        return value
    if not math.isfinite(value):
        raise ValueError(f"{value!r} is no finite number")
    return float(value)


Source = Annotated[str | float | KeySource, BeforeValidator(_read)]
"""Where a number comes from: the name of a data key, a `KeySource`, or the number itself."""


def key_of(source: str | float | KeySource | None) -> str | None:
    """Return the data key of a source; None where it is a number, or nothing."""
    if isinstance(source, KeySource):
        return source.key
    return source if isinstance(source, str) else None


def as_key_source(source: str | KeySource) -> KeySource:
    """Return a data key as a `KeySource`."""
    return source if isinstance(source, KeySource) else KeySource(key=source)


def _mistakes(data: Mapping[Any, Any]) -> Iterator[tuple[Key, str]]:
    known = list(KeySource.model_fields)
    for name in data:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            yield (str(name),), f"unknown key; did you mean {near[0]!r}?" if near else f"unknown key; {_can_stand()}"
    if "key" not in data:
        yield ("key",), "missing (the data key); for example `{key: two_theta, to_unit: deg}`"
    for name in ("key", "stream"):
        value = data.get(name, "-")
        if not isinstance(value, str) and not (value is None and name == "stream"):
            yield (name,), f"{value!r} is no name"
        elif value is not None and not value.strip():
            yield (name,), "is empty; give a name"
    if data.get("take") not in (None, "mean", "first", "sum"):
        yield ("take",), f"{data['take']!r} is not possible; choose 'mean', 'first' or 'sum'"
    yield from _unit_mistakes(data)
    yield from _samples_mistakes(data)


def _unit_mistakes(data: Mapping[Any, Any]) -> Iterator[tuple[Key, str]]:
    for name in ("unit", "to_unit"):
        if data.get(name) is None:
            continue
        try:
            unit_name(data[name]) if isinstance(data[name], str) else unit_name(repr(data[name]))
        except ValueError as error:
            yield (name,), str(error)
    if data.get("unit") is not None and data.get("to_unit") is None:
        yield ("unit",), "converts nothing without `to_unit`; give both, or leave it out"


def _samples_mistakes(data: Mapping[Any, Any]) -> Iterator[tuple[Key, str]]:
    samples = data.get("samples")
    if samples is None:
        return
    if samples != "time" and (isinstance(samples, bool) or not isinstance(samples, int) or samples < 1):
        yield ("samples",), f"{samples!r} is not possible; give how many values a frame has, or 'time'"
    elif data.get("stream") is None:
        yield ("samples",), "is about another stream; say which with `stream`, or leave it out"


def _can_stand() -> str:
    return f"here can stand: {', '.join(KeySource.model_fields)}"
