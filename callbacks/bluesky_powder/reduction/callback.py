"""The callback: subscribe it to a RunEngine, or feed it documents, and derived documents come out."""

import atexit
import itertools
import logging
import threading
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from bluesky_powder.frames import Patience
from bluesky_powder.frames.images.remote import RemoteFrames
from bluesky_powder.recipe import AnyRecipe, recipes_of
from bluesky_powder.reduction.inbox import Inbox
from bluesky_powder.reduction.router import Router
from bluesky_powder.reduction.setup import Lookup, Means, Setup, Supersedes

LOGGER = logging.getLogger("bluesky_powder.reduction")

Subscriber = Callable[[str, dict[str, Any]], Any]
AT_EXIT = 5.0


class PowderReduction:
    """Turns the documents of raw runs into those of derived runs, by a recipe.

    Parameters
    ----------
    recipe
        A `Recipe`, the path of a recipe file, or a mapping; or several recipes, one for each detector: such a file
        (`detectors`), mapping, or sequence. Each detector's frames become a derived run of their own.
    pace
        "live": calls only queue the document for one worker thread; they never block and never raise, and what finds no
        room in the queue is skipped and counted. "replay": calls return when the document is dealt with.
    file_timeout
        Seconds to wait for a file that is missing or not flushed yet; None: 10 live, 0 in a replay.
    max_documents, max_bytes
        Room in the queue: documents that come once a frame, and bytes of arrays in events.
    byte_budget
        What may be kept of integrators, and of pixel sums for the mean frame, each in bytes, all detectors together;
        of darks a quarter of it.
    handlers
        Spec -> handler class for Resource documents, besides the installed ones.
    scratch
        Folder for scratch files; None for the system's.
    root_map
        Folder as the documents have it -> the same folder on this machine.
    remote
        Asked for frames whose file is not on this machine.
    runs
        Uid -> the documents of that run, (name, document), for dark runs that this reduction has not seen itself.
    supersedes
        Uid of the raw run, name of the detector (None where there is one) -> uids of their earlier derived runs, which
        the start document of the new one then names; or None.

    Attributes
    ----------
    recipes
        One a detector.

    Raises
    ------
    RecipeError
        If the recipe is not right.
    """

    def __init__(
        self,
        recipe: AnyRecipe,
        *,
        pace: Literal["live", "replay"] = "live",
        file_timeout: float | None = None,
        max_documents: int = 10_000,
        max_bytes: int = 2**29,
        byte_budget: int = 2**30,
        handlers: Mapping[str, Callable[..., Any]] | None = None,
        scratch: str | Path | None = None,
        root_map: Mapping[str, str] | None = None,
        remote: RemoteFrames | None = None,
        runs: Lookup | None = None,
        supersedes: Supersedes | None = None,
    ) -> None:
        if pace not in ("live", "replay"):
            raise ValueError(f"pace {pace!r} does not exist; choose 'live' or 'replay'")
        self.recipes = recipes_of(recipe)
        self.pace = pace
        if file_timeout is None:
            file_timeout = 10.0 if pace == "live" else 0.0
        self._patience = Patience(file_timeout)
        # In the worker thread nothing else may end it, not even exit(); in a replay Ctrl-C and exit() are the caller's.
        self._survived: type[BaseException] = BaseException if pace == "live" else Exception
        self._subscribers: dict[int, Subscriber] = {}
        self._tokens = itertools.count()
        self._inbox = Inbox(max_documents, max_bytes)
        means = Means(
            patience=self._patience,
            handlers=dict(handlers or {}),
            byte_budget=byte_budget // len(self.recipes),
            scratch=scratch,
            root_map=root_map,
            remote=remote,
            runs=runs,
            supersedes=supersedes,
        )
        self._router = Router([Setup(each, means) for each in self.recipes], self._emit, self._inbox)
        self._lock = threading.RLock()
        self._worker: threading.Thread | None = None
        self._closed = False

    def __call__(self, name: str, doc: Mapping[str, Any]) -> None:
        """Take a document. Never raises."""
        try:
            if self._closed:
                LOGGER.warning("a %s document came after the reduction was closed", name)
            elif self.pace == "replay":
                with self._lock:
                    self._router.take(name, doc)
                    self._router.flush()
            else:
                self._inbox.put(name, doc)
                self._start_worker()
        except Exception:
            LOGGER.exception("a %s document could not be taken", name)

    def subscribe(self, callback: Subscriber) -> int:
        """Have `callback` called with (name, document) of every derived document.

        It is called in the thread that reduces. What it raises is logged, and others are still served. What is
        subscribed twice is called once, as by Bluesky's RunEngine.

        Returns
        -------
        int
            A token for `unsubscribe`.

        Raises
        ------
        TypeError
            If it cannot be called.
        """
        if not callable(callback):
            raise TypeError(f"subscribe: {callback!r} cannot be called with (name, document)")
        for token, known in self._subscribers.items():
            if known == callback:
                return token
        token = next(self._tokens)
        self._subscribers[token] = callback
        return token

    def unsubscribe(self, token: int) -> None:
        """Call the subscriber of this token no more."""
        self._subscribers.pop(token, None)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until all documents given so far are dealt with.

        Parameters
        ----------
        timeout
            Seconds; None waits as long as it takes.

        Returns
        -------
        bool
            Whether they are.
        """
        return self._inbox.wait(timeout)

    def close(self, timeout: float | None = None) -> bool:
        """Deal with what is queued, end the derived runs that are still open, and stop.

        Parameters
        ----------
        timeout
            Seconds; after that, files are no longer waited for, and the worker is left to itself. None waits.

        Returns
        -------
        bool
            Whether everything was done.
        """
        self._closed = True
        self._inbox.close()
        worker = self._worker
        if worker is None:
            with self._lock:
                self._router.finish()
            return True
        if worker is threading.current_thread():
            return False
        worker.join(timeout)
        if worker.is_alive():
            self._patience.hurry()
            LOGGER.warning("the reduction was left behind at its end; replay the run")
        return not worker.is_alive()

    def __enter__(self) -> Self:
        """Return itself; the end of the block closes it."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close."""
        self.close()

    def _start_worker(self) -> None:
        if self._worker is not None:
            return
        with self._lock:
            if self._worker is None:
                worker = threading.Thread(target=self._work, name="bluesky-powder-reduction", daemon=True)
                worker.start()
                self._worker = worker
                _close_at_exit(self)

    def _work(self) -> None:
        while (item := self._inbox.get()) is not None:
            try:
                self._router.take(*item)
                if self._inbox.is_empty:  # else there may be more frames to take together with these
                    self._router.flush()
            except self._survived:
                LOGGER.exception("a %s document could not be dealt with", item[0])
            finally:
                self._inbox.done()
        self._router.finish()

    def _emit(self, name: str, document: dict[str, Any]) -> None:
        for callback in list(self._subscribers.values()):
            try:
                callback(name, document)
            except self._survived:
                LOGGER.exception("the subscriber %r failed with a derived %s document", callback, name)


def _close_at_exit(reduction: PowderReduction) -> None:
    """Give the worker a moment at the interpreter's end, before thread pools are shut down."""
    reference = weakref.ref(reduction)

    def drain() -> None:
        alive = reference()
        if alive is not None:
            alive.close(AT_EXIT)

    # threading's own hook runs before concurrent.futures forbids work; atexit runs after.
    getattr(threading, "_register_atexit", atexit.register)(drain)
