"""Darks that are runs of their own, which the start documents of other runs name."""

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from azimuthal import AzimuthalError
from bluesky_powder.errors import FrameSkipped
from bluesky_powder.frames.darks.dark import Dark, DarkSource, HeldDark, KnownDark, images_only, without_dark
from bluesky_powder.frames.darks.mean import DarkMean
from bluesky_powder.frames.frame import Frame, Skipped, Wanted
from bluesky_powder.frames.run import RunFrames
from bluesky_powder.recipe import Recipe

LOGGER = logging.getLogger("bluesky_powder.frames")

NOT_DARKS = "baseline"

Document = Mapping[str, Any]
Lookup = Callable[[str], Iterable[tuple[str, Document]]]
OpenFrames = Callable[[Wanted, str], RunFrames]


class DarkRun:
    """A run that may be dark: the mean of its images, whichever stream they are in.

    Parameters
    ----------
    recipe
        What to do.
    uid
        Of the run.
    open_frames
        Makes what finds frames in a run's documents.
    """

    def __init__(self, recipe: Recipe, uid: str, open_frames: OpenFrames) -> None:
        self.uid = uid
        self._mean = DarkMean(recipe)
        self._wanted = Wanted.by(recipe)
        self._open_frames = open_frames
        self._frames: RunFrames | None = None
        self._reason = "it has no images under this data key"

    def take(self, name: str, document: Document) -> None:
        """Take a document of the run. Never raises."""
        try:
            if name == "descriptor" and self._frames is None and self._has_images(document):
                stream = str(document.get("name", "primary"))
                self._frames = self._open_frames(images_only(self._wanted, stream), self.uid)
            if self._frames is not None:
                self._add(self._frames.take(name, document))
        except Exception as error:
            self._note(f"a {name} document was not understood ({type(error).__name__}: {error})")

    def finish(self) -> None:
        """Take what still waits, and close all files. Never raises."""
        if self._frames is not None:
            try:
                self._add(self._frames.finish())
            except Exception as error:
                self._note(f"its end was not understood ({type(error).__name__}: {error})")
            self._frames.close()

    def dark(self) -> Dark:
        """Return the mean of the images.

        Raises
        ------
        FrameSkipped
            If there is none.
        """
        if not self._mean.images:
            raise FrameSkipped(f"the dark run {self.uid[:8]} cannot be used: {self._reason}")
        return self._mean.result()

    def _has_images(self, descriptor: Document) -> bool:
        return self._wanted.frames in descriptor["data_keys"] and descriptor.get("name") != NOT_DARKS

    def _add(self, items: Iterable[Frame | Skipped]) -> None:
        for item in items:
            if isinstance(item, Skipped):
                self._note(item.reason)
                continue
            try:
                self._mean.add(item.images.read())
            except (FrameSkipped, AzimuthalError) as reason:
                self._note(str(reason))

    def _note(self, reason: str) -> None:
        self._reason = reason
        LOGGER.warning("the dark run %s: %s", self.uid[:8], reason)


class DarkRuns:
    """The dark runs of a session: those that passed by, and those that were looked up.

    Parameters
    ----------
    recipe
        What to do.
    lookup
        Uid -> the run's documents; None where there is no such place.
    open_frames
        Makes what finds frames in a run's documents.
    byte_budget
        What remembered darks may occupy; the one used longest ago goes first.
    """

    def __init__(
        self, recipe: Recipe, lookup: Lookup | None, open_frames: OpenFrames, *, byte_budget: int = 2**29
    ) -> None:
        self._recipe = recipe
        self._lookup = lookup
        self._open_frames = open_frames
        self._byte_budget = byte_budget
        self._darks: OrderedDict[str, Dark] = OrderedDict()

    def watch(self, uid: str) -> DarkRun:
        """Return what takes the documents of a run that may turn out to be a dark one; then `remember` it."""
        return DarkRun(self._recipe, uid, self._open_frames)

    def remember(self, run: DarkRun) -> None:
        """Keep the mean of a run; one without images is nothing to keep."""
        run.finish()
        try:
            self._darks[run.uid] = run.dark()
        except FrameSkipped as reason:
            LOGGER.debug("%s", reason)
            return
        while len(self._darks) > 1 and sum(dark.nbytes for dark in self._darks.values()) > self._byte_budget:
            self._darks.popitem(last=False)

    def dark(self, uid: str) -> Dark:
        """Return the mean of a dark run.

        Raises
        ------
        FrameSkipped
            If it is not to be had.
        """
        if uid not in self._darks:
            run = self._looked_up(uid)
            self.remember(run)
            return run.dark()
        self._darks.move_to_end(uid)
        return self._darks[uid]

    def _looked_up(self, uid: str) -> DarkRun:
        if self._lookup is None:
            raise FrameSkipped(
                f"the dark run {uid[:8]} did not pass by in this session; give `runs`, a function that returns the "
                "documents of a run, to PowderReduction or replay"
            )
        run = self.watch(uid)
        try:
            for name, document in self._lookup(uid):
                run.take(name, document)
        except Exception as error:
            run.finish()
            raise FrameSkipped(f"the dark run {uid[:8]} could not be had: {type(error).__name__}: {error}") from error
        return run


class NamedDark(KnownDark):
    """The dark of one run whose start document names a dark run.

    Parameters
    ----------
    recipe
        That says under which key.
    start
        The start document.
    runs
        That know dark runs.
    key
        Of the start document.
    """

    def __init__(self, recipe: Recipe, start: Document, runs: DarkRuns, key: str) -> None:
        self._policy: Literal["skip", "unsubtracted"] = recipe.corrections.missing_dark
        self._uid = start.get(key)
        self._runs = runs
        self._source: DarkSource | None = None
        self._reason = ""
        if not isinstance(self._uid, str) or not self._uid:
            named = f"has {self._uid!r} as" if self._uid else "has no"
            self._reason = f"the start document {named} {key!r}, which should be the uid of a dark run"
        elif self._uid == start.get("uid"):
            self._reason = f"the start document names its own run under {key!r}, which should be the uid of a dark run"

    def of(self, frame: Frame) -> DarkSource | None:  # noqa: ARG002
        """Return the dark, looked for once a run; None where nothing is to be subtracted.

        Raises
        ------
        FrameSkipped
            If there is none, and the recipe does without.
        """
        if self._source is None and not self._reason:
            try:
                self._source = HeldDark(str(self._uid), self._runs.dark(str(self._uid)))
            except FrameSkipped as reason:
                self._reason = str(reason)
        if self._source is None:
            without_dark(self._policy, self._reason)
        return self._source
