"""Following a derived run.

Tiled pushes an event's arrays, and then its row in the table: both are taken from the messages, so that nothing has to
be fetched. What messages do not tell is read: what came before a late subscriber or while a connection was down, and
sums that are in files. Rows are counted, so that none is told twice and none is left out.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from azimuthal.pattern import Pattern
from bluesky_powder.live.rows import Rows
from bluesky_powder.live.socket import Closed, Stream

logger = logging.getLogger("bluesky_powder.live")

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 3.0
TICK = 0.5
"""Seconds after which it is looked whether to stop."""
IDLE, LONGEST_IDLE = 2.5, 10.0
"""Seconds without a message after which it is looked whether there is more than was told; longer from look to look."""
NOT_YET = 0.2
"""Seconds between looks at a run that has no frame yet."""
REMEMBERED = 1000
"""Rows that are known again when they are pushed after they were read."""


@dataclass(frozen=True, eq=False)
class Update:
    """What is new in a run.

    Attributes
    ----------
    run
        Uid of the derived run.
    seq_num
        Number of the raw event; one that comes again, after a pause, replaces the first.
    values
        The event's numbers by data key, `spottiness` and positions among them.
    pattern
        Its pattern, whole.
    """

    run: str
    seq_num: int
    values: Mapping[str, Any] = field(repr=False)
    pattern: Pattern


class Silence:
    """What is thought of a stream that has no message."""

    def __init__(self) -> None:
        self._lasted, self._patience, self._suspicious = 0.0, IDLE, False

    def is_to_be_looked_into(self, seconds: float) -> bool:
        """Tell whether it has lasted long enough, after so many seconds more; from then on it begins again."""
        self._lasted += seconds
        if self._lasted < self._patience:
            return False
        self._lasted, self._patience = 0.0, min(2 * self._patience, LONGEST_IDLE)
        return True

    def hides(self, more: bool) -> bool:
        """Tell whether rows are not pushed, as the stream is that of a run that was written again since.

        Rows that are stored may be on their way at this moment; not so if they are still at the next look.
        """
        hidden = more and self._suspicious
        self._suspicious = more
        if more:
            self._patience = 2 * TICK
        return hidden


class Following:
    """A run that is being followed, in a thread of its own; `follow` makes it.

    Parameters
    ----------
    run
        The run.
    callback
        Takes each Update, in order, in that thread. What it raises is logged.
    """

    def __init__(self, run: Any, callback: Callable[[Update], Any]) -> None:
        self._run, self._callback = run, callback
        self._uid = str(run.metadata["start"]["uid"])
        self._rows = Rows(run)
        self._told = 0
        self._recent: deque[tuple[int, str]] = deque(maxlen=REMEMBERED)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._follow, name=f"follow-{self._uid[:8]}", daemon=True)
        self._thread.start()

    @property
    def ended(self) -> bool:
        """Whether all is told, or following was stopped."""
        return not self._thread.is_alive()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the run's end; return False when the time, in seconds, has run out first."""
        self._thread.join(timeout)
        return self.ended

    def stop(self) -> None:
        """Follow no longer."""
        self._stopping.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()
        if threading.current_thread() is not self._thread:
            self._thread.join(4 * TICK)

    def _follow(self) -> None:
        pause = FIRST_PAUSE
        while not self._stopping.is_set():
            told = self._told
            try:
                if self._until_cut():
                    return
            except Exception as error:
                logger.info("run %s: %s: %s; again in %.1f s", self._uid, type(error).__name__, error, pause)
            pause = FIRST_PAUSE if self._told > told else min(2 * pause, LONGEST_PAUSE)
            self._stopping.wait(pause)

    def _until_cut(self) -> bool:
        """Follow until the connection ends; tell whether the run has, too."""
        over = self._rows.run_is_over()
        while not self._rows.look():
            if over or self._stopping.wait(NOT_YET):
                return over
            over = self._rows.run_is_over()
        if over:
            self._catch_up()
            return True
        # The sums first: they come before their rows.
        with self._rows.listening(), Stream(self._run.context, self._rows.path) as stream:
            self._catch_up()
            last: int | None = None
            silence = Silence()
            while not self._stopping.is_set():
                try:
                    message = stream.next(TICK)
                except Closed:
                    return self._has_ended()
                if message is None:
                    if silence.is_to_be_looked_into(TICK):
                        if self._rows.run_is_over():
                            self._catch_up()
                            return True
                        if silence.hides(self._rows.more_than(self._told)):
                            return False
                    continue
                silence = Silence()
                rows = message.rows
                if message.sequence != last + 1 if last is not None else not self._come_next(rows):
                    # What was pushed before is stored by now.
                    self._catch_up()
                last = message.sequence
                self._take(rows)
        return False

    def _come_next(self, rows: list[dict[str, Any]]) -> bool:
        """Tell whether rows, the first that a connection has pushed, come right after those that were told.

        Others may have been pushed before the connection stood, and stored after it was looked what there is.
        """
        if not rows or not self._recent or int(rows[0]["seq_num"]) != self._recent[-1][0] + 1:
            return False
        return self._rows.last_pushed(self._told + len(rows))

    def _has_ended(self) -> bool:
        """Tell whether the run has ended, after telling all that it has by now."""
        over = self._rows.run_is_over()
        self._catch_up()
        return over

    def _catch_up(self) -> None:
        """Tell what the table has and was not told."""
        for piece in self._rows.after(self._told):
            for values, pattern in piece:
                self._tell(values, pattern)
                if self._stopping.is_set():
                    return

    def _take(self, rows: list[dict[str, Any]]) -> None:
        """Tell rows that were pushed, but not those that were told already."""
        new = [values for values in rows if _key(values) not in self._recent]
        while new and not self._stopping.is_set():
            for values, pattern in (piece := self._rows.pushed(self._told, new)):
                self._tell(values, pattern)
            new = new[len(piece) :]

    def _tell(self, values: dict[str, Any], pattern: Pattern) -> None:
        self._told += 1
        self._recent.append(_key(values))
        try:
            self._callback(Update(self._uid, int(values["seq_num"]), values, pattern))
        except Exception:
            logger.exception("run %s: the callback failed at frame %s", self._uid, values["seq_num"])


def follow(client: Any, callback: Callable[[Update], Any]) -> Following:
    """Have each pattern of a run told as soon as it is there, those that are there already first.

    Parameters
    ----------
    client
        Tiled client of a derived run, open or not.
    callback
        Takes each Update, in order, in a thread of its own; what it raises is logged. While it works nothing is lost.

    Returns
    -------
    Following
        Ends with the run, or with `stop`. A connection that breaks is made again.

    Raises
    ------
    DerivedRunError
        If the client is not that of a derived run.
    """
    from bluesky_powder.client.powder_run import PowderRun

    return Following(PowderRun.of(client), callback)


def _key(values: Mapping[str, Any]) -> tuple[int, str]:
    return int(values["seq_num"]), str(values.get("raw_event_uid"))
