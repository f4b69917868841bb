"""Events that name a Datum, Datums that name a Resource: put together, whichever comes first."""

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Generic, Literal, NamedTuple, TypeVar

from bluesky_powder.frames.joining.join import MOST_WAITING
from bluesky_powder.frames.joining.recent import Recent, Resources

E = TypeVar("E")
W = TypeVar("W")
Document = Mapping[str, Any]


class Found(NamedTuple, Generic[E]):
    """What an event asked for."""

    event: E
    datum: Document
    resource: Document


class Lacking(NamedTuple, Generic[E]):
    """What an event asked for in vain: the kind of document that never came."""

    event: E
    kind: Literal["Datum", "Resource"]


class _Waiting(Generic[W]):
    """What waits, by the uid of the document that it waits for."""

    def __init__(self) -> None:
        self._queues: OrderedDict[str, deque[W]] = OrderedDict()
        self._count = 0
        self.lost = 0

    def put(self, uid: str, what: W) -> None:
        """Let something wait; what has waited longest goes where there are too many."""
        self._queues.setdefault(uid, deque()).append(what)
        self._count += 1
        if self._count > MOST_WAITING:
            oldest, queue = next(iter(self._queues.items()))
            queue.popleft()
            self._count -= 1
            self.lost += 1
            if not queue:
                del self._queues[oldest]

    def take(self, uid: str) -> Iterable[W]:
        """Return what waited for a document."""
        queue = self._queues.pop(uid, deque())
        self._count -= len(queue)
        return queue

    def rest(self) -> Iterator[W]:
        """Yield everything."""
        while self._queues:
            yield from self.take(next(iter(self._queues)))


class Datums(Generic[E]):
    """Finds the Datum and the Resource that an event asks for.

    A Datum is kept until an event of any stream has named it; a few that were used stay, for events told again.
    """

    def __init__(self) -> None:
        self._resources = Resources()
        self._datums: OrderedDict[str, Document] = OrderedDict()
        self._used: Recent[str, Document] = Recent()
        self._without_datum: _Waiting[E] = _Waiting()
        self._without_resource: _Waiting[tuple[E, Document]] = _Waiting()

    @property
    def lost(self) -> int:
        """How many events were dropped, because so many waited."""
        return self._without_datum.lost + self._without_resource.lost

    def ask(self, datum_id: str, event: E) -> Iterator[Found[E]]:
        """Yield what an event asks for; if it is not there yet, the event waits."""
        datum = self._datums.pop(datum_id, None) or self._used.get(datum_id)
        if datum is None:
            self._without_datum.put(datum_id, event)
        else:
            self._used[datum_id] = datum
            yield from self._with_datum(event, datum)

    def forget(self, datum_id: str) -> None:
        """Drop a Datum that something else has asked for."""
        self._datums.pop(datum_id, None)

    def datum(self, document: Document) -> Iterator[Found[E]]:
        """Take a Datum; yield what now is together."""
        datum_id = document["datum_id"]
        events = self._without_datum.take(datum_id)
        if not events:
            self._datums[datum_id] = document
            if len(self._datums) > MOST_WAITING:
                self._datums.popitem(last=False)
            return
        self._used[datum_id] = document
        for event in events:
            yield from self._with_datum(event, document)

    def resource(self, document: Document) -> Iterator[Found[E]]:
        """Take a Resource; yield what now is together."""
        uid = self._resources.note(document)
        for event, datum in self._without_resource.take(uid):
            yield Found(event, datum, document)

    def leftovers(self) -> Iterator[Lacking[E]]:
        """Yield, at the end of the run, the events that still wait, and what for."""
        yield from (Lacking(event, "Datum") for event in self._without_datum.rest())
        yield from (Lacking(event, "Resource") for event, _ in self._without_resource.rest())

    def _with_datum(self, event: E, datum: Document) -> Iterator[Found[E]]:
        resource = self._resources.get(datum["resource"])
        if resource is None:
            self._without_resource.put(datum["resource"], (event, datum))
        else:
            yield Found(event, datum, resource)
