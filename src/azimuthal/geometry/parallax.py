"""Parallax: photons that come in obliquely are absorbed, on average, further out than where they entered the sensor.

Definition as in pyFAI's ``parallax.py``: the mean displacement in a slab of thickness T and attenuation μ at
incidence angle a, with e = μ T / cos a, is sin(a)/μ (1 - (1 + e) exp(-e)) / (1 - exp(-e)), and sin(a)/μ in a thick
one. The correction is its inverse: where a photon that was seen at a radius came in, minus that radius.
"""

import json
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from azimuthal.detector import Detector, Sensor, known_sensors
from azimuthal.errors import GeometryError

Floats = npt.NDArray[np.float64]

ANGLES = 1024
"""Number of tabulated angles: pyFAI's, so that interpolation errors are the same."""


@lru_cache(maxsize=32)
def parallax_table(sensor: Sensor, wavelength: float, distance: float) -> tuple[Floats, Floats]:
    """Return the radial correction in the detector's plane against the sine of the incidence angle.

    Parameters
    ----------
    sensor
        Material and thickness.
    wavelength, distance
        In metres; `distance` is that of the detector's plane.

    Returns
    -------
    sines, shifts
        Both (1024,) float64 and read-only: sines of equidistant angles from 0 to π/2, and shifts in metres, none
        positive.

    Raises
    ------
    DetectorError
        When the energy is outside the material's table.
    """
    mu = sensor.attenuation(wavelength)
    angles = np.linspace(0.0, 0.5 * np.pi, ANGLES)
    sines = np.sin(angles)
    displacement = sines / mu
    if sensor.thickness is not None:
        depth = mu * sensor.thickness / np.cos(angles[:-1])
        displacement[:-1] *= (-np.expm1(-depth) - depth * np.exp(-depth)) / -np.expm1(-depth)
    # The last angle is grazing incidence, its radius infinite: there the correction is the displacement itself.
    radius = distance * np.tan(angles[:-1])
    shifts = np.append(np.interp(radius, radius + displacement[:-1], radius) - radius, -displacement[-1])
    sines.setflags(write=False)
    shifts.setflags(write=False)
    return sines, shifts


def table_of(detector: Detector, wavelength: float | None, distance: float) -> tuple[Floats, Floats]:
    """Return :func:`parallax_table` of a detector.

    Raises
    ------
    GeometryError
        When the wavelength or the sensor is missing, or the detector is not flat.
    DetectorError
        As :func:`parallax_table`.
    """
    if wavelength is None:
        raise GeometryError("the parallax correction needs a wavelength and the geometry has none")
    if not detector.flat:
        raise GeometryError(
            f"the parallax correction is known for flat detectors only, and {detector.name!r} is not flat"
        )
    if detector.sensor is None:
        sensor = (*known_sensors(detector.name), Sensor("Si", 4.5e-4))[0]
        raise GeometryError(
            f"the parallax correction needs to know the sensor, and detector {detector.name!r} does not: add "
            f'"sensor": {json.dumps(sensor.config())} (or what it is) to Detector_config in the PONI file, '
            f"or sensor={sensor!r} to the Detector"
        )
    return parallax_table(detector.sensor, wavelength, distance)
