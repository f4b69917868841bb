"""Darks within the run: a stream of their own, of which the latest before a frame is that frame's dark."""

import logging
import math
from bisect import bisect_right, insort
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Literal

import event_model

from azimuthal import AzimuthalError
from bluesky_powder.errors import FrameSkipped
from bluesky_powder.frames.darks.dark import DarkSource, without_dark
from bluesky_powder.frames.darks.mean import DarkMean
from bluesky_powder.frames.darks.store import DarkStore
from bluesky_powder.frames.frame import Frame, Skipped
from bluesky_powder.frames.run import RunFrames
from bluesky_powder.recipe import Recipe

LOGGER = logging.getLogger("bluesky_powder.frames")

REMEMBERED_DARKS = 4096

Document = Mapping[str, Any]


@dataclass(order=True, slots=True)
class _Taken:
    """One dark event: announced by its document, then read or failed; `told` is the number of that document."""

    time: float
    number: int
    told: int = field(compare=False)
    uid: str = field(compare=False)
    seq_num: int = field(compare=False)
    source: DarkSource | None = field(default=None, compare=False)
    reason: str = field(default="", compare=False)

    @property
    def pending(self) -> bool:
        return self.source is None and not self.reason


class StreamDarks:
    """The darks of one run's stream `dark`, such as bluesky-darkframes makes.

    Before and after is told by the times of events, so that it does not depend on the order of documents. Frames of a
    flight have no event: theirs is the last dark whose documents came before theirs, or the first of all. A frame waits
    where its dark is announced but not its images, and as long as no dark has come at all. The images of one dark event
    are averaged.

    Parameters
    ----------
    recipe
        What to do.
    frames
        That finds the dark images in the documents.
    store
        For their means.
    """

    def __init__(self, recipe: Recipe, frames: RunFrames, store: DarkStore) -> None:
        self._recipe = recipe
        self._policy: Literal["skip", "unsubtracted"] = recipe.corrections.missing_dark
        self._frames = frames
        self._store = store
        self._darks: list[_Taken] = []
        self._in_documents: list[_Taken] = []
        self._documents = 0
        self._numbers = count()
        self._served_until = -math.inf
        self._late = 0
        self._over = False

    def take(self, name: str, document: Document) -> bool:
        """Take a document of the run; return whether it was one of the dark stream."""
        told = self._documents + 1
        of_darks = self._frames.reduces(document.get("descriptor", document.get("uid", "")))
        if of_darks and name in ("event", "event_page"):
            for event in event_model.unpack_event_page(document) if name == "event_page" else (document,):
                self._announce(float(event["time"]), event["uid"], event["seq_num"], told)
        self._receive(self._frames.take(name, document))
        self._documents = told  # counted as the frames count them, who never see what was refused above
        return of_darks

    def decided(self, frame: Frame) -> bool:
        """Tell whether the dark of a frame is known by now, or that there is none."""
        if self._over:
            return True
        if not self._darks:
            return self._policy == "unsubtracted" and self._frames.stream is None
        dark = self._before(frame)
        return dark is None or not dark.pending

    def of(self, frame: Frame) -> DarkSource | None:
        """Return the dark of a frame; None where nothing is to be subtracted.

        Raises
        ------
        FrameSkipped
            If there is none, and the recipe does without.
        """
        dark = self._before(frame)
        if frame.event_uid:
            self._served_until = max(self._served_until, frame.time)
        if dark is not None and dark.source is not None:
            return dark.source
        if dark is None:
            without_dark(self._policy, f"there is no dark frame before it in the stream {self._frames.wanted.stream!r}")
        else:
            without_dark(self._policy, f"the dark frame before it cannot be used: {dark.reason}")
        return None

    def finish(self) -> list[str]:
        """Decide what is still open, now that the run is over; return what went wrong with darks."""
        self._over = True
        self._receive(self._frames.finish())
        for dark in self._darks:
            if dark.pending:
                dark.reason = "no document says where it is"
        if not self._late:
            return []
        return [f"{self._late} dark frames came after frames that were taken later; replay the run in order of time"]

    def close(self) -> None:
        """Close files and remove scratch files."""
        self._frames.close()
        self._store.close()

    def _before(self, frame: Frame) -> _Taken | None:
        if not frame.event_uid:
            at = bisect_right(self._in_documents, frame.told, key=lambda dark: dark.told)
            return self._in_documents[max(at - 1, 0)] if self._in_documents else None
        at = bisect_right(self._darks, frame.time, key=lambda dark: dark.time)
        return self._darks[at - 1] if at else None

    def _announce(self, time: float, uid: str, seq_num: int, told: int) -> _Taken:
        dark = _Taken(time, next(self._numbers), told, uid, seq_num)
        self._late += -math.inf < time <= self._served_until
        insort(self._darks, dark)
        insort(self._in_documents, dark, key=lambda dark: dark.told)
        for kept in (self._darks, self._in_documents):
            del kept[:-REMEMBERED_DARKS]
        return dark

    def _receive(self, items: Iterator[Frame | Skipped]) -> None:
        for item in items:
            if isinstance(item, Skipped):
                self._fail(item)
            else:
                self._read(item)

    def _fail(self, skipped: Skipped) -> None:
        for dark in reversed(self._darks):
            if dark.seq_num == skipped.seq_num and dark.pending:
                dark.reason = skipped.reason
                return
        LOGGER.warning("a dark frame cannot be used: %s", skipped.reason)

    def _read(self, frame: Frame) -> None:
        known = next((dark for dark in reversed(self._darks) if dark.uid == frame.event_uid), None)
        # A dark without an event has no time: it counts as older than any that has one.
        dark = known or self._announce(-math.inf, f"{frame.stream}/{frame.seq_num}", frame.seq_num, frame.told)
        mean = DarkMean(self._recipe)
        try:
            mean.add(frame.images.read())
            dark.source = self._store.put(dark.uid, mean.result())
        except (FrameSkipped, AzimuthalError) as reason:
            dark.reason = str(reason)
        except Exception as error:
            LOGGER.exception("the dark frame %s", dark.uid)
            dark.reason = f"unexpected {type(error).__name__}: {error}"
        if dark.reason:
            LOGGER.warning("the dark frame %d cannot be used: %s", dark.seq_num, dark.reason)
