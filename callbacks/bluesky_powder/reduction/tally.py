"""Keeping count: frames seen, reduced and skipped, and why."""

import logging
from dataclasses import dataclass, field
from typing import Any, Literal

LOGGER = logging.getLogger("bluesky_powder.reduction")

MOST_REASONS = 20
MOST_SEQ_NUMS = 10
LONGEST = 1000
"""Characters of one reason."""
STANDS_IN = "stands_in_for_the_run_s_own"
"""Key of a stop document that was made because none came; its reason says why none did."""
OTHER = "other reasons (see the log)"

ExitStatus = Literal["success", "abort", "fail"]


@dataclass
class Reason:
    """Why frames were skipped, how many, and the first of them."""

    frames: int = 0
    seq_nums: list[int] = field(default_factory=list)


class Tally:
    """Counts of one run.

    Parameters
    ----------
    run
        Uid of the raw run, for the log.
    """

    def __init__(self, run: str) -> None:
        self.run = run
        self.seen = 0
        self.reduced = 0
        self.skipped = 0
        self.replaced = 0
        self.events_skipped = 0
        self.troubles: list[str] = []
        self._reasons: dict[str, Reason] = {}

    def take(self, count: int) -> None:
        """Count frames that were reduced."""
        self.seen += count
        self.reduced += count

    def replace(self, count: int) -> None:
        """Count frames that took the place of earlier ones of the same seq_num."""
        self.replaced += count

    def skip(self, seq_num: int | None, count: int, reason: str) -> None:
        """Count frames that were skipped; a reason is a warning the first time, debug after that."""
        reason = _short(reason)
        self.seen += count
        self.skipped += count
        self.events_skipped += 1 if seq_num is not None else count
        level = logging.DEBUG if reason in self._reasons else logging.WARNING
        LOGGER.log(level, "run %s, event %s skipped: %s", self.run[:8], seq_num, reason)
        if reason not in self._reasons and len(self._reasons) >= MOST_REASONS:
            reason = OTHER
        entry = self._reasons.setdefault(reason, Reason())
        entry.frames += count
        if seq_num is not None and len(entry.seq_nums) < MOST_SEQ_NUMS:
            entry.seq_nums.append(seq_num)

    def trouble(self, what: str) -> None:
        """Note something that went wrong with the run rather than with a frame, and log it at once."""
        what = _short(what)
        LOGGER.warning("run %s: %s", self.run[:8], what)
        self.note(what)

    def note(self, what: str) -> None:
        """Note something that the end of the run is to tell."""
        what = _short(what)
        if what not in self.troubles and len(self.troubles) < MOST_REASONS:
            self.troubles.append(what)

    def verdict(self, raw_stop: dict[str, Any] | None) -> tuple[ExitStatus, str]:
        """Return exit status and reason of the derived run.

        Parameters
        ----------
        raw_stop
            The raw run's stop document; None when it never came.
        """
        parts = []
        status: ExitStatus = "success"
        if raw_stop is None:
            status = "abort"
            parts.append("the reduction was closed before the raw run ended")
        elif raw_stop.get("exit_status", "success") != "success":
            status = "abort" if raw_stop["exit_status"] == "abort" else "fail"
            why = _short(raw_stop.get("reason") or "no reason given")
            ended = f"the raw run ended with {raw_stop['exit_status']!r}"
            parts.append(f"{'there is no stop document' if STANDS_IN in raw_stop else ended}: {why}")
        if self.skipped:
            parts.append(f"{self.skipped} of {self.seen} frames were skipped: {self._worst()}")
        elif self.events_skipped:  # they had no frame to count
            events = "1 event was" if self.events_skipped == 1 else f"{self.events_skipped} events were"
            parts.append(f"{events} skipped: {self._worst()}")
        parts.extend(self.troubles)
        if not self.reduced:
            status = "fail" if status == "success" else status
            if not (self.seen or self.events_skipped or self.troubles):
                parts.append("the run has no frames")
        return status, "; ".join(parts)

    def as_document(self) -> dict[str, Any]:
        """Return the counts as they stand in the derived stop document."""
        return {
            "frames_seen": self.seen,
            "frames_reduced": self.reduced,
            "frames_skipped": self.skipped,
            "frames_replaced": self.replaced,
            "skip_reasons": [
                {"reason": text, "frames": reason.frames, "seq_nums": list(reason.seq_nums)}
                for text, reason in self._reasons.items()
            ],
        }

    def _worst(self) -> str:
        """Return the commonest reasons in one sentence."""
        ordered = sorted(self._reasons.items(), key=lambda item: -item[1].frames)
        told = [f"{text} ({reason.frames}×)" if reason.frames else text for text, reason in ordered[:3]]
        more = [f"{len(ordered) - 3} more reasons"] if len(ordered) > 3 else []
        return ", ".join([*told, *more])


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
