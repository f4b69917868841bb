"""Documents to the run that they belong to, also when runs interleave."""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bluesky_powder.frames.darks.runs import DarkRun
from bluesky_powder.frames.legal import KNOWN, DocumentError, checked, not_understood, shown
from bluesky_powder.reduction.documents import Emit
from bluesky_powder.reduction.inbox import Inbox
from bluesky_powder.reduction.run import RunReduction
from bluesky_powder.reduction.setup import Setup

LOGGER = logging.getLogger("bluesky_powder.reduction")

LOST = (
    "the reduction was behind and its queue full ({documents} documents, {megabytes:g} MB of arrays); "
    "replay the run, or raise max_documents and max_bytes"
)
OUTDATED = {
    "bulk_events": "event_model.bulk_events_to_event_pages turns what is in it into event_page documents",
    "bulk_datum": "event_model.bulk_datum_to_datum_page turns it into a datum_page document",
}
"""Kinds that nothing makes any more, and what to do with those of old files."""
MOST_UNKNOWN = 1000
"""Descriptors that have not come, of which documents are counted."""


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

    def trouble(self, what: str) -> None:
        """Note something that went wrong with the run."""
        for reduction in self.reductions:
            reduction.trouble(what)

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
        self._unknown: Counter[str] = Counter()

    def take(self, name: str, document: Mapping[str, Any]) -> None:
        """Hand a document to its run; start and stop documents open and end one. Never raises."""
        try:
            legal = checked(name, document)
            if name in OUTDATED:
                self._complain(name, document, f"a {name} document: it is outdated; {OUTDATED[name]}")
                return
            if name not in KNOWN:
                LOGGER.debug("a document of the unknown kind %s passes by", shown(name))
                return
            for complaint in legal.complaints:
                self._complain(name, document, f"a {name} document: {complaint}")
            self._route(name, legal.document)
        except DocumentError as error:
            self._complain(name, document, not_understood(name, error))
        except Exception as error:
            LOGGER.exception("a malformed %s document", name)
            self._complain(name, document, not_understood(name, error))

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

    def _route(self, name: str, document: Mapping[str, Any]) -> None:
        if name == "start":
            self._open(document)
        elif name == "stop":
            self._end(document)
        else:
            for run in self._runs_for(name, document):
                run.take(name, document)

    def _complain(self, name: str, document: Any, what: str) -> None:
        """Note what is wrong with a document in its run, as far as that can be told; else in the log."""
        run = None
        if isinstance(document, Mapping):
            if isinstance(uid := document.get("run_start"), str):
                run = self._runs.get(uid)
            for key in ("descriptor", "stream_resource", "resource"):
                if run is None and isinstance(uid := document.get(key), str):
                    run = self._runs.get(self._run_of.get(uid, ""))
        if run is None and len(self._runs) == 1 and name != "start":
            (run,) = self._runs.values()
        if run is None:
            LOGGER.warning("%s", what)
        else:
            run.trouble(what)

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
        if name == "descriptor":
            owner: str | None = self._describe(document)
        elif name in ("stream_resource", "resource"):
            owner = document.get("run_start")
            if owner is None:
                return list(self._runs.values())  # old Resources do not say; their Datums are asked for by events
            if owner in self._runs:
                self._run_of[document["uid"]] = owner
        elif name in ("datum", "datum_page"):
            owner = self._run_of.get(document["resource"])
            if owner is None:
                return list(self._runs.values())
        else:
            owner = self._run_of.get(document["descriptor"])
            if owner is None:
                self._note_unknown(name, document["descriptor"])
        run = self._runs.get(str(owner))
        return [run] if run is not None else []

    def _describe(self, descriptor: Mapping[str, Any]) -> str | None:
        """Note whose a descriptor is; return None where it is not to be used."""
        uid, owner = descriptor["uid"], str(descriptor["run_start"])
        run, known = self._runs.get(owner), self._run_of.get(uid)
        if run is None:
            LOGGER.debug("a descriptor of the unknown run %s passes by", shown(owner))
            return None
        if known == owner:
            LOGGER.debug("run %s: its descriptor %s came again and is ignored", owner[:8], shown(uid))
            return None
        if known is not None:
            run.trouble(
                f"its descriptor has the uid {shown(uid)}, which is that of a descriptor of the run {known[:8]}"
            )
            return None
        self._run_of[uid] = owner
        early = self._unknown.pop(uid, 0)
        if early:
            run.trouble(f"{early} documents came before their descriptor; they are left out")
        return owner

    def _note_unknown(self, name: str, descriptor: str) -> None:
        LOGGER.debug("a document (%s) of the unknown descriptor %s passes by", name, shown(descriptor))
        self._unknown[descriptor] += 1
        if len(self._unknown) > MOST_UNKNOWN:
            del self._unknown[next(iter(self._unknown))]
