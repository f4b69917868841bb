"""What a publisher is doing, to be shown."""

from dataclasses import dataclass
from pathlib import Path

from bluesky_powder.publish.storage import Stored


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
        taken_up = "the next publisher with the same spool publishes them"
        where = f"; its documents are in {self.documents}; {taken_up}" if self.documents else ""
        return f"run {self.run} is not whole in Tiled: {self.reason}{where}"


@dataclass(frozen=True)
class RunState:
    """A run that is not wholly in Tiled.

    Attributes
    ----------
    run
        Its uid.
    documents, delivered
        How many there are so far, and how many of them are in Tiled.
    stored
        Where its arrays go; None where that is not decided.
    adopted
        Whether an earlier process left it.
    in_memory
        Bytes of its documents that the disk of the journals has no room for.
    trouble
        Why it is not in Tiled, and that it is tried again; None where all goes well.
    """

    run: str
    documents: int
    delivered: int
    stored: Stored | None
    adopted: bool
    in_memory: int
    trouble: str | None

    def __str__(self) -> str:
        parts = [f"run {self.run}: {self.delivered} of {self.documents} documents in Tiled"]
        parts += ["left by an earlier process"] if self.adopted else []
        parts += [f"{self.in_memory / 1e6:.1f} MB in memory, as the disk is full"] if self.in_memory else []
        parts += [self.trouble] if self.trouble else []
        return "; ".join(parts)


@dataclass(frozen=True)
class PublisherState:
    """All that a publisher has to do.

    Attributes
    ----------
    queued
        Documents that are not in a journal yet.
    runs
        Those on their way.
    adopted
        Uids of runs that an earlier process left and that this one took over, delivered ones too.
    failures
        Those that no further try is made for.
    """

    queued: int
    runs: tuple[RunState, ...]
    adopted: tuple[str, ...]
    failures: tuple[PublishFailure, ...]

    def __str__(self) -> str:
        lines = [*map(str, self.runs), *map(str, self.failures)]
        if self.queued:
            lines.insert(0, f"{self.queued} documents are queued")
        return "\n".join(lines) if lines else "all is in Tiled"
