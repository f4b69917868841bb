"""Some of the runs that documents belong to, which may interleave."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from bluesky_powder.errors import ReplayError
from bluesky_powder.publish.routing import Routes

Pair = tuple[str, Mapping[str, Any]]
MOST_SHOWN = 5
_WITHOUT_RUN = ("resource", "datum", "datum_page", "bulk_events", "bulk_datum")
"""Kinds of documents of which old ones name no run."""


def runs_of(documents: Iterable[Pair], uids: Collection[str]) -> Iterator[Pair]:
    """Yield the documents of some runs, and those that do not tell whose they are.

    Raises
    ------
    ReplayError
        If one of them is not among the documents, once these have come to an end.
    """
    routes, found = Routes(), set()
    for name, document in documents:
        try:
            run = routes.run_of(name, document)
        except (KeyError, TypeError):  # malformed; who takes it says so
            yield name, document
            continue
        if run in uids or (run is None and name in _WITHOUT_RUN):
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


def contents(documents: Iterable[Pair]) -> dict[str, Mapping[str, Any] | None]:
    """Return the runs that are among documents: uid -> stop document, None where that is missing.

    Raises
    ------
    ReplayError
        If documents break off, or are none, before the first run.
    """
    stops: dict[str, Mapping[str, Any] | None] = {}
    try:
        for name, document in documents:
            if name == "start" and isinstance(document.get("uid"), str):
                stops[document["uid"]] = None
            elif name == "stop" and (uid := str(document.get("run_start"))) in stops:
                stops[uid] = document
    except ReplayError:
        # Whoever replays them meets it again, after the runs before it.
        if not stops:
            raise
    return stops


def matching(text: str, uids: Iterable[str]) -> str:
    """Return the uid that is, or alone begins with, a text.

    Raises
    ------
    ReplayError
        If there is none, or there are several.
    """
    there = list(uids)
    if text in there:
        return text
    found = [uid for uid in there if text and uid.startswith(text)]
    if len(found) == 1:
        return found[0]
    told = found or there
    shown = ", ".join(told[:MOST_SHOWN])
    more = f" and {len(told) - MOST_SHOWN} more" if len(told) > MOST_SHOWN else ""
    if found:
        raise ReplayError(f"{text} fits {len(found)} runs: {shown}{more}; give more of it")
    raise ReplayError(f"no run has a uid that is, or begins with, {text}; there are {shown or 'none'}{more}")
