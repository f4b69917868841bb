"""The publisher: takes documents from anyone, at any pace, and sees to it that they get to Tiled."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bluesky_powder.publish.adoption import left_behind
from bluesky_powder.publish.at_exit import close_at_exit
from bluesky_powder.publish.delivery import MOST_EVENTS, Delivery, is_complete, remove_partial
from bluesky_powder.publish.inbox import Inbox
from bluesky_powder.publish.journal import Journal
from bluesky_powder.publish.obstacles import NotServedError, in_one_line, is_away, may_pass
from bluesky_powder.publish.places import state_folder
from bluesky_powder.publish.routing import Routes, nbytes, snapshot
from bluesky_powder.publish.run import Entry, Run, say_lost
from bluesky_powder.publish.state import PublisherState, PublishFailure
from bluesky_powder.publish.storage import Storage

logger = logging.getLogger("bluesky_powder.publish")

_TICK = 0.2
_MOST_TRIES = 4
"""How often a run is begun where Tiled answers, but with an error of its own."""
_FLUSH_EVERY = 0.25
"""Seconds after which what was taken is written, however little it is."""
_PERIOD = 0.4
"""Seconds from one writing of a fast run to the next, at most, unless writing itself takes longer."""


class TiledPublisher:
    """A document consumer that writes runs to Tiled, in order, without ever blocking or raising.

    Documents are queued, written to a journal on disk, and from there to Tiled. Tiled may be slow or away: the journal
    grows meanwhile, and when Tiled is back the run is written from its first document, under the same uid, after what
    the first try has left was removed. A journal is deleted when its run is in Tiled. A run that fails leaves others
    alone. Journals that an earlier process has left in the folder are taken over.

    Patterns of fast or long runs do not go through Tiled: they are written to HDF5 files, which are NXazint1d as well,
    and Tiled is told where they are. For that the server has to read the folder (``serve --read FOLDER``).

    Arrays in documents are not copied: whoever emits them must not write into them later.

    Parameters
    ----------
    client
        Tiled client of the container that runs go into, or the server's address.
    api_key
        For an address.
    spool
        Folder of the journals, for this server only; in the user's state folder unless given.
    batch_size
        How many events are written at once; the rest at the run's end. None writes what there is, each as soon as it
        comes, more at once where they come faster. A run that is over anyway is written quicker in large batches.
    storage
        Where the patterns of derived runs go: "events" to Tiled's own arrays, "file" to HDF5 files, "auto" to files
        where they come at 10 a second or more, or the raw run has announced 500 points or more. Where there is no
        folder that the server reads, all go to "events".
    folder
        Of the HDF5 files; beside the arrays of the server itself unless given, if it is on this machine.
    most_documents, most_bytes
        Room of the queue that stands before the journal. What does not fit (a stalled disk) is lost, and said.
    """

    def __init__(
        self,
        client: Any,
        *,
        api_key: str | None = None,
        spool: str | Path | None = None,
        batch_size: int | None = None,
        storage: Storage = "auto",
        folder: str | Path | None = None,
        most_documents: int = 20_000,
        most_bytes: int = 2**28,
    ) -> None:
        self._given, self._api_key = client, api_key
        self._batch_size = batch_size
        self._storage = storage
        self._folder = Path(folder).expanduser().resolve() if folder is not None else None
        self._client: Any = None
        self._spool = Path(spool) if spool is not None else state_folder(client) / "spool"
        self._adopted: list[str] | None = None
        self._routes = Routes()
        self._inbox: Inbox[Entry] = Inbox(most_documents, most_bytes)
        self._runs: dict[str, Run] = {}
        self._failures: list[PublishFailure] = []
        self._changed = threading.Condition()
        self._closed = threading.Event()
        self._strangers = 0
        self._given_by = threading.local()
        steps = {"spool": self._spool_one, "publish": self._deliver_one}
        self._threads = [
            threading.Thread(target=self._forever, args=(step,), name=f"bluesky-powder-{name}", daemon=True)
            for name, step in steps.items()
        ]
        for thread in self._threads:
            thread.start()
        close_at_exit(self.close)

    def __call__(self, name: str, document: Mapping[str, Any]) -> None:
        """Take a document."""
        try:
            self._take(name, document)
        except Exception:
            logger.exception("a %s document could not be taken for publishing", name)

    @property
    def failures(self) -> tuple[PublishFailure, ...]:
        """Runs that are not, or not wholly, in Tiled and that no further try is made for."""
        with self._changed:
            return tuple(self._failures)

    @property
    def state(self) -> PublisherState:
        """What is on its way, and why it is not in Tiled yet; to be printed."""
        with self._changed:
            runs = tuple(run.state for run in self._runs.values() if run.outstanding)
            return PublisherState(len(self._inbox), runs, tuple(self._adopted or ()), tuple(self._failures))

    @property
    def pending(self) -> int:
        """How many documents are not in Tiled yet."""
        with self._changed:
            return len(self._inbox) + sum(run.outstanding for run in self._runs.values())

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until all that was taken, and what an earlier process has left, is in Tiled or given up.

        Parameters
        ----------
        timeout
            Seconds; None waits for ever.

        Returns
        -------
        bool
            False when time has run out first.
        """
        with self._changed:
            return self._changed.wait_for(lambda: self._adopted is not None and self.pending == 0, timeout)

    def close(self, timeout: float = 30.0) -> None:
        """Take no more, wait for what was taken, and stop.

        What is not in Tiled by then stays on disk, and is logged.

        Parameters
        ----------
        timeout
            Seconds to wait.
        """
        if self._closed.is_set():
            return
        in_time = self.wait(timeout)
        with self._changed:
            self._changed.wait_for(lambda: not len(self._inbox), _TICK)
            self._closed.set()
            self._changed.notify_all()
        for thread in self._threads:
            # One that waits for a dead server is left to itself; it ends with the process.
            thread.join(2.0 if in_time else _TICK)
        self._leave_the_rest()
        if self._client is not None and self._client is not self._given and not self._threads[-1].is_alive():
            self._client.context.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    # --- in the caller's thread

    def _take(self, name: str, document: Mapping[str, Any]) -> None:
        if self._comes_again(name, document):
            return
        uid = self._routes.run_of(name, document)
        if uid is None or self._closed.is_set():
            self._strangers += 1
            if self._strangers == 1:
                why = "the publisher is closed" if self._closed.is_set() else "the start of its run was not seen"
                logger.warning("a %s document is not published: %s", name, why)
            return
        with self._changed:
            run = self._runs.get(uid)
            if run is None:
                run = self._runs[uid] = Run(uid)
        if name == "stop":
            self._routes.forget(uid)
        if not self._inbox.put(Entry(run, name, snapshot(name, document), time.time()), nbytes(document)):
            run.lost += 1
            if run.lost == 1:
                logger.error("run %s: documents come faster than %s takes them; some are lost", uid, self._spool)

    def _comes_again(self, name: str, document: Mapping[str, Any]) -> bool:
        """Tell whether this thread has just given the same document, as it does to whom it has subscribed twice."""
        one = name, document.get("uid")
        if one[1] is None or one != getattr(self._given_by, "latest", None):
            self._given_by.latest = one
            return False
        if name == "start":
            logger.warning("run %s: documents come twice; each is published once (subscribed twice?)", one[1])
        return True

    # --- in the two threads

    def _forever(self, step: Callable[[], None]) -> None:
        while not self._closed.is_set():
            try:
                step()
            except Exception:
                logger.exception("publishing met an error of its own")
                time.sleep(_TICK)

    def _spool_one(self) -> None:
        if self._adopted is None:
            self._adopt()
        entry = self._inbox.first(_TICK)
        if entry is None:
            return
        run, failure = entry.run, None
        try:
            self._to_journal(entry)
        except Exception as error:
            run.lost += 1
            failure = PublishFailure(run.uid, f"{self._spool} cannot take a {entry.name} document: {error}", None)
        with self._changed:
            self._inbox.remove_first()
            if failure is None:
                run.written += 1
                run.stopped = run.stopped or entry.name == "stop"
            elif not run.given_up:
                self._give_up(run, failure)
            if run.given_up and entry.name == "stop":
                self._forget(run)
            self._changed.notify_all()

    def _adopt(self) -> None:
        """Take over what an earlier process has left."""
        adopted: list[str] = []
        try:
            for run in left_behind(self._spool):
                with self._changed:
                    self._runs.setdefault(run.uid, run)
                adopted.append(run.uid)
        finally:
            with self._changed:
                self._adopted = adopted
                self._changed.notify_all()

    def _to_journal(self, entry: Entry) -> None:
        run = entry.run
        if entry.name == "stop" and run.lost:
            say_lost(entry.document, run.lost)
        if run.journal is None:
            run.journal = Journal.new(self._spool, run.uid)
        was_in_memory = run.journal.in_memory
        run.journal.append(entry.name, entry.document, entry.came)
        if run.journal.in_memory and not was_in_memory:
            logger.error("run %s: no room in %s; its documents are kept in memory", run.uid, self._spool)

    def _deliver_one(self) -> None:
        with self._changed:
            run = self._next()
            if run is None:
                self._changed.wait(self._idle())
                return
        try:
            last = self._deliver_some_of(run)
        except Exception as error:
            self._stumble(run, error)
            return
        with self._changed:
            run.delivered = run.read - (run.delivery.held if run.delivery else 0)
            if last:
                self._finish(run)
            self._changed.notify_all()

    def _next(self) -> Run | None:
        """Return a run that has something to deliver; runs take turns."""
        now = time.monotonic()
        for uid, run in self._runs.items():
            due = run.unread > 0 or (run.delivery is not None and run.delivery.is_due(time.time()))
            if due and not run.given_up and run.not_before <= now:
                self._runs[uid] = self._runs.pop(uid)
                return run
        return None

    def _deliver_some_of(self, run: Run) -> bool:
        """Deliver what there is, or as much as is good at once; tell whether the run's last document was in it."""
        delivery = self._begun(run)
        if delivery is None:
            run.read = run.written
            return run.stopped
        assert run.journal is not None  # noqa: S101 - a run with documents has one
        began = time.monotonic()
        while run.unread and not self._enough(delivery) and time.monotonic() - began < _FLUSH_EVERY:
            name, document, stamp = run.journal.read()
            run.read += 1
            delivery.write(name, document, stamp)
            if name == "stop":
                return True
        delivery.settle(time.time())
        if self._batch_size is None or self._enough(delivery):
            began = time.monotonic()
            delivery.flush()
            self._rest(run, delivery, time.monotonic() - began)
        if run.trouble is not None and run.unread == 0:
            run.trouble = None
        return False

    def _rest(self, run: Run, delivery: Delivery, took: float) -> None:
        """Leave a server that has got a fast run's patterns as long to others, and let more of them come together.

        Each request costs the server some 15 ms, whatever is in it.
        """
        behind = run.stopped or run.unread > MOST_EVENTS // 2
        if delivery.stored == "file" and self._batch_size is None and not behind:
            run.not_before = time.monotonic() + max(0.0, min(took, _PERIOD - took))

    def _enough(self, delivery: Delivery) -> bool:
        return delivery.is_full if self._batch_size is None else delivery.cached >= self._batch_size

    def _begun(self, run: Run) -> Delivery | None:
        """Return what writes the run, after removing what an earlier try has left; None if it is in Tiled already."""
        if run.delivery is None:
            assert run.journal is not None  # noqa: S101 - a run with documents has one
            if self._client is None:
                self._client = self._connected()
            if run.tries or run.adopted:
                if is_complete(self._client, run.uid):
                    return None
                remove_partial(self._client, run.uid)
            run.journal.rewind()
            run.read = 0
            run.delivery = Delivery(self._client, run.uid, run.storage or self._storage, self._folder)
        return run.delivery

    def _connected(self) -> Any:
        if not isinstance(self._given, str):
            return self._given
        from tiled.client import from_context
        from tiled.client.context import Context

        context, path = Context.from_any_uri(self._given, api_key=self._api_key)
        try:
            return from_context(context, node_path_parts=path)
        except BaseException:
            context.close()  # else each try would leave a connection behind
            raise

    def _stumble(self, run: Run, error: Exception) -> None:
        """Write the run anew later, or give it up where that cannot help."""
        reason = in_one_line(error)
        with self._changed:
            if self._closed.is_set() or run.given_up:
                return
            run.tries += 1
            if isinstance(error, NotServedError):
                logger.warning("run %s: %s; its arrays go to Tiled itself", run.uid, reason)
                run.storage = "events"
                run.begin_anew(time.monotonic() - run.pause, reason)
                return
            if is_away(error) or (may_pass(error) and run.tries < _MOST_TRIES):
                logger.warning("run %s: %s; it is written anew in %.3g s", run.uid, reason, run.pause)
                run.begin_anew(time.monotonic(), reason)
                return
            documents = run.journal.path if run.journal is not None and not run.lost else None
            self._give_up(run, PublishFailure(run.uid, reason, documents))
            if run.stopped:
                self._forget(run)
            self._changed.notify_all()

    # --- with self._changed held

    def _idle(self) -> float:
        """Return how long there is nothing to do, unless documents come."""
        now = time.monotonic()
        waiting = [run.not_before - now for run in self._runs.values() if run.unread]
        return min([_TICK, *(each for each in waiting if each > 0)])

    def _finish(self, run: Run) -> None:
        self._runs.pop(run.uid, None)
        if run.journal is not None:
            run.journal.remove()
        if run.lost:
            self._fail(PublishFailure(run.uid, f"{run.lost} of its documents were lost before Tiled", None))

    def _give_up(self, run: Run, failure: PublishFailure) -> None:
        if run.delivery is not None:
            run.delivery.discard()
        run.given_up, run.delivery = True, None
        self._fail(failure)

    def _fail(self, failure: PublishFailure) -> None:
        logger.error("%s", failure)
        self._failures.append(failure)

    def _forget(self, run: Run) -> None:
        """Let go of a run that was given up; its journal stays."""
        self._runs.pop(run.uid, None)
        if run.journal is not None:
            run.journal.close()

    def _leave_the_rest(self) -> None:
        with self._changed:
            for run in list(self._runs.values()):
                if run.journal is None:
                    continue
                if run.delivery is not None:
                    run.delivery.close()
                saved = not run.journal.in_memory or run.journal.save()
                if run.outstanding:
                    reason = f"Tiled has taken {run.delivered} of its {run.written} documents so far"
                    reason += f" ({run.trouble})" if run.trouble else ""
                    reason += "" if saved else "; the last are lost, as the disk of the journals is full"
                    self._fail(PublishFailure(run.uid, reason, run.journal.path if saved else None))
                if run.outstanding or run.given_up:
                    run.journal.close()
                else:
                    run.journal.remove()
            self._runs.clear()
