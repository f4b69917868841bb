import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from azimuthal.detector import Detector, Sensor, detector_names
from azimuthal.errors import DetectorError, PoniError
from azimuthal.geometry import Geometry
from azimuthal.poni import from_poni_text, poni_text

PLACE = """\
Distance: 0.1
Poni1: 0.01
Poni2: 0.02
Rot1: 0.1
Rot2: 0.2
Rot3: 0.3
Wavelength: 1e-11
"""
V2 = 'poni_version: 2.1\nDetector: Eiger2CdTe_500k\nDetector_config: {"pixel1": 7.5e-05, "pixel2": 7.5e-05}\n' + PLACE


def same_place(geometry, ai):
    for key in ("poni1", "poni2", "rot1", "rot2", "rot3", "wavelength"):
        assert getattr(geometry, key) == getattr(ai, key), key
    assert geometry.distance == ai.dist
    assert geometry.shape == tuple(ai.detector.shape)
    assert geometry.detector.orientation == (ai.detector.orientation or 3)
    sizes = geometry.detector.pixel1, geometry.detector.pixel2
    assert sizes == pytest.approx((ai.detector.pixel1, ai.detector.pixel2), rel=1e-12)


def pyfai(path):
    from pyFAI.integrator.azimuthal import AzimuthalIntegrator

    ai = AzimuthalIntegrator()
    ai.load(str(path))
    return ai


@pytest.mark.parametrize(
    "head",
    [
        "Detector: Pilatus1M\n",
        "Detector: Pilatus 1M\nPixelSize1: 0.000172\nPixelSize2: 0.000172\nSplineFile: None\n",
        "Detector: RayonixMx225\nPixelSize1: 7.3242e-05\nPixelSize2: 7.3242e-05\n",
        'poni_version: 2\nDetector: Eiger1M\nDetector_config: {"pixel1": 7.5e-05, "pixel2": 7.5e-05}\n',
        "poni_version: 2\nDetector: Detector\n"
        'Detector_config: {"pixel1": 1e-4, "pixel2": 2e-4, "max_shape": [50, 60]}\n',
        'poni_version: 2.1\nDetector: Eiger2CdTe_500k\nDetector_config: {"orientation": 2}\n',
        "poni_version: 2.1\nDetector: Eiger2_1M\n"
        'Detector_config: {"pixel1": 1.5e-4, "pixel2": 1.5e-4, "orientation": 1}\n',
        'poni_version: 3\nDetector: Eiger2_1M\nDetector_config: {"orientation": 4, "sensor": {"material": "Si", '
        '"thickness": 0.00045}}\nParallax: False\n',
        'poni_version: 3\nDetector: Eiger2_1M\nDetector_config: {"orientation": 3, "sensor": {"material": "CdTe", '
        '"thickness": 0.00075}}\nParallax: True\n',
    ],
)
def test_poni_of_every_version_is_read_as_pyfai_reads_it(tmp_path, head):
    path = tmp_path / "detector.poni"
    path.write_text("# Nota: a comment\n# Calibrant: CeO2\n" + head + PLACE)
    geometry, ai = Geometry.from_poni(path), pyfai(path)
    same_place(geometry, ai)
    assert geometry.parallax == bool(ai.parallax)
    np.testing.assert_allclose(geometry.two_theta(), ai.center_array(unit="2th_rad"), rtol=1e-12)


@pytest.mark.parametrize("parallax", [False, True])
@pytest.mark.parametrize(
    "name", ["Eiger2CdTe_500k", "Pilatus4_260k", "RayonixMx225", "Detector", "ImXPadS140", "Perkin"]
)
def test_poni_written_is_read_back_by_us_and_by_pyfai(tmp_path, name, parallax):
    sensor = Sensor("CdTe", 7.5e-4) if parallax else None
    config = {"shape": (50, 60), "pixel1": 1e-4, "pixel2": 2.5e-4} if name == "Detector" else {}
    detector = Detector.from_name(name, orientation=2, sensor=sensor, **config)
    geometry = Geometry(detector, 0.1, 0.011, 0.07, 0.1 / 3, -0.2, 1 / 7, 0.7e-10, parallax)
    path = tmp_path / "detector.poni"
    geometry.to_poni(path)
    assert Geometry.from_poni(path) == geometry
    assert f"poni_version: {3 if parallax else 2.1}\n" in path.read_text()
    if name == "Perkin" and parallax:
        return  # pyFAI knows no sensor of this one
    ai = pyfai(path)
    same_place(geometry, ai)
    assert geometry.parallax == bool(ai.parallax)


