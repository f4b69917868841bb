"""What the reductions of all runs share, and what each run gets of its own by it."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bluesky_powder.frames import Patience, RunFrames, Wanted
from bluesky_powder.frames.darks.dark import Darks, OneDark, images_only
from bluesky_powder.frames.darks.runs import DarkRun, DarkRuns, NamedDark
from bluesky_powder.frames.darks.store import DarkStore
from bluesky_powder.frames.darks.stream import StreamDarks
from bluesky_powder.frames.images.remote import RemoteFrames
from bluesky_powder.recipe import Recipe
from bluesky_powder.recipe.darks import DarkFromRun, DarkFromStream
from bluesky_powder.reduction.patterns import FrameReducer

LOGGER = logging.getLogger("bluesky_powder.reduction")

Lookup = Callable[[str], Iterable[tuple[str, Mapping[str, Any]]]]
"""Uid of a raw run -> its documents, (name, document)."""

Supersedes = Callable[[str, str | None], Sequence[str] | None]
"""Uid of a raw run and name of a detector -> uids of their earlier derived runs."""

DARK_SHARE = 4
"""The part of the byte budget that darks may occupy is one over this."""


@dataclass(frozen=True)
class Means:
    """How frames are come by, and where things go; the same for all detectors.

    Attributes
    ----------
    patience
        How long to wait for files.
    handlers
        Spec -> handler class for Resource documents.
    byte_budget
        What integrators of one detector, and pixel sums of one run, may occupy.
    scratch
        Folder for scratch files; None for the system's.
    root_map
        Folder as the documents have it -> the same folder on this machine.
    remote
        Asked for frames whose file is not on this machine.
    runs
        Looks up dark runs.
    supersedes
        Looks up earlier derived runs.
    """

    patience: Patience
    handlers: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    byte_budget: int = 2**30
    scratch: str | Path | None = None
    root_map: Mapping[str, str] | None = None
    remote: RemoteFrames | None = None
    runs: Lookup | None = None
    supersedes: Supersedes | None = None

    def frames(self, wanted: Wanted, run: str) -> RunFrames:
        """Return what finds frames in a run's documents."""
        return RunFrames(wanted, run, self.patience, self.handlers, root_map=self.root_map, remote=self.remote)


class Setup:
    """What the reductions of one detector share, whatever the run.

    Parameters
    ----------
    recipe
        What to do.
    means
        How.

    Attributes
    ----------
    reducer
        Does it.
    """

    def __init__(self, recipe: Recipe, means: Means) -> None:
        self.recipe = recipe
        self.means = means
        self.reducer = FrameReducer(recipe, byte_budget=means.byte_budget)
        self._dark_runs: DarkRuns | None = None
        if isinstance(recipe.corrections.dark, DarkFromRun):
            budget = means.byte_budget // DARK_SHARE
            self._dark_runs = DarkRuns(recipe, means.runs, means.frames, byte_budget=budget)

    def frames(self, run: str) -> RunFrames:
        """Return what finds the recipe's frames in the documents of a run."""
        return self.means.frames(Wanted.by(self.recipe), run)

    def darks(self, start: Mapping[str, Any]) -> Darks:
        """Return what knows the darks of a run."""
        dark, means = self.recipe.corrections.dark, self.means
        if isinstance(dark, DarkFromStream):
            wanted = images_only(Wanted.by(self.recipe), dark.stream)
            store = DarkStore(byte_budget=means.byte_budget // DARK_SHARE, scratch=means.scratch)
            return StreamDarks(self.recipe, means.frames(wanted, str(start["uid"])), store)
        if isinstance(dark, DarkFromRun) and self._dark_runs is not None:
            return NamedDark(self.recipe, start, self._dark_runs, dark.run)
        return OneDark(self.recipe)

    def may_be_dark(self, start: Mapping[str, Any]) -> bool:
        """Tell whether a run may be a dark one for others: one that names no dark itself."""
        dark = self.recipe.corrections.dark
        return isinstance(dark, DarkFromRun) and not start.get(dark.run)

    def is_dark(self, start: Mapping[str, Any]) -> bool:
        """Tell whether a run says that it is a dark one, as xpdAcq's do, and is not to be reduced itself."""
        return self.may_be_dark(start) and bool(start.get("dark_frame") or start.get("is_dark"))

    def watch(self, start: Mapping[str, Any]) -> DarkRun | None:
        """Return what takes the documents of a run that may be a dark one; None where it is not."""
        if self._dark_runs is None or not self.may_be_dark(start):
            return None
        return self._dark_runs.watch(str(start["uid"]))

    def remember(self, run: DarkRun) -> None:
        """Keep a dark run that is over."""
        if self._dark_runs is not None:
            self._dark_runs.remember(run)

    def superseded(self, run: str) -> list[str]:
        """Return the uids of earlier derived runs of this raw run and detector, as far as anyone knows them."""
        if self.means.supersedes is None:
            return []
        try:
            return [str(uid) for uid in self.means.supersedes(run, self.recipe.detector) or ()]
        except Exception:
            LOGGER.exception("run %s: earlier derived runs could not be looked up", run[:8])
            return []
