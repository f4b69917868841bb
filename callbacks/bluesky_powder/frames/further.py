"""Where a further file begins, when a data key goes on in another one."""

from collections.abc import Mapping
from typing import Any, Protocol

from bluesky_powder.frames.join import Recent


class Resource(Protocol):
    """What a StreamResource document says, as far as it matters here; see `resources.StreamResource`."""

    uri: str
    parameters: Mapping[str, Any]
    first: int
    begun: bool
    begin: int
    events: int
    row: int


class Successive:
    """Finds out where the files of one data key begin: indices go on from the file before, or start at 0 again."""

    def __init__(self) -> None:
        self._next = 0
        self._begun: Recent[str, bool] = Recent()
        self._events = 0

    def place(self, resource: Resource, indices: range) -> None:
        """Take the indices of a StreamDatum; at the first of a resource, find out where its file begins."""
        if not resource.begun:
            file = f"{resource.uri} {dict(resource.parameters)}"
            if self._next > 0 and indices.start >= self._next:
                resource.first = 0 if self._begun.get(file) else indices.start
            resource.begin, resource.row = indices.start, self._events
            self._begun[file] = resource.begun = True
        resource.events += len(indices)
        self._events += len(indices)
        self._next = max(self._next, indices.stop)
