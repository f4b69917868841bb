"""Which kernels are compiled, for which types: ``python -m benchmarks.kernels [DTYPE ...]`` tells in JSON."""

import itertools
import json
import sys
from collections.abc import Iterator, Sequence

from numba.core.dispatcher import Dispatcher

import azimuthal as az
from benchmarks.scene import UNIT, Scene

DETECTOR = "Pilatus 100k"
DTYPES = ("uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64")
SPLITTINGS = ("no", "bbox", "full")
STACK = 8


def use_everything(dtypes: Sequence[str] = DTYPES) -> None:
    """Integrate frames of some types in all ways that have kernels of their own."""
    scene = Scene(DETECTOR, 200)
    counts = scene.frames(STACK)
    counts[counts > 100] = 0
    for splitting, dtype in itertools.product(SPLITTINGS, dtypes):
        frames = counts.astype(dtype)
        merger = az.MultiGeometry(scene.bins.resolved(scene.geometry()), splitting=splitting)
        merger.add(scene.geometry(), frames)
        merger.mean_frame_pattern.spottiness()
        integrator = scene.integrator(splitting)
        integrator.integrate(frames[0])  # without the matrix, which comes with the next
        integrator.integrate(frames, mask=counts == 0)
        integrator.integrate(frames[0])
        integrator.integrate(frames[0], dark=1.0, dark_variance=1.0, monitor=2.0)
        integrator.integrate(frames[0], variance=frames[0] + 1.0)
        if splitting == "no":
            integrator.sigma_clip(frames[0])
        integrator.quantile_mean(frames[0], 0.1, 0.9)
        integrator.median(frames[0], dark=1.0)
    for splitting in SPLITTINGS:
        bins, sectors = az.RadialBins(UNIT, 50), az.AzimuthalBins(36)
        az.Integrator(scene.geometry(), bins, sectors, splitting=splitting).integrate(counts)


def kernels() -> Iterator[Dispatcher]:
    """Yield what numba has compiled or loaded of the engine and the plugin."""
    seen = set()
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in ("azimuthal", "bluesky_powder"):
            for value in list(vars(module).values()):
                if isinstance(value, Dispatcher) and value not in seen:
                    seen.add(value)
                    yield value


def report() -> dict[str, dict[str, int]]:
    """Return, for each kernel that was used: its specialisations, and those compiled rather than found on disk."""
    return {
        f"{kernel.py_func.__module__}.{kernel.py_func.__name__}": {
            "specialisations": len(kernel.signatures),
            "compiled": sum(kernel.stats.cache_misses.values()),
        }
        for kernel in kernels()
        if kernel.signatures
    }


if __name__ == "__main__":
    use_everything(sys.argv[1:] or DTYPES)
    sys.stdout.write(json.dumps(report()))
