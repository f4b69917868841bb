"""The bounded queue between the RunEngine and the reduction: taking a document never blocks and never fails."""

import copy
import threading
import time
from collections import defaultdict, deque
from collections.abc import Mapping
from typing import Any

import numpy as np

from bluesky_powder.frames.legal import checked

BULK = frozenset(("event", "event_page", "datum", "datum_page", "stream_datum"))
"""Documents that come once a frame; all others, and baseline events, always find room."""

MOST_LOST = 1000


class Inbox:
    """Documents on their way to the worker.

    Parameters
    ----------
    max_documents
        How many per-frame documents may wait.
    max_bytes
        How many bytes of arrays in events may wait; one document always may.
    """

    def __init__(self, max_documents: int, max_bytes: int) -> None:
        self.max_documents = max_documents
        self.max_bytes = max_bytes
        self._queue: deque[tuple[str, Mapping[str, Any], int, bool]] = deque()
        self._bytes = 0
        self._bulk = 0
        self._unfinished = 0
        self._closed = False
        self._baselines: deque[str] = deque(maxlen=256)
        self._lost: defaultdict[str, list[range]] = defaultdict(list)
        self._changed = threading.Condition()

    def put(self, name: str, document: Mapping[str, Any]) -> bool:
        """Queue a copy of a document; return whether there was room for it."""
        try:
            item = self._weighed(name, document)
        except Exception:  # malformed; who takes it out says so
            item = (name, document, 0, True)
        _, _, size, bulk = item
        with self._changed:
            if self._closed:
                return False
            if bulk and (self._bulk >= self.max_documents or (self._bytes and self._bytes + size > self.max_bytes)):
                self._note_loss(name, document)
                return False
            self._queue.append(item)
            self._bulk += bulk
            self._bytes += size
            self._unfinished += 1
            self._changed.notify_all()
            return True

    def _weighed(self, name: str, document: Mapping[str, Any]) -> tuple[str, Mapping[str, Any], int, bool]:
        """Return a document's name, its copy, how many bytes its arrays have, and whether it comes once a frame."""
        size = _array_bytes(document) if name in ("event", "event_page") else 0
        bulk = name in BULK and document.get("descriptor") not in self._baselines
        if name == "descriptor" and document.get("name") == "baseline":
            self._baselines.append(document["uid"])
        return name, _copied(name, document), size, bulk

    def get(self) -> tuple[str, Mapping[str, Any]] | None:
        """Return the next document, waiting for it; None once the inbox is closed and empty."""
        with self._changed:
            while not self._queue and not self._closed:
                self._changed.wait()
            if not self._queue:
                return None
            name, document, size, bulk = self._queue.popleft()
            self._bulk -= bulk
            self._bytes -= size
            return name, document

    def done(self) -> None:
        """Say that the document last taken has been dealt with."""
        with self._changed:
            self._unfinished -= 1
            self._changed.notify_all()

    def wait(self, timeout: float | None) -> bool:
        """Wait until everything queued so far has been dealt with; return whether that is so."""
        end = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while self._unfinished:
                left = None if end is None else end - time.monotonic()
                if left is not None and left <= 0:
                    return False
                self._changed.wait(left)
            return True

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits to be taken out at this moment."""
        return not self._queue

    def close(self) -> None:
        """Take no more; what is queued is still handed out."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def take_lost(self, descriptor: str) -> list[range]:
        """Return, once, the seq_nums of documents of a descriptor that found no room."""
        with self._changed:
            return self._lost.pop(descriptor, [])

    def _note_loss(self, name: str, document: Mapping[str, Any]) -> None:
        if len(self._lost) > MOST_LOST:
            self._lost.clear()  # of runs that nobody asks about
        try:
            document = checked(name, document).document
            descriptor, lost = str(document.get("descriptor")), _seq_nums(name, document)
        except Exception:  # malformed, so nothing was lost
            return
        spans = self._lost[descriptor]
        for span in lost:
            if spans and spans[-1].start <= span.start <= spans[-1].stop:
                spans[-1] = range(spans[-1].start, max(spans[-1].stop, span.stop))
            else:
                spans.append(span)


def _seq_nums(name: str, document: Mapping[str, Any]) -> list[range]:
    if name == "stream_datum":
        return [range(document["seq_nums"]["start"], document["seq_nums"]["stop"])]
    if name == "event":
        return [range(document["seq_num"], document["seq_num"] + 1)]
    if name == "event_page":
        return [range(n, n + 1) for n in document["seq_num"]]
    return []


def _copied(name: str, document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Copy what other subscribers may change under our hands: everything but the arrays themselves."""
    if name in ("event", "event_page"):
        return {**document, "data": dict(document["data"])}
    return copy.deepcopy(document) if name in ("start", "descriptor") else dict(document)


def _array_bytes(document: Mapping[str, Any]) -> int:
    return sum(_bytes_of(value) for value in document.get("data", {}).values())


def _bytes_of(value: Any) -> int:
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, list) and value:
        return len(value) * max(_bytes_of(value[0]), 8)
    return 0
