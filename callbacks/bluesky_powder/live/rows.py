"""The rows of a growing run: numbers from the table, patterns from the sums, fetched or pushed."""

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from azimuthal.pattern import Pattern
from bluesky_powder.client.rebuild import SUMS, PatternKind
from bluesky_powder.errors import DerivedRunError
from bluesky_powder.live.pushed import PushedSums

AT_ONCE = 16
"""Rows of sums that are fetched in one piece."""
LONGEST_WAIT = 2.0
"""Seconds to wait for sums whose row is there: those of files are told a moment later."""
ON_THE_WAY = 0.25
"""Seconds to wait for sums that are pushed before they are fetched."""

Row = tuple[dict[str, Any], Pattern]


@dataclass(frozen=True)
class _Stream:
    """What is known of the stream `primary`.

    Attributes
    ----------
    path
        In Tiled, with a slash at its end.
    kind
        Of its patterns.
    shape
        Of one row of sums.
    pushed
        Whether Tiled pushes the sums themselves; of files it tells only that there are more.
    """

    path: str
    kind: PatternKind
    shape: tuple[int, ...]
    pushed: bool


class Rows:
    """Reads rows of the stream `primary`.

    Every request is tried once: whoever follows begins again by itself, and sooner than Tiled's client gives up (45 s).

    Parameters
    ----------
    run
        PowderRun.
    """

    def __init__(self, run: Any) -> None:
        self._run = run
        self._known: _Stream | None = None
        self._pushed: PushedSums | None = None

    def look(self) -> bool:
        """Look whether there is a table (the first event makes it), and what the stream is like by now.

        A run that is written again, as publishers do after an outage, may have its sums elsewhere than before.
        """
        self._known, self._pushed = None, None
        item = self._json("/metadata/", self._run_path)
        if item is None:
            return False
        there = [self._json("/metadata/", f"{self._run_path}/primary/{name}") for name in ("internal", SUMS)]
        if None in there:
            return False
        stream = self._run["primary"]
        about = stream.metadata["data_keys"][SUMS]
        self._known = _Stream(
            f"{self._run_path}/primary/",
            self._run.kind_of(stream),
            tuple(about["shape"]),
            pushed="external" not in about,
        )
        return True

    @property
    def path(self) -> str:
        """Path of the table in Tiled."""
        return self._stream.path + "internal"

    def listening(self) -> AbstractContextManager[Any]:
        """Take sums that are pushed, until left.

        Raises
        ------
        OSError
            If it cannot be connected.
        """
        self._pushed = None
        if self._stream.pushed:
            self._pushed = PushedSums(self._run.context, self._stream.path + SUMS, self._stream.shape)
        return self._pushed or nullcontext()

    def run_is_over(self) -> bool:
        """Tell whether the run has its stop document."""
        item = self._json("/metadata/", self._run_path)
        return item is not None and bool(item["attributes"]["metadata"].get("stop"))

    def after(self, told: int) -> Iterator[list[Row]]:
        """Yield the rows from index `told` on with their patterns, in pieces."""
        if not self.more_than(told):
            return
        table = self._table()
        for first in range(told, len(table), AT_ONCE):
            rows = table[first : first + AT_ONCE]
            yield self._with_patterns(rows, self._fetched(first, len(rows)))

    def more_than(self, told: int) -> bool:
        """Tell whether more rows of sums are stored than `told`; of the table, no more are."""
        item = None if self._known is None else self._json("/metadata/", self._stream.path + SUMS)
        return item is not None and int(item["attributes"]["structure"]["shape"][0]) > told

    def last_pushed(self, count: int) -> bool:
        """Tell whether Tiled has pushed the sums of so many rows by now, and not of more."""
        return self._pushed is not None and self._pushed.count(count, ON_THE_WAY) == count

    def pushed(self, first: int, rows: list[dict[str, Any]]) -> list[Row]:
        """Return rows that were pushed, the first of which has the index `first`, with their patterns.

        So many as can be had at once, one at least.
        """
        rows = rows[:AT_ONCE]
        sums = self._taken(first, len(rows))
        return self._with_patterns(rows, self._fetched(first, len(rows)) if sums is None else sums)

    def _with_patterns(self, rows: list[dict[str, Any]], sums: Sequence[NDArray[np.float64]]) -> list[Row]:
        kind = self._stream.kind
        return [
            (row, kind.pattern(each, int(row.get("masked_pixels") or 0))) for row, each in zip(rows, sums, strict=True)
        ]

    @property
    def _stream(self) -> _Stream:
        assert self._known is not None  # noqa: S101 - `look` has found it
        return self._known

    @property
    def _run_path(self) -> str:
        return "/".join([*self._run.item["attributes"]["ancestors"], self._run.item["id"]])

    def _taken(self, first: int, rows: int) -> Sequence[NDArray[np.float64]] | None:
        """Return the sums of rows, if all were pushed."""
        taken: list[NDArray[np.float64]] = []
        for row in range(first, first + rows):
            sums = None if self._pushed is None else self._pushed.take(row, ON_THE_WAY)
            if sums is None:
                return None
            taken.append(sums)
        return taken

    def _get(self, kind: str, path: str, **query: str) -> Any:
        link = str(self._run.context.api_uri).rstrip("/") + kind + path
        return self._run.context.http_client.get(link, params=query)

    def _json(self, kind: str, path: str) -> dict[str, Any] | None:
        """Return a node's description; None where it is not there (yet)."""
        answer = self._get(kind, path)
        if answer.status_code == 404:
            return None
        answer.raise_for_status()
        data: dict[str, Any] = answer.json()["data"]
        return data

    def _table(self) -> list[dict[str, Any]]:
        import pyarrow as pa  # type: ignore[import-untyped]

        answer = self._get("/table/full/", self.path, format="application/vnd.apache.arrow.file")
        answer.raise_for_status()
        with pa.ipc.open_file(answer.content) as file:
            return list(file.read_all().to_pylist())

    def _fetched(self, first: int, rows: int) -> Sequence[NDArray[np.float64]]:
        query = {"format": "application/octet-stream", "slice": f"{first}:{first + rows}"}
        shape = self._stream.shape
        deadline = time.monotonic() + LONGEST_WAIT
        while True:
            answer = self._get("/array/full/", self._stream.path + SUMS, **query)
            if answer.status_code == 200 and len(answer.content) == 8 * rows * int(np.prod(shape)):
                return list(np.frombuffer(answer.content, "<f8").reshape(rows, *shape))
            if time.monotonic() > deadline:
                raise DerivedRunError(
                    f"{self._stream.path}: the sums of rows {first} to {first + rows - 1} do not come"
                )
            time.sleep(0.02)
