"""One frame, a stream of frames, and a new geometry, beside pyFAI: all seven sums, frame by frame masks included."""

import itertools
import statistics
from collections.abc import Iterator

import azimuthal as az
from benchmarks.scene import Scene, pyfai_frame
from benchmarks.timing import REPEATS, Comparison, Figure, compare, in_turn

FRAME = {"no": (6.0, 10.0), "bbox": (None, None), "full": (4.0, 8.0)}
STREAM = {"no": (12.0, 20.0), "full": (12.0, 20.0)}
NEW = {"no": (12.0, 25.0), "full": (6.0, 10.0)}
BOOKKEEPING = (0.2, 0.1)
STREAM_FRAMES = 16


def one_frame(repeats: int = REPEATS, scene: Scene | None = None) -> Iterator[Comparison]:
    """Integrate one frame with an integrator that is there."""
    scene = scene or Scene()
    (image,) = scene.frames(1)
    for splitting, (target, stretch) in FRAME.items():
        integrator, ai = scene.integrator(splitting), scene.pyfai()
        yield compare(
            f"one frame, splitting {splitting}",
            lambda i=integrator: i.integrate(image),
            lambda a=ai, s=splitting: pyfai_frame(a, image, s, scene.npt),
            repeats=repeats,
            warmups=2,
            target=target,
            stretch=stretch,
        )


def stream(repeats: int = REPEATS, scene: Scene | None = None, count: int = STREAM_FRAMES) -> Iterator[Comparison]:
    """Integrate frames that are at hand: as a stack, and one by one in pyFAI, which has no stacks."""
    scene = scene or Scene()
    frames = scene.frames(count)
    for splitting, (target, stretch) in STREAM.items():
        integrator, ai = scene.integrator(splitting), scene.pyfai()
        yield compare(
            f"stream of {count} frames, splitting {splitting}, per frame",
            lambda i=integrator: i.integrate(frames),
            lambda a=ai, s=splitting: [pyfai_frame(a, image, s, scene.npt) for image in frames],
            repeats=repeats,
            target=target,
            stretch=stretch,
            frames=count,
        )


def new_geometry(repeats: int = REPEATS, scene: Scene | None = None) -> Iterator[Comparison]:
    """Go from a geometry that was never seen to its first pattern."""
    scene = scene or Scene()
    (image,) = scene.frames(1)
    turns = itertools.count()
    for splitting, (target, stretch) in NEW.items():
        yield compare(
            f"new geometry to first pattern, splitting {splitting}",
            lambda s=splitting: scene.integrator(s, 1e-6 * next(turns)).integrate(image),
            lambda s=splitting: pyfai_frame(scene.pyfai(1e-6 * next(turns)), image, s, scene.npt),
            repeats=repeats,
            target=target,
            stretch=stretch,
        )


def bookkeeping(repeats: int = REPEATS, scene: Scene | None = None, count: int = STREAM_FRAMES) -> Iterator[Figure]:
    """Merge frames and add them to the mean frame, as a share of integrating them; then read both merges too."""
    scene = scene or Scene()
    frames = scene.frames(count)
    geometry = scene.geometry()
    target, stretch = BOOKKEEPING
    for splitting in ("no", "full"):
        merger = az.MultiGeometry(scene.bins.resolved(geometry), splitting=splitting)
        merger.add(geometry, frames)
        integrator = merger.integrators.integrator(geometry)

        def stack(m=merger):
            m.add(geometry, frames)

        def one_by_one(m=merger):
            for frame in frames:
                m.add(geometry, frame)

        def read(m=merger):
            for frame in frames:
                m.add(geometry, frame)
                m.pattern.spottiness(), m.mean_frame_pattern.spottiness()

        def plain_stack(i=integrator):
            i.integrate(frames)

        def plain_one_by_one(i=integrator):
            for frame in frames:
                i.integrate(frame)

        rounds = in_turn([stack, plain_stack, one_by_one, plain_one_by_one, read], repeats=repeats)
        in_stack = statistics.median(a / b - 1.0 for a, b, *_ in rounds)
        alone = statistics.median(c / d - 1.0 for _, _, c, d, _ in rounds)
        after_each = statistics.median(e - d for *_, d, e in rounds) / count
        what = "cumulative union and mean frame, share of the integration"
        yield Figure(f"{what}, frame by frame, splitting {splitting}", alone, "%", target, stretch)
        yield Figure(f"{what}, stack of {count}, splitting {splitting}", in_stack, "%", target, stretch)
        yield Figure(f"the same, and both merges read after each frame, splitting {splitting}", after_each, "ms")
