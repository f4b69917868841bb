"""Reading and decoding an HDF5 stack of bitshuffle-LZ4 frames, against h5py and its filter."""

import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401 - registers the filter

from benchmarks.hdf5_job import DATASET, write_frames
from benchmarks.timing import REPEATS, Comparison, compare, in_turn
from bluesky_powder.frames import Patience
from bluesky_powder.frames.files.hdf5 import Hdf5Files

DETECTOR = "Eiger2 CdTe 4M"
FRAMES = 24
STACK = 8
LONG_AGO = (1e9, 1e9)


def comparisons(repeats: int = REPEATS, detector: str = DETECTOR, count: int = FRAMES) -> Iterator[Comparison]:
    """Yield one line of the table after another; numbers are those of one frame."""
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        path = Path(folder) / "frames.h5"
        write_frames(path, detector, count)
        os.utime(path, LONG_AGO)  # as a run that is over
        files = Hdf5Files(Patience(0.0))

        def one_by_one() -> None:
            for _ in files.frames(path, DATASET, 0, count):
                pass

        def in_stacks() -> None:
            for start in range(0, count, STACK):
                files.read_stack(path, DATASET, start, min(start + STACK, count))

        def by_h5py() -> None:
            with h5py.File(path, "r") as file:
                for index in range(count):
                    file[DATASET][index]

        what = "HDF5 file, bitshuffle-lz4: read and decode"
        yield compare(f"{what}, frame after frame", one_by_one, by_h5py, repeats=repeats, frames=count)
        yield compare(f"{what}, in stacks of {STACK}", in_stacks, by_h5py, repeats=repeats, frames=count)
        pairs = in_turn([one_by_one, by_h5py], repeats=repeats, clock=time.process_time)
        mine, theirs = (statistics.median(column) / count for column in zip(*pairs, strict=True))
        ratio = statistics.median(b / a for a, b in pairs)
        yield Comparison(f"{what}, processor time of all threads", mine, theirs, ratio)
        files.close()
