"""Documents of a derived run, with the arrays of its streams put into files: one file a stream."""

import logging
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from azimuthal import Pattern
from azimuthal.pattern import SUMS as PATTERN_SUMS
from bluesky_powder.client.rebuild import SUMS, PatternKind
from bluesky_powder.errors import DerivedRunError
from bluesky_powder.publish.pattern_file import Floats, PatternFile

logger = logging.getLogger("bluesky_powder.publish")

Document = tuple[str, dict[str, Any]]

_NOTHING = np.empty(0)
_SERVED_BYTES = 2**23
"""At most so much is given by a Tiled server at once: what a stream resource calls a chunk."""


@dataclass
class _Stream:
    """A stream whose arrays go to a file."""

    descriptor: str
    name: str
    shapes: dict[str, tuple[int, ...]]
    numbers: tuple[str, ...]
    file: PatternFile | None = None
    resources: dict[str, str] = field(default_factory=dict)
    seq_nums: list[int] = field(default_factory=list)  # of the rows that are not told yet
    told: int = 0
    begun: float = 0.0  # time of the first event


class Filing:
    """Takes a derived run's documents and gives those that Tiled is to have.

    Parameters
    ----------
    folder
        Folder of the files.
    start
        The run's start document.

    Attributes
    ----------
    kind
        What the patterns have in common, as documents tell; None where they have not told it.
    """

    def __init__(self, folder: Path, start: Mapping[str, Any]) -> None:
        self.folder = folder
        self._start = start
        self._axes: dict[str, Any] = {}
        self._edges: Floats | None = None
        self.kind: PatternKind | None = None
        self._axes_uid: str | None = None
        self._streams: dict[str, _Stream] = {}

    def learn_axes(self, name: str, document: Mapping[str, Any]) -> None:
        """Take descriptor or event of the stream `axes`, for the files."""
        if name == "descriptor" and document.get("name") == "axes":
            self._axes_uid, self._axes = document["uid"], document["data_keys"].get("radial", {})
        elif name == "event" and document.get("descriptor") == self._axes_uid:
            edges = document["data"].get("radial_edges")
            self._edges = None if edges is None else np.asarray(edges, np.float64)

    def take(self, name: str, document: dict[str, Any]) -> Document:
        """Return the document without what goes to the file of its stream.

        Raises
        ------
        OSError
            If a file cannot be made.
        """
        if name == "descriptor":
            return name, self._described(document)
        stream = self._streams.get(document.get("descriptor", "")) if name == "event" else None
        return (name, document) if stream is None else (name, self._filed(stream, document))

    def flush(self) -> Iterator[tuple[str, list[Document]]]:
        """Write what waits to the files, one as each is asked for; yield its stream and the documents that tell of it.

        Raises
        ------
        OSError
            If a disk is full.
        """
        for stream in self._streams.values():
            if stream.file is None or not stream.file.waiting:
                continue
            stop = stream.file.flush()
            told = [] if stream.resources else list(self._resources(stream))
            for first, last in _unbroken(stream.seq_nums):
                told += [
                    ("stream_datum", _stream_datum(resource, stream, first, last))
                    for resource in stream.resources.values()
                ]
            stream.seq_nums, stream.told = [], stop
            yield stream.name, told

    @property
    def newest(self) -> tuple[str, str, int] | None:
        """Stream, data key and row of something that readers can see by now."""
        for stream in self._streams.values():
            if stream.told:
                return stream.name, next(iter(stream.shapes)), stream.told - 1
        return None

    def value(self, stream: str, key: str, row: int) -> Floats:
        """Return a row of an array as it is in the file."""
        import h5py

        (found,) = (s for s in self._streams.values() if s.name == stream and s.file is not None)
        assert found.file is not None  # noqa: S101 - chosen so
        with h5py.File(found.file.path, "r", libver="latest", swmr=True) as file:
            return np.asarray(file[PatternFile.place(key)][row])

    def close(self) -> None:
        """Close the files."""
        for stream in self._streams.values():
            if stream.file is not None:
                stream.file.close()

    def discard(self) -> None:
        """Delete the files."""
        for stream in self._streams.values():
            if stream.file is not None:
                stream.file.discard()

    def _described(self, descriptor: dict[str, Any]) -> dict[str, Any]:
        shapes = {key: _shape(about) for key, about in descriptor["data_keys"].items() if _goes_to_file(about)}
        if not shapes or descriptor["name"] == "axes":
            return descriptor
        if self.kind is None:
            self.kind = self._told_of(descriptor["data_keys"])
        numbers = tuple(key for key, about in descriptor["data_keys"].items() if "goniometer_position" in about)
        stream = _Stream(descriptor["uid"], descriptor["name"], shapes, (*numbers, "monitor", "time"))
        self._streams[stream.descriptor] = stream
        keys = {
            key: {**about, "external": "STREAM:"} if key in shapes else about
            for key, about in descriptor["data_keys"].items()
        }
        return {**descriptor, "data_keys": keys}

    def _filed(self, stream: _Stream, event: dict[str, Any]) -> dict[str, Any]:
        row = {key: np.asarray(event["data"][key], np.float64) for key in stream.shapes}
        pattern = self._pattern(row)
        if stream.file is None:
            stream.file = self._opened(stream, pattern, row)
            stream.begun = float(event["time"])
        numbers = {key: event["data"].get(key, np.nan) for key in stream.numbers}
        numbers["time"] = float(event["time"]) - stream.begun
        stream.file.append(row, numbers, pattern)
        stream.seq_nums.append(int(event["seq_num"]))
        return {
            **event,
            **{
                part: {key: value for key, value in event[part].items() if key not in stream.shapes}
                for part in ("data", "timestamps")
            },
        }

    def _opened(self, stream: _Stream, pattern: Pattern | None, row: Mapping[str, Floats]) -> PatternFile:
        uid = str(self._start["uid"])
        path = self.folder / f"{uid}.{stream.name}.h5"
        # A pattern to lay the file out by; its sums do not matter there.
        any_sums = {SUMS: np.ones((len(PATTERN_SUMS), row["intensity"].size))} if "intensity" in row else {}
        first = pattern or self._pattern(any_sums)
        return PatternFile(
            path, stream.shapes, first=first, numbers=stream.numbers, about=_about(self._start, stream.name)
        )

    def _pattern(self, row: Mapping[str, Floats]) -> Pattern | None:
        """Return the pattern that the sums of an event are."""
        if self.kind is None or row.get(SUMS, _NOTHING).shape != (len(PATTERN_SUMS), self.kind.edges.size - 1):
            return None
        return self.kind.pattern(row[SUMS])

    def _told_of(self, data_keys: Mapping[str, Any]) -> PatternKind | None:
        """Return what the patterns of a stream have in common, as its data keys tell; None where they do not."""
        if self._edges is None or SUMS not in data_keys:
            return None
        try:
            return PatternKind.of(self._start, {"radial": self._axes}, data_keys, self._edges)
        except (DerivedRunError, KeyError, TypeError) as error:
            logger.info("run %s: its files are not NXazint1d: %s", self._start["uid"], error)
            return None

    def _resources(self, stream: _Stream) -> Iterator[Document]:
        assert stream.file is not None  # noqa: S101 - only called once it is open
        for key, shape in stream.shapes.items():
            stream.resources[key] = str(uuid.uuid4())
            frames = int(np.clip(_SERVED_BYTES // (8 * int(np.prod(shape))), 1, 1024))
            yield (
                "stream_resource",
                {
                    "uid": stream.resources[key],
                    "run_start": self._start["uid"],
                    "data_key": key,
                    "mimetype": "application/x-hdf5",
                    "uri": f"file://localhost{stream.file.path.resolve().as_posix()}",
                    "parameters": {
                        "dataset": PatternFile.place(key),
                        "chunk_shape": [frames, *shape],
                        "swmr": True,
                        "join_method": "stack",
                    },
                },
            )


def _stream_datum(resource: str, stream: _Stream, first: int, last: int) -> dict[str, Any]:
    seq_num, row = stream.seq_nums[first], stream.told + first
    return {
        "uid": f"{resource}/{row}",
        "stream_resource": resource,
        "descriptor": stream.descriptor,
        "indices": {"start": row, "stop": row + last - first},
        "seq_nums": {"start": seq_num, "stop": seq_num + last - first},
    }


def _unbroken(seq_nums: list[int]) -> Iterator[tuple[int, int]]:
    """Yield the ranges in which seq_nums follow each other, as a stream datum has them."""
    first = 0
    for row in range(1, len(seq_nums) + 1):
        if row == len(seq_nums) or seq_nums[row] != seq_nums[row - 1] + 1:
            yield first, row
            first = row


def _goes_to_file(about: Mapping[str, Any]) -> bool:
    shape = about.get("shape") or ()
    if about.get("dtype") != "array" or about.get("external") or None in shape or not shape:
        return False
    # Tiled's consolidators take one array of one value for a number.
    return about.get("dtype_numpy") == "<f8" and int(np.prod(shape)) > 1


def _shape(about: Mapping[str, Any]) -> tuple[int, ...]:
    return tuple(int(size) for size in about["shape"])


def _about(start: Mapping[str, Any], stream: str) -> dict[str, Any]:
    """Return what an NXazint1d file says besides the patterns."""
    recipe = start.get("recipe", {})
    geometry = recipe.get("geometry") or {}
    files = (geometry.get(kind) for kind in ("poni", "goniometer"))
    mask = (recipe.get("corrections") or {}).get("mask") or {}
    sample = start.get("sample") or start.get("sample_name") or "sample"
    return {
        "sample": str(sample.get("name", "sample")) if isinstance(sample, Mapping) else str(sample),
        "instrument": str(start.get("beamline") or start.get("beamline_id") or "instrument"),
        "poni": next((str(file.get("text", "")) for file in files if file), ""),
        "mask": str(mask.get("sha256", "")),
        "comments": [
            f"derived run {start['uid']}, stream {stream}",
            f"raw run {start.get('raw_uid', 'unknown')}",
            "/entry/stream holds the arrays as the derived run has them",
        ],
    }
