"""One run's documents in, its frames out, each as soon as everything that it needs is there."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import event_model

from bluesky_powder.errors import FrameSkipped
from bluesky_powder.frames.frame import Frame, Images, Skipped, Wanted, images_per_event, is_image
from bluesky_powder.frames.inline import InlineImages
from bluesky_powder.frames.join import Announced, EventNote, Join, Pair, Recent
from bluesky_powder.frames.legacy import Handlers
from bluesky_powder.frames.numbers import Numbers
from bluesky_powder.frames.patience import Patience
from bluesky_powder.frames.reach import Reach
from bluesky_powder.frames.remote import RemoteFrames
from bluesky_powder.frames.resources import StreamResource

Document = Mapping[str, Any]
DOCUMENTS = frozenset(
    ("descriptor", "event", "event_page", "resource", "datum", "datum_page", "stream_resource", "stream_datum")
)
NOT_FRAMES = ("dark", "baseline")
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
        self._numbers = Numbers(wanted)
        self._reach = Reach(run, patience, root_map, remote)
        self._handlers = Handlers(self._reach, handlers)
        self._descriptors: dict[str, Document] = {}
        self._baselines: set[str] = set()
        self._join: Join | None = None
        self._stream_resources: dict[str, StreamResource] = {}
        self._other_resources: set[str] = set()
        self._early_datums: defaultdict[str, list[Document]] = defaultdict(list)
        self._next_index = 0
        self._resources: dict[str, Document] = {}
        self._datums: dict[str, Document] = {}
        self._used_datums: Recent[str, Document] = Recent()
        self._await_datum: dict[str, Document] = {}

    def take(self, name: str, document: Document) -> Iterator[Frame | Skipped]:
        """Take a document; yield what is now ready. Documents that have no part in frames are passed over."""
        if name in DOCUMENTS:
            yield from getattr(self, f"_{name}")(document) or ()

    def reduces(self, descriptor: str) -> bool:
        """Tell whether frames come with this descriptor."""
        return descriptor in self._descriptors

    @property
    def images_per_event(self) -> int:
        """How many images an event has, as far as the descriptor says."""
        return images_per_event(self._about_frames(), {})

    def missing_sources(self) -> list[str]:
        """Return the data keys of positions and monitor that the frames' stream does not have, as far as is known."""
        found = {key for uid in self._descriptors for key in self._numbers.nowhere(self._descriptors[uid])}
        return sorted(found)

    def finish(self) -> Iterator[Frame | Skipped]:
        """Yield what still waits, now that the run is over: with what is known, or as skipped."""
        for datums in self._early_datums.values():
            for datum in datums:
                if datum["descriptor"] in self._descriptors:
                    span = datum["seq_nums"]["stop"] - datum["seq_nums"]["start"]
                    yield Skipped(datum["seq_nums"]["start"], span, "its StreamResource document never came")
        self._early_datums.clear()
        for event in self._await_datum.values():
            yield Skipped(event["seq_num"], self._count(event), "its Datum document never came")
        self._await_datum.clear()
        if self._join is not None:
            yield from self._framed(self._join.leftovers())
            for seq_num in self._join.events_without_frame():
                yield Skipped(seq_num, 1, "its event came, but no document says where its frame is")

    def close(self) -> None:
        """Close all files."""
        self._reach.close()
        self._handlers.close()

    def _descriptor(self, document: Document) -> None:
        stream, keys = document.get("name", "primary"), document["data_keys"]
        self.image_keys |= {key for key, about in keys.items() if is_image(about)}
        if stream == "baseline":
            self._baselines.add(document["uid"])
        if self.wanted.frames not in keys:
            return
        if self.stream is None and (self.wanted.stream == stream or self._may_choose(stream)):
            self.stream = stream
        if stream != self.stream:
            self.streams_left_out.append(stream)
            return
        self._descriptors[document["uid"]] = document
        if str(keys[self.wanted.frames].get("external", "")).startswith("STREAM") and self._join is None:
            self._join = Join(self._numbers.waits_for_event(document))

    def _may_choose(self, stream: str) -> bool:
        return self.wanted.stream is None and stream not in NOT_FRAMES

    def _event(self, document: Document) -> Iterator[Frame | Skipped]:
        descriptor = self._descriptors.get(document["descriptor"])
        if document["descriptor"] in self._baselines:
            self._numbers.note_baseline(document["data"])
        if descriptor is None:
            return
        value = document["data"].get(self.wanted.frames)
        if isinstance(value, str):
            yield from self._by_datum(value, document)
        elif value is not None:
            yield from self._inline(value, document, descriptor)
        elif self._join is not None:
            data = self._numbers.pick(document["data"])
            note = EventNote(document["uid"], document["time"], document["descriptor"], data)
            yield from self._framed(self._join.event(document["seq_num"], note))
        else:
            yield Skipped(document["seq_num"], 1, f"the event has no {self.wanted.frames!r}")

    def _event_page(self, page: Document) -> Iterator[Frame | Skipped]:
        for event in event_model.unpack_event_page(page):
            yield from self._event(event)

    def _inline(self, value: Any, event: Document, descriptor: Document) -> Iterator[Frame | Skipped]:
        about = descriptor["data_keys"][self.wanted.frames]
        try:
            images = InlineImages.of(value, about.get("dtype_numpy"))
        except FrameSkipped as reason:
            yield Skipped(event["seq_num"], 1, str(reason))
            return
        count = images.array.shape[-3] if images.array.ndim > 2 else 1
        yield self._frame(event["seq_num"], count, images, _note_of(event), descriptor, event["time"])

    def _by_datum(self, datum_id: str, event: Document) -> Iterator[Frame | Skipped]:
        datum = self._datums.pop(datum_id, None) or self._used_datums.get(datum_id)
        if datum is None or datum["resource"] not in self._resources:
            if datum is not None:
                self._datums[datum_id] = datum
            self._await_datum[datum_id] = event
            return
        self._used_datums[datum_id] = datum
        descriptor = self._descriptors[event["descriptor"]]
        resource, frames = self._resources[datum["resource"]], self.wanted.frames
        images = self._handlers.images(resource, datum["datum_kwargs"], str(self.stream), frames, event["seq_num"])
        yield self._frame(event["seq_num"], self._count(event), images, _note_of(event), descriptor, event["time"])

    def _resource(self, document: Document) -> Iterator[Frame | Skipped]:
        self._resources[document["uid"]] = document
        for datum_id in [i for i in self._await_datum if self._datums.get(i, {}).get("resource") == document["uid"]]:
            yield from self._by_datum(datum_id, self._await_datum.pop(datum_id))

    def _datum(self, document: Document) -> Iterator[Frame | Skipped]:
        self._datums[document["datum_id"]] = document
        event = self._await_datum.pop(document["datum_id"], None)
        if event is not None:
            yield from self._by_datum(document["datum_id"], event)

    def _datum_page(self, page: Document) -> Iterator[Frame | Skipped]:
        for datum in event_model.unpack_datum_page(page):
            yield from self._datum(datum)

    def _stream_resource(self, document: Document) -> Iterator[Frame | Skipped]:
        if document["data_key"] != self.wanted.frames:
            self._other_resources.add(document["uid"])
            self._early_datums.pop(document["uid"], None)
            return
        self._stream_resources[document["uid"]] = StreamResource.of(document, self._about_frames())
        for datum in self._early_datums.pop(document["uid"], ()):
            yield from self._stream_datum(datum)

    def _stream_datum(self, document: Document) -> Iterator[Frame | Skipped]:
        uid = document["stream_resource"]
        if uid in self._other_resources:
            return
        resource = self._stream_resources.get(uid)
        if resource is None:
            self._early_datums[uid].append(document)
            return
        if document["descriptor"] not in self._descriptors or self._join is None:
            return  # frames of a stream that is not reduced
        seq_nums, indices = (range(document[key]["start"], document[key]["stop"]) for key in ("seq_nums", "indices"))
        if len(seq_nums) != len(indices):
            reason = f"its StreamDatum pairs {len(seq_nums)} seq_nums with {len(indices)} indices"
            yield Skipped(seq_nums.start, max(len(seq_nums), len(indices)), reason)
            return
        self._place(resource, indices)
        now = time.time()
        announced = [
            Announced(seq_num, index, uid, document["descriptor"], now)
            for seq_num, index in zip(seq_nums, indices, strict=True)
        ]
        yield from self._framed(self._join.announce(announced))

    def _place(self, resource: StreamResource, indices: range) -> None:
        """Find out where a further file begins: indices go on from the file before it, or start at 0 again."""
        known = [other for other in self._stream_resources.values() if other is not resource and other.begun]
        if not resource.begun and known and self._next_index > 0 and indices.start >= self._next_index:
            same_file = any((other.uri, other.parameters) == (resource.uri, resource.parameters) for other in known)
            resource.first = 0 if same_file else indices.start
        if not resource.begun:
            resource.begin, resource.row = indices.start, sum(other.events for other in known)
        resource.events += len(indices)
        resource.begun = True
        self._next_index = max(self._next_index, indices.stop)

    def _framed(self, pairs: Iterable[Pair]) -> Iterator[Frame | Skipped]:
        for announced, note in pairs:
            descriptor = self._descriptors[note.descriptor if note else announced.descriptor]
            resource = self._stream_resources[announced.resource]
            try:
                images = resource.images(announced.index, str(self.stream), self._reach)
            except FrameSkipped as reason:
                yield Skipped(announced.seq_num, resource.count, str(reason))
                continue
            yield self._frame(announced.seq_num, resource.count, images, note, descriptor, announced.time)

    def _frame(
        self, seq_num: int, count: int, images: Images, note: EventNote | None, descriptor: Document, announced: float
    ) -> Frame | Skipped:
        data = note.data if note else None
        try:
            positions = self._numbers.positions(descriptor, data)
        except FrameSkipped as reason:
            return Skipped(seq_num, count, str(reason))
        monitor, problem = self._numbers.monitor(descriptor, data)
        return Frame(
            run=self.run,
            stream=str(self.stream),
            seq_num=seq_num,
            count=count,
            images=images,
            positions=positions,
            monitor=monitor,
            monitor_problem=problem,
            event_uid=note.uid if note else "",
            time=note.time if note else announced,
        )

    def _about_frames(self) -> Document:
        for descriptor in self._descriptors.values():
            return descriptor["data_keys"][self.wanted.frames]
        return {}

    def _count(self, event: Document) -> int:
        return images_per_event(self._descriptors[event["descriptor"]]["data_keys"][self.wanted.frames], {})


def _note_of(event: Document) -> EventNote:
    return EventNote(event["uid"], event["time"], event["descriptor"], event["data"])
