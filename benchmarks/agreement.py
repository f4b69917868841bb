"""Print how far results are from pyFAI and from plain float64, as Markdown: ``python -m benchmarks.agreement``.

Worst case over random geometries, detectors, units and orientations. The first table has the positions, which no
splitting touches; the second has one column a splitting. Exits with 1 when a target is missed.
"""

import logging
import sys
import warnings
import zlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import numpy as np
from pyFAI.detectors import detector_factory
from pyFAI.goniometer import Goniometer
from scipy.sparse import csr_array, hstack, kron

import azimuthal as az
from azimuthal.detector import detector_names

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import naive
import pyfai_reference as reference

NPT = 800
EDGE = slice(3, -3)
FRAMES = 4
SPLITTINGS = ("no", "bbox", "full")
CASES = [
    (name, 100 + k, unit, 1 + k % 4)
    for k, (name, unit) in enumerate(
        (name, unit)
        for name in ("Eiger 1M", "Pilatus 300k", "Eiger2 500k", "Pilatus 300k", "Eiger2 CdTe 500k", "Pilatus 200k")
        for unit in ("q_nm^-1", "2th_deg", "q_A^-1", "2th_rad")
    )
]
"""Detector, seed, unit, orientation."""

GIVEN = "pyFAI, given its vertices"
ITS_OWN = "pyFAI, given its coefficients"
AS_IS = "pyFAI, as users get it"
FLOAT64 = "plain float64"
POLYGONS = "exact polygons, where pyFAI is farthest"
TARGETS = {
    ("coefficients, absolute", GIVEN): {"no": 0.0, "bbox": 2e-7},
    ("coefficients, absolute", POLYGONS): {"full": 3e-6},
    ("N", ITS_OWN): dict.fromkeys(SPLITTINGS, 2e-7),
    ("V", ITS_OWN): dict.fromkeys(SPLITTINGS, 2e-7),
    ("W", ITS_OWN): dict.fromkeys(SPLITTINGS, 2e-7),
    ("Q", ITS_OWN): dict.fromkeys(SPLITTINGS, 2e-7),
    ("intensity", ITS_OWN): dict.fromkeys(SPLITTINGS, 2e-7),
    ("Poisson sem", ITS_OWN): dict.fromkeys(SPLITTINGS, 2e-7),
    ("VV", FLOAT64): dict.fromkeys(SPLITTINGS, 1e-9),
    ("VV of a union", FLOAT64): dict.fromkeys(SPLITTINGS, 1e-9),
    ("VV of 4 bins in one", FLOAT64): {"no": 1e-9},
    ("spottiness in pyFAI's form", "pyFAI, given its sums"): dict.fromkeys(SPLITTINGS, 1e-6),
    ("spottiness", FLOAT64): dict.fromkeys(SPLITTINGS, 1e-9),
}


@dataclass
class Table:
    """The worst of each row and column."""

    worst: dict[tuple[str, str], dict[str, float]] = field(default_factory=lambda: defaultdict(dict))

    def note(self, what: str, beside: str, splitting: str, value: float) -> None:
        """Keep a difference if it is the worst so far."""
        row = self.worst[what, beside]
        row[splitting] = max(row.get(splitting, 0.0), float(value))

    def lines(self) -> Iterator[tuple[str, bool]]:
        """Yield the rows, and whether each meets its targets."""
        yield "| what | beside | no | bbox | full | target |", True
        yield "|---|---|---|---|---|---|", True
        for (what, beside), row in self.worst.items():
            targets = TARGETS.get((what, beside), {})
            met = all(row.get(name, 0.0) <= target for name, target in targets.items())
            cells = " | ".join(f"{row[name]:.1e}" if name in row else "-" for name in SPLITTINGS)
            said = " / ".join(f"{x:g}" for x in sorted(set(targets.values()))) if targets else "-"
            yield f"| {what} | {beside} | {cells} | {said if met else said + ' MISSED'} |", met


