"""The rows of a growing run: numbers from the table, patterns from the sums."""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from azimuthal.pattern import Pattern
from bluesky_powder.client.rebuild import SUMS, PatternKind
from bluesky_powder.errors import DerivedRunError

AT_ONCE = 16
"""Rows of sums that are fetched in one piece."""
LONGEST_WAIT = 2.0
"""Seconds to wait for sums whose row is there: those of files are told a moment later."""


class Rows:
    """Reads rows of the stream `primary`.

    Parameters
    ----------
    run
        PowderRun.
    """

    def __init__(self, run: Any) -> None:
        self._run = run
        self._known: tuple[Any, PatternKind, tuple[int, ...]] | None = None

    @property
    def there(self) -> bool:
        """Whether there is a table; the first event makes it."""
        if self._known is None and "primary" in self._run and "axes" in self._run:
            stream = self._run["primary"]
            if "internal" in stream.base and SUMS in stream.base:
                shape = tuple(stream.metadata["data_keys"].get(SUMS, {}).get("shape", ()))
                self._known = stream, self._run.kind_of(stream), shape
        return self._known is not None

    @property
    def path(self) -> str:
        """Path of the table in Tiled."""
        stream = self._stream[0]
        return "/".join([*stream.item["attributes"]["ancestors"], stream.item["id"], "internal"])

    def run_is_over(self) -> bool:
        """Tell whether the run has its stop document."""
        if not self._run.metadata.get("stop"):
            self._run.refresh()
        return bool(self._run.metadata.get("stop"))

    def after(self, told: int) -> Iterator[list[tuple[dict[str, Any], Pattern]]]:
        """Yield the rows from index `told` on with their patterns, in pieces."""
        if not self.there:
            return
        table = self._stream[0].base["internal"].read()
        for first in range(told, len(table), AT_ONCE):
            rows = table.iloc[first : first + AT_ONCE].to_dict(orient="records")
            rows = [{str(name): value for name, value in row.items()} for row in rows]
            sums = self._sums(first, len(rows))
            yield [(row, self._pattern(each, row)) for row, each in zip(rows, sums, strict=True)]

    def pattern(self, index: int, values: dict[str, Any]) -> Pattern:
        """Return the pattern of one row."""
        return self._pattern(self._sums(index, 1)[0], values)

    @property
    def _stream(self) -> tuple[Any, PatternKind, tuple[int, ...]]:
        assert self._known is not None  # noqa: S101 - `there` was asked
        return self._known

    def _pattern(self, sums: NDArray[np.float64], values: dict[str, Any]) -> Pattern:
        return self._stream[1].pattern(sums, int(values.get("masked_pixels") or 0))

    def _sums(self, first: int, rows: int) -> NDArray[np.float64]:
        stream, _, shape = self._stream
        link = str(self._run.context.api_uri).rstrip("/") + "/array/full/" + self.path.removesuffix("internal") + SUMS
        query = {"format": "application/octet-stream", "slice": f"{first}:{first + rows}"}
        deadline = time.monotonic() + LONGEST_WAIT
        while True:
            answer = self._run.context.http_client.get(link, params=query)
            if answer.status_code == 200 and len(answer.content) == 8 * rows * int(np.prod(shape)):
                return np.frombuffer(answer.content, "<f8").reshape(rows, *shape)
            if time.monotonic() > deadline:
                raise DerivedRunError(
                    f"{stream.item['id']}: the sums of rows {first} to {first + rows - 1} do not come"
                )
            time.sleep(0.02)
