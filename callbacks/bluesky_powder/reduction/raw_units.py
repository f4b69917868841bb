"""Which units the numbers of a raw run are in."""

from collections.abc import Mapping
from typing import Any

from bluesky_powder.frames.numbers.lookup import BASELINE
from bluesky_powder.recipe.sources import KeySource, as_key_source


class RawUnits:
    """Units of data keys, from the descriptors of a run.

    They are looked for where the numbers are: in the stream that a source names; else in the frames' stream, its
    configuration, and the baseline, in this order.
    """

    def __init__(self) -> None:
        self._own: str | None = None
        self._configured: dict[str, Any] = {}
        self._streams: dict[str, dict[str, Any]] = {}

    def describe(self, descriptor: Mapping[str, Any]) -> None:
        """Take a descriptor; the first one is that of the frames. Of two of one stream, the first one counts."""
        stream = str(descriptor.get("name", "primary"))
        if not self._streams:
            self._own = stream
        if stream == self._own:
            configured: dict[str, Any] = {}
            for device in (descriptor.get("configuration") or {}).values():
                configured |= _units(device.get("data_keys") or {})
            self._configured = configured | self._configured
        self._streams[stream] = _units(descriptor["data_keys"]) | self._streams.get(stream, {})

    def of(self, source: str | KeySource) -> str | None:
        """Return the units of a source; None where it has none, or they are not known (yet)."""
        source = as_key_source(source)
        places = [self._streams.get(str(source.stream), {})]
        if source.stream in (None, self._own):
            places = [self._streams.get(str(self._own), {}), self._configured, self._streams.get(BASELINE, {})]
        units = next((place[source.key] for place in places if source.key in place), None)
        return units if isinstance(units, str) else None


def _units(data_keys: Mapping[str, Any]) -> dict[str, Any]:
    return {key: about.get("units") for key, about in data_keys.items()}
