"""What storing patterns costs: patterns a second, bytes of the catalog a pattern, and how long it takes to read them.

All by HTTP on one machine; publisher and server share a process, so both pay.
"""

import sqlite3
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from benchmarks.timing import Figure, Row, Table, seconds

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

RATE = 200.0
COUNTS = (100, 1000, 2000)
NPT = 2000


class Stored(BaseModel):
    """One run that was published at a pace.

    Attributes
    ----------
    patterns
        How many.
    seconds
        From the first document to the last in Tiled.
    behind
        From the last document to the last in Tiled.
    slowest
        Seconds from a pattern to its being told to Tiled, the longest of those looked at.
    catalog_bytes
        By which the catalog has grown.
    read_seconds
        Reading intensity and errors of all patterns.
    """

    patterns: int
    seconds: float
    behind: float
    slowest: float
    catalog_bytes: int
    read_seconds: float


def storage(repeats: int, counts: tuple[int, ...] = COUNTS) -> list[Row]:
    """Publish runs of different lengths at 200 patterns a second, each once: a run is many repeats of its patterns."""
    del repeats
    from bluesky_powder.server import PowderServer

    with tempfile.TemporaryDirectory(prefix="bluesky-powder-") as folder, PowderServer(folder) as server:
        published(server, 20)  # so that no run pays for what is loaded once
        runs = [published(server, count) for count in counts]
    last = runs[-1]
    name = f"{last.patterns} patterns of {NPT} bins, all sums"
    return [
        Figure(f"{name}: patterns a second", last.patterns / last.seconds, "", target=0.95 * RATE, better="most"),
        Figure(f"{name}: pattern to Tiled, slowest", last.slowest, "s", target=1.0),
        Figure(f"{name}: read intensity and errors", last.read_seconds, "s"),
        Table(
            f"Storage at {RATE:.0f} patterns/s",
            ("patterns", "patterns/s", "behind at the end, s", "catalog, bytes a pattern"),
            tuple(
                (
                    str(run.patterns),
                    f"{run.patterns / run.seconds:.0f}",
                    f"{run.behind:.2f}",
                    f"{run.catalog_bytes / run.patterns:.0f}",
                )
                for run in runs
            ),
        ),
    ]


def published(server: Any, count: int) -> Stored:
    """Publish one run at the pace and read it back."""
    from bluesky_powder.publish import TiledPublisher
    from pattern_runs import documents_of

    client = server.client()
    before = _catalog_bytes(server.directory)
    documents = list(documents_of(range(1, 21), npt=NPT, announced=count))
    head, body, tail = _parts(documents)
    seen: list[tuple[float, int]] = []
    with TiledPublisher(client, spool=server.spool) as publisher:
        begin = time.perf_counter()
        for document in head:
            publisher(*document)
        waits = []
        for number in range(count):
            _pause_until(begin + number / RATE)
            for name, event in body[number % len(body)]:
                publisher(name, {**event, "seq_num": number + 1, "uid": f"{event['uid']}-{number}"})
            seen.append((time.perf_counter(), 2 * (number + 1) + len(head)))
            waits.append(_oldest(seen, publisher))
        for document in tail:
            publisher(*document)
        given = time.perf_counter()
        if not publisher.wait(120) or publisher.failures:
            raise RuntimeError(f"not stored: {publisher.state}")
        end = time.perf_counter()
    uid = documents[0][1]["uid"]
    stream = client[uid, "primary"]
    rows = stream.base["intensity"].shape[0]
    if rows != count:
        raise RuntimeError(f"{rows} of {count} patterns are in Tiled")
    return Stored(
        patterns=count,
        seconds=end - begin,
        behind=end - given,
        slowest=max(waits),
        catalog_bytes=_catalog_bytes(server.directory) - before,
        read_seconds=seconds(lambda: stream.read(["intensity", "sem"])),
    )


def _parts(documents: list[Any]) -> tuple[list[Any], list[list[Any]], list[Any]]:
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


def _oldest(seen: list[tuple[float, int]], publisher: Any) -> float:
    """Return how long the oldest pattern that is not in Tiled yet has waited."""
    delivered = sum(run.delivered for run in publisher.state.runs)
    while seen and seen[0][1] <= delivered:
        seen.pop(0)
    return time.perf_counter() - seen[0][0] if seen else 0.0


def _pause_until(when: float) -> None:
    left = when - time.perf_counter()
    if left > 0:
        time.sleep(left)


def _catalog_bytes(folder: Path) -> int:
    """Return the bytes in the catalog's rows that grow with a run."""
    with sqlite3.connect(folder / "catalog.db") as connection:
        (size,) = connection.execute("SELECT coalesce(sum(length(structure)), 0) FROM structures").fetchone()
        pages, page = (connection.execute(f"PRAGMA {what}").fetchone()[0] for what in ("page_count", "page_size"))
    return int(np.maximum(size, pages * page))
