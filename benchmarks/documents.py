"""What documents cost: the RunEngine while it waits, and the reduction beyond reading and integrating."""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import yaml

import azimuthal as az
from benchmarks.hdf5_job import DATASET, write_frames
from benchmarks.scene import NPT, POLARIZATION, UNIT, Scene
from benchmarks.timing import REPEATS, Figure
from bluesky_powder import PowderReduction
from bluesky_powder.frames import Patience
from bluesky_powder.frames.hdf5 import Hdf5Files

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from raw_runs import stream_run

LARGE, SMALL = "Eiger2 CdTe 4M", "Pilatus 100k"
LARGE_FRAMES, SMALL_FRAMES = 64, 192
STACK = 8
FIRST = 16
"""Frames that a run begins with."""
SPLITTING = "full"
BEYOND = 1e-3
HANDLING = 3e-4


def documents(
    repeats: int = REPEATS, large: str = LARGE, large_frames: int = LARGE_FRAMES, small_frames: int = SMALL_FRAMES
) -> Iterator[Figure]:
    """Yield what an event costs live and replayed, on small frames and on large ones.

    Replays are compared by the processor time of all threads, in which what is common to both cancels out.
    """
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        small = Scan(Path(folder) / "small", SMALL, small_frames, 100)
        held = statistics.median(held_up(small) for _ in range(repeats))
        yield Figure("RunEngine held up per event (step scan, live)", held, "ms", HANDLING)
        scan = Scan(Path(folder) / "large", large, large_frames, NPT)
        for each, goal in ((small, HANDLING), (scan, BEYOND)):
            what = f"{each.detector}, HDF5 frame replayed, processor time"
            replayed, integrated, accumulated = replay_costs(each, repeats)
            yield Figure(f"{what}: all", statistics.median(replayed), "ms")
            beyond = statistics.median(a - b for a, b in zip(replayed, integrated, strict=True))
            yield Figure(f"{what}: beyond reading and integrating", beyond, "ms", goal if each is scan else None)
            beyond = statistics.median(a - c for a, c in zip(replayed, accumulated, strict=True))
            yield Figure(f"{what}: documents, beyond union, mean frame and spottiness too", beyond, "ms", goal)


@dataclass(frozen=True)
class Scan:
    """A step scan with frames in a compressed HDF5 file.

    Attributes
    ----------
    folder
        For its files.
    detector
        Its name.
    count
        Events.
    npt
        Radial bins.
    """

    folder: Path
    detector: str
    count: int
    npt: int

    @cached_property
    def frames(self) -> Path:
        """The file with the frames."""
        path = self.folder / "frames.h5"
        self.folder.mkdir(exist_ok=True)
        write_frames(path, self.detector, self.count)
        return path

    @cached_property
    def geometry(self) -> az.Geometry:
        """Where the detector is."""
        return Scene(self.detector).geometry()

    @property
    def bins(self) -> az.RadialBins:
        """The bins."""
        return az.RadialBins(UNIT, self.npt)

    @cached_property
    def recipe(self) -> Path:
        """The recipe file."""
        self.folder.mkdir(exist_ok=True)
        self.geometry.to_poni(self.folder / "detector.poni")
        content = {
            "frames": "det",
            "geometry": {"poni": "detector.poni"},
            "bins": {"unit": UNIT, "npt": self.npt},
            "integration": {"splitting": SPLITTING, "polarization": POLARIZATION},
        }
        path = self.folder / "recipe.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    def documents(self, order: str) -> list:
        """Return the documents of a new run: "live", or "tiled" as Tiled replays them."""
        return stream_run(f"file://localhost{self.frames}", self.count, order=order, shape=self.geometry.shape)


def held_up(scan: Scan) -> float:
    """Return the seconds per event that the callback keeps the RunEngine waiting."""
    told = scan.documents("live")
    with PowderReduction(scan.recipe) as reduction:
        for name, document in told[:2]:
            reduction(name, document)
        start = time.perf_counter()
        for name, document in told[2:]:
            reduction(name, document)
        took = time.perf_counter() - start
        reduction.wait()
    return took / scan.count


def replay_costs(scan: Scan, repeats: int) -> list[list[float]]:
    """Return processor time per frame of every round: replayed, read and integrated, and that with all spottiness.

    The latter two do by the engine what the callback does, in the same stacks. The first frames of a run, for which
    memory is got and dead pixels are found, are not counted.
    """
    integrator = az.Integrator(scan.geometry, scan.bins, splitting=SPLITTING, polarization=POLARIZATION)
    files = Hdf5Files(Patience(0.0))
    reduction = PowderReduction(scan.recipe, pace="replay")
    clock: list[float] = []
    reduction.subscribe(lambda _, document: "raw_event_uid" in document.get("data", ()) and _note(clock))

    def read(start: int) -> np.ndarray:
        return files.read_stack(scan.frames, DATASET, start, min(start + STACK, scan.count))

    def replayed() -> None:
        for name, document in scan.documents("tiled"):
            reduction(name, document)

    def integrated() -> None:
        for start in range(0, scan.count, STACK):
            for _ in integrator.integrate(read(start)):
                _note(clock)

    def accumulated() -> None:
        so_far = None
        with az.MeanFrames() as mean_frames:
            for start in range(0, scan.count, STACK):
                ones = [1.0] * min(STACK, scan.count - start)
                together = mean_frames.integrate(integrator, read(start), ones, follow=True)
                for pattern, mean in zip(*together, strict=True):
                    so_far = pattern if so_far is None else so_far | pattern
                    for each in (pattern, so_far, mean):
                        each.spottiness_numbers()
                    _note(clock)

    def cost(function: Callable[[], None]) -> float:
        clock.clear()
        function()
        return (clock[-1] - clock[FIRST - 1]) / (len(clock) - FIRST)

    rounds = [tuple(map(cost, (replayed, integrated, accumulated))) for _ in range(repeats + 1)][1:]
    files.close()
    reduction.close()
    return [list(column) for column in zip(*rounds, strict=True)]


def _note(clock: list[float]) -> None:
    """Note the processor time of all threads."""
    clock.append(time.process_time())
