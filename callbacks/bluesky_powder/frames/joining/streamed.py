"""StreamResource and StreamDatum documents: put together, whichever comes first, and placed in their files."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from bluesky_powder.frames.joining.join import MOST_WAITING
from bluesky_powder.frames.joining.recent import MOST_RESOURCES, Recent, Resources
from bluesky_powder.frames.joining.stream_resource import Homes, Resource, Successive

Document = Mapping[str, Any]


class Span(NamedTuple):
    """What one StreamDatum tells.

    Attributes
    ----------
    descriptor, key
        Uid of the descriptor, and the data key.
    resource
        Where the images or numbers are.
    seq_nums, indices
        Of which events; where in the resource.
    """

    descriptor: str
    key: str
    resource: Resource
    seq_nums: range
    indices: range


Open = Callable[[Document], Resource]
Role = Callable[[str, str], Open | None]


class Streamed:
    """Pairs the StreamDatums of a run with their StreamResources.

    Parameters
    ----------
    stream_of
        Descriptor -> name of the stream; None where its StreamDatums are not needed.
    role
        Descriptor and data key -> what makes a resource of its document; None where it is not needed.
    names
        Descriptor -> name of its stream, needed or not.

    Attributes
    ----------
    too_many
        Descriptor -> how many events' StreamDatums were dropped, because so many waited for StreamResources.
    """

    def __init__(self, stream_of: Callable[[str], str | None], role: Role, names: Mapping[str, str]) -> None:
        self._stream_of = stream_of
        self._role = role
        self._names = names
        self._homes = Homes()
        self._documents = Resources()
        self._resources: Recent[tuple[str, str], Resource] = Recent(MOST_RESOURCES)
        self._files: defaultdict[tuple[str, str], Successive] = defaultdict(Successive)
        self._early: defaultdict[str, list[Document]] = defaultdict(list)
        self._early_count = 0
        self.too_many: defaultdict[str, int] = defaultdict(int)

    def resource(self, document: Document) -> Iterator[Span]:
        """Take a StreamResource; yield what is now together."""
        uid = self._documents.note(document)
        early = self._early.pop(uid, [])
        self._early_count -= len(early)
        for datum in early:
            yield from self.datum(datum)

    def datum(self, document: Document) -> Iterator[Span]:
        """Take a StreamDatum; yield what is now together."""
        descriptor, uid = document["descriptor"], document["stream_resource"]
        stream = self._stream_of(descriptor)
        told = self._documents.get(uid)
        if told is None:
            if stream is not None:
                self._keep(document)
            return
        key = told["data_key"]
        seq_nums, indices = (range(document[span]["start"], document[span]["stop"]) for span in ("seq_nums", "indices"))
        home = self._homes.note(uid, key, self._names.get(descriptor, ""), indices)
        if stream is None:
            return
        resource = self._resources.get((stream, uid))
        if resource is None:
            open_it = self._role(descriptor, key)
            if open_it is None:
                return
            resource = self._resources[stream, uid] = open_it(told)
            resource.home = home
        self._files[stream, key].place(resource, indices)
        yield Span(descriptor, key, resource, seq_nums, indices)

    def _keep(self, document: Document) -> None:
        """Keep a StreamDatum until its StreamResource comes."""
        if self._early_count < MOST_WAITING:
            self._early[document["stream_resource"]].append(document)
            self._early_count += 1
        else:
            span = document["seq_nums"]
            self.too_many[document["descriptor"]] += span["stop"] - span["start"]

    def without_resource(self) -> Iterator[tuple[str, range]]:
        """Yield descriptor and seq_nums of the StreamDatums whose StreamResource never came."""
        for datums in self._early.values():
            for datum in datums:
                yield datum["descriptor"], range(datum["seq_nums"]["start"], datum["seq_nums"]["stop"])
        self._early.clear()
