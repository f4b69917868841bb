"""Positions against the installed pyFAI, always with a fresh integrator: it goes on from float32 corners it keeps."""

import dataclasses

import numpy as np
import pytest

from azimuthal.detector import Detector, Sensor
from azimuthal.geometry import Geometry
from azimuthal.units import radial_unit_names

UNITS = [name for name in radial_unit_names() if not name.startswith("chi")]


def fresh(geometry):
    from pyFAI.detectors import detector_factory
    from pyFAI.integrator.azimuthal import AzimuthalIntegrator

    detector = geometry.detector
    config = {"pixel1": detector.pixel1, "pixel2": detector.pixel2, "orientation": detector.orientation}
    if detector.name == "Detector":
        config["max_shape"] = detector.shape
    ai = AzimuthalIntegrator(
        geometry.distance,
        geometry.poni1,
        geometry.poni2,
        geometry.rot1,
        geometry.rot2,
        geometry.rot3,
        detector=detector_factory(detector.name, config),
        wavelength=geometry.wavelength,
    )
    if geometry.parallax:
        ai.enable_parallax(True, detector.sensor.material, detector.sensor.thickness)
    return ai


def solid_angle(geometry):
    """Return pyFAI's relative solid angle in double precision: ``solidAngleArray`` rounds to float32 on its way."""
    rows, columns = np.mgrid[: geometry.shape[0], : geometry.shape[1]].astype(np.float64)
    return fresh(geometry).diffSolidAngle(rows, columns)


def random_geometry(seed):
    rng = np.random.default_rng(seed)
    name = ("Eiger2_500k", "Pilatus300k", "Detector", "Eiger2CdTe_500k", "ImXPadS140", "Jungfrau1M")[seed % 6]
    config = {"shape": (90, 110), "pixel1": 3e-4, "pixel2": 2e-4} if name == "Detector" else {}
    # pyFAI reverses the axes of ImXPad detectors twice in some of its ways to the same positions.
    orientation = 3 if name == "ImXPadS140" else 1 + seed % 4
    # The middle of the detector is somewhere near the beam or far from it, up to backscattering.
    return Geometry(
        Detector.from_name(name, orientation=orientation, **config),
        distance=rng.uniform(0.02, 1.0),
        poni1=rng.uniform(-0.1, 0.2),
        poni2=rng.uniform(-0.1, 0.2),
        rot1=rng.uniform(-2.5, 2.5),
        rot2=rng.uniform(-1.5, 1.5),
        rot3=rng.uniform(-3.0, 3.0),
        wavelength=rng.uniform(1e-11, 3e-10),
    )


@pytest.mark.parametrize("seed", range(24))
def test_geometry_angles_and_q_are_pyfais(seed):
    geometry = random_geometry(seed)
    for name in ("2th_rad", "q_nm^-1", "r_m"):
        expected = fresh(geometry).center_array(unit=name)
        np.testing.assert_allclose(geometry.radial(name), expected, rtol=1e-12, atol=1e-13)
    difference = geometry.azimuth() - fresh(geometry).center_array(unit="chi_rad")
    assert np.abs((difference + np.pi) % (2 * np.pi) - np.pi).max() < 1e-12


@pytest.mark.parametrize("name", UNITS)
def test_geometry_every_unit_is_pyfais(name):
    geometry = random_geometry(2)
    expected = fresh(geometry).center_array(unit=name, scale=True)
    np.testing.assert_allclose(geometry.radial(name), expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_geometry_corners_are_pyfais_to_their_float32(seed):
    geometry = random_geometry(seed)
    for name in ("2th_rad", "q_nm^-1"):
        theirs = fresh(geometry).corner_array(unit=name, scale=False)
        radial, chi = geometry.corners(name)
        np.testing.assert_allclose(radial, theirs[..., 0], rtol=2e-7, atol=1e-7)
        turn = np.abs((chi - theirs[..., 1] + np.pi) % (2 * np.pi) - np.pi)
        assert turn.max() < 1e-6


@pytest.mark.parametrize("seed", range(6))
def test_geometry_corrections_are_pyfais(seed):
    geometry = random_geometry(seed)
    ours = geometry.solid_angle("relative")
    if geometry.detector.uniform:  # pyFAI leaves out that wide pixels see more
        np.testing.assert_allclose(ours, solid_angle(geometry), rtol=1e-12)
    for factor, offset in ((0.99, 0.0), (-0.5, 0.7)):
        theirs = fresh(geometry).polarization(factor=factor, axis_offset=offset)
        np.testing.assert_allclose(geometry.polarization(factor, offset), theirs, atol=1e-7)


def test_geometry_wide_pixels_differ_from_pyfai_by_their_area():
    geometry = Geometry(Detector.from_name("Jungfrau 500k"), 0.1, 0.02, 0.03)
    ratio = geometry.solid_angle("relative") / solid_angle(geometry)
    one, two = (np.round(np.diff(edges) / 75e-6) for edges in geometry.detector.edges())
    np.testing.assert_allclose(ratio, one[:, None] * two[None, :], rtol=1e-9)


@pytest.mark.parametrize(
    ("sensor", "wavelength"),
    [
        (Sensor("Si", 4.5e-4), 0.7e-10),
        (Sensor("CdTe", 1e-3), 0.2e-10),
        (Sensor("Gd2O2S", 4e-5), 0.4e-10),
        (Sensor("Ge"), 0.5e-10),
    ],
)
def test_geometry_parallax_is_pyfais(sensor, wavelength):
    detector = Detector.from_name("Detector", shape=(300, 400), pixel1=2e-4, pixel2=2e-4, sensor=sensor)
    geometry = Geometry(detector, 0.03, 0.02, 0.01, 0.3, -0.2, 0.1, wavelength=wavelength, parallax=True)
    plain = dataclasses.replace(geometry, parallax=False)
    assert np.abs(geometry.two_theta() - plain.two_theta()).max() > 1e-5
    np.testing.assert_allclose(geometry.two_theta(), fresh(geometry).center_array(unit="2th_rad"), rtol=1e-12)
    np.testing.assert_allclose(geometry.solid_angle(), solid_angle(geometry), rtol=1e-12)
    theirs = fresh(geometry).corner_array(unit="2th_rad", scale=False)[..., 0]
    np.testing.assert_allclose(geometry.corners("2th_rad")[0], theirs, atol=2e-7)
