"""Sensor materials: how far X-rays go into what detects them."""

import json
import math
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import numpy as np

from azimuthal.errors import DetectorError

HC_KEV_ANGSTROM = 12.398419843320026
"""Planck's constant times the speed of light, in keV Å (CODATA 2018, exact by definition of the SI)."""


@cache
def _materials() -> dict[str, dict[str, Any]]:
    text = resources.files("azimuthal.detector").joinpath("data/sensors.json").read_text(encoding="utf-8")
    materials: dict[str, dict[str, Any]] = json.loads(text)["materials"]
    return materials


def sensor_materials() -> tuple[str, ...]:
    """Return the names of the tabulated sensor materials."""
    return tuple(_materials())


@dataclass(frozen=True)
class Sensor:
    """The layer that absorbs the photons.

    Attributes
    ----------
    material
        One of :func:`sensor_materials`.
    thickness
        In metres; None for one that is thick against the absorption length.
    """

    material: str
    thickness: float | None = None

    def __post_init__(self) -> None:
        if self.material not in _materials():
            raise DetectorError(
                f"sensor material {self.material!r} is not tabulated: there are {', '.join(sensor_materials())}"
            )
        if self.thickness is not None:
            thickness = float(self.thickness)
            if not (math.isfinite(thickness) and thickness > 0):
                raise DetectorError(f"sensor thickness must be a positive length in metres, not {self.thickness!r}")
            object.__setattr__(self, "thickness", thickness)

    def attenuation(self, wavelength: float) -> float:
        """Return the linear attenuation coefficient in 1/m for a wavelength in metres.

        Linear interpolation in energy between the tabulated mass attenuation coefficients; at an absorption edge the
        value above it.

        Raises
        ------
        DetectorError
            When the energy is outside the table.
        """
        table = _materials()[self.material]
        energies = table["keV"]
        energy = HC_KEV_ANGSTROM * 1e-10 / wavelength
        if not energies[0] <= energy <= energies[-1]:
            raise DetectorError(
                f"sensor {self.material}: attenuation is tabulated from {energies[0]:g} to {energies[-1]:g} keV, the "
                f"wavelength {wavelength:g} m means {energy:.6g} keV"
            )
        return float(np.interp(energy, energies, table["cm2_per_g"])) * float(table["density_g_per_cm3"]) * 100.0

    def config(self) -> dict[str, Any]:
        """Return the sensor as PONI files describe it."""
        config: dict[str, Any] = {"material": self.material}
        if self.thickness is not None:
            config["thickness"] = self.thickness
        return config
