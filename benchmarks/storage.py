"""What storing patterns costs: patterns a second, how soon readers have them, and bytes of the catalog a pattern.

All by HTTP on one machine; the server has a process of its own, as at a facility.
"""

import contextlib
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.served import Served
from benchmarks.timing import Figure, Row, Table

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

RATE = 200.0
PACED, COUNTS = 2000, (100, 1000, 5000)
NPT = 2000
_POLL = 0.05


@dataclass(frozen=True)
class Stored:
    """One run that was published.

    Attributes
    ----------
    uid
        Of the run.
    patterns
        How many.
    seconds
        From the first document to the last in Tiled.
    catalog_bytes
        By which the catalog has grown.
    late
        Seconds from each pattern to a reader's answer that has its row; none where nobody has read meanwhile.
    """

    uid: str
    patterns: int
    seconds: float
    catalog_bytes: int
    late: list[float] = field(default_factory=list)


def storage(server: Served, paced: int = PACED, counts: tuple[int, ...] = COUNTS) -> Iterator[Row]:
    """Yield what publishing costs: at 200 patterns a second with a reader, and as fast as it goes, each once.

    A run is many repeats of its patterns.
    """
    run = published(server, paced, RATE)
    name = f"{paced} patterns of {NPT} bins, all sums, at {RATE:.0f} a second"
    yield Figure(f"{name}: event to visible by HTTP, median", float(np.median(run.late)), "s", target=1.0)
    yield Figure(f"{name}: the slowest", max(run.late), "s", target=1.0)
    run = published(server, paced)
    name = f"{paced} such patterns at once: patterns a second, until the run is whole in Tiled"
    yield Figure(name, paced / run.seconds, "", target=RATE, better="most")
    runs = [published(server, count) for count in counts]
    yield Table(
        "Storage in files as fast as it goes, server in its own process",
        ("patterns", "patterns/s", "catalog, bytes a pattern"),
        tuple(
            (
                str(run.patterns),
                f"{run.patterns / run.seconds:.0f}",
                f"{run.catalog_bytes / run.patterns:.0f}",
            )
            for run in runs
        ),
    )


def published(server: Served, count: int, rate: float | None = None) -> Stored:
    """Publish one run, with a reader if it goes at a rate, and check that it is all there."""
    from bluesky_powder.publish import TiledPublisher
    from pattern_runs import documents_of

    client, before = server.client(), _catalog_bytes(server.directory)
    documents = list(documents_of(range(1, 21), npt=NPT, announced=max(count, 500)))
    head, body, tail = parts(documents)
    uid = documents[0][1]["uid"]
    given: list[float] = []
    reader = Reader(server, uid, given) if rate is not None else None
    with TiledPublisher(client, spool=server.spool) as publisher:
        if reader is not None:
            reader.start()
        begin = time.perf_counter()
        for document in head:
            publisher(*document)
        for number in range(count):
            if rate is not None:
                _pause_until(begin + number / rate)
            elif number % 100 == 0:
                _hold_back(publisher)
            for name, event in body[number % len(body)]:
                publisher(name, {**event, "seq_num": number + 1, "uid": f"{event['uid']}-{number}"})
            given.append(time.perf_counter())
        for document in tail:
            publisher(*document)
        if not publisher.wait(120) or publisher.failures:
            raise RuntimeError(f"not stored: {publisher.state}")
        end = time.perf_counter()
        late = reader.stop() if reader is not None else []
    rows = client[uid, "primary"].base["intensity"].shape[0]
    if rows != count:
        raise RuntimeError(f"{rows} of {count} patterns are in Tiled")
    return Stored(uid, count, end - begin, _catalog_bytes(server.directory) - before, late)


class Reader:
    """Asks a server for a run's patterns again and again, and notes when it got them.

    Parameters
    ----------
    server
        The server.
    run
        Uid of the run.
    given
        When its patterns were given to the publisher, as they are.
    """

    def __init__(self, server: Served, run: str, given: list[float]) -> None:
        self._given = given
        self._client, self._run = server.client(), run
        self._late: list[float] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def stop(self) -> list[float]:
        """Ask until all is there; return the seconds from each pattern to its answer.

        Raises
        ------
        RuntimeError
            If patterns do not come.
        """
        self._ended.set()
        self._thread.join(30)
        if len(self._late) != len(self._given):
            raise RuntimeError(f"a reader has seen {len(self._late)} of {len(self._given)} patterns")
        return self._late

    def _read(self) -> None:
        table: Any = None
        while not self._ended.is_set() or len(self._late) < len(self._given):
            time.sleep(_POLL)
            try:
                if table is None:
                    table = self._client[self._run, "primary"].base["internal"]
                rows = len(table.read(["seq_num"]))
            except KeyError:
                continue  # the run, or its stream, has not begun
            now = time.perf_counter()
            self._late += [now - given for given in self._given[len(self._late) : rows]]


def parts(documents: list[Any]) -> tuple[list[Any], list[list[Any]], list[Any]]:
    """Split into what comes before the patterns, the events of each, and the end."""
    first = {}
    for name, document in documents:
        if name == "descriptor":
            first[document["uid"]] = document["name"]
    head = [
        pair
        for pair in documents
        if pair[0] in ("start", "descriptor") or first.get(pair[1].get("descriptor")) == "axes"
    ]
    head = [pair for pair in head if pair[1].get("name") != "merged"]
    events = [pair for pair in documents if first.get(pair[1].get("descriptor")) in ("primary", "cumulative")]
    return head, [events[at : at + 2] for at in range(0, len(events), 2)], documents[-3:]


def _hold_back(publisher: Any) -> None:
    """Wait while a thousand documents are on their way, as the queue takes 256 MB at most."""
    while publisher.pending > 1000:
        time.sleep(0.01)


def _pause_until(when: float) -> None:
    left = when - time.perf_counter()
    if left > 0:
        time.sleep(left)


def _catalog_bytes(folder: Path) -> int:
    """Return the bytes in the catalog's rows that grow with a run."""
    with contextlib.closing(sqlite3.connect(folder / "catalog.db")) as connection:
        (size,) = connection.execute("SELECT coalesce(sum(length(structure)), 0) FROM structures").fetchone()
        pages, page = (connection.execute(f"PRAGMA {what}").fetchone()[0] for what in ("page_count", "page_size"))
    return int(np.maximum(size, pages * page))
