"""A small detector on a long arm: 121 positions merged, beside pyFAI's MultiGeometry."""

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from pyFAI.goniometer import Goniometer as PyfaiGoniometer

import azimuthal as az
from benchmarks.scene import POLARIZATION, rings
from benchmarks.timing import REPEATS, Comparison, compare, quicker

NPT = 7000
POSITIONS = tuple(np.linspace(5.0, 65.0, 121).tolist())
FIRST = {"no": (10.0, 16.0), "full": (5.0, 8.0)}
AGAIN = (2.0, 4.0)
UNIT = "2th_deg"
NAMES = ["dist", "poni1", "poni2", "rot1", "rot2_offset", "rot2_scale"]
ARM = {
    "content": "Goniometer calibration v2",
    "detector": "Pilatus 100k",
    "detector_config": {"pixel1": 1.72e-4, "pixel2": 1.72e-4, "orientation": 3},
    "wavelength": 7.7490120575e-11,
    "param": [
        0.7999736259487662,
        -0.0478148834633645,
        0.08813794081702295,
        0.055322397672422,
        0.077490979297241,
        0.01745712552337643,
    ],
    "param_names": NAMES,
    "pos_names": ["pos"],
    "trans_function": {
        "content": "GeometryTransformation",
        "param_names": NAMES,
        "pos_names": ["pos"],
        "dist_expr": "dist",
        "poni1_expr": "poni1",
        "poni2_expr": "poni2",
        "rot1_expr": "rot1",
        "rot2_expr": "rot2_scale * pos + rot2_offset",
        "rot3_expr": "0.0",
        "constants": {"pi": 3.141592653589793},
    },
}
"""The arm of ROBL, BM20 of the ESRF, as calibrated for pyFAI's tutorial on it."""


@dataclass(frozen=True)
class Arm:
    """A scan of the detector's arm; everything is made from the goniometer file anew in each merge.

    Attributes
    ----------
    file
        pyFAI's goniometer file.
    positions
        Of the motor, degrees.
    npt
        Radial bins, over all that the positions cover.
    given_bins
        In place of those.
    """

    file: Path
    positions: tuple[float, ...] = POSITIONS
    npt: int = NPT
    given_bins: az.RadialBins | None = None

    def geometries(self) -> list[az.Geometry]:
        """Return where the detector was."""
        goniometer = az.Goniometer.from_json(self.file)
        return [goniometer.geometry(pos=position) for position in self.positions]

    @cached_property
    def bins(self) -> az.RadialBins:
        """The common bins."""
        return self.given_bins or az.RadialBins.covering(UNIT, self.npt, self.geometries())

    @cached_property
    def frames(self) -> list[np.ndarray]:
        """One frame a position, (rows, columns) int32."""
        rng = np.random.default_rng(0)
        return [rng.poisson(rings(geometry.two_theta())).astype(np.int32) for geometry in self.geometries()]

    def merger(self, splitting: str) -> az.MultiGeometry:
        """Return a new merger."""
        return az.MultiGeometry(self.bins, splitting=splitting, polarization=POLARIZATION)

    def merge(self, merger: az.MultiGeometry) -> np.ndarray:
        """Merge all frames; return the intensity."""
        merger.extend(zip(self.geometries(), self.frames, strict=True))
        return merger.pattern.intensity

    def pyfai(self):
        """Return pyFAI's merger of the same positions."""
        goniometer = PyfaiGoniometer.sload(str(self.file))
        return goniometer.get_mg(list(self.positions), unit=UNIT, radial_range=self.bins.range)

    def pyfai_merge(self, merger, splitting: str, engine: str) -> np.ndarray:
        """Merge all frames by pyFAI; return the intensity."""
        result = merger.integrate1d(
            self.frames,
            self.npt,
            error_model="azimuthal",
            polarization_factor=POLARIZATION,
            method=(splitting, engine, "cython"),
        )
        return result.intensity

    def pyfai_first(self, splitting: str, engine: str) -> np.ndarray:
        """Merge all frames by a new merger of pyFAI, and end its threads."""
        merger = self.pyfai()
        try:
            return self.pyfai_merge(merger, splitting, engine)
        finally:
            merger.threadpool.terminate()


def arm_file(folder: Path) -> Path:
    """Write the goniometer file; return its path."""
    path = folder / "arm.json"
    path.write_text(json.dumps(ARM))
    return path


def positions(repeats: int = REPEATS, taken: tuple[float, ...] = POSITIONS, npt: int = NPT) -> Iterator[Comparison]:
    """Merge all positions for the first time, and again with the matrices at hand."""
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        arm = Arm(arm_file(Path(folder)), taken, npt)
        yield from first_merges(arm, repeats)
        yield from merges_again(arm, repeats)


def first_merges(arm: Arm, repeats: int) -> Iterator[Comparison]:
    """Merge end to end: from the goniometer file to the merged intensity."""
    for splitting, (target, stretch) in FIRST.items():
        engine = "csr"
        if splitting == "full":
            engines = ("histogram", "csr")  # the first is pyFAI's default
            engine = engines[quicker(*(lambda e=e: arm.pyfai_first("full", e) for e in engines))]
        yield compare(
            f"{len(arm.positions)} positions, first merge end to end, splitting {splitting} (pyFAI {engine})",
            lambda s=splitting: arm.merge(arm.merger(s)),
            lambda s=splitting, e=engine: arm.pyfai_first(s, e),
            repeats=repeats,
            target=target,
            stretch=stretch,
        )


def merges_again(arm: Arm, repeats: int) -> Iterator[Comparison]:
    """Merge the same positions again."""
    target, stretch = AGAIN
    for splitting in FIRST:
        merger, theirs = arm.merger(splitting), arm.pyfai()
        arm.merge(merger)
        yield compare(
            f"the same positions again, splitting {splitting}",
            lambda m=merger: arm.merge(m.renewed()),
            lambda m=theirs, s=splitting: arm.pyfai_merge(m, s, "csr"),
            repeats=repeats,
            target=target,
            stretch=stretch,
        )
        theirs.threadpool.terminate()
