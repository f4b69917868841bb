"""The engine on an Eiger2 CdTe 4M frame, 2000 bins, solid angle and polarization, all seven sums."""

from collections.abc import Iterator

import numpy as np
from pyFAI.detectors import detector_factory
from pyFAI.integrator.azimuthal import AzimuthalIntegrator

import azimuthal as az
from benchmarks.timing import Comparison, compare

NPT = 2000
UNIT = "q_nm^-1"
GEOMETRY = {"distance": 0.2, "poni1": 0.08, "poni2": 0.078, "rot1": 0.01, "rot2": 0.005, "rot3": 0.0}
WAVELENGTH = 0.3e-10


def geometry(rot2: float = GEOMETRY["rot2"]) -> az.Geometry:
    """Return the detector of the seed experiment, with the beam on it."""
    detector = az.Detector.from_name("Eiger2 CdTe 4M")
    return az.Geometry(detector, wavelength=WAVELENGTH, **(GEOMETRY | {"rot2": rot2}))


def pyfai(rot2: float = GEOMETRY["rot2"]) -> AzimuthalIntegrator:
    """Return the same geometry in pyFAI."""
    g = GEOMETRY | {"rot2": rot2}
    return AzimuthalIntegrator(
        g["distance"],
        g["poni1"],
        g["poni2"],
        g["rot1"],
        g["rot2"],
        g["rot3"],
        detector=detector_factory("Eiger2 CdTe 4M"),
        wavelength=WAVELENGTH,
    )


def frame(seed: int = 0) -> np.ndarray:
    """Return a uint32 frame of rings on a background, with gaps and some dead pixels at the type's maximum."""
    detector = az.Detector.from_name("Eiger2 CdTe 4M")
    rng = np.random.default_rng(seed)
    two_theta = geometry().two_theta()
    rings = 5.0 + 40.0 * np.exp(-((np.degrees(two_theta) % 3.0 - 1.5) ** 2) / 0.005)
    values = rng.poisson(rings).astype(np.uint32)
    values[detector.mask | (rng.random(values.shape) < 1e-4)] = np.iinfo(np.uint32).max
    return values


def reference_frame(ai: AzimuthalIntegrator, image: np.ndarray, splitting: str) -> object:
    """Integrate as pyFAI's tutorial on spotty data does."""
    return ai.integrate1d(
        image,
        NPT,
        unit=UNIT,
        method=(splitting, "csr", "cython"),
        error_model="azimuthal",
        polarization_factor=0.99,
    )


def comparisons() -> Iterator[Comparison]:
    """Yield one line of the table after another."""
    image = frame()
    targets = {"no": (6.0, 12.0), "bbox": (None, None), "full": (4.0, 6.0)}
    for splitting, (per_frame, setup) in targets.items():
        integrator = az.Integrator(geometry(), az.RadialBins(UNIT, NPT), splitting=splitting)
        ai = pyfai()
        yield compare(
            f"one frame, splitting {splitting}",
            lambda i=integrator: i.integrate(image),
            lambda a=ai, s=splitting: reference_frame(a, image, s),
            target=per_frame,
        )
        yield compare(
            f"new geometry to first pattern, splitting {splitting}",
            lambda s=splitting: az.Integrator(geometry(), az.RadialBins(UNIT, NPT), splitting=s).integrate(image),
            lambda s=splitting: reference_frame(pyfai(), image, s),
            target=setup,
        )
