"""How costs grow with pixels, bins and geometries: processor time, so that a busy machine tells the same."""

import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import azimuthal as az
from benchmarks.positions import NPT, POSITIONS, Arm, arm_file
from benchmarks.scene import DETECTORS, Scene
from benchmarks.timing import REPEATS, Table, processor_seconds

BINS = (100, 500, 2000, 5000, 20000)
BINS_DETECTOR = "Eiger2 CdTe 1M"
GEOMETRIES = (1, 4, 16, 61, 121)
STACK = 8
SPLITTINGS = ("no", "full")
COLUMNS = (
    *(f"one frame, {splitting}" for splitting in SPLITTINGS),
    *(f"stream, {splitting}" for splitting in SPLITTINGS),
    *(f"new geometry, {splitting}" for splitting in SPLITTINGS),
)


def growth(repeats: int = REPEATS) -> Iterator[Table]:
    """Yield a table for pixels, one for bins and one for geometries, each number of half as many repeats."""
    for table in (with_pixels, with_bins, with_geometries):
        yield table((repeats + 1) // 2)


def with_pixels(repeats: int = REPEATS, detectors: tuple[str, ...] = DETECTORS) -> Table:
    """Return costs on detectors of growing size."""
    rows = []
    for name in detectors:
        scene = Scene(name)
        rows.append((f"{name}, {scene.pixels / 1e6:.2g} M pixels", *_costs(scene, repeats)))
    return Table("growth with pixels: processor time, ns a pixel, 2000 bins", ("detector", *COLUMNS), tuple(rows))


def with_bins(repeats: int = REPEATS, detector: str = BINS_DETECTOR, bins: tuple[int, ...] = BINS) -> Table:
    """Return costs with more and more bins."""
    rows = []
    for npt in bins:
        scene = Scene(detector, npt)
        rows.append((str(npt), *_costs(scene, repeats), f"{shares(scene.integrator('full')) / scene.pixels:.1f}"))
    columns = ("bins", *COLUMNS, "shares a pixel, full")
    return Table(f"growth with bins: processor time, ns a pixel, {detector}", columns, tuple(rows))


def shares(integrator: az.Integrator) -> int:
    """Return how many shares of pixels there are in bins."""
    return sum(band.pixels.size for band in integrator.matrix.bands)


def with_geometries(repeats: int = REPEATS, counts: tuple[int, ...] = GEOMETRIES, npt: int = NPT) -> Table:
    """Return what a geometry costs when there are more and more of them, on the arm of `positions`."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        whole = Arm(arm_file(Path(folder)), POSITIONS[: max(counts)], npt)
        for count in counts:
            arm = Arm(whole.file, whole.positions[:count], npt, whole.bins)
            cells = []
            for splitting in SPLITTINGS:
                merger = arm.merger(splitting)
                first = processor_seconds(lambda a=arm, s=splitting: a.merge(a.merger(s)), repeats)
                again = processor_seconds(lambda a=arm, m=merger: a.merge(m), repeats)
                cells += [f"{1e3 * first / count:.2f}", f"{1e3 * again / count:.2f}"]
            rows.append((str(count), *cells))
    columns = tuple(f"{what}, {splitting}" for splitting in SPLITTINGS for what in ("first merge", "again"))
    name = f"growth with geometries: processor time, ms a geometry, Pilatus 100k, {npt} bins"
    return Table(name, ("geometries", *columns), tuple(rows))


def _costs(scene: Scene, repeats: int) -> list[str]:
    """Return nanoseconds a pixel, a cell for each of `COLUMNS`."""
    frames = scene.frames(STACK)
    turns = itertools.count()

    def first(splitting: str) -> az.Pattern:
        return scene.integrator(splitting, 1e-6 * next(turns)).integrate(frames[0])

    integrators = [scene.integrator(splitting) for splitting in SPLITTINGS]
    costs = [
        *(processor_seconds(lambda i=i: i.integrate(frames[0]), repeats) for i in integrators),
        *(processor_seconds(lambda i=i: i.integrate(frames), repeats) / STACK for i in integrators),
        *(processor_seconds(lambda s=s: first(s), repeats) for s in SPLITTINGS),
    ]
    return [f"{1e9 * cost / scene.pixels:.2f}" for cost in costs]
