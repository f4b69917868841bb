"""What documents cost: the RunEngine while it waits, and the reduction beyond reading and integrating."""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml

import azimuthal as az
from benchmarks.hdf5_job import DATASET, write_frames
from benchmarks.scene import NPT, POLARIZATION, UNIT, Scene
from benchmarks.timing import REPEATS, Figure
from bluesky_powder import PowderReduction
from bluesky_powder.frames import Patience
from bluesky_powder.frames.files.hdf5 import Hdf5Files

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from raw_runs import stream_run

LARGE, SMALL = "Eiger2 CdTe 4M", "Pilatus 100k"
LARGE_FRAMES, SMALL_FRAMES = 64, 192
STACK = 8
FIRST = 24
"""Frames that a run begins with: until two stacks were read ahead, and both have their memory."""
SPLITTING = "full"
BEYOND = 1e-3
HANDLING = 3e-4


def documents(
    repeats: int = REPEATS, large: str = LARGE, large_frames: int = LARGE_FRAMES, small_frames: int = SMALL_FRAMES
) -> Iterator[Figure]:
    """Yield what an event costs live and replayed, on small frames and on large ones.

    Costs of a replay are the least of some rounds, in which what is common to both cancels out.
    Documents are dealt with in the thread that replays; images are, large ones, in others, whose time tells of it
    only what varies from one round to the next.
    """
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        small = Scan(Path(folder) / "small", SMALL, small_frames, 100)
        held = statistics.median(held_up(small) for _ in range(repeats))
        yield Figure("RunEngine held up per event (step scan, live)", held, "ms", HANDLING)
        scan = Scan(Path(folder) / "large", large, large_frames, NPT)
        for each, most in ((small, None), (scan, BEYOND)):
            yield from of_replay(each, most, repeats)


def of_replay(scan: "Scan", most: float | None, repeats: int) -> Iterator[Figure]:
    """Yield what a frame of a scan costs in a replay, and what that is beyond reading and integrating.

    After each frame the mean frame of all so far is integrated too: that is integration of an image, and is told apart.
    """
    what = f"{scan.detector}, {scan.npt} bins, HDF5 frame replayed, processor time"
    clock = f"{scan.detector}, the same by the clock"
    replayed, frame, both, accumulated = replay_costs(scan, repeats)
    yield Figure(f"{what}: all", replayed.everywhere, "ms")
    yield Figure(f"{what}: integrating the mean frame so far", both.everywhere - frame.everywhere, "ms")
    for than, meant in ((both, "the frame and the mean frame"), (frame, "the frame alone")):
        beyond = f"beyond reading and integrating {meant}"
        yield Figure(f"{what}: {beyond}", replayed.everywhere - than.everywhere, "ms", most)
        yield Figure(f"{clock}: {beyond}", replayed.passed - than.passed, "ms", most)
    yield Figure(f"{what}: documents, taken in and emitted", replayed.here - accumulated.here, "ms", HANDLING)


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


class Clock(NamedTuple):
    """Seconds of processor time, of all threads and of this one, and seconds that passed."""

    everywhere: float
    here: float
    passed: float

    @classmethod
    def now(cls) -> "Clock":
        """Read it."""
        return cls(time.process_time(), time.thread_time(), time.perf_counter())


def replay_costs(scan: Scan, repeats: int) -> list[Clock]:
    """Return what a frame costs, the least of some rounds.

    These are: replayed; read and integrated; that and the mean frame after each; that and all spottiness. What follows
    the first does by the engine alone what the callback has it do, in the same stacks, with a file opened anew as in
    every run. The first frames, for which memory is got and dead pixels are found, are not counted.
    """
    integrator = az.Integrator(scan.geometry, scan.bins, splitting=SPLITTING, polarization=POLARIZATION)
    reduction = PowderReduction(scan.recipe, pace="replay")
    notes: list[Clock] = []

    def note() -> None:
        notes.append(Clock.now())

    reduction.subscribe(lambda _, document: "raw_event_uid" in document.get("data", ()) and note())

    def ones(stack: np.ndarray) -> list[float]:
        return [1.0] * len(stack)

    def in_stacks(use: Callable[[np.ndarray], None]) -> None:
        files = Hdf5Files(Patience(0.0))
        for start in range(0, scan.count, STACK):
            use(files.read_stack(scan.frames, DATASET, start, min(start + STACK, scan.count)))
        files.close()

    def replayed() -> None:
        for name, document in scan.documents("tiled"):
            reduction(name, document)

    def integrated() -> None:
        in_stacks(lambda stack: [note() for _ in integrator.integrate(stack)])

    def both() -> None:
        with az.MeanFrames() as sums:
            in_stacks(lambda stack: [note() for _ in sums.integrate(integrator, stack, ones(stack), follow=True)[0]])

    def accumulated() -> None:
        so_far, excess = None, 0.0

        def take(stack: np.ndarray) -> None:
            nonlocal so_far, excess
            for pattern, mean in zip(*sums.integrate(integrator, stack, ones(stack), follow=True), strict=True):
                so_far = pattern if so_far is None else so_far | pattern
                for each in (pattern, so_far, mean):
                    each.spottiness_numbers()
                excess += pattern.mean_excess
                excess / sums.frames / mean.mean_excess
                note()

        with az.MeanFrames() as sums:
            in_stacks(take)

    def cost(function: Callable[[], None]) -> Clock:
        notes.clear()
        function()
        spent = zip(notes[FIRST - 1], notes[-1], strict=True)
        return Clock(*((stop - start) / (len(notes) - FIRST) for start, stop in spent))

    rounds = [tuple(map(cost, (replayed, integrated, both, accumulated))) for _ in range(repeats + 1)][1:]
    reduction.close()
    return [Clock(*map(min, zip(*costs, strict=True))) for costs in zip(*rounds, strict=True)]