@pytest.mark.parametrize("name", [name for name in detector_names() if name != "Detector"])
def test_poni_keeps_every_detector(name):
    for orientation in (3, 1):
        geometry = Geometry(Detector.from_name(name, orientation=orientation), 0.1, 0.0, 0.0)
        assert from_poni_text(poni_text(geometry)) == geometry


@pytest.mark.parametrize(
    "config",
    [
        {"name": "Eiger2_1M", "binning": (2, 2)},
        {"name": "Eiger2_1M", "pixel1": 76e-6, "pixel2": 76e-6, "binning": (3, 1)},
        {"name": "RayonixMx225", "binning": (3, 3)},
        {"name": "RayonixSx165", "binning": (8, 8)},
        {"name": "Pilatus1M", "max_shape": (1043, 500)},
        {"name": "Mar345", "shape": (3000, 3000)},
        {"name": "Detector", "pixel1": 1e-4, "pixel2": 1e-4, "max_shape": (100, 100), "binning": (2, 2)},
    ],
)
def test_poni_keeps_shape_pixels_and_mask_of_unusual_frames(config):
    detector = Detector.from_name(**config)
    back = from_poni_text(poni_text(Geometry(detector, 0.1, 0.0, 0.0))).detector
    assert back.shape == detector.shape
    assert (back.pixel1, back.pixel2) == pytest.approx((detector.pixel1, detector.pixel2), rel=1e-15)
    np.testing.assert_array_equal(back.mask, detector.mask)


numbers = st.floats(-10, 10, allow_subnormal=False)


@settings(max_examples=50, deadline=None)
@given(distance=st.floats(1e-3, 100.0), rest=st.tuples(*[numbers] * 5), wavelength=st.none() | st.floats(1e-13, 1e-8))
def test_poni_keeps_every_bit_of_the_numbers(distance, rest, wavelength):
    geometry = Geometry(Detector.from_name("Eiger2 500k"), distance, *rest, wavelength)
    assert from_poni_text(poni_text(geometry)) == geometry


def test_poni_that_names_no_detector_needs_the_shape(shared_data):
    path = shared_data / "ceo2" / "CeO2_Pilatus1M.poni"
    with pytest.raises(PoniError, match=r"CeO2_Pilatus1M\.poni names no detector, only pixel sizes: give shape="):
        Geometry.from_poni(path)
    geometry = Geometry.from_poni(path, shape=(1043, 981))
    assert geometry.shape == (1043, 981)
    assert geometry.detector.pixel1 == 172e-6
    assert geometry.wavelength == 4.066e-11
    assert not geometry.detector.mask.any()


def test_poni_shape_must_agree_with_the_detector():
    assert from_poni_text(V2, (512, 1028)).shape == (512, 1028)
    with pytest.raises(DetectorError, match=r"^here: detector 'Eiger2CdTe_500k' .* 512 x 1028 pixels, not 1028 x 512"):
        from_poni_text(V2, (1028, 512), source="here")
    generic = 'Detector: Detector\nDetector_config: {"pixel1": 1e-4, "pixel2": 1e-4%s}\n' + PLACE
    assert from_poni_text(generic % "", (10, 20)).shape == (10, 20)
    assert from_poni_text(generic % ', "max_shape": null', (10, 20)).shape == (10, 20)
    with pytest.raises(ValueError, match="without max_shape has no shape: give shape="):
        from_poni_text(generic % "")
    with pytest.raises(ValueError, match="frames of 10 x 20 pixels, not 20 x 10"):
        from_poni_text(generic % ', "max_shape": [10, 20]', (20, 10))


@pytest.mark.parametrize("key", ["Distance", "Poni1", "Poni2", "Rot1", "Rot2", "Rot3"])
def test_poni_missing_key_is_named_with_the_file(tmp_path, key):
    path = tmp_path / "broken.poni"
    path.write_text("".join(line for line in V2.splitlines(keepends=True) if not line.startswith(key)))
    with pytest.raises(PoniError, match=rf"broken\.poni: key '{key}' is missing"):
        Geometry.from_poni(path)
    path.write_text(V2 + f"{key}: x\n")
    with pytest.raises(PoniError, match=rf"broken\.poni: '{key}' must be a finite number, not 'x'"):
        Geometry.from_poni(path)


