"""What is seen of a replay: a bar for each run while it goes on, and a line for each derived run once it is over."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn


@dataclass
class Outcome:
    """What became of one derived run.

    Attributes
    ----------
    uid, raw_uid
        Of the derived run and of the raw one.
    detector
        Name of the detector; "" where the recipe has one.
    stop
        The derived run's stop document; empty until it comes.
    """

    uid: str
    raw_uid: str
    detector: str
    stop: Mapping[str, Any] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        """Whether nothing was reduced, or not all that there was."""
        return not self.stop.get("frames_reduced") or self.stop.get("exit_status") == "fail"


class Board:
    """Takes derived documents and shows how far things are.

    Parameters
    ----------
    console
        Where to show it.
    runs
        How many raw runs there are; with more than one, a bar counts them.

    Attributes
    ----------
    failures
        How often something failed.
    """

    def __init__(self, console: Console, runs: int) -> None:
        bars = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        self.progress = Progress(*bars, console=console, transient=True)
        self._overall = self.progress.add_task("runs replayed", total=runs, visible=runs > 1)
        self._tasks: dict[str, TaskID] = {}
        self._primary: dict[str, str] = {}
        self._outcomes: dict[str, Outcome] = {}
        self.failures = 0

    @property
    def outcomes(self) -> list[Outcome]:
        """What became of each derived run, in the order in which they began."""
        return list(self._outcomes.values())

    def begin(self, raw_uid: str, events: int | None) -> None:
        """Show a bar for a raw run.

        Parameters
        ----------
        raw_uid
            Of the run.
        events
            How many events are going to be reduced, all detectors together; None where nobody knows.
        """
        if raw_uid not in self._tasks:
            self._tasks[raw_uid] = self.progress.add_task(f"run {raw_uid[:8]}", total=events)

    def end(self, raw_uid: str) -> None:
        """Take a raw run's bar away, and say what became of it."""
        if raw_uid not in self._tasks:
            return
        self.progress.remove_task(self._tasks.pop(raw_uid))
        self.progress.advance(self._overall)
        outcomes = [outcome for outcome in self._outcomes.values() if outcome.raw_uid == raw_uid]
        for outcome in outcomes:
            self._say(outcome)
        if not outcomes:
            self.fail(f"run {raw_uid}", "it has no frames for this recipe")

    def end_all(self) -> None:
        """Take away the bars that are left; see `end`."""
        for raw_uid in list(self._tasks):
            self.end(raw_uid)

    def miss(self, what: str, reason: str) -> None:
        """Say that a raw run cannot be replayed at all."""
        self.progress.advance(self._overall)
        self.fail(what, reason)

    def fail(self, what: str, reason: str) -> None:
        """Say that something went wrong."""
        self.failures += 1
        told = reason if reason.startswith(what) else f"{what}: {reason}"
        self.progress.console.print(escape(told), style="red", soft_wrap=True)

    def __call__(self, name: str, document: Mapping[str, Any]) -> None:
        """Take a derived document."""
        if name == "start":
            outcome = Outcome(document["uid"], document["raw_uid"], document.get("detector") or "")
            self._outcomes[outcome.uid] = outcome
        elif name == "descriptor" and document["name"] == "primary":
            self._primary[document["uid"]] = self._outcomes[document["run_start"]].raw_uid
        elif name == "event" and document["descriptor"] in self._primary:
            self._advance(self._primary[document["descriptor"]], 1)
        elif name == "event_page" and document["descriptor"] in self._primary:
            self._advance(self._primary[document["descriptor"]], len(document["seq_num"]))
        elif name == "stop":
            self._outcomes[document["run_start"]].stop = document

    def _advance(self, raw_uid: str, events: int) -> None:
        if raw_uid in self._tasks:
            self.progress.advance(self._tasks[raw_uid], events)

    def _say(self, outcome: Outcome) -> None:
        stop = outcome.stop
        detector = f" ({outcome.detector})" if outcome.detector else ""
        frames = stop.get("frames_reduced", 0)
        told = f"{frames} frame{'' if frames == 1 else 's'} reduced"
        if stop.get("frames_skipped"):
            told += f", {stop['frames_skipped']} skipped"
        say = self.progress.console.print
        say(f"raw run {outcome.raw_uid} -> derived run {outcome.uid}{escape(detector)}: {told}", soft_wrap=True)
        self.failures += outcome.failed
        if stop.get("reason"):
            say(escape(f"    {stop['reason']}"), style="red" if outcome.failed else "yellow", soft_wrap=True)
