"""Positions and monitor of a frame: from its event, the configuration, the baseline, or as constants."""

import math
from collections.abc import Mapping
from typing import Any

from bluesky_powder.errors import FrameSkipped
from bluesky_powder.frames.frame import Wanted


class Numbers:
    """Looks up the numbers that frames need.

    A data key is looked for in the event of the same seq_num, in the configuration of its descriptor, and in the first
    event of the stream `baseline`, in this order.

    Parameters
    ----------
    wanted
        What is needed.
    """

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._baseline: dict[str, Any] = {}

    def note_baseline(self, data: Mapping[str, Any]) -> None:
        """Keep what the first baseline event says."""
        for key in self._wanted.data_keys & data.keys():
            self._baseline.setdefault(key, data[key])

    def pick(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Return what an event says of the numbers needed, so that the rest of it may go."""
        return {key: data[key] for key in self._wanted.data_keys & data.keys()}

    def waits_for_event(self, descriptor: Mapping[str, Any]) -> bool:
        """Tell whether a frame of this stream cannot do without its event."""
        keys = descriptor["data_keys"]
        return any(key in keys and not keys[key].get("external") for key in self._wanted.data_keys)

    def nowhere(self, descriptor: Mapping[str, Any]) -> list[str]:
        """Return the data keys that neither the stream nor its configuration nor the baseline (so far) has."""
        keys, configured = descriptor["data_keys"], _configured(descriptor)
        return sorted(k for k in self._wanted.data_keys if k not in keys and k not in configured | self._baseline)

    def positions(self, descriptor: Mapping[str, Any], data: Mapping[str, Any] | None) -> dict[str, float]:
        """Return goniometer position -> value.

        Raises
        ------
        FrameSkipped
            If one is missing or no number.
        """
        return {
            name: self._number(f"position {name!r}", source, descriptor, data)
            for name, source in self._wanted.positions.items()
        }

    def monitor(self, descriptor: Mapping[str, Any], data: Mapping[str, Any] | None) -> tuple[float | None, str]:
        """Return the monitor and "", NaN and why it is missing, or None and "" where none is wanted."""
        if self._wanted.monitor is None:
            return None, ""
        try:
            return self._number("the monitor", self._wanted.monitor, descriptor, data), ""
        except FrameSkipped as reason:
            return math.nan, str(reason)

    def _number(
        self, what: str, source: str | float, descriptor: Mapping[str, Any], data: Mapping[str, Any] | None
    ) -> float:
        if not isinstance(source, str):
            return source
        for place in (data or {}, _configured(descriptor), self._baseline):
            if source in place:
                return _as_number(what, source, place[source])
        raise FrameSkipped(f"{what} needs {source!r}, which {_where_not(source, descriptor, data)}")


def _as_number(what: str, source: str, value: Any) -> float:
    try:
        if getattr(value, "size", 1) == 1 and hasattr(value, "item"):
            value = value.item()
        if isinstance(value, list | tuple) and len(value) == 1:
            value = value[0]
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(value, str) or not math.isfinite(number):
        shown = str(value)
        raise FrameSkipped(f"{what}: {source!r} is {shown if len(shown) < 60 else shown[:57] + '...'}, not a number")
    return number


def _configured(descriptor: Mapping[str, Any]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for device in descriptor.get("configuration", {}).values():
        merged.update(device.get("data", {}))
    return merged


def _where_not(source: str, descriptor: Mapping[str, Any], data: Mapping[str, Any] | None) -> str:
    key = descriptor["data_keys"].get(source)
    if key is not None and key.get("external"):
        return "is written to a file, which positions are not read from here; record it in the events too"
    if key is not None and data is None:
        return "its event should bring, but no event of this seq_num came"
    if key is not None:
        return "is missing from the event"
    has = ", ".join(sorted(k for k, v in descriptor["data_keys"].items() if not v.get("external"))) or "nothing"
    return (
        f"is in neither event (which has {has}), configuration nor baseline; "
        "add the device to the plan, or correct the recipe"
    )
