"""Pixel sums on disk, for geometries that are not needed now."""

import shutil
import tempfile
import weakref
from itertools import count
from pathlib import Path

import numpy as np

from azimuthal.integrator import IntegratorKey
from azimuthal.multigeometry.pixel_sums import PixelSums


class Scratch:
    """Pixel sums on disk, in a folder of their own that is made at first need."""

    def __init__(self, parent: str | Path | None) -> None:
        self._parent = parent
        self._folder: Path | None = None
        self._kept: dict[IntegratorKey, tuple[PixelSums, Path]] = {}
        self._numbers = count()
        self.nbytes = 0

    def put(self, key: IntegratorKey, sums: PixelSums) -> None:
        """Write the arrays of `sums` to a file and forget them in memory."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="azimuthal-mean-frames-", dir=self._parent))
            self._forget = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        path = self._folder / f"{next(self._numbers)}.npz"
        np.savez(path, allow_pickle=False, **sums.arrays())
        self.nbytes += path.stat().st_size
        sums.set_arrays({})
        self._kept[key] = (sums, path)

    def take(self, key: IntegratorKey) -> PixelSums | None:
        """Return the sums of `key` with their arrays, and delete the file; None where there is none."""
        if key not in self._kept:
            return None
        sums, path = self._kept.pop(key)
        with np.load(path) as arrays:
            sums.set_arrays(dict(arrays))
        self._delete(path)
        return sums

    def drop_oldest(self) -> IntegratorKey:
        """Delete the file that was written first and return its key."""
        key = next(iter(self._kept))
        self._delete(self._kept.pop(key)[1])
        return key

    def close(self) -> None:
        """Delete everything."""
        self._kept.clear()
        self.nbytes = 0
        if self._folder is not None:
            self._forget()
            self._folder = None

    def _delete(self, path: Path) -> None:
        self.nbytes -= path.stat().st_size
        path.unlink()
