"""What every StreamResource document says, and where its file begins when a data key goes on in another one."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypedDict

from bluesky_powder.frames.joining.recent import MOST_RESOURCES, Recent

HDF5 = "application/x-hdf5"


@dataclass(frozen=True)
class Home:
    """Where a server keeps what a StreamResource tells of: all of it with the stream that named the resource first.

    Attributes
    ----------
    stream
        Name of that stream.
    begin
        The index announced first.
    row
        Events in its array before that.
    """

    stream: str
    begin: int
    row: int


@dataclass(kw_only=True)
class Resource:
    """One StreamResource document, with its place among those of its data key.

    Attributes
    ----------
    uid, mimetype, uri, parameters
        As in the document.
    first
        Index at which the file itself begins; 0 unless indices go on from an earlier file.
    begun
        Whether a StreamDatum of it has come.
    begin, events
        The index announced first, and how many have been announced.
    row
        Events of the stream that are in earlier files.
    home
        Where a server has it, if that is with another stream.
    """

    uid: str
    mimetype: str
    uri: str
    parameters: Mapping[str, Any]
    home: Home | None = None
    first: int = 0
    begun: bool = False
    begin: int = 0
    events: int = 0
    row: int = 0


class Told(TypedDict):
    """What a `Resource` takes from its document."""

    uid: str
    mimetype: str
    uri: str
    parameters: Mapping[str, Any]


def told_by(document: Mapping[str, Any]) -> Told:
    """Return what a document says."""
    given = document.get("parameters")
    return {
        "uid": document["uid"],
        "mimetype": str(document.get("mimetype")).replace(" ", "").lower(),
        "uri": str(document.get("uri")),
        "parameters": given if isinstance(given, Mapping) else {},
    }


class Homes:
    """Finds out with which stream a server keeps what the StreamResources of a run tell of.

    Streams may share a resource, as darks and frames do of a detector that is prepared once.
    """

    def __init__(self) -> None:
        self._homes: Recent[str, Home] = Recent(MOST_RESOURCES)
        self._rows: Counter[tuple[str, str]] = Counter()

    def note(self, uid: str, key: str, stream: str, indices: range) -> Home | None:
        """Take a StreamDatum; return the home of its resource, None where that is its own stream."""
        home = self._homes.get(uid)
        if home is None:
            home = self._homes[uid] = Home(stream, indices.start, self._rows[stream, key])
        self._rows[home.stream, key] += len(indices)
        return home if home.stream != stream else None


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
