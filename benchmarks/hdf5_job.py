"""A compressed HDF5 file to patterns and spottiness, each side in a process of its own: frames a second and memory."""

import os
import statistics
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from benchmarks.scene import Scene, pyfai_frame
from benchmarks.timing import REPEATS, Comparison, Figure
from benchmarks.worker import Worker

FRAMES = 40
DIFFERENT_FRAMES = 8
STACK = 8
LONG_AGO = (1e9, 1e9)
DATASET = "/entry/data/data"
SPLITTING = "full"
TIMES = (5.0, None)
FRAMES_PER_SECOND = (100.0, 200.0)
MEMORY = (2.0, 3.0)


def hdf5_job(
    repeats: int = REPEATS, detector: str = "Eiger2 CdTe 4M", count: int = FRAMES
) -> Iterator[Comparison | Figure]:
    """Read, decode, integrate, and tell the spottiness of each frame and of all so far, both sides in turn."""
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        path = Path(folder) / "frames.h5"
        write_frames(path, detector, count)
        task = (path, detector, count)
        with Worker("benchmarks.hdf5_job:ours", *task) as own, Worker("benchmarks.hdf5_job:pyfai", *task) as reference:
            rounds = [(own.run("job"), reference.run("job")) for _ in range(repeats + 1)][1:]
    mine, theirs = (statistics.median(count / answer.seconds for answer in side) for side in zip(*rounds, strict=True))
    ratio = statistics.median(b.seconds / a.seconds for a, b in rounds)
    what = f"HDF5 file, bitshuffle-lz4: read, decode, integrate ({SPLITTING}), spottiness of each frame and cumulative"
    yield Comparison(what, mine, theirs, ratio, *TIMES, unit="frames/s")
    yield Figure("the same: our frames a second", mine, "frames/s", *FRAMES_PER_SECOND, better="most")
    peaks = [answer.peak for answer in rounds[-1]]
    yield Comparison("peak memory of that job", *peaks, peaks[1] / peaks[0], *MEMORY, unit="MB")


def write_frames(path: Path, detector: str, count: int) -> None:
    """Write frames as a Dectris file writer does: a chunk a frame, bitshuffle-lz4, uint32; the run is long over."""
    import h5py
    import hdf5plugin

    frames = Scene(detector).frames(min(count, DIFFERENT_FRAMES))
    shape = frames.shape[1:]
    with h5py.File(path, "w", libver="latest") as file:
        how = {"chunks": (1, *shape), "maxshape": (None, *shape), **hdf5plugin.Bitshuffle(cname="lz4")}
        dataset = file.create_dataset(DATASET, (count, *shape), np.uint32, **how)
        for k in range(count):
            dataset[k] = frames[k % len(frames)]
    os.utime(path, LONG_AGO)


# What follows runs in the processes of the job, which are to hold nothing of the other side: each imports its own.


def ours(path: str, detector: str, count: str) -> dict[str, Callable[[], object]]:
    """Return our job."""
    from bluesky_powder.frames import Patience
    from bluesky_powder.frames.files.hdf5 import Hdf5Files

    integrator = Scene(detector).integrator(SPLITTING)
    # The chunks of a stack are decoded side by side: reading ahead would cost memory and save no time.
    files = Hdf5Files(Patience(0.0), ahead_bytes=0)

    def job() -> list[tuple[float, float]]:
        so_far, told = None, []
        for start in range(0, int(count), STACK):
            stop = min(start + STACK, int(count))
            for pattern in integrator.integrate(files.read_stack(Path(path), DATASET, start, stop)):
                so_far = pattern if so_far is None else so_far | pattern
                told.append((pattern.spottiness(), so_far.spottiness()))
        return told

    return {"job": job}


def pyfai(path: str, detector: str, count: str) -> dict[str, Callable[[], object]]:
    """Return the job as pyFAI's tutorial on spotty data does it."""
    import h5py
    import hdf5plugin  # noqa: F401 - registers the filter

    ai = Scene(detector).pyfai()

    def job() -> list[tuple[float, float]]:
        so_far, told = None, []
        with h5py.File(path, "r") as file:
            dataset = file[DATASET]
            for k in range(int(count)):
                result = pyfai_frame(ai, dataset[k], SPLITTING)
                so_far = result if so_far is None else so_far.union(result)
                told.append((result.calc_spottiness(), so_far.calc_spottiness()))
        return told

    return {"job": job}
