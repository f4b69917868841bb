"""One stream's arrays in an HDF5 file that grows while it is read, and that is an NXazint1d file as well.

What a Tiled server serves is under ``/entry/stream``, exactly as it stood in the events (NaN in empty bins);
``/entry/data`` holds the same patterns as azint would write them, so GSAS-II can import the file once it is closed.
While it grows, readers open it with ``swmr=True``.

Others, GSAS-II among them, have to wait: HDF5 notes in a file that it is being written, and refuses all readers who do
not say swmr, with file locking or without. To close the file after each flush would let them in, but keep the writer
out for as long as one of them has it open, and the server's readers for as long as it is written.
"""

import contextlib
import errno
import logging
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from azimuthal import Pattern, write_nxazint
from azimuthal.errors import FileFormatError
from azimuthal.files.axis import trusted_sem

logger = logging.getLogger("bluesky_powder.publish")

Floats = NDArray[np.float64]
_Row = tuple[dict[str, Floats], dict[str, float], Pattern | None]

CHUNK_BYTES = 2**19
"""At most so much is one chunk of the file: what has to be written again when a row is added to it."""
_PIECE_BYTES = 2**20
"""Of this size arrays are put together to be written; the system would have to clear memory for larger ones first."""
_MARGIN = 2**20
"""Room on the disk, in bytes, that HDF5 may need besides the rows themselves."""
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class PatternFile:
    """An HDF5 file to which rows are added.

    Parameters
    ----------
    path
        The file; one that is there is replaced.
    columns
        Name -> shape of one row; float64.
    first
        A pattern of the kind that will come, for the NXazint1d part; None leaves that part out.
    numbers
        Names of numbers, one a pattern, that go to the sample: positions, time.
    about
        Names and comments for `azimuthal.write_nxazint`.

    Raises
    ------
    OSError
        If the file cannot be made.
    """

    def __init__(
        self,
        path: Path,
        columns: Mapping[str, tuple[int, ...]],
        *,
        first: Pattern | None = None,
        numbers: tuple[str, ...] = (),
        about: Mapping[str, Any] | None = None,
    ) -> None:
        self.path = path
        self._waiting: list[_Row] = []
        self._norm = np.zeros(first.npt if first else 0)
        path.parent.mkdir(parents=True, exist_ok=True)
        need_room(path.parent, _MARGIN)
        # A reader may have the old one open; h5py would not truncate it, and the reader would not survive it.
        path.unlink(missing_ok=True)
        with in_words(path):
            self._file = h5py.File(path, "w", libver="latest")
            self._growing = self._lay_out(columns, first, numbers, about or {})
            self._file.swmr_mode = True
        self.rows = 0

    @property
    def waiting(self) -> int:
        """How many rows are not in the file yet."""
        return len(self._waiting)

    @staticmethod
    def place(column: str) -> str:
        """Return the path of a column inside the file."""
        return f"/entry/stream/{column}"

    def append(
        self, row: Mapping[str, Floats], numbers: Mapping[str, float] | None = None, pattern: Pattern | None = None
    ) -> None:
        """Add a row; it is in the file after `flush`.

        Parameters
        ----------
        row
            One array a column.
        numbers
            One value for each of the file's numbers; NaN where there is none.
        pattern
            What the arrays were read from; made of `intensity` and `sem` where it is not known.
        """
        self._waiting.append((dict(row), dict(numbers or {}), pattern))

    def flush(self) -> int:
        """Write what waits, visible to readers when this returns; return how many rows the file has.

        Raises
        ------
        OSError
            If the disk has no room (errno ENOSPC), or another reason of the system's.
        """
        if not self._waiting:
            return self.rows
        rows, stop = self._waiting, self.rows + len(self._waiting)
        need_room(self.path.parent, _MARGIN + 2 * len(rows) * sum(array.nbytes for array in rows[0][0].values()))
        with in_words(self.path):
            for place, dataset in self._growing.items():
                dataset.resize(stop, axis=0)
                for first, last in _pieces(dataset, self.rows, stop):
                    dataset[first:last] = _block(place, rows[first - self.rows : last - self.rows])
                dataset.flush()
            self._update_norm([pattern for _, _, pattern in rows if pattern is not None])
            self._file.flush()
        self._waiting, self.rows = [], stop
        return stop

    def close(self) -> None:
        """Close the file, without what was not flushed."""
        try:
            self._file.close()
        except Exception as error:  # a full disk shows here as well; what was flushed is there
            logger.warning("%s could not be closed properly: %s", self.path, error)

    def discard(self) -> None:
        """Close and delete the file."""
        self.close()
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)

    def _update_norm(self, patterns: list[Pattern]) -> None:
        norm = self._file.get("/entry/data/norm")
        if norm is not None and patterns:
            self._norm += np.sum([pattern.count for pattern in patterns], axis=0)
            norm[...] = self._norm / (self.rows + len(patterns))
            norm.flush()

    def _lay_out(
        self,
        columns: Mapping[str, tuple[int, ...]],
        first: Pattern | None,
        numbers: tuple[str, ...],
        about: Mapping[str, Any],
    ) -> dict[str, h5py.Dataset]:
        """Make everything, as in SWMR mode nothing can be added; return the datasets that grow."""
        growing = {}
        if first is not None and self._as_nxazint(first, about):
            data, sample = self._file["/entry/data"], self._file["/entry/sample"]
            for name in ("I", "I_errors"):
                attributes = dict(data[name].attrs)
                del data[name]
                growing[f"nxazint:{name}"] = _growing(data, name, (first.npt,))
                data[name].attrs.update(attributes)
            for name in numbers:
                if name not in sample:
                    growing[f"number:{name}"] = _growing(sample, name, ())
        stream = self._file.require_group("entry").create_group("stream")
        stream.attrs["NX_class"] = "NXcollection"
        for name, shape in columns.items():
            growing[f"column:{name}"] = _growing(stream, name, shape)
        return growing

    def _as_nxazint(self, first: Pattern, about: Mapping[str, Any]) -> bool:
        """Copy all but the patterns from a file of one pattern; tell whether the format can hold these."""
        with tempfile.TemporaryDirectory(prefix="bluesky-powder-") as folder:
            single = Path(folder) / "single.h5"
            try:
                write_nxazint(single, first, **about)
            except FileFormatError as error:
                logger.info("%s is plain HDF5, not NXazint1d: %s", self.path, error)
                return False
            with h5py.File(single) as source:
                self._file.attrs.update(source.attrs)
                source.copy("entry", self._file)
        return True


