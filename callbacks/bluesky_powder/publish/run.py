"""What is known of a run on its way to Tiled."""

from dataclasses import dataclass, field
from typing import Any

from bluesky_powder.publish.delivery import Delivery
from bluesky_powder.publish.journal import Journal
from bluesky_powder.publish.state import RunState
from bluesky_powder.publish.storage import Storage

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 15.0


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
    read, delivered
        How many were read from the journal to be delivered; how many of them are in Tiled.
    delivery
        What writes them; None before the first, and when the run has to be written anew.
    tries, pause, not_before
        How often it was begun in vain; how long to wait before the next time, s; when that is (monotonic clock).
    given_up
        Whether no further try is made.
    adopted
        Whether an earlier process left it.
    storage
        Where its arrays are to go; None as the publisher's.
    trouble
        Why it has to be written anew; None where it has not.
    """

    uid: str
    journal: Journal | None = None
    written: int = 0
    stopped: bool = False
    lost: int = 0
    read: int = 0
    delivered: int = 0
    delivery: Delivery | None = None
    tries: int = 0
    pause: float = FIRST_PAUSE
    not_before: float = 0.0
    given_up: bool = False
    adopted: bool = False
    storage: Storage | None = None
    trouble: str | None = None

    @property
    def unread(self) -> int:
        """How many documents are in the journal only."""
        return 0 if self.given_up else self.written - self.read

    @property
    def state(self) -> RunState:
        """What is to be shown of it."""
        return RunState(
            self.uid,
            self.written,
            self.delivered,
            self.delivery.stored if self.delivery else None,
            self.adopted,
            self.journal.in_memory if self.journal else 0,
            self.trouble,
        )

    @property
    def outstanding(self) -> int:
        """How many documents are to be delivered."""
        return 0 if self.given_up else self.written - self.delivered

    def begin_anew(self, now: float, trouble: str) -> None:
        """Make ready to be written from the first document again, after a pause."""
        if self.delivery is not None:
            self.delivery.discard()
        self.delivery, self.read, self.delivered, self.trouble = None, 0, 0, trouble
        self.not_before = now + self.pause
        self.pause = min(2 * self.pause, LONGEST_PAUSE)


@dataclass(frozen=True)
class Entry:
    """A document that waits to be written to its run's journal, and when it came (s of `time.time`)."""

    run: Run
    name: str
    document: dict[str, Any] = field(repr=False)
    came: float


def say_lost(stop: dict[str, Any], lost: int) -> None:
    """Make a stop document say that documents were lost."""
    said = f"{lost} documents were lost before Tiled"
    stop["exit_status"] = "fail"
    stop["reason"] = f"{stop['reason']}; {said}" if stop.get("reason") else said
