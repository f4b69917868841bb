"""Darks that may be needed again: in memory as far as there is room, else in scratch files."""

import shutil
import tempfile
import weakref
from collections import OrderedDict
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np

from bluesky_powder.errors import FrameSkipped
from bluesky_powder.frames.darks.dark import Dark

SCRATCH_BYTES = 2**32
"""What the darks of one run may occupy on disk; beyond it the oldest is dropped."""


class DarkStore:
    """Darks of one run. Those used last are in memory, the others in scratch files.

    Parameters
    ----------
    byte_budget
        What may be in memory; one dark always may.
    scratch
        Folder for the scratch files; None for the system's.
    scratch_budget
        What may be on disk; the oldest goes first.
    """

    def __init__(
        self, *, byte_budget: int = 2**28, scratch: str | Path | None = None, scratch_budget: int = SCRATCH_BYTES
    ) -> None:
        self._byte_budget = byte_budget
        self._scratch_budget = scratch_budget
        self._scratch = scratch
        self._folder: Path | None = None
        self._live: OrderedDict[int, Dark] = OrderedDict()
        self._on_disk: OrderedDict[int, Path] = OrderedDict()
        self._numbers = count()

    def put(self, uid: str, dark: Dark) -> "KeptDark":
        """Keep a dark; return where it can be had."""
        number = next(self._numbers)
        self._live[number] = dark
        self._keep_to_budget()
        return KeptDark(uid, self, number)

    def get(self, number: int) -> Dark:
        """Return a dark.

        Raises
        ------
        FrameSkipped
            If it was dropped.
        """
        if number in self._live:
            self._live.move_to_end(number)
        elif number in self._on_disk:
            self._live[number] = _load(self._on_disk[number])
            self._keep_to_budget()
        else:
            raise FrameSkipped("its dark frame is no longer at hand; replay the run")
        return self._live[number]

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return sum(dark.nbytes for dark in self._live.values())

    def close(self) -> None:
        """Drop everything."""
        self._live.clear()
        self._on_disk.clear()
        if self._folder is not None:
            self._remove()
            self._folder = None

    def _keep_to_budget(self) -> None:
        while len(self._live) > 1 and self.nbytes > self._byte_budget:
            number, dark = self._live.popitem(last=False)
            if number not in self._on_disk:
                self._on_disk[number] = self._write(number, dark)
        while len(self._on_disk) > 1 and sum(p.stat().st_size for p in self._on_disk.values()) > self._scratch_budget:
            self._on_disk.popitem(last=False)[1].unlink()

    def _write(self, number: int, dark: Dark) -> Path:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="bluesky-powder-darks-", dir=self._scratch))
            self._remove = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        path = self._folder / f"{number}.npz"
        arrays = {"values": dark.values, "variance": dark.variance, "mask": dark.mask}
        np.savez(path, allow_pickle=False, **{name: array for name, array in arrays.items() if array is not None})
        return path


def _load(path: Path) -> Dark:
    with np.load(path) as arrays:
        return Dark(arrays["values"], arrays.get("variance"), arrays.get("mask"))


@dataclass(frozen=True, slots=True)
class KeptDark:
    """A dark in a `DarkStore`."""

    uid: str
    store: DarkStore
    number: int

    def read(self) -> Dark:
        """Return the dark."""
        return self.store.get(self.number)
