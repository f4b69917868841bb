"""Documents to the run that they belong to, also when runs interleave."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bluesky_powder.frames.dark_runs import DarkRun
from bluesky_powder.reduction.documents import Emit
from bluesky_powder.reduction.inbox import Inbox
from bluesky_powder.reduction.run import RunReduction
from bluesky_powder.reduction.setup import Setup

LOGGER = logging.getLogger("bluesky_powder.reduction")

LOST = (
    "the reduction was behind and its queue full ({documents} documents, {megabytes:g} MB of arrays); "
    "replay the run, or raise max_documents and max_bytes"
)


@dataclass(frozen=True)
class OpenRun:
    """What takes the documents of one raw run.

    Attributes
    ----------
    reductions
        One a detector.
    watched
        Setups for which it may be a dark run, with what averages its images.
    """

    reductions: list[RunReduction]
    watched: list[tuple[Setup, DarkRun]]

    def take(self, name: str, document: Mapping[str, Any]) -> None:
        """Hand a document on. Never raises."""
        for _, dark_run in self.watched:
            dark_run.take(name, document)
        for reduction in self.reductions:
            reduction.take(name, document)

    def finish(self, stop: dict[str, Any] | None) -> None:
        """End everything. A detector that the run lacks is told of only where it lacks them all."""
        for setup, dark_run in self.watched:
            setup.remember(dark_run)
        found = [reduction.found_frames for reduction in self.reductions]
        for at, reduction in enumerate(self.reductions):
            reduction.finish(stop, "tell" if found[at] or not (at or any(found)) else "pass")


class Router:
    """Holds the runs that are open.

    Parameters
    ----------
    setups
        What the reductions of each detector share.
    emit
        Takes the derived documents.
    inbox
        That knows which documents found no room.
    """

    def __init__(self, setups: Sequence[Setup], emit: Emit, inbox: Inbox) -> None:
        self._setups = setups
        self._emit = emit
        self._inbox = inbox
        self._runs: dict[str, OpenRun] = {}
        self._run_of: dict[str, str] = {}

    def take(self, name: str, document: Mapping[str, Any]) -> None:
        """Hand a document to its run; start and stop documents open and end one. Never raises."""
        try:
            if name == "start":
                self._open(document)
            elif name == "stop":
                self._end(document)
            else:
                for run in self._runs_for(name, document):
                    run.take(name, document)
        except Exception as error:
            LOGGER.exception("a malformed %s document", name)
            if len(self._runs) == 1:
                (run,) = self._runs.values()
                for reduction in run.reductions:
                    reduction.trouble(f"a {name} document was not understood ({type(error).__name__}: {error})")

    def flush(self) -> None:
        """Have reduced what is ready. Never raises."""
        for run in self._runs.values():
            for reduction in run.reductions:
                try:
                    reduction.flush()
                except Exception as error:
                    LOGGER.exception("run %s", reduction.uid[:8])
                    reduction.trouble(f"frames could not be reduced ({type(error).__name__}: {error})")

    def finish(self) -> None:
        """End all runs that are open, without their stop documents."""
        for uid in list(self._runs):
            self._close(uid, None)

    def _open(self, start: Mapping[str, Any]) -> None:
        uid = str(start["uid"])
        if "analysis_stage" in start and start["analysis_stage"] != "raw":
            LOGGER.debug("run %s is derived (%s); it passes by", uid[:8], start["analysis_stage"])
        elif uid in self._runs:
            LOGGER.warning("run %s began twice; the second start document is ignored", uid[:8])
        else:
            self._runs[uid] = OpenRun(list(self._reductions(start)), list(self._watched(start)))

    def _reductions(self, start: Mapping[str, Any]) -> Iterator[RunReduction]:
        for setup in self._setups:
            if setup.is_dark(start):
                LOGGER.debug("run %s is dark; its images are kept for others", str(start["uid"])[:8])
            else:
                yield RunReduction(start, setup, self._emit)

    def _watched(self, start: Mapping[str, Any]) -> Iterator[tuple[Setup, DarkRun]]:
        for setup in self._setups:
            dark_run = setup.watch(start)
            if dark_run is not None:
                yield setup, dark_run

    def _end(self, stop: Mapping[str, Any]) -> None:
        uid = stop.get("run_start")
        if uid in self._runs:
            self._close(str(uid), dict(stop))
        else:
            LOGGER.debug("a stop document of the unknown run %s", uid)

    def _close(self, uid: str, stop: dict[str, Any] | None) -> None:
        run = self._runs.pop(uid)
        mine = [key for key, owner in self._run_of.items() if owner == uid]
        for key in mine:
            del self._run_of[key]
        reason = LOST.format(documents=self._inbox.max_documents, megabytes=self._inbox.max_bytes / 1e6)
        for key in mine:
            lost = self._inbox.take_lost(key)
            for reduction in run.reductions:
                reduction.lose(key, lost, reason)
        run.finish(stop)

    def _runs_for(self, name: str, document: Mapping[str, Any]) -> list[OpenRun]:
        """Return the run of a document: by what it refers to, noted when that came; unknown ones are nobody's."""
        if name in ("descriptor", "stream_resource", "resource"):
            owner = document.get("run_start")
            if owner is None and name != "descriptor":
                return list(self._runs.values())  # old Resources do not say; their Datums are asked for by events
            if owner in self._runs:
                self._run_of[document["uid"]] = str(owner)
        elif name in ("datum", "datum_page"):
            owner = self._run_of.get(document["resource"])
            if owner is None:
                return list(self._runs.values())
        else:
            owner = self._run_of.get(document.get("descriptor", ""))
        run = self._runs.get(str(owner))
        return [run] if run is not None else []
