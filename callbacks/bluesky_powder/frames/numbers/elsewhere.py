"""Other streams of the run that a recipe takes numbers from."""

from collections.abc import Iterable, Mapping
from typing import Any

from bluesky_powder.errors import FrameSkipped
from bluesky_powder.frames.joining.streamed import Span
from bluesky_powder.frames.numbers.columns import Column, ColumnFiles
from bluesky_powder.frames.numbers.pairing import Pairing
from bluesky_powder.frames.numbers.samples import FiledSamples, FrameTimes, Samples, TimedSamples
from bluesky_powder.frames.numbers.values import as_values
from bluesky_powder.recipe.sources import KeySource


class OtherStreams:
    """Gathers values from other streams than the frames'.

    Parameters
    ----------
    sources
        What is needed, each with a stream.
    files
        Reads columns.

    Attributes
    ----------
    times
        When frames were taken; to be told of each frame.
    over
        Whether everything has come that will.
    """

    def __init__(self, sources: Iterable[KeySource], files: ColumnFiles) -> None:
        self.times = FrameTimes()
        self.over = False
        self._files = files
        self._pairings = {source: Pairing(source, self.times) for source in sources}
        self._descriptors: dict[str, tuple[Mapping[str, Any], str]] = {}
        self._samples: dict[tuple[str, str], Samples] = {}

    def __bool__(self) -> bool:
        """Return whether anything is needed."""
        return bool(self._pairings)

    @property
    def need_times(self) -> bool:
        """Whether a frame is worth nothing without the time of its event."""
        return any(source.samples == "time" for source in self._pairings)

    @property
    def follow_frames(self) -> bool:
        """Whether the frames' numbers and times have to be noted."""
        return any(not isinstance(source.samples, int) for source in self._pairings)

    @property
    def can_be_live(self) -> bool:
        """Whether frames can be ready before the run is over."""
        return all(source.samples is not None for source in self._pairings)

    @property
    def by_number(self) -> bool:
        """Whether a seq_num alone tells which values belong to a frame, so that after a pause old ones fit too."""
        return any(isinstance(source.samples, int) for source in self._pairings)

    def leave_out(self, stream: str) -> None:
        """Forget a stream: it is the frames' own."""
        for source in [source for source in self._pairings if source.stream == stream]:
            del self._pairings[source]
        for uid in [uid for uid, (_, name) in self._descriptors.items() if name == stream]:
            del self._descriptors[uid]

    def describe(self, descriptor: Mapping[str, Any], stream: str) -> None:
        """Take a descriptor, of whatever stream."""
        if any(source.stream == stream for source in self._pairings):
            self._descriptors[descriptor["uid"]] = descriptor["data_keys"], stream

    def has(self, descriptor: str) -> bool:
        """Tell whether events and StreamDatums with this descriptor are needed."""
        return descriptor in self._descriptors

    def stream_of(self, descriptor: str) -> str | None:
        """Return the name of a descriptor's stream; None where it is not needed."""
        return self._descriptors[descriptor][1] if descriptor in self._descriptors else None

    def column_key(self, descriptor: str, key: str) -> Mapping[str, Any] | None:
        """Return a descriptor's entry for a data key whose numbers stand in files; None where it is not needed."""
        keys, stream = self._descriptors[descriptor]
        needed = any((source.stream, source.key) == (stream, key) for source in self._pairings)
        return keys.get(key) if needed else None

    def event(self, document: Mapping[str, Any]) -> None:
        """Take an event of a stream that is needed."""
        keys, stream = self._descriptors[document["descriptor"]]
        for key in {source.key for source in self._pairings if source.stream == stream}:
            value = document["data"].get(key)
            if value is None:
                continue
            samples = self._samples.get((stream, key)) or self._keep(stream, key, TimedSamples())
            if not isinstance(samples, TimedSamples):
                continue
            try:
                samples.add(document["seq_num"], document["time"], as_values(value))
            except FrameSkipped as reason:
                samples.problem = f"its event {document['seq_num']} {reason}"

    def rows(self, span: Span, column: Column) -> None:
        """Take what a StreamDatum tells."""
        _, stream = self._descriptors[span.descriptor]
        samples = self._samples.get((stream, span.key)) or self._keep(stream, span.key, FiledSamples(self._files))
        if isinstance(samples, FiledSamples):
            samples.add(span.seq_nums, span.indices, column)

    def ready(self, seq_num: int, time: float | None) -> bool:
        """Tell whether everything that belongs to a frame has come."""
        return all(pairing.ready(seq_num, time) for pairing in self._pairings.values())

    def decide(self) -> None:
        """Choose the rules that are still open, now that everything has come that will."""
        self.over = True
        for pairing in self._pairings.values():
            pairing.decide()

    def values(self, source: KeySource, seq_num: int, time: float | None) -> list[float]:
        """Return the values that belong to a frame; see `Pairing.values`."""
        return self._pairings[source].values(seq_num, time)

    def _keep(self, stream: str, key: str, samples: Samples) -> Samples:
        self._samples[stream, key] = samples
        for source, pairing in self._pairings.items():
            if (source.stream, source.key) == (stream, key):
                pairing.samples = samples
        return samples
