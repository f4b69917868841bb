"""Positions and monitor of a frame: from events, files, configuration, baseline, other streams, or as constants."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from bluesky_powder.errors import FrameSkipped, FramesUnavailable
from bluesky_powder.frames.frame import Wanted
from bluesky_powder.frames.joining.join import Joined
from bluesky_powder.frames.numbers.columns import ColumnFiles
from bluesky_powder.frames.numbers.elsewhere import OtherStreams
from bluesky_powder.frames.numbers.pairing import TOO_LONG
from bluesky_powder.frames.numbers.values import Values, as_values, checked, shares, taken
from bluesky_powder.recipe.conversions import factor, kind_of
from bluesky_powder.recipe.sources import KeySource, Take, as_key_source

BASELINE = "baseline"


@dataclass(frozen=True, slots=True)
class Found:
    """The numbers of one frame; see `Frame`."""

    positions: Mapping[str, float]
    monitor: float | None
    monitor_problem: str
    monitors: tuple[float, ...] | None


@dataclass(frozen=True, slots=True)
class _Asked:
    """One number that every frame needs; `unit`: what it has to be in, also where the recipe does not say so."""

    what: str
    source: KeySource | float
    unit: str | None = None

    @classmethod
    def of(cls, what: str, source: str | float | KeySource, default: Take, unit: str | None = None) -> "_Asked":
        if isinstance(source, float | int):
            return cls(what, float(source), unit)
        source = as_key_source(source)
        return cls(what, source if source.take else source.model_copy(update={"take": default}), unit)


@dataclass(frozen=True, slots=True)
class _Known:
    """What a descriptor says about the numbers of its frames.

    Attributes
    ----------
    keys
        Its data keys.
    configured, units
        Values and units of its configuration.
    columns
        Data keys that are needed and stand in files.
    needs_event
        Whether others that are needed stand in events.
    elsewhere
        Those of which this stream says nothing: only the baseline may.
    """

    keys: Mapping[str, Any]
    configured: Mapping[str, Any]
    units: Mapping[str, Any]
    columns: tuple[str, ...]
    needs_event: bool
    elsewhere: tuple[str, ...]


class Numbers:
    """Looks up the numbers that frames need.

    A data key without a stream is looked for in the event of the same seq_num, in a column that a StreamResource of the
    frames' stream tells of, in the configuration of its descriptor, and in the first event of the stream `baseline`, in
    this order. One with a stream is looked for there; see `Pairing` for which of its values are whose.

    Several values become one by `take`: for a position, all that share an event; for monitor and exposure, those of one
    image, where they divide evenly among the images of the event.

    Parameters
    ----------
    wanted
        What is needed.
    files
        Reads columns.
    """

    def __init__(self, wanted: Wanted, files: ColumnFiles) -> None:
        self._positions = {n: _Asked.of(f"position {n!r}", s, "mean") for n, s in wanted.positions.items()}
        self._divisors = []
        if wanted.monitor is not None:
            self._divisors.append(_Asked.of("the monitor", wanted.monitor, "sum"))
        if wanted.exposure is not None:
            self._divisors.append(_Asked.of("the exposure", wanted.exposure, "mean", "s"))
        asked = (*self._positions.values(), *self._divisors)
        self._sources = [a.source for a in asked if isinstance(a.source, KeySource)]
        self.others = OtherStreams([source for source in self._sources if source.stream not in (None, BASELINE)], files)
        self._own: str | None = None
        self._baseline: dict[str, Any] = {}
        self._baseline_units: dict[str, Any] = {}
        self._had_baseline = False
        self._only_baseline: set[str] = set()
        self._known: dict[str, _Known] = {}
        self._streams: dict[str, Mapping[str, Any]] = {}

    def describe(self, descriptor: Mapping[str, Any], stream: str) -> None:
        """Take a descriptor of any stream."""
        keys = descriptor["data_keys"]
        self._streams[stream] = keys
        if stream == BASELINE:
            self._baseline_units |= {key: about.get("units") for key, about in keys.items()}
        self.others.describe(descriptor, stream)

    def describe_frames(self, descriptor: Mapping[str, Any], stream: str) -> None:
        """Take a descriptor of the frames' stream."""
        self._own = stream
        self.others.leave_out(stream)
        self._only_baseline = {s.key for s in self._sources if s.stream == BASELINE != stream}
        keys = descriptor["data_keys"]
        needed = {source.key for source in self._sources if source.stream in (None, stream)}
        configured, units = _configuration(descriptor)
        columns = tuple(sorted(k for k in needed if is_streamed(keys.get(k))))
        self._known[descriptor["uid"]] = _Known(
            keys=keys,
            configured=configured,
            units=units,
            columns=columns,
            needs_event=any(k in keys and k not in columns for k in needed) or self.others.need_times,
            elsewhere=tuple(sorted(k for k in needed if k not in keys and k not in configured)),
        )

    def note_baseline(self, data: Mapping[str, Any]) -> None:
        """Keep what the first baseline event says."""
        self._had_baseline = True
        for key in {source.key for source in self._sources} & data.keys():
            self._baseline.setdefault(key, data[key])

    def pick(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Return what an event says of the numbers needed, so that the rest of it may go."""
        return {source.key: data[source.key] for source in self._sources if source.key in data}

    def waits_for_event(self, descriptor: str) -> bool:
        """Tell whether a frame with this descriptor cannot do without its event."""
        return self._known[descriptor].needs_event

    def columns(self, descriptor: str) -> tuple[str, ...]:
        """Return the data keys of which a frame with this descriptor needs a row in a file."""
        return self._known[descriptor].columns

    def nowhere(self) -> list[str]:
        """Return the data keys that neither the frames' stream nor its configuration nor the baseline has so far."""
        left = {key for known in self._known.values() for key in known.elsewhere} | self._only_baseline
        return sorted(key for key in left if key not in self._baseline)

    def ready(self, joined: Joined) -> bool:
        """Tell whether all numbers of a frame are here that may still come."""
        known = self._known[joined.frame.descriptor]
        if self._only_baseline and not self._had_baseline:
            return False
        if known.elsewhere and not self._had_baseline:
            data = joined.event.data if joined.event else {}
            if any(key not in data for key in known.elsewhere):
                return False
        return self.others.ready(joined.frame.seq_num, joined.event.time if joined.event else None)

    def of(self, joined: Joined) -> Found:
        """Return the numbers of a frame.

        Raises
        ------
        FrameSkipped
            If a position is missing or no number.
        """
        positions = {}
        for name, asked in self._positions.items():
            source = asked.source
            if isinstance(source, float):
                positions[name] = source
            else:
                positions[name] = taken(self._values(asked, source, joined), source.take)
        if not self._divisors:
            return Found(positions, None, "", None)
        try:
            each, problem = self._divisor(joined)
        except FrameSkipped as reason:
            return Found(positions, math.nan, str(reason), None)
        if len(each) == 1 or problem:
            return Found(positions, min(each), problem, None)
        return Found(positions, math.fsum(each) / len(each), "", tuple(each))

    def _divisor(self, joined: Joined) -> tuple[Values, str]:
        """Return what each image is divided by, or the one number that all are, and what is wrong with it."""
        product: Values = (1.0,)
        problem = ""
        for asked in self._divisors:
            source = asked.source
            if isinstance(source, float):
                found: Values = (source,)
            else:
                values = self._values(asked, source, joined)
                try:
                    found = shares(values, source.take, joined.frame.count)
                except FrameSkipped as reason:
                    raise FrameSkipped(f"{asked.what}: {source.key!r} {reason}") from reason
                if min(found) <= 0:
                    problem = problem or f"{asked.what} {source.key!r} is not above 0"
            many = max(len(found), len(product))
            product = [product[i % len(product)] * found[i % len(found)] for i in range(many)]
        return product, problem

    def _values(self, asked: _Asked, source: KeySource, joined: Joined) -> Values:
        """Return the values of a source, in the unit that they have to be in."""
        what = asked.what
        try:
            values, units = self._found(source, joined)
        except _Nowhere as reason:
            raise FrameSkipped(f"{what} needs {source.key!r}, which {reason}") from reason
        except FramesUnavailable as reason:
            raise FrameSkipped(f"{what}: {source.key!r}: {reason}") from reason
        except FrameSkipped as reason:
            raise FrameSkipped(f"{what}: {source.key!r} {reason}") from reason
        if source.to_unit is not None:
            to_unit, way_out = source.to_unit, "give its `unit` in the recipe"
        elif asked.unit is not None and kind_of(units) is not None:
            to_unit, way_out = asked.unit, f"give its `unit` and `to_unit: {asked.unit}` in the recipe"
        else:
            return values  # units that are not known here, or none, are taken for the right ones
        unit = source.unit or units
        if not isinstance(unit, str) or not unit.strip():
            raise FrameSkipped(f"{what}: {source.key!r} comes without units; {way_out}")
        try:
            times = factor(unit, to_unit)
        except ValueError as error:
            raise FrameSkipped(f"{what}: {source.key!r}: {error}; {way_out}") from error
        return values if times == 1 else [value * times for value in values]

    def _found(self, source: KeySource, joined: Joined) -> tuple[Values, Any]:
        """Return the values of a source, and their units."""
        key, event = source.key, joined.event
        known = self._known[event.descriptor if event and event.descriptor in self._known else joined.frame.descriptor]
        if source.stream is not None and source.stream != self._own:
            if source.stream != BASELINE:
                return self._sampled(source, joined)
        elif event is not None and key in event.data:
            about = known.keys.get(key, {})
            if isinstance(event.data[key], str) and about.get("external"):
                raise _Nowhere(_IN_A_FILE)
            return as_values(event.data[key], about.get("shape")), about.get("units")
        elif (row := joined.rows.get(key)) is not None:
            return checked(row.values()), known.keys[key].get("units")
        elif key in known.configured:
            return as_values(known.configured[key]), known.units.get(key)
        if key in self._baseline:
            return as_values(self._baseline[key]), self._baseline_units.get(key)
        raise _Nowhere(self._where_not(source, known, joined))

    def _sampled(self, source: KeySource, joined: Joined) -> tuple[Values, Any]:
        stream = str(source.stream)
        if not self.others.over and source.samples is None:
            raise _Nowhere(TOO_LONG)
        if stream not in self._streams:
            raise _Nowhere(f"the stream {stream!r} should bring; the run has {_listed(self._streams)}")
        if source.key not in self._streams[stream]:
            raise _Nowhere(f"is not in the stream {stream!r}, which has {_listed(self._streams[stream])}")
        try:
            values = self.others.values(source, joined.frame.seq_num, joined.event.time if joined.event else None)
        except FramesUnavailable:
            raise
        except FrameSkipped as reason:
            raise _Nowhere(str(reason)) from reason
        return checked(values), self._streams[stream][source.key].get("units")

    def _where_not(self, source: KeySource, known: _Known, joined: Joined) -> str:
        if source.stream == BASELINE and not self._had_baseline:
            return f"the stream 'baseline' should bring; the run has {_listed(self._streams)}"
        if source.stream == BASELINE:
            return f"is not in the stream 'baseline', which has {_listed(self._streams.get(BASELINE, ()))}"
        about = known.keys.get(source.key)
        if is_streamed(about):
            return "is written to a file, but no StreamDatum of it came for this seq_num"
        if about is not None and about.get("external"):
            return _IN_A_FILE
        if about is not None:
            missing = "is missing from the event"
            return missing if joined.event else "its event should bring, but no event of this seq_num came"
        has = _listed(key for key, value in known.keys.items() if not value.get("external"))
        elsewhere = sorted(stream for stream, keys in self._streams.items() if source.key in keys)
        if elsewhere:
            return f"is in the stream {elsewhere[0]!r}; say so: `{{key: {source.key}, stream: {elsewhere[0]}}}`"
        return (
            f"is in neither event (which has {has}), configuration nor baseline; "
            "add the device to the plan, or correct the recipe"
        )


class _Nowhere(FrameSkipped):
    """A number that is not where it should be."""


_IN_A_FILE = "is written to a file behind Resource and Datum, where numbers are not read; record it in the events too"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "nothing"


def is_streamed(data_key: Mapping[str, Any] | None) -> bool:
    """Tell whether StreamResource documents tell where the values of a data key are."""
    return data_key is not None and str(data_key.get("external") or "").startswith("STREAM")


def _configuration(descriptor: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the values and the units of a descriptor's configuration."""
    values: dict[str, Any] = {}
    units: dict[str, Any] = {}
    for device in (descriptor.get("configuration") or {}).values():
        values.update(device.get("data") or {})
        units.update({key: about.get("units") for key, about in (device.get("data_keys") or {}).items()})
    return values, units
