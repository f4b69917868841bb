"""What is measured: a detector where the seed experiment has its own, frames of rings, and the same in pyFAI.

Each side is imported when it is asked for: the memory of a process is that of one side.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

import azimuthal as az

if TYPE_CHECKING:
    from pyFAI.detectors import Detector as PyfaiDetector
    from pyFAI.integrator.azimuthal import AzimuthalIntegrator

NPT = 2000
UNIT = "q_nm^-1"
GEOMETRY = {"distance": 0.2, "poni1": 0.08, "poni2": 0.078, "rot1": 0.01, "rot2": 0.005, "rot3": 0.0}
WAVELENGTH = 0.3e-10
POLARIZATION = 0.99
DETECTORS = ("Pilatus 100k", "Eiger2 CdTe 500k", "Eiger2 CdTe 1M", "Eiger2 CdTe 4M", "Eiger2 CdTe 9M")
"""Of growing size, 0.1 to 10 million pixels."""


@dataclass(frozen=True)
class Scene:
    """A detector with the beam on it, and bins.

    Both sides keep their detector object, as their goniometers do, so that a new geometry is nothing but that.

    Attributes
    ----------
    detector
        Its name.
    npt
        Radial bins.
    """

    detector: str = "Eiger2 CdTe 4M"
    npt: int = NPT

    @cached_property
    def _own_detector(self) -> az.Detector:
        return az.Detector.from_name(self.detector)

    @cached_property
    def _their_detector(self) -> "PyfaiDetector":
        from pyFAI.detectors import detector_factory

        return detector_factory(self.detector)

    @property
    def pixels(self) -> int:
        """Number of pixels."""
        rows, columns = self._own_detector.shape
        return rows * columns

    @property
    def bins(self) -> az.RadialBins:
        """The bins, over all that the detector covers."""
        return az.RadialBins(UNIT, self.npt)

    def geometry(self, turn: float = 0.0) -> az.Geometry:
        """Return where the detector is; `turn`, radians, moves it."""
        return az.Geometry(self._own_detector, wavelength=WAVELENGTH, **(GEOMETRY | {"rot2": GEOMETRY["rot2"] + turn}))

    def integrator(self, splitting: str, turn: float = 0.0, **keywords) -> az.Integrator:
        """Return a new integrator."""
        return az.Integrator(self.geometry(turn), self.bins, splitting=splitting, polarization=POLARIZATION, **keywords)

    def pyfai(self, turn: float = 0.0) -> "AzimuthalIntegrator":
        """Return a new integrator of pyFAI of the same geometry."""
        from pyFAI.integrator.azimuthal import AzimuthalIntegrator

        g = GEOMETRY | {"rot2": GEOMETRY["rot2"] + turn}
        return AzimuthalIntegrator(
            g["distance"],
            g["poni1"],
            g["poni2"],
            g["rot1"],
            g["rot2"],
            g["rot3"],
            detector=self._their_detector,
            wavelength=WAVELENGTH,
        )

    def frames(self, count: int, seed: int = 0, dead: float = 1e-4) -> np.ndarray:
        """Return frames of rings on a background, (count, rows, columns) uint32.

        Gaps, and a share `dead` of the pixels, the same in all frames, are at the type's maximum.
        """
        rng = np.random.default_rng(seed)
        expected = rings(self.geometry().two_theta())
        out = self._own_detector.mask | (rng.random(expected.shape) < dead)
        frames = np.empty((count, *expected.shape), np.uint32)
        for frame in frames:
            frame[:] = rng.poisson(expected)
            frame[out] = np.iinfo(np.uint32).max
        return frames


def rings(two_theta: np.ndarray) -> np.ndarray:
    """Return expected counts of pixels at 2theta, radians: a ring every 3 degrees."""
    return 5.0 + 40.0 * np.exp(-((np.degrees(two_theta) % 3.0 - 1.5) ** 2) / 0.005)


def pyfai_frame(ai: "AzimuthalIntegrator", image: np.ndarray, splitting: str, npt: int = NPT):
    """Integrate as pyFAI's tutorial on spotty data does."""
    return ai.integrate1d(
        image,
        npt,
        unit=UNIT,
        method=(splitting, "csr", "cython"),
        error_model="azimuthal",
        polarization_factor=POLARIZATION,
    )
