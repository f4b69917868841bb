"""One run's documents in, its frames out, each as soon as everything that it needs is there."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import event_model
from numpy.typing import NDArray

from bluesky_powder.errors import FrameSkipped
from bluesky_powder.frames.frame import Frame, Images, NotHeld, Skipped, Wanted, images_per_event, is_image
from bluesky_powder.frames.images.inline import InlineImages
from bluesky_powder.frames.images.legacy import Handlers
from bluesky_powder.frames.images.reach import Reach
from bluesky_powder.frames.images.remote import RemoteFrames
from bluesky_powder.frames.images.resources import StreamResource
from bluesky_powder.frames.joining.datums import Datums, Found
from bluesky_powder.frames.joining.held import Held
from bluesky_powder.frames.joining.join import Announced, EventNote, Join, Joined
from bluesky_powder.frames.joining.streamed import Open, Span, Streamed
from bluesky_powder.frames.numbers.columns import Column, ColumnFiles, Row
from bluesky_powder.frames.numbers.lookup import BASELINE, Numbers, is_streamed
from bluesky_powder.frames.patience import Patience

Document = Mapping[str, Any]
NOT_FRAMES = ("dark", BASELINE)
"""Streams that are not reduced unless the recipe names them."""


class RunFrames:
    """Turns the documents of one run into frames.

    Frames come inline (event, event_page), by Resource and Datum, or by StreamResource and StreamDatum; documents that
    belong together may come in any order. Every method yields the frames, or the reasons why not, that are now ready.

    Parameters
    ----------
    wanted
        What to look for.
    run
        Uid of the raw run.
    patience
        How long to wait for files.
    handlers
        Spec -> handler class, besides the installed ones.
    root_map
        Folder as the documents have it -> the same folder on this machine.
    remote
        Asked for frames whose file is not on this machine.
    """

    def __init__(
        self,
        wanted: Wanted,
        run: str,
        patience: Patience,
        handlers: Mapping[str, Callable[..., Any]] | None = None,
        *,
        root_map: Mapping[str, str] | None = None,
        remote: RemoteFrames | None = None,
    ) -> None:
        self.wanted = wanted
        self.run = run
        self.stream: str | None = None
        self.streams_left_out: list[str] = []
        self.image_keys: set[str] = set()
        self._reach = Reach(run, patience, root_map, remote)
        self._handlers = Handlers(self._reach, handlers)
        self._columns = ColumnFiles(self._reach)
        self._numbers = Numbers(wanted, self._columns)
        self._descriptors: dict[str, Document] = {}
        self._baselines: set[str] = set()
        self._datum_keys: dict[str, tuple[str, ...]] = {}
        self._join: Join | None = None
        self._held = Held()
        self._highest = 0
        self._documents = 0
        self._datums: Datums[_Asking] = Datums()
        self._names: dict[str, str] = {}
        self._streamed = Streamed(self._stream_of, self._role, self._names)
        self._takers: dict[str, Callable[[Document], Iterable[Frame | Skipped] | None]] = {
            "descriptor": self._descriptor,
            "event": self._event,
            "event_page": self._event_page,
            "resource": self._resource,
            "datum": self._datum,
            "datum_page": self._datum_page,
            "stream_resource": self._stream_resource,
            "stream_datum": self._stream_datum,
        }

    def take(self, name: str, document: Document) -> Iterator[Frame | Skipped]:
        """Take a document; yield what is now ready. Documents that have no part in frames are passed over."""
        self._documents += 1
        taker = self._takers.get(name)
        if taker is not None:
            yield from taker(document) or ()

    def reduces(self, descriptor: str) -> bool:
        """Tell whether frames come with this descriptor."""
        return descriptor in self._descriptors

    @property
    def images_per_event(self) -> int:
        """How many images an event has, as far as the descriptor says."""
        for descriptor in self._descriptors:
            return self._count(descriptor)
        return 1

    def missing_sources(self) -> list[str]:
        """Return the data keys of positions and monitor that the frames' stream does not have, as far as is known."""
        return self._numbers.nowhere()

    def finish(self) -> Iterator[Frame | Skipped]:
        """Yield what still waits, now that the run is over: with what is known, or as skipped."""
        yield from self._without_resource()
        for asking, kind in self._datums.leftovers():
            yield Skipped(asking.seq_num, self._count(asking.note.descriptor), f"its {kind} document never came")
        if self._datums.lost:
            yield Skipped(None, self._datums.lost, "its Datum or Resource document never came")
        if self._join is not None:
            yield from self._deliver(self._join.leftovers())
        self._numbers.others.decide()
        for joined in self._held.rest():
            yield self._frame(joined)
        if self._join is not None:
            seq_nums, more = self._join.events_without_frame()
            reason = "its event came, but no document says where its frame is"
            yield from (Skipped(seq_num, 1, reason) for seq_num in seq_nums)
            if more:
                yield Skipped(None, more, reason)

    def close(self) -> None:
        """Close all files."""
        self._reach.close()
        self._columns.close()
        self._handlers.close()

    def _descriptor(self, document: Document) -> None:
        stream, keys, uid = document.get("name", "primary"), document["data_keys"], document["uid"]
        frames = self.wanted.frames
        self._names[uid] = stream
        self.image_keys |= {key for key, about in keys.items() if is_image(about)}
        filed = (key for key, about in keys.items() if about.get("external") and not is_streamed(about))
        self._datum_keys[uid] = tuple(filed)
        self._numbers.describe(document, stream)
        if stream == BASELINE:
            self._baselines.add(uid)
        if frames not in keys:
            return
        if self.stream is None and (self.wanted.stream == stream or self._may_choose(stream)):
            self.stream = stream
        if stream != self.stream:
            self.streams_left_out.append(stream)
            return
        self._datum_keys[uid] = tuple(key for key in self._datum_keys[uid] if key != frames)
        self._numbers.describe_frames(document, stream)
        self._descriptors[uid] = document
        columns = self._numbers.columns(uid)
        if self._join is None and (columns or is_streamed(keys[frames])):
            self._join = Join(self._numbers.waits_for_event(uid), columns)

    def _may_choose(self, stream: str) -> bool:
        return self.wanted.stream is None and stream not in NOT_FRAMES

    def _event(self, document: Document) -> Iterator[Frame | Skipped]:
        uid, data = document["descriptor"], document["data"]
        for key in self._datum_keys.get(uid, ()):
            if isinstance(data.get(key), str):
                self._datums.forget(data[key])
        if uid in self._descriptors:
            yield from self._event_of_frames(document, data)
        if uid in self._baselines:
            self._numbers.note_baseline(data)
        elif self._numbers.others.has(uid):
            self._numbers.others.event(document)
        else:
            return
        yield from self._now_ready()

    def _event_of_frames(self, document: Document, data: Mapping[str, Any]) -> Iterator[Frame | Skipped]:
        seq_num, uid = document["seq_num"], document["descriptor"]
        if self._numbers.others.follow_frames:
            self._numbers.others.times.note(seq_num, document["time"])
        note = EventNote(document["uid"], document["time"], uid, self._numbers.pick(data))
        value = data.get(self.wanted.frames)
        if isinstance(value, str):
            yield from self._by_datum(self._datums.ask(value, _Asking(seq_num, note)))
        elif value is not None:
            yield from self._inline(value, seq_num, note)
        elif self._join is not None:
            yield from self._deliver(self._join.event(seq_num, note))
        else:
            yield Skipped(seq_num, 1, f"the event has no {self.wanted.frames!r}")

    def _event_page(self, page: Document) -> Iterator[Frame | Skipped]:
        for event in event_model.unpack_event_page(page):
            yield from self._event(event)

    def _inline(self, value: Any, seq_num: int, note: EventNote) -> Iterator[Frame | Skipped]:
        about = self._descriptors[note.descriptor]["data_keys"][self.wanted.frames]
        try:
            images = InlineImages.of(value, about.get("dtype_numpy"))
        except FrameSkipped as reason:
            yield Skipped(seq_num, 1, str(reason))
            return
        count = images.array.shape[-3] if images.array.ndim > 2 else 1
        yield from self._with_event(
            Announced(seq_num, count, images, note.descriptor, note.time, self._documents), note
        )

    def _by_datum(self, found: Iterable[Found["_Asking"]]) -> Iterator[Frame | Skipped]:
        for (seq_num, note), datum, resource in found:
            stream, frames = str(self.stream), self.wanted.frames
            images = self._handlers.images(resource, datum["datum_kwargs"], stream, frames, seq_num)
            announced = Announced(
                seq_num, self._count(note.descriptor), images, note.descriptor, note.time, self._documents
            )
            yield from self._with_event(announced, note)

    def _with_event(self, announced: Announced, note: EventNote) -> Iterator[Frame | Skipped]:
        """Take a frame that came with its event; only rows of columns may still be missing."""
        if self._join is not None and self._numbers.columns(note.descriptor):
            yield from self._deliver(self._join.with_event(announced, note))
        else:
            yield from self._deliver((Joined(announced, note, _NO_ROWS),))

    def _resource(self, document: Document) -> Iterator[Frame | Skipped]:
        yield from self._by_datum(self._datums.resource(document))

    def _datum(self, document: Document) -> Iterator[Frame | Skipped]:
        yield from self._by_datum(self._datums.datum(document))

    def _datum_page(self, page: Document) -> Iterator[Frame | Skipped]:
        for datum in event_model.unpack_datum_page(page):
            yield from self._datum(datum)

    def _stream_resource(self, document: Document) -> Iterator[Frame | Skipped]:
        for span in self._streamed.resource(document):
            yield from self._span(span)

    def _stream_datum(self, document: Document) -> Iterator[Frame | Skipped]:
        for span in self._streamed.datum(document):
            yield from self._span(span)

    def _stream_of(self, descriptor: str) -> str | None:
        """Return the stream of a descriptor whose StreamDatums are needed."""
        return self.stream if descriptor in self._descriptors else self._numbers.others.stream_of(descriptor)

    def _role(self, descriptor: str, key: str) -> Open | None:
        """Return what reads a data key of a stream that is needed; None where that is not."""
        if descriptor not in self._descriptors:
            about = self._numbers.others.column_key(descriptor, key)
            return None if about is None else partial(Column.of, data_key=about)
        about = self._descriptors[descriptor]["data_keys"].get(key)
        if key == self.wanted.frames:
            return partial(StreamResource.of, data_key=about)
        if self._join is not None and key in self._join.columns:
            return partial(Column.of, data_key=about)
        return None

    def _span(self, span: Span) -> Iterator[Frame | Skipped]:
        resource, seq_nums, indices = span.resource, span.seq_nums, span.indices
        if isinstance(resource, Column):
            yield from self._rows(span, resource)
        elif len(seq_nums) != len(indices):
            reason = f"its StreamDatum pairs {len(seq_nums)} seq_nums with {len(indices)} indices"
            yield Skipped(seq_nums.start, max(len(seq_nums), len(indices)), reason)
        elif self._join is not None and isinstance(resource, StreamResource):
            now, told = time.time(), self._documents
            announced = (
                Announced(seq_num, resource.count, self._images(resource, index), span.descriptor, now, told)
                for seq_num, index in zip(seq_nums, indices, strict=True)
            )
            yield from self._deliver(self._join.announce(announced, alone=len(seq_nums) == 1))

    def _rows(self, span: Span, column: Column) -> Iterator[Frame | Skipped]:
        if span.descriptor not in self._descriptors:
            self._numbers.others.rows(span, column)
            yield from self._now_ready()
        elif self._join is not None:
            for seq_num, index in zip(span.seq_nums, span.indices, strict=False):
                yield from self._deliver(self._join.row(span.key, seq_num, Row(self._columns, column, index)))

    def _images(self, resource: StreamResource, index: int) -> Images:
        try:
            return resource.images(index, str(self.stream), self._reach)
        except FrameSkipped as reason:
            return _Refused(str(reason))
        except Exception as error:  # one strange resource must not cost the frames of others
            return _Refused(f"its StreamResource makes no sense ({type(error).__name__}: {error})")

    def _deliver(self, ready: Iterable[Joined]) -> Iterator[Frame | Skipped]:
        """Yield frames that are whole but for numbers from elsewhere, once these have come too."""
        others = self._numbers.others
        for joined in ready:
            seq_num = joined.frame.seq_num
            again, self._highest = seq_num <= self._highest, max(seq_num, self._highest)
            if joined.event is None and others.follow_frames:
                others.times.note_flown(seq_num)
            # After a pause, what has come for a seq_num may belong to its earlier version.
            in_the_end = not others.can_be_live or (again and others.by_number)
            if not in_the_end and self._numbers.ready(joined):
                yield self._frame(joined)
            else:
                for forced_out in self._held.put(joined, until_the_end=in_the_end):
                    yield self._frame(forced_out)

    def _now_ready(self) -> Iterator[Frame | Skipped]:
        for joined in self._held.ready(self._numbers.ready):
            yield self._frame(joined)

    def _frame(self, joined: Joined) -> Frame | Skipped:
        announced, note = joined.frame, joined.event
        if isinstance(announced.images, _Refused):
            return Skipped(announced.seq_num, announced.count, announced.images.reason)
        try:
            found = self._numbers.of(joined)
        except FrameSkipped as reason:
            return Skipped(announced.seq_num, announced.count, str(reason))
        except Exception as error:
            what = f"its positions or monitor make no sense ({type(error).__name__}: {error})"
            return Skipped(announced.seq_num, announced.count, what)
        return Frame(
            run=self.run,
            stream=str(self.stream),
            seq_num=announced.seq_num,
            count=announced.count,
            images=announced.images,
            positions=found.positions,
            monitor=found.monitor,
            monitor_problem=found.monitor_problem,
            event_uid=note.uid if note else "",
            time=note.time if note else announced.time,
            monitors=found.monitors,
            told=announced.told,
        )

    def _without_resource(self) -> Iterator[Skipped]:
        reason = "its StreamResource document never came"
        for descriptor, seq_nums in self._streamed.without_resource():
            if self._join is None or descriptor not in self._descriptors:
                continue
            # A frame that was announced lacks a column, and says so itself.
            if not self._join.was_announced(seq_nums.start):
                self._join.note(seq_nums)
                yield Skipped(seq_nums.start, len(seq_nums), reason)
        for descriptor, count in self._streamed.too_many.items():
            if descriptor in self._descriptors:
                yield Skipped(None, count, reason)

    def _count(self, descriptor: str) -> int:
        return images_per_event(self._descriptors[descriptor]["data_keys"][self.wanted.frames], {})


class _Asking(NamedTuple):
    """An event that asks for a Datum."""

    seq_num: int
    note: EventNote


@dataclass(frozen=True, slots=True)
class _Refused(NotHeld):
    """Images that cannot be had, whatever comes."""

    reason: str

    def read(self) -> NDArray[Any]:
        raise FrameSkipped(self.reason)


_NO_ROWS: Mapping[str, Any] = {}