def relative(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Return the largest relative difference over filled inner bins."""
    ours, theirs = ours[EDGE], np.asarray(theirs)[EDGE]
    some = np.isfinite(ours) & (theirs != 0)
    return float(np.abs(ours[some] / theirs[some] - 1).max())


def two_pass(matrix, values: np.ndarray, norm: np.ndarray) -> np.ndarray:
    """Return sum w^2 (v - I)^2 of each row of a matrix (bins, entries), I the weighted mean, in two passes."""
    weights = matrix * norm[None, :]
    total = np.asarray(weights.sum(axis=1))
    mean = np.divide(weights @ values, total, out=np.zeros_like(total), where=total != 0)
    coo = weights.tocoo()
    return np.bincount(coo.row, coo.data**2 * (values[coo.col] - mean[coo.row]) ** 2, minlength=total.size)


def compare_case(table: Table, name: str, seed: int, unit: str, orientation: int, splitting: str) -> None:
    """Note all differences of one geometry and splitting."""
    geometry = reference.random_geometry(name, seed, orientation)
    asked, in_range = reference.common_range(geometry, unit)
    frames = np.stack([reference.random_frame(geometry, seed + 1000 * k, least=1) for k in range(FRAMES)])
    theirs = reference.integrate(geometry, frames[0], NPT, unit, asked, splitting)
    bins = az.RadialBins(unit, NPT, in_range)
    ours = reference.bin_order(reference.rounded(geometry, unit, bins.edges, splitting))
    off = reference.differences(ours, theirs.matrix)
    table.note("coefficients, absolute", GIVEN, splitting, off.max())
    if splitting == "full":
        compare_polygons(table, geometry, bins, ours, np.argsort(off)[-10:], theirs.matrix)

    result = theirs.result
    sums = reference.sums(theirs.matrix, frames[0], geometry)
    intensity = sums["sum_signal"] / sums["sum_normalization"]
    sem = np.sqrt(sums["sum_variance"]) / sums["sum_normalization"]
    letters = {"N": "count", "V": "sum_signal", "W": "sum_normalization", "Q": "sum_normalization2"}
    for letter, what in letters.items():
        table.note(letter, ITS_OWN, splitting, relative(sums[what], getattr(result, what)))
    table.note("intensity", ITS_OWN, splitting, relative(intensity, result.intensity))
    table.note("Poisson sem", ITS_OWN, splitting, relative(sem, result.sem))

    integrator = az.Integrator(geometry, bins, splitting=splitting)
    patterns = integrator.integrate(frames)
    for letter, what in letters.items():
        table.note(letter, AS_IS, splitting, relative(getattr(patterns[0], what), getattr(result, what)))
    table.note("intensity", AS_IS, splitting, relative(patterns[0].intensity, result.intensity))
    table.note("Poisson sem", AS_IS, splitting, relative(patterns[0].with_errors("poisson").sem, result.sem))
    compare_variances(table, geometry, frames, patterns, (NPT, unit, asked, splitting))
    compare_plain(table, integrator, frames, patterns, splitting)


def compare_variances(table: Table, geometry, frames, patterns, how) -> None:
    """Note how far pyFAI's azimuthal variance is from ours, of a frame and of a union, and spottiness from the same."""
    splitting = how[-1]
    one, two = (reference.integrate(geometry, frame, *how, error_model="azimuthal").result for frame in frames[:2])
    for what, ours, theirs in (
        ("VV, off in pyFAI", patterns[0], one),
        ("VV of a union, off in pyFAI", patterns[0] | patterns[1], one.union(two)),
    ):
        many = np.where(patterns[0].count >= 10, ours.sum_variance, np.nan)
        table.note(what, "pyFAI, rings of 10 pixels or more", splitting, relative(many, theirs.sum_variance))
    same = reference.with_their_sums(patterns[0], one)
    spottiness = [abs(same.spottiness(w, pyfai=True) / one.calc_spottiness(w) - 1) for w in (False, True)]
    table.note("spottiness in pyFAI's form", "pyFAI, given its sums", splitting, max(spottiness))


def compare_polygons(table: Table, geometry, bins, ours, worst, theirs) -> None:
    """Note how far both are from exact polygons where they differ most."""
    internal = reference.INTERNAL[bins.unit]
    rounded = (a.astype(np.float32).astype(float) for a in geometry.vertices(internal))
    radial, chi = (reference.four_corners(a)[worst] for a in rounded)
    edges = bins.edges * (az.radial_unit(internal).scale / az.radial_unit(bins.unit).scale)
    exact = naive.shares_full(radial, chi, np.zeros(worst.size, bool), edges).T
    table.note("coefficients, absolute", POLYGONS, "full", np.abs(ours[:, worst].toarray() - exact).max())
    off = np.abs(theirs[:, worst].toarray() - exact).max()
    table.note("coefficients of pyFAI, absolute", POLYGONS, "full", off)


def compare_plain(table: Table, integrator, frames, patterns, splitting: str) -> None:
    """Note how far variances and spottiness are from two passes over all pixels in float64."""
    matrix, norm = reference.bin_order(integrator.matrix), integrator.normalization.ravel()
    safe = np.where(norm == 0, 1.0, norm)
    values = [frame.ravel() / safe for frame in frames]
    variance = two_pass(matrix, values[0], norm)
    table.note("VV", FLOAT64, splitting, relative(patterns[0].sum_variance, variance))

    everything = two_pass(csr_array(hstack([matrix] * FRAMES)), np.concatenate(values), np.tile(norm, FRAMES))
    table.note("VV of a union", FLOAT64, splitting, relative(az.union(patterns).sum_variance, everything))
    if splitting == "no":
        wide = csr_array(kron(np.eye(NPT // 4), np.ones((1, 4)))) @ matrix
        rebinned = patterns[0].rebin(4).sum_variance
        table.note("VV of 4 bins in one", FLOAT64, splitting, relative(rebinned, two_pass(wide, values[0], norm)))
    _, V, W, Q, _, _, P = patterns[0].sums
    for weighted in (False, True):
        for excess in (False, True):
            truth = naive.spottiness(V, W, Q, variance, P, weighted=weighted, excess=excess)
            if truth > 0:
                mine = patterns[0].spottiness(weighted=weighted, excess=excess)
                table.note("spottiness" if not excess else "excess", FLOAT64, splitting, abs(mine / truth - 1))


def positions() -> Iterator[tuple[str, float, float]]:
    """Yield what is compared, the worst difference and the target, for what splitting does not touch."""
    two_theta, azimuth = 0.0, 0.0
    for name, seed, _, orientation in CASES:
        geometry = reference.random_geometry(name, seed, orientation)
        ai = reference.pyfai_of(geometry)
        two_theta = max(two_theta, np.abs(geometry.two_theta() - ai.center_array(unit="2th_rad", scale=False)).max())
        turned = np.abs(geometry.azimuth() - ai.center_array(unit="chi_rad", scale=False))
        azimuth = max(azimuth, np.minimum(turned, 2 * np.pi - turned).max())
    yield "2theta of pixel centres, rad", two_theta, 1e-12
    yield "azimuth of pixel centres, rad", azimuth, 1e-12
    yield "goniometer geometries", goniometers(), 1e-12
    yield "detectors whose mask differs", float(sum(1 for name in detector_names() if mask_differs(name))), 0.0


def goniometers() -> float:
    """Return the largest difference of a parameter, over positions of a goniometer with two motors."""
    names = ["dist", "poni1", "poni2", "rot1", "rot2", "rot3"]
    own = az.Goniometer.from_json(Path(__file__).with_name("arm.json"))
    theirs = Goniometer.sload(str(Path(__file__).with_name("arm.json")))
    worst = 0.0
    for position in np.random.default_rng(5).uniform(-60, 60, (20, 2)):
        ours, ai = own.geometry(dict(zip(own.position_names, position, strict=True))), theirs.get_ai(tuple(position))
        for name in names:
            mine = getattr(ours, "distance" if name == "dist" else name)
            worst = max(worst, abs(mine - getattr(ai, name)))
    return worst


def mask_differs(name: str) -> bool:
    """Tell whether our mask of a detector is another one than pyFAI's."""
    theirs = detector_factory(name)
    if theirs.shape is None or theirs.max_shape is None:
        return False
    try:
        ours = az.Detector.from_name(name)
    except ValueError:
        return False  # refused by name: nothing wrong is computed
    mask = theirs.mask
    mask = np.zeros(theirs.shape, np.int8) if mask is None else mask
    return zlib.crc32(ours.mask.astype(np.int8).tobytes()) != zlib.crc32(np.ascontiguousarray(mask, np.int8).tobytes())


def main() -> int:
    """Compare and print; return 1 when a target is missed."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    say(f"pyFAI {version('pyFAI')}; worst of {len(CASES)} random geometries; sums and intensities relative")
    say("")
    say("| positions | worst | target |")
    say("|---|---|---|")
    met = True
    for what, worst, target in positions():
        met &= worst <= target
        say(f"| {what} | {worst:.1e} | {target:g}{'' if worst <= target else ' MISSED'} |")
    table = Table()
    for case in CASES:
        for splitting in SPLITTINGS:
            compare_case(table, *case, splitting)
    say("")
    for line, good in table.lines():
        met &= good
        say(line)
    return 0 if met else 1


def say(text: str) -> None:
    """Print at once, so that a slow table is seen to grow."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
