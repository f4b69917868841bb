"""One thread and two: the same tasks in two processes, in turn."""

import itertools
import statistics
from collections.abc import Callable, Iterator

from benchmarks.scene import Scene
from benchmarks.timing import REPEATS, Figure
from benchmarks.worker import Worker

FRAMES = 16
SPLITTINGS = ("no", "full")
NAMES = tuple(
    f"{what}, splitting {splitting}"
    for splitting in SPLITTINGS
    for what in ("one frame", f"stream of {FRAMES} frames", "new geometry to first pattern")
)
TARGET = 1.7


def cores(repeats: int = REPEATS, detector: str = "Eiger2 CdTe 4M") -> Iterator[Figure]:
    """Compare 2 threads with 1, by AZIMUTHAL_THREADS."""
    arguments = "benchmarks.cores:tasks", detector
    with (
        Worker(*arguments, environment={"AZIMUTHAL_THREADS": "2"}) as two,
        Worker(*arguments, environment={"AZIMUTHAL_THREADS": "1"}) as one,
    ):
        for name in NAMES:
            rounds = [(two.run(name).seconds, one.run(name).seconds) for _ in range(repeats + 1)][1:]
            both, alone = (1e3 * statistics.median(side) for side in zip(*rounds, strict=True))
            ratio = statistics.median(b / a for a, b in rounds)
            what = f"2 threads instead of 1: {name} ({both:.3g} instead of {alone:.3g} ms)"
            yield Figure(what, ratio, "times", TARGET, better="most")


def tasks(detector: str) -> dict[str, Callable[[], object]]:
    """Return what is timed, for a process of its own."""
    scene = Scene(detector)
    frames = scene.frames(FRAMES)
    turns = itertools.count()
    functions = []
    for splitting in SPLITTINGS:
        integrator = scene.integrator(splitting)
        functions += [
            lambda i=integrator: i.integrate(frames[0]),
            lambda i=integrator: i.integrate(frames),
            lambda s=splitting: scene.integrator(s, 1e-6 * next(turns)).integrate(frames[0]),
        ]
    return dict(zip(NAMES, functions, strict=True))
