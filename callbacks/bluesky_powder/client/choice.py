"""Which of a run's patterns is meant: the merge, the union up to a frame, or one frame; and which rows hold it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import ArrayLike

from bluesky_powder.errors import DerivedRunError, ExportError

Which = Literal["merged", "cumulative", "frame"]

MOST_AT_ONCE = 32
"""Rows of sums that are read in one piece."""


@dataclass(frozen=True)
class Choice:
    """A pattern of a run.

    Attributes
    ----------
    which
        The merge of all frames, the union of the frames up to one, or one frame.
    frame
        Number of the raw event (seq_num); for the union None means the last.
    """

    which: Which = "merged"
    frame: int | None = None

    @classmethod
    def of(cls, which: str | None = None, frame: str | int | None = None) -> Self:
        """Return what a user asks for; a frame alone is that frame.

        Raises
        ------
        ExportError
            If there is no such choice, or the frame is missing, superfluous or no number.
        """
        chosen = which or ("merged" if frame is None else "frame")
        if chosen not in get_args(Which):
            raise ExportError(f"which: {chosen!r} does not exist; choose merged, cumulative or frame")
        if chosen == "frame" and frame is None:
            raise ExportError("which=frame needs the number of the frame, such as frame=1")
        if chosen == "merged" and frame is not None:
            raise ExportError("the merged pattern is that of all frames; leave frame out, or ask for which=cumulative")
        return cls(chosen, None if frame is None else _number(frame))  # type: ignore[arg-type]  # checked above


@dataclass(frozen=True)
class Chosen:
    """Where a pattern stands.

    Attributes
    ----------
    stream
        primary or merged.
    rows
        Of that stream's `sums`, to be added in this order.
    words
        What it is, for the head of a file.
    """

    stream: Literal["primary", "merged"]
    rows: tuple[int, ...]
    words: str

    def pieces(self) -> Iterator[tuple[int, int]]:
        """Yield the rows as ranges (first, last + 1), in order, none longer than `MOST_AT_ONCE`."""
        first = previous = self.rows[0]
        for row in self.rows[1:]:
            if row != previous + 1 or row - first >= MOST_AT_ONCE:
                yield first, previous + 1
                first = row
            previous = row
        yield first, previous + 1


def choose(
    choice: Choice,
    metadata: Mapping[str, Any],
    seq_nums: ArrayLike,
    merges: int,
) -> Chosen:
    """Return where a pattern stands.

    Parameters
    ----------
    choice
        What is asked for.
    metadata
        Start and stop documents of the run.
    seq_nums
        Of the rows of `primary`, in the order of the rows; of those with the same number the last counts.
    merges
        Rows of `merged`.

    Raises
    ------
    DerivedRunError
        If the run has no frames, or not this one.
    """
    last = {int(number): row for row, number in enumerate(np.ravel(seq_nums))}
    numbers = sorted(last)
    if not numbers:
        raise DerivedRunError(f"run {_uid(metadata)} has no frames{_state(metadata)}")
    if choice.which == "merged" and metadata.get("stop") and merges:
        return Chosen("merged", (merges - 1,), f"merged pattern of {len(numbers)} frames{_unhappy(metadata)}")
    if choice.frame is not None and choice.frame not in last:
        raise DerivedRunError(
            f"run {_uid(metadata)} has no frame {choice.frame}: it has {_told(numbers)}{_state(metadata)}"
        )
    if choice.which == "frame":
        assert choice.frame is not None  # noqa: S101 - Choice.of sees to it
        return Chosen("primary", (last[choice.frame],), f"frame {choice.frame}{_unhappy(metadata)}")
    up_to = [number for number in numbers if choice.frame is None or number <= choice.frame]
    words = f"union of {len(up_to)} frames, the last of them {up_to[-1]}{_unhappy(metadata)}"
    return Chosen("primary", tuple(last[number] for number in up_to), words)


def _number(frame: str | int) -> int:
    try:
        return int(frame)
    except ValueError:
        raise ExportError(f"frame: {frame!r} is no number; frames are numbered as the raw events, from 1") from None


def _uid(metadata: Mapping[str, Any]) -> str:
    return str(metadata["start"]["uid"])


def _state(metadata: Mapping[str, Any]) -> str:
    stop = metadata.get("stop")
    if not stop:
        return " yet; it is still open"
    if stop.get("exit_status") == "success" and not stop.get("reason"):
        return ""
    return f" (it ended with {stop.get('exit_status')}: {stop.get('reason') or 'no reason given'})"


def _unhappy(metadata: Mapping[str, Any]) -> str:
    """Return what a reader of the pattern should know of the run."""
    stop = metadata.get("stop")
    if not stop:
        return " of a run that is still open"
    return _state(metadata) if stop.get("exit_status") != "success" else ""


def _told(numbers: Sequence[int]) -> str:
    if len(numbers) == 1:
        return f"{numbers[0]} only"
    whole = numbers[-1] - numbers[0] == len(numbers) - 1
    return f"{numbers[0]} to {numbers[-1]}{'' if whole else f', {len(numbers)} of them'}"
