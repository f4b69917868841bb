"""What a new geometry costs before any share is computed, in processor time a pixel: ``python -m benchmarks.geometry``.

Processor time of all threads, not time on the clock: it tells the same on a busy machine.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

import azimuthal as az
from azimuthal.detector import Sensor
from azimuthal.integrator.corrections import normalization
from azimuthal.pattern import Conditions
from benchmarks.scene import DETECTORS, NPT, Scene
from benchmarks.timing import processor_seconds


@dataclass(frozen=True)
class Cost:
    """Median processor time of one step on one detector, in nanoseconds a pixel."""

    what: str
    detector: str
    pixels: int
    nanoseconds: float


def steps(g: az.Geometry) -> dict[str, Callable[[], object]]:
    """Return what a new geometry needs, step by step."""
    skipped = np.array(g.detector.mask)
    conditions = Conditions("no", "relative", (0.99, 0.0), parallax=False)
    bent = replace(g, detector=replace(g.detector, sensor=Sensor("CdTe", 7.5e-4)), parallax=True)
    return {
        "range of None": lambda: az.RadialBins("q_nm^-1", NPT).resolved(g),
        "q of centres": lambda: g.radial("q_nm^-1"),
        "2θ of centres": lambda: g.radial("2th_deg"),
        "azimuth of centres": g.azimuth,
        "q and azimuth of corners": lambda: g.vertices("q_nm^-1"),
        "2θ and azimuth of corners": lambda: g.vertices("2th_deg"),
        "solid angle, polarization, mask": lambda: normalization(g, conditions, None, None, skipped),
        "q of centres, parallax undone": lambda: bent.radial("q_nm^-1"),
    }


def growth() -> Iterator[Cost]:
    """Yield each step's cost on detectors of growing size: a pixel costs the same on all of them."""
    for name in DETECTORS:
        scene = Scene(name)
        for what, step in steps(scene.geometry()).items():
            yield Cost(what, name, scene.pixels, processor_seconds(step) / scene.pixels * 1e9)


def main() -> None:
    """Print the table as Markdown: nanoseconds a pixel."""
    costs = list(growth())
    pixels = {cost.detector: cost.pixels for cost in costs}
    found = {(cost.what, cost.detector): cost.nanoseconds for cost in costs}
    lines = [
        "| processor time, ns a pixel | "
        + " | ".join(f"{name} ({n / 1e6:.2g} M)" for name, n in pixels.items())
        + " |",
        "|---" * (len(pixels) + 1) + "|",
    ]
    for what in dict.fromkeys(cost.what for cost in costs):
        lines.append(f"| {what} | " + " | ".join(f"{found[what, name]:.2f}" for name in pixels) + " |")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
