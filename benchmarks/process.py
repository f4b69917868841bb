"""What a fresh process pays: imports, kernels from disk, and the way to its first pattern."""

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.kernels import DTYPES
from benchmarks.scene import Scene
from benchmarks.timing import REPEATS, Comparison, Figure, Table, compare
from benchmarks.worker import ROOT

IMPORT = 0.5
DETECTOR = "Eiger2 CdTe 4M"
TIMED_IMPORT = "import time; start = time.perf_counter(); {what}; print(time.perf_counter() - start)"
FIRST_PATTERN = """
import sys
import numpy as np
from benchmarks.quiet import quiet
from benchmarks.kernels import DTYPES
from benchmarks.scene import Scene, pyfai_frame
scene, image = Scene(sys.argv[1]), np.load(sys.argv[2])
with quiet():
    {what}
"""
OURS, THEIRS = "scene.integrator('full').integrate(image).intensity", "pyfai_frame(scene.pyfai(), image, 'full')"


def process(repeats: int = REPEATS, detector: str = DETECTOR) -> Iterator[Figure | Comparison | Table]:
    """Yield import times, and what is compiled in a process that finds the kernels on disk."""
    yield import_time("import azimuthal", repeats, IMPORT)
    yield import_time("from azimuthal import Integrator", repeats)
    yield import_time("from bluesky_powder import PowderReduction", repeats)
    yield first_pattern((repeats + 1) // 2, detector)
    yield from specialisations()


def first_pattern(repeats: int = REPEATS, detector: str = DETECTOR) -> Comparison:
    """Start Python, import, make an integrator and integrate a frame."""
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        path = str(Path(folder) / "frame.npy")
        np.save(path, Scene(detector).frames(1)[0])
        codes = (FIRST_PATTERN.format(what=what) for what in (OURS, THEIRS))
        ours, theirs = (partial(_python, "-c", code, detector, path) for code in codes)
        name = "fresh process to first pattern, imports and all, splitting full"
        return compare(name, ours, theirs, repeats=repeats, unit="s")


def import_time(what: str, repeats: int = REPEATS, target: float | None = None) -> Figure:
    """Return the median over fresh processes."""
    took = statistics.median(float(_python("-c", TIMED_IMPORT.format(what=what))) for _ in range(repeats))
    return Figure(f"`{what}`, fresh process", took, "s", target)


def specialisations(dtypes: Sequence[str] = DTYPES) -> Iterator[Figure | Table]:
    """Use everything in two processes, one after the other; yield what the second compiled, and what there is."""
    _python("-m", "benchmarks.kernels", *dtypes)
    found: dict[str, dict[str, int]] = json.loads(_python("-m", "benchmarks.kernels", *dtypes))
    compiled = sum(kernel["compiled"] for kernel in found.values())
    yield Figure("kernels that a second process compiles again", compiled, "", 0)
    yield Figure(
        f"specialisations loaded, frames of {len(dtypes)} types in all ways",
        sum(k["specialisations"] for k in found.values()),
        "",
    )
    rows = sorted(((name, str(kernel["specialisations"])) for name, kernel in found.items()), key=lambda r: -int(r[1]))
    yield Table("specialisations by kernel", ("kernel", "specialisations"), tuple(rows))


def _python(*arguments: str) -> str:
    """Return what a fresh Python prints."""
    run = subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return run.stdout
