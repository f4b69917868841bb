"""Where the arrays of a derived run are stored: in Tiled as events bring them, or in files that Tiled is told of."""

import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlparse

logger = logging.getLogger("bluesky_powder.publish")

Storage = Literal["events", "file", "auto"]
Stored = Literal["events", "file"]

FAST = 10.0
"""Events a second above which patterns go to files."""
ENOUGH = 6
"""Events from which a run's rate is told."""
PATIENCE = 0.5
"""Seconds that documents are kept back at most, until there are enough events to tell."""
LONG = 500
"""Points from which a run counts as long: with arrays in events, Tiled's catalog grows as their square."""

_STAGE = "powder"


def is_derived(start: Mapping[str, Any]) -> bool:
    """Tell whether a start document is that of a run of our own making."""
    return start.get("analysis_stage") == _STAGE


class Choice:
    """Decides once a run, from its first patterns, as a stream's keys cannot change later.

    Runs of other kinds stay as they are. A derived run goes to files if the raw run has announced many points, or
    if its first patterns came quickly enough; else it stays with events.

    Parameters
    ----------
    wanted
        What the user wants.
    """

    def __init__(self, wanted: Storage) -> None:
        self._wanted = wanted
        self._primary: str | None = None
        self._stamps: list[float] = []
        self.made: Stored | None = "events" if wanted == "events" else None

    def start(self, start: Mapping[str, Any]) -> None:
        """Take the run's start document."""
        if not is_derived(start):
            self.made = "events"
        elif self.made is None and (self._wanted == "file" or _announced(start) >= LONG):
            self.made = "file"

    def take(self, name: str, document: Mapping[str, Any], stamp: float) -> None:
        """Take one of the documents that follow, and the time (s) at which it came."""
        if name == "descriptor" and document.get("name") == "primary":
            self._primary = document["uid"]
        elif name == "event" and document.get("descriptor") == self._primary:
            self._stamps.append(stamp)
        if self.made is not None:
            return
        if len(self._stamps) == ENOUGH:
            span = self._stamps[-1] - self._stamps[0]
            self.made = "file" if span * FAST <= ENOUGH - 1 else "events"
        elif name == "stop":
            self.made = "events"

    def settle(self, now: float) -> None:
        """Decide if it is time to, `now` being a time like the stamps."""
        if self.made is None and self.is_due(now):
            self.made = "events"

    def is_due(self, now: float) -> bool:
        """Tell whether no more events are waited for."""
        return bool(self._stamps) and now - self._stamps[0] >= PATIENCE


def shared_folder(arrays: Iterable[Any], run: str) -> Path | None:
    """Return the folder of a run that server and this process both have; None where there is none.

    Parameters
    ----------
    arrays
        Clients of arrays that the server has stored, with their data sources: it tells in which files. If those are
        files here as well, it may read what is put beside them.
    run
        Uid of the run.
    """
    for array in arrays:
        for source in array.data_sources() or []:
            for asset in source.assets:
                folder = _here(str(asset.data_uri), run)
                if folder is not None:
                    return folder
    return None


def _here(uri: str, run: str) -> Path | None:
    parsed = urlparse(uri)
    path = Path(unquote(parsed.path))
    if parsed.scheme != "file" or not path.exists():
        return None
    folder = next((parent for parent in path.parents if parent.name == run), None)
    return folder if folder is not None and os.access(folder, os.W_OK | os.X_OK) else None


def _announced(start: Mapping[str, Any]) -> int:
    points = start.get("raw_num_points")
    return points if isinstance(points, int) else 0
