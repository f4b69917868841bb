"""What a replay has to do: documents to reduce, found by uid in a catalog, or in files."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bluesky_powder.errors import ReplayError

Pair = tuple[str, Mapping[str, Any]]


def _nothing() -> Iterator[Pair]:
    return iter(())


@dataclass(frozen=True)
class Job:
    """Documents to replay, of one run or of the runs in one file.

    Attributes
    ----------
    what
        What they are, for messages.
    documents
        Makes them.
    events
        Raw uid -> how many events there are to reduce, all detectors together; None where nobody knows.
    mistake
        Why there are none, where that is known before.
    """

    what: str
    documents: Callable[[], Iterator[Pair]] = _nothing
    events: Mapping[str, int | None] = field(default_factory=dict)
    mistake: str = ""


def jobs_in_catalog(catalog: Any, texts: Sequence[str], streams: Sequence[str | None]) -> list[Job]:
    """Return a job for each run, also for those that are not there.

    Parameters
    ----------
    catalog
        Tiled client of the container of the runs, or a catalog of databroker.
    texts
        Uids, their beginnings, or scan ids.
    streams
        Name of the stream of the frames, one a detector; None where the recipe leaves it open.
    """
    from bluesky_powder.replay.catalog import find_run
    from bluesky_powder.replay.source import source_of

    jobs: dict[str, Job] = {}
    for text in texts:
        try:
            run = find_run(catalog, text)
            documents = source_of(run).documents
        except ReplayError as error:
            jobs[text] = Job(f"run {text}", mistake=str(error))
        else:
            uid = str(run.metadata["start"]["uid"])
            events = _expected(run.metadata.get("stop"), streams)
            jobs[uid] = Job(f"run {uid}", documents, {uid: events})
    return list(jobs.values())


def jobs_in_files(paths: Sequence[Path], texts: Sequence[str], streams: Sequence[str | None]) -> list[Job]:
    """Return a job for each file that has runs that are asked for, and for each uid that is in none.

    Parameters
    ----------
    paths
        Files of documents.
    texts
        Uids or their beginnings; none for all.
    streams
        As for `jobs_in_catalog`.
    """
    from bluesky_powder.replay.choose import contents, matching
    from bluesky_powder.replay.files import documents_in

    jobs, stops = [], {}
    for path in paths:
        try:
            stops[path] = contents(documents_in(path))
            if not stops[path]:
                raise ReplayError("there is no run in it")
        except ReplayError as error:
            jobs.append(Job(str(path), mistake=str(error)))
    there = dict.fromkeys(uid for runs in stops.values() for uid in runs)
    wanted = set() if texts else set(there)
    for text in texts:
        try:
            wanted.add(matching(text, there))
        except ReplayError as error:
            jobs.append(Job(f"run {text}", mistake=str(error)))
    for path, runs in stops.items():
        events = {uid: _expected(stop, streams) for uid, stop in runs.items() if uid in wanted}
        wanted -= events.keys()  # a run that is in two files is replayed once
        if events:
            jobs.append(Job(str(path), _Part(path, frozenset(events)), events))
    return jobs


@dataclass(frozen=True)
class _Part:
    """Some of the runs of a file."""

    path: Path
    uids: frozenset[str]

    def __call__(self) -> Iterator[Pair]:
        from bluesky_powder.replay.choose import runs_of
        from bluesky_powder.replay.files import documents_in

        return runs_of(documents_in(self.path), self.uids)


def _expected(stop: Any, streams: Sequence[str | None]) -> int | None:
    from bluesky_powder.replay.catalog import expected_events

    numbers = [expected_events(stop, stream) for stream in streams]
    known = [number for number in numbers if number is not None]
    return sum(known) if len(known) == len(numbers) else None
