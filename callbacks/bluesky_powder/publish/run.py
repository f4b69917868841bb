"""What is known of a run on its way to Tiled."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bluesky_powder.publish.delivery import Delivery, RowsDoubledError
from bluesky_powder.publish.journal import Journal

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 15.0


@dataclass(frozen=True)
class PublishFailure:
    """A run that is not in Tiled, or not whole.

    Attributes
    ----------
    run
        Its uid.
    reason
        Why.
    documents
        File in which all its documents are (or will be, once the run ends); None when some are lost.
    """

    run: str
    reason: str
    documents: Path | None

    def __str__(self) -> str:
        where = f"; its documents are in {self.documents}" if self.documents else ""
        return f"run {self.run} is not whole in Tiled: {self.reason}{where}"


@dataclass
class Run:
    """One run.

    Attributes
    ----------
    uid
        Of the run.
    journal
        Its documents; None before the first.
    written, stopped
        How many documents are in the journal; whether its stop is.
    lost
        How many documents did not get into the journal.
    delivered
        How many are in Tiled.
    delivery
        What writes them; None before the first, and when the run has to be written anew.
    tries, pause, not_before
        How often it was begun in vain; how long to wait before the next time, s; when that is (monotonic clock).
    given_up
        Whether no further try is made.
    """

    uid: str
    journal: Journal | None = None
    written: int = 0
    stopped: bool = False
    lost: int = 0
    delivered: int = 0
    delivery: Delivery | None = None
    tries: int = 0
    pause: float = FIRST_PAUSE
    not_before: float = 0.0
    given_up: bool = False

    @property
    def outstanding(self) -> int:
        """How many documents are to be delivered."""
        return 0 if self.given_up else self.written - self.delivered

    def begin_anew(self, now: float) -> None:
        """Make ready to be written from the first document again, after a pause."""
        self.delivery, self.delivered = None, 0
        self.not_before = now + self.pause
        self.pause = min(2 * self.pause, LONGEST_PAUSE)


@dataclass(frozen=True)
class Entry:
    """A document that waits to be written to its run's journal."""

    run: Run
    name: str
    document: dict[str, Any] = field(repr=False)


def say_lost(stop: dict[str, Any], lost: int) -> None:
    """Make a stop document say that documents were lost."""
    said = f"{lost} documents were lost before Tiled"
    stop["exit_status"] = "fail"
    stop["reason"] = f"{stop['reason']}; {said}" if stop.get("reason") else said


def is_away(error: Exception) -> bool:
    """Tell whether Tiled could not be reached: a state that may last, and then end."""
    import httpx

    return isinstance(error, httpx.TransportError | ConnectionError | TimeoutError)


def may_pass(error: Exception) -> bool:
    """Tell whether an error may be gone when the run is written anew."""
    import httpx

    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code >= 500 or error.response.status_code == 429
    return isinstance(error, RowsDoubledError)


def in_one_line(error: Exception) -> str:
    """Return an error in one line."""
    import httpx

    if isinstance(error, httpx.HTTPStatusError) and error.response.status_code == 409:
        return "a run of this uid is in Tiled already"
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
