"""Documents of a run in Tiled, put together from the run's nodes, in the order in which they came live.

Tiled's own exporter (``run.documents()``) is not asked, even where a server has it: it keeps one event of each
seq_num, so that after a pause frames meet the positions of others; it tells of all files after all events, loses files
whose names have two numbers, and makes one JSON text of the whole run.
"""

import heapq
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bluesky_powder.errors import ReplayError
from bluesky_powder.publish.obstacles import in_one_line
from bluesky_powder.replay.nodes import StoredStream, read_stream, share_files

Pair = tuple[str, Mapping[str, Any]]
_FLOWN = 32
"""Events that one StreamDatum of a fly scan tells of, at most: what waits for others stays little."""
_Timed = tuple[float, Pair]


def is_tree(run: Any) -> bool:
    """Tell whether something is a run that Tiled keeps as nodes, rather than as documents in a MongoDB."""
    return hasattr(run, "base") and any(
        spec.name == "BlueskyRun" and str(spec.version).startswith("3") for spec in getattr(run, "specs", ())
    )


def documents_of_run(run: Any) -> Iterator[Pair]:
    """Yield the documents of a BlueskyRun client (of the kind that `is_tree` tells).

    Descriptors and events come in order of time, a StreamDatum before the event of its seq_num as live. Those of a fly
    scan have no time and come last, before the second baseline event. There is no stop document when the run is open.

    Raises
    ------
    ReplayError
        If Tiled does not give what is needed.
    """
    try:
        yield from _documents(run)
    except ReplayError:
        raise
    except Exception as error:
        raise ReplayError(f"Tiled does not give the documents of run {run.item['id']}: {in_one_line(error)}") from error


def _documents(run: Any) -> Iterator[Pair]:
    if not run.metadata.get("stop"):
        run = run.new_variation().refresh()
    start, stop = run.metadata.get("start"), run.metadata.get("stop")
    if not start:
        raise ReplayError(f"run {run.item['id']} has no start document; it is no Bluesky run")
    tags = run.item["attributes"].get("access_tags")
    yield "start", {**start, "tiled_access_tags": list(tags)} if tags else start
    container = _with_streams(run.base)
    streams = share_files([read_stream(container[name], name, start["uid"], ended=bool(stop)) for name in container])
    end = _end(streams)
    timed = heapq.merge(*(_told(stream, end) for stream in streams), key=lambda item: item[0])
    for _, pair in timed:
        yield pair
    if stop:
        yield "stop", stop


def _with_streams(container: Any) -> Any:
    """Return the container of the streams; older layouts have one of their own for them."""
    if "streams" in container:
        inner = container["streams"]
        if all(spec.name != "BlueskyEventStream" for spec in inner.specs):
            return inner
    return container


def _end(streams: Sequence[StoredStream]) -> float:
    """Return when a fly scan must have been over: before the last baseline event."""
    last = [stream.rows[-1]["time"] for stream in streams if stream.name == "baseline" and len(stream.rows) > 1]
    return math.nextafter(min(last), -math.inf) if last else math.inf


def _told(stream: StoredStream, end: float) -> Iterator[_Timed]:
    """Yield one stream's documents with their times, which never fall."""
    first, *later = stream.descriptors
    now = first["time"]
    yield now, ("descriptor", first)
    for files in stream.files.values():
        for piece in files.pieces if files.resources else ():
            yield now, ("stream_resource", piece.document)
    descriptor = first
    for at, row in enumerate(stream.rows):
        while later and later[0]["time"] <= row["time"]:
            descriptor = later.pop(0)
            yield max(now, descriptor["time"]), ("descriptor", descriptor)
        now = max(now, row["time"])
        for pair in _datums(stream, descriptor, range(at, at + 1), int(row["seq_num"])):
            yield now, pair
        yield now, ("event", _event(stream, descriptor, at))
    for descriptor in later:
        yield max(now, descriptor["time"]), ("descriptor", descriptor)
    number = max((int(row["seq_num"]) for row in stream.rows), default=0) + 1
    longest = max((len(files.indices) for files in stream.files.values()), default=0)
    for at in range(len(stream.rows), longest, _FLOWN):
        for pair in _datums(stream, first, range(at, min(at + _FLOWN, longest)), number + at - len(stream.rows)):
            yield max(now, end), pair


def _datums(stream: StoredStream, descriptor: Mapping[str, Any], events: range, number: int) -> Iterator[Pair]:
    """Yield the StreamDatum documents of some events, the first of which has the given seq_num."""
    for files in stream.files.values():
        for piece, indices, at in files.of(events):
            seq_num = number + at - events.start
            yield (
                "stream_datum",
                {
                    "uid": f"{piece.document['uid']}/{indices.start}",
                    "stream_resource": piece.document["uid"],
                    "descriptor": descriptor["uid"],
                    "indices": {"start": indices.start, "stop": indices.stop},
                    "seq_nums": {"start": seq_num, "stop": seq_num + len(indices)},
                },
            )


def _event(stream: StoredStream, descriptor: Mapping[str, Any], at: int) -> dict[str, Any]:
    row, data = stream.rows[at], stream.values(at)
    return {
        "uid": f"event-{descriptor['uid']}-{at + 1}",
        "time": row["time"],
        "seq_num": int(row["seq_num"]),
        "descriptor": descriptor["uid"],
        "data": data,
        "timestamps": {key: row.get(f"ts_{key}", row["time"]) for key in data},
        "filled": {},
    }