def need_room(folder: Path, size: int) -> None:
    """Refuse to begin what would fill a disk: HDF5 does not recover from it.

    Raises
    ------
    OSError
        ENOSPC, with how much is free.
    """
    free = shutil.disk_usage(folder).free
    if free < size:
        raise OSError(errno.ENOSPC, f"no room on the disk ({free / 1e6:.1f} MB free)", str(folder))


def is_full(error: BaseException) -> bool:
    """Tell whether a disk, a quota or a limit on files is what stands in the way."""
    return isinstance(error, OSError) and error.errno in _NO_ROOM


@contextlib.contextmanager
def in_words(path: Path) -> Any:
    """Give errors of HDF5 the errno that is in their text only.

    Raises
    ------
    OSError
        In place of what HDF5 raises.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        found = re.search(r"errno = (\d+)", str(error))
        number = getattr(error, "errno", None) or (int(found[1]) if found else errno.EIO)
        raise OSError(number, str(error).splitlines()[0], str(path)) from error


def _growing(group: h5py.Group, name: str, shape: tuple[int, ...]) -> h5py.Dataset:
    frames = int(np.clip(CHUNK_BYTES // max(8, 8 * int(np.prod(shape))), 1, 64))
    return group.create_dataset(
        name, (0, *shape), maxshape=(None, *shape), chunks=(frames, *shape), dtype=np.float64, fillvalue=np.nan
    )


def _pieces(dataset: h5py.Dataset, first: int, stop: int) -> Iterator[tuple[int, int]]:
    """Yield the ranges in which rows are written: whole chunks, where they do not lie at an end."""
    chunk = dataset.chunks[0]
    most = chunk * max(1, _PIECE_BYTES // (8 * chunk * int(np.prod(dataset.shape[1:]))))
    while first < stop:
        last = min(stop, first - first % chunk + most)
        yield first, last
        first = last


def _block(place: str, rows: list[_Row]) -> Floats:
    """Return what rows are in a dataset."""
    kind, _, name = place.partition(":")
    if kind == "column":
        return np.stack([row[name] for row, _, _ in rows])
    if kind == "number":
        return np.array([numbers.get(name, np.nan) for _, numbers, _ in rows])
    if name == "I":
        return np.stack([_or_zero(row["intensity"]) for row, _, _ in rows])
    return np.stack([_errors(row, pattern) for row, _, pattern in rows])


def _or_zero(values: Floats) -> Floats:
    return np.where(np.isfinite(values), values, 0.0)


def _errors(row: Mapping[str, Floats], pattern: Pattern | None) -> Floats:
    return _or_zero(row["sem"]) if pattern is None else trusted_sem(pattern)
