"""Events that name a Datum, Datums that name a Resource: put together, whichever comes first."""

from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, Generic, Literal, NamedTuple, TypeVar

from bluesky_powder.frames.joining.join import MOST_WAITING
from bluesky_powder.frames.joining.recent import Recent, Resources

E = TypeVar("E")
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


class Datums(Generic[E]):
    """Finds the Datum and the Resource that an event asks for.

    A Datum is kept until an event of any stream has named it; a few that were used stay, for events told again.
    """

    def __init__(self) -> None:
        self._resources = Resources()
        self._datums: OrderedDict[str, Document] = OrderedDict()
        self._used: Recent[str, Document] = Recent()
        self._waiting: OrderedDict[str, list[E]] = OrderedDict()
        self._without_resource: defaultdict[str, list[str]] = defaultdict(list)

    def ask(self, datum_id: str, event: E) -> Iterator[Found[E]]:
        """Yield what an event asks for; if it is not there yet, the event waits."""
        datum = self._datums.pop(datum_id, None) or self._used.get(datum_id)
        if datum is None:
            self._waiting.setdefault(datum_id, []).append(event)
            return
        self._used[datum_id] = datum
        resource = self._resources.get(datum["resource"])
        if resource is None:
            self._waiting.setdefault(datum_id, []).append(event)
            self._without_resource[datum["resource"]].append(datum_id)
        else:
            yield Found(event, datum, resource)

    def forget(self, datum_id: str) -> None:
        """Drop a Datum that something else has asked for."""
        self._datums.pop(datum_id, None)

    def datum(self, document: Document) -> Iterator[Found[E]]:
        """Take a Datum; yield what now is together."""
        datum_id = document["datum_id"]
        self._datums[datum_id] = document
        if datum_id in self._waiting:
            yield from self._ask_again(datum_id)
        elif len(self._datums) > MOST_WAITING:
            self._datums.popitem(last=False)

    def resource(self, document: Document) -> Iterator[Found[E]]:
        """Take a Resource; yield what now is together."""
        uid = self._resources.note(document)
        for datum_id in self._without_resource.pop(uid, ()):
            yield from self._ask_again(datum_id)

    def leftovers(self) -> Iterator[Lacking[E]]:
        """Yield, at the end of the run, the events that still wait, and what for."""
        while self._waiting:
            datum_id, events = self._waiting.popitem(last=False)
            known = datum_id in self._datums or self._used.get(datum_id) is not None
            yield from (Lacking(event, "Resource" if known else "Datum") for event in events)

    def _ask_again(self, datum_id: str) -> Iterator[Found[E]]:
        for event in self._waiting.pop(datum_id, ()):
            yield from self.ask(datum_id, event)
