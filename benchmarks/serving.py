"""From an event to a remote reader: visible by HTTP, at a subscriber, how fast, and how long a thousand patterns take.

Publisher and readers share this machine with the server, which has a process of its own.
"""

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.served import Served, served
from benchmarks.storage import COUNTS, NPT, PACED, parts, published, storage
from benchmarks.timing import REPEATS, Figure, Row, seconds

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

LIVE, PACE, READ = 44, 0.5, 1000
POLLED = 4
"""Each so many events one is polled for; the others tell of pushing."""
VISIBLE, PUSHED = 1.0, 0.1
_POLL = 0.05
"""Seconds between questions: closer ones would keep the server from what is asked for."""
_LONGEST = 30.0


def serving(
    repeats: int = REPEATS,
    live: int = LIVE,
    paced: int = PACED,
    counts: tuple[int, ...] = COUNTS,
    read: int = READ,
) -> Iterator[Row]:
    """Yield what it takes until patterns are seen elsewhere, what it takes to store many, and to read them.

    Parameters
    ----------
    repeats
        Of the reading; runs are published once, each being many repeats of its patterns.
    live
        Events of the slow run.
    paced, counts
        Patterns of the runs that are stored in files.
    read
        Patterns of the run that is read.
    """
    with served() as server:
        published(server, 20)  # so that no run pays for what is loaded once
        about = f"event of a scan, two a second ({NPT} bins, all sums)"
        by_http, pushed = until_seen(server, live)
        yield Figure(f"{about} to visible by HTTP, median", statistics.median(by_http), "ms", VISIBLE)
        yield Figure(f"{about} to visible by HTTP, slowest, with all that begins a run", max(by_http), "ms", VISIBLE)
        yield Figure(f"{about} to subscriber, median", statistics.median(pushed), "ms", PUSHED)
        yield Figure(f"{about} to subscriber, 95 %", float(np.quantile(pushed, 0.95)), "ms", PUSHED)
        yield Figure(f"{about} to subscriber, slowest", max(pushed), "ms", PUSHED)
        yield from storage(server, paced, counts)
        stream = server.client()[published(server, read).uid, "primary"]
        yield Figure(f"read() of {read} patterns", statistics.median(_times(stream.read, repeats)), "s")


def until_seen(server: Served, events: int) -> tuple[list[float], list[float]]:
    """Return seconds from event to HTTP reader, and from event to subscriber, by event.

    Raises
    ------
    RuntimeError
        If events are not seen at all.
    """
    from bluesky_powder.live import follow
    from bluesky_powder.publish import TiledPublisher
    from pattern_runs import documents_of

    head, body, tail = parts(list(documents_of(range(1, events + 1), npt=NPT)))
    sent: dict[int, float] = {}
    arrived: dict[int, float] = {}
    seen: list[float] = []
    client, uid = server.client(), head[0][1]["uid"]
    with TiledPublisher(client, spool=server.spool, storage="events") as publisher:

        def send(number: int, documents: list[Any]) -> None:
            sent[number] = time.perf_counter()
            for document in documents:
                publisher(*document)

        send(1, head + body[0])
        _poll(lambda: _has_begun(client, uid))
        seen.append(time.perf_counter() - sent[1])
        publisher.wait(_LONGEST)
        stream = client[uid, "primary"].base
        with follow(client[uid], lambda update: arrived.setdefault(update.seq_num, time.perf_counter())):
            _poll(lambda: 1 in arrived)
            time.sleep(2.0)  # until the subscriptions stand
            for number, documents in enumerate(body[1:], 2):
                send(number, documents)
                if number % POLLED == 0:
                    _poll(lambda number=number: stream["intensity"].shape[0] >= number)
                    if len(stream["internal"].read(["seq_num"])) < number:
                        raise RuntimeError("a pattern is there before its row")
                    seen.append(time.perf_counter() - sent[number])
                time.sleep(PACE)
            _poll(lambda: len(arrived) == len(sent))
            for document in tail:
                publisher(*document)
            publisher.wait(_LONGEST)
    # Events that are polled for stand behind the polls at the server. The first was there before the subscription.
    return seen, [arrived[number] - sent[number] for number in sent if number > 1 and number % POLLED]


def _has_begun(client: Any, uid: str) -> bool:
    """Tell whether a reader gets a run's first pattern."""
    try:
        return len(client[uid, "primary"].base["internal"].read(["seq_num"])) > 0
    except KeyError:
        return False  # the run, or its stream, is not there yet


def _poll(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + _LONGEST
    while not is_so():
        if time.monotonic() > end:
            raise RuntimeError("patterns are not seen by readers")
        time.sleep(_POLL)


def _times(function: Callable[[], object], repeats: int) -> list[float]:
    return [seconds(function) for _ in range(repeats)]
