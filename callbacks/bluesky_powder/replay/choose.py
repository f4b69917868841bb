"""Some of the runs that documents belong to, which may interleave."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from bluesky_powder.errors import ReplayError
from bluesky_powder.publish.routing import Routes

Pair = tuple[str, Mapping[str, Any]]


def runs_of(documents: Iterable[Pair], uids: Collection[str]) -> Iterator[Pair]:
    """Yield the documents of some runs.

    Raises
    ------
    ReplayError
        If one of them is not among the documents, once these have come to an end.
    """
    routes, found = Routes(), set()
    for name, document in documents:
        run = routes.run_of(name, document)
        if run in uids or (run is None and name in ("resource", "datum", "datum_page")):  # old ones name no run
            yield name, document
        if name == "start" and run in uids:
            found.add(run)
        elif name == "stop" and run is not None:
            routes.forget(run)
    missing = sorted(set(uids) - found)
    if missing:
        raise ReplayError(f"there are no documents of run {', '.join(missing)}")


@dataclass
class OpenRuns:
    """The runs whose stop document has not come yet."""

    uids: list[str] = field(default_factory=list)

    def note(self, name: str, document: Mapping[str, Any]) -> None:
        """Take note of a document."""
        if name == "start":
            self.uids.append(str(document.get("uid")))
        elif name == "stop" and document.get("run_start") in self.uids:
            self.uids.remove(str(document["run_start"]))
