"""Open HDF5 files, each once for all readers of this process, and finding out what has been written to them since."""

import contextlib
import ctypes
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401 - registers the filters that detectors compress with
from h5py._objects import phil

from bluesky_powder.errors import FramesUnavailable
from bluesky_powder.frames.files.trouble import telling_what_is_wrong

READ_ATTEMPTS = 26
"""How often HDF5 reads metadata that are not right (yet), waiting twice as long each time from 1 ns: 0.1 s in all.

Of itself it reads a hundred times, which is for ever, with a lock held that all of h5py needs.
"""
SETTLED_AFTER = 5.0
"""Seconds after which a file that nobody has open for writing, as far as HDF5 knows, is taken for finished."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """What tells a file from another one under its name, and from what it was before.

    Attributes
    ----------
    path
        Where it is.
    file
        Which one it is.
    state
        Its size, and when it was changed, in ns.
    """

    path: Path
    file: tuple[int, int]
    state: tuple[int, int]

    @classmethod
    def of(cls, path: Path) -> "Stamp":
        """Return the stamp of a file.

        Raises
        ------
        OSError
            If it cannot be looked at.
        """
        about = os.stat(path)
        return cls(path, (about.st_dev, about.st_ino), (about.st_size, about.st_mtime_ns))

    def outdated(self, *, settled: bool) -> bool:
        """Tell whether another file is there now, or, where this one had settled, a changed one.

        A file that was removed while it is open can still be read.
        """
        try:
            now = Stamp.of(self.path)
        except OSError:
            return False
        return now.file != self.file or (settled and now.state != self.state)

    def settled(self) -> bool:
        """Tell whether the file is finished: whole, not open for writing, and not changed lately.

        Raises
        ------
        FramesUnavailable
            If it is shorter than it says: read with SWMR, the missing frames would be zeros.
        """
        try:
            h5py.File(self.path, "r", locking=False).close()
        except FileNotFoundError:
            raise
        except OSError as error:
            if "truncated" in str(error):
                raise FramesUnavailable(f"{self.path} is truncated: {error}") from error
            return False  # it is being written, which is none of this function's business
        return abs(time.time() - self.state[1] * 1e-9) > SETTLED_AFTER


@dataclass
class Handle:
    """One open file. It is given back with `release`.

    Attributes
    ----------
    file
        Opened for reading, with SWMR.
    stamp
        Of the file when it was opened.
    settled
        Whether it was finished.
    """

    file: h5py.File
    stamp: Stamp
    settled: bool
    _nodes: dict[str, h5py.Dataset] = field(default_factory=dict)
    _users: int = 0

    def dataset(self, name: str) -> h5py.Dataset:
        """Return a dataset, the same object for all.

        Raises
        ------
        FramesUnavailable
            If it is not there.
        """
        with _LOCK:
            node = self._nodes.get(name)
            if node is None:
                node = self.file.get(name)
                if not isinstance(node, h5py.Dataset):
                    raise FramesUnavailable(f"{self.stamp.path} has no dataset {name} (yet)")
                self._nodes[name] = node
            return node

    def release(self) -> None:
        """Give the file back; who does so last closes it."""
        with _LOCK:
            self._users -= 1
            if self._users == 0:
                _OPEN.pop(self.stamp.file, None)
                self._nodes.clear()
                with contextlib.suppress(Exception):  # a damaged file may not even close
                    self.file.close()

    @classmethod
    def open(cls, path: Path) -> "Handle":
        """Open a file, or return it where it is open already.

        Raises
        ------
        FramesUnavailable
            If it is not there, or cannot be opened.
        """
        with telling_what_is_wrong(path, "HDF5"), _LOCK:
            stamp = Stamp.of(path)
            handle = _OPEN.get(stamp.file)
            if handle is None:
                settled = stamp.settled()
                handle = cls(open_file(path), stamp, settled)
                _OPEN[stamp.file] = handle
            handle._users += 1
            return handle


_LOCK = threading.RLock()
_OPEN: dict[tuple[int, int], Handle] = {}


def open_file(path: Path) -> h5py.File:
    """Open a file as h5py does, but for the number of attempts.

    SWMR opens finished files too, and those that a crashed writer has left marked as open; and it does not keep the
    file locked against its writer.

    Raises
    ------
    OSError
        If it cannot be opened.
    """
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_libver_bounds(h5py.h5f.LIBVER_LATEST, h5py.h5f.LIBVER_LATEST)
    _set_attempts()(access.id, READ_ATTEMPTS)
    flags = h5py.h5f.ACC_RDONLY | h5py.h5f.ACC_SWMR_READ
    return h5py.File(h5py.h5f.open(os.fsencode(path), flags, fapl=access))


@cache
def _set_attempts() -> Callable[[int, int], object]:
    """Return HDF5's own function, which h5py does not have; where it is not found, one that does nothing."""
    try:
        function = ctypes.CDLL(h5py.h5p.__file__).H5Pset_metadata_read_attempts
    except (OSError, AttributeError):
        return _leave
    function.argtypes, function.restype = [ctypes.c_int64, ctypes.c_uint], ctypes.c_int
    return function


def _leave(access: int, attempts: int) -> None:
    """Leave the attempts as they are."""


def refresh(node: h5py.Dataset) -> bool:
    """Find out what a writer has added to a dataset.

    A dataset that is open twice in a process must not be refreshed: in HDF5 1.14 and 2.0 each of its chunks then has
    the bytes of the first one. This is also why files are opened once for all readers.

    Returns
    -------
    bool
        Whether that was possible: False where something else in this process has the dataset open.
    """
    with phil:
        if _times_open(node) > 1:
            return False
        node.id.refresh()
        return True


def _times_open(node: h5py.Dataset) -> int:
    return sum(other == node.id for other in h5py.h5f.get_obj_ids(node.file.id, h5py.h5f.OBJ_DATASET))