def test_poni_last_occurrence_of_a_key_counts_in_any_case():
    geometry = from_poni_text(V2 + "distance: 0.5\nPONI1 : -0.5\nsomething without colon\n#Poni2: 7\n")
    assert (geometry.distance, geometry.poni1, geometry.poni2) == (0.5, -0.5, 0.02)
    assert from_poni_text(V2.replace("Distance", "dist")).distance == 0.1
    assert from_poni_text(V2.replace("\n", "\r\n")).distance == 0.1


def test_poni_without_wavelength():
    assert from_poni_text(V2.replace("Wavelength: 1e-11\n", "")).wavelength is None
    assert from_poni_text(V2 + "Wavelength: None\n").wavelength is None


@pytest.mark.parametrize(
    ("text", "error", "told"),
    [
        ("", PoniError, "PONI text: key 'Distance' is missing"),
        ("poni_version: 4\n" + V2.split("\n", 1)[1], PoniError, "poni_version 4 is newer"),
        ("poni_version: 2\n" + PLACE, PoniError, "key 'Detector' is missing"),
        ("Detector_config: {}\n" + PLACE, PoniError, "key 'Detector' is missing"),
        (V2 + "Detector_config: {]\n", PoniError, "Detector_config is not valid JSON"),
        (V2 + "Detector_config: [1]\n", PoniError, "Detector_config must be a JSON object"),
        (V2 + "Detector: Eigr\n", DetectorError, "PONI text: unknown detector 'Eigr'"),
        (V2 + "Detector: Pixirad1\n", DetectorError, "its pixels are hexagons"),
        (V2 + "Detector: NexusDetector\n", DetectorError, "NeXus detector file .* is not there"),
        (V2 + 'Detector_config: {"orientation": 7}\n', DetectorError, "orientation must be 1, 2, 3 or 4"),
        (V2 + 'Detector_config: {"sensor": "Si"}\n', DetectorError, "sensor must be like"),
        (V2 + 'Detector_config: {"splineFile": "a.spline"}\n', DetectorError, r"distortion files \(a\.spline\)"),
        (V2 + 'Detector_config: {"module_size": [1, 2]}\n', DetectorError, "with modules of its own"),
        (V2 + 'Detector_config: {"pixel1": "wide"}\n', DetectorError, "pixel1 must be a positive length"),
        (V2 + "Detector: None\n", PoniError, "key 'Detector' is missing"),
        (V2 + "Distance: -1\n", PoniError, "PONI text: distance must be positive"),
        (V2 + "Wavelength: 0\n", PoniError, "PONI text: wavelength must be positive"),
        (V2 + "Rot1: nan\n", PoniError, "'Rot1' must be a finite number"),
        (V2 + "Parallax: True\n", PoniError, "parallax correction needs to know the sensor"),
        ("PixelSize1: 1e-4\n" + PLACE, PoniError, "key 'PixelSize2' is missing"),
        ("SplineFile: frelon.spline\n" + PLACE, DetectorError, "distortion files"),
    ],
)
def test_poni_that_is_wrong_is_told(text, error, told):
    with pytest.raises(error, match=told):
        from_poni_text(text)
    assert issubclass(error, ValueError)


def test_poni_ignores_unknown_configuration_and_says_so(caplog):
    detector = from_poni_text(V2 + 'Detector_config: {"colour": "red", "splineFile": null}\n').detector
    assert detector == Detector.from_name("Eiger2CdTe_500k")
    assert "ignored unknown configuration colour" in caplog.text


def test_poni_replaces_an_existing_file(tmp_path):
    geometry = from_poni_text(V2)
    for distance in (0.5, 0.25):
        dataclasses.replace(geometry, distance=distance).to_poni(tmp_path / "a.poni")
    assert (tmp_path / "a.poni").read_text().count("Distance") == 1
    assert math.isclose(Geometry.from_poni(tmp_path / "a.poni").distance, 0.25)


def test_poni_of_the_real_map_is_read(shared_data):
    geometry = Geometry.from_poni(shared_data / "dac-map.poni", shape=(1043, 981))
    assert geometry.detector == Detector.from_name("Pilatus 1M")
    assert geometry.detector.mask.sum() == 73533
