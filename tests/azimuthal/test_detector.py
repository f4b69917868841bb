import dataclasses
import json
import pickle
import zlib

import numpy as np
import pytest

from azimuthal.detector import Detector, Sensor, detector_names, known_sensors, sensor_materials
from azimuthal.detector.table import canonical_name
from azimuthal.errors import DetectorError

KNOWN = [name for name in detector_names() if name != "Detector"]
REFUSED = ["Aarhus", "Cirpad", "Jungfrau_16M_cor", "Pixirad1", "Pixirad2", "Pixirad4", "Pixirad8", "Rapid"]


def pyfai(name, **config):
    from pyFAI.detectors import detector_factory

    return detector_factory(name, config or None)


def crc32(mask):
    return zlib.crc32(np.ascontiguousarray(mask, dtype=np.int8).tobytes())


@pytest.fixture(scope="module")
def reference(shared_reference):
    return json.loads((shared_reference / "detectors.json").read_text())


def test_detector_table_holds_every_class_of_the_reference(reference):
    assert set(KNOWN) | set(REFUSED) | {"Detector"} == set(reference)


def test_detector_gap_masks_are_those_of_the_reference(reference):
    for name in KNOWN:
        mask = Detector.from_name(name).mask
        expected = reference[name]["mask_crc32"]
        if expected is None:
            assert not mask.any(), name
        else:
            assert crc32(mask) == expected, name
            assert mask.sum() == reference[name]["masked_pixels"], name


def test_detector_aliases_of_the_reference_all_lead_home(reference):
    for name, entry in reference.items():
        for alias in (name, *entry["aliases"]):
            for spelled in (alias, alias.upper(), alias.lower().replace(" ", "_"), alias.replace(" ", "-")):
                assert canonical_name(spelled) == name


@pytest.mark.parametrize("name", KNOWN)
def test_detector_is_pyfais(name):
    ours, theirs = Detector.from_name(name), pyfai(name)
    assert ours.shape == tuple(theirs.shape)
    assert ours.binning == tuple(theirs.binning)
    assert (ours.pixel1, ours.pixel2) == pytest.approx((theirs.pixel1, theirs.pixel2), rel=1e-12)
    assert (ours.dummy, ours.delta_dummy) == (theirs.dummy, theirs.delta_dummy)
    assert ours.orientation == theirs.orientation == 3
    if theirs.mask is not None:
        assert crc32(ours.mask) == crc32(theirs.mask)


@pytest.mark.parametrize("name", REFUSED)
def test_detector_that_cannot_be_done_right_is_refused(name):
    with pytest.raises(DetectorError, match=rf"'{name}' cannot be done right by name: its .*"):
        Detector.from_name(name)


def test_detector_unknown_suggests_near_names():
    with pytest.raises(DetectorError, match=r"unknown detector 'Eigr2 CdTe 4M': near names are Eiger2CdTe_4M"):
        Detector.from_name("Eigr2 CdTe 4M")
    with pytest.raises(ValueError, match="a generic one is called 'Detector'"):
        Detector.from_name("")


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("Eiger2_1M", {"pixel1": 150e-6, "pixel2": 150e-6}),
        ("Eiger2_1M", {"pixel1": 75e-6, "pixel2": 75e-6, "binning": [2, 2]}),
        ("Eiger2_1M", {"pixel1": 150e-6, "pixel2": 150e-6, "binning": [2, 2]}),
        ("Eiger1M", {"pixel1": 75.3e-6, "pixel2": 74.9e-6}),
        ("Eiger1M", {"binning": [3, 2]}),
        ("Pilatus1M", {"binning": [7, 3]}),
        ("PilatusCdTe300k", {"max_shape": [619, 400]}),
        ("RayonixMx225", {"pixel1": 36.621e-6, "pixel2": 36.621e-6}),
        ("RayonixMx225", {"pixel1": 109.971e-6, "pixel2": 109.971e-6}),
        ("RayonixMx225", {"binning": [4, 4]}),
        ("RayonixSx165", {"pixel1": 79e-6, "pixel2": 79e-6}),
        ("Rayonix133", {"pixel1": 128e-6, "pixel2": 128e-6}),
        ("Perkin", {"pixel1": 100e-6, "pixel2": 100e-6}),
        ("Perkin", {"pixel1": 400e-6, "pixel2": 400e-6}),
        ("Pixium", {"pixel1": 154e-6, "pixel2": 154e-6}),
        ("Mar345", {"pixel1": 150e-6, "pixel2": 150e-6}),
        ("Dexela2923", {"pixel1": 150e-6, "pixel2": 150e-6}),
        ("ADSC_Q315", {"binning": [2, 2]}),
        ("Detector", {"pixel1": 1e-4, "pixel2": 2e-4, "max_shape": [300, 200]}),
        ("Detector", {"pixel1": 1e-4, "pixel2": 2e-4, "max_shape": [300, 200], "binning": [2, 4]}),
    ],
)
def test_detector_binning_is_pyfais(name, config):
    ours, theirs = Detector.from_name(name, **config), pyfai(name, **config)
    assert ours.shape == tuple(theirs.shape)
    assert (ours.pixel1, ours.pixel2) == pytest.approx((theirs.pixel1, theirs.pixel2), rel=1e-12)
    if name != "Mar345":  # pyFAI leaves its binning at 2 there, for frames that are not binned
        assert ours.binning == tuple(theirs.binning)
    if theirs.mask is not None:
        assert crc32(ours.mask) == crc32(theirs.mask)


def test_detector_binning_drops_what_is_left_over():
    own, binned = Detector.from_name("Pilatus1M"), Detector.from_name("Pilatus1M", binning=(2, 4))
    assert binned.shape == (521, 245)
    np.testing.assert_array_equal(binned.mask, own.mask[:1042, :980].reshape(521, 2, 245, 4).any(axis=(1, 3)))


def test_detector_with_free_pixels_takes_any_size_unbinned():
    detector = Detector.from_name("FReLoN", pixel1=101e-6, pixel2=99e-6)
    assert (detector.shape, detector.binning, detector.pixel1) == ((2048, 2048), (1, 1), 101e-6)


def test_detector_shape_chooses_the_binning_when_nothing_else_does():
    assert Detector.from_name("RayonixMx225", shape=(3072, 3072)).pixel1 == pytest.approx(73.242e-6)
    assert Detector.from_name("RayonixMx225", shape=(1536, 1536)).pixel1 == pytest.approx(146.484e-6)
    assert Detector.from_name("Perkin", shape=(4096, 4096)).pixel1 == pytest.approx(100e-6)
    assert Detector.from_name("MAR 345", shape=(2300, 2300)).pixel1 == pytest.approx(150e-6)
    assert Detector.from_name("MAR 345", shape=(3000, 3000)).pixel1 == pytest.approx(100e-6)
    assert Detector.from_name("Eiger2 4M", shape=(1081, 1034)).binning == (2, 2)


def test_detector_shape_that_contradicts_it_is_refused():
    with pytest.raises(DetectorError, match=r"'Pilatus1M' .* frames of 1043 x 981 pixels, not 981 x 1043"):
        Detector.from_name("Pilatus1M", shape=(981, 1043))
    with pytest.raises(DetectorError, match=r"binning 1 x 1\) has frames of 2162 x 2068"):
        Detector.from_name("Eiger2 4M", shape=(1081, 1034), pixel1=75e-6, pixel2=75e-6)
    with pytest.raises(DetectorError, match=r"no frames of 2000 x 1000 pixels like this: 2300 x 2300 of 150 µm"):
        Detector.from_name("Mar345", shape=(2000, 1000))
    with pytest.raises(DetectorError, match="frames of 10 x 20 pixels, not 20 x 10"):
        Detector.from_name("Detector", shape=(20, 10), max_shape=(10, 20), pixel1=1e-4, pixel2=1e-4)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"shape": (0, 10)}, "shape must be two positive integers"),
        ({"shape": (10.5, 10)}, "shape must be two positive integers"),
        ({"shape": (10,)}, "shape must be two positive integers"),
        ({"shape": "10"}, "shape must be two positive integers"),
        ({"shape": None}, "generic detector has no shape"),
        ({"pixel1": None}, "generic detector has no pixel size"),
        ({"pixel1": -1e-4}, "pixel1 must be a positive length"),
        ({"pixel1": "wide"}, "pixel1 must be a positive length"),
        ({"pixel2": float("inf")}, "pixel2 must be a positive length"),
        ({"pixel2": float("nan")}, "pixel2 must be a positive length"),
        ({"orientation": 5}, "orientation must be 1, 2, 3 or 4"),
        ({"binning": 0}, "binning must be two positive integers"),
    ],
)
def test_detector_that_contradicts_itself_is_refused(wrong, told):
    good = {"shape": (10, 10), "pixel1": 1e-4, "pixel2": 1e-4}
    Detector.from_name("detector", **good)
    with pytest.raises(DetectorError, match=told):
        Detector.from_name("detector", **good | wrong)


@pytest.mark.parametrize("name", ["ImXPadS10", "ImXPadS70", "ImXPadS70V", "ImXPadS140", "Jungfrau"])
def test_detector_with_wide_pixels_has_pyfais_edges(name):
    detector = Detector.from_name(name)
    assert detector.uniform == (name == "ImXPadS10")  # a single module has no inner border
    assert detector.contiguous
    for ours, theirs in zip(detector.edges(), pyfai(name).calc_pixels_edges(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-13)


def test_detector_jungfrau_500k_has_wide_pixels_between_chips_only():
    one, two = (np.diff(edges) / 75e-6 for edges in Detector.from_name("Jungfrau 500k").edges())
    assert np.flatnonzero(one > 1.5).tolist() == [255, 256]
    assert np.flatnonzero(two > 1.5).tolist() == [255, 256, 511, 512, 767, 768]
    np.testing.assert_allclose(one[255], 2.0)


def test_detector_jungfrau_8m_is_the_uniform_grid_that_its_tiles_lie_on():
    # pyFAI also calls its pixels uniform, but doubles every 256th, which are no borders of tiles.
    detector = Detector.from_name("Jungfrau8M")
    assert detector.uniform
    np.testing.assert_allclose(np.diff(detector.edges()[0]), 75e-6, rtol=1e-9)


def test_detector_xpad_flat_has_gaps_between_modules():
    detector, theirs = Detector.from_name("d5"), pyfai("Xpad_flat")
    assert not detector.contiguous
    one, two = detector.spans()
    corners = theirs.get_pixel_corners()
    np.testing.assert_allclose(one[:, 0], corners[:, 0, 0, 1], atol=5e-8)
    np.testing.assert_allclose(one[:, 1], corners[:, 0, 1, 1], atol=5e-8)
    np.testing.assert_allclose(two[:, 0], corners[0, :, 0, 2], atol=5e-8)
    np.testing.assert_allclose(two[:, 1], corners[0, :, 3, 2], atol=5e-8)
    with pytest.raises(DetectorError, match="not contiguous"):
        detector.edges()


@pytest.mark.parametrize("name", ["Eiger2_500k", "ImXPadS140", "Xpad_flat", "Pilatus300k"])
def test_detector_orientation_reverses_positions_and_leaves_the_mask(name):
    native = Detector.from_name(name)
    rows, columns = native.spans()
    for orientation in (1, 2, 3, 4):
        detector = Detector.from_name(name, orientation=orientation)
        one, two = detector.spans()
        np.testing.assert_array_equal(one, rows[::-1, ::-1] if orientation in (1, 2) else rows)
        np.testing.assert_array_equal(two, columns[::-1, ::-1] if orientation in (1, 4) else columns)
        np.testing.assert_array_equal(detector.mask, native.mask)


def test_detector_wide_pixels_are_binned_with_the_others():
    own, binned = Detector.from_name("ImXPadS140"), Detector.from_name("ImXPadS140", binning=(2, 5))
    assert binned.shape == (120, 112)
    np.testing.assert_allclose(binned.edges()[0], own.edges()[0][::2], rtol=1e-13)
    np.testing.assert_allclose(binned.edges()[1], own.edges()[1][::5], rtol=1e-13)
    np.testing.assert_array_equal(binned.mask, own.mask.reshape(120, 2, 112, 5).any(axis=(1, 3)))


def test_detector_is_frozen_hashable_and_survives_pickling():
    one, two = Detector.from_name("Eiger2 CdTe 1M"), Detector.from_name("eiger2cdte_1m")
    assert one.mask is one.mask
    assert not one.mask.flags.writeable
    assert one == two
    assert hash(one) == hash(two)
    assert one != dataclasses.replace(one, orientation=2)
    assert pickle.loads(pickle.dumps(one)) == one
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.pixel1 = 1.0


@pytest.mark.parametrize("material", sensor_materials())
def test_sensor_attenuation_is_pyfais(material):
    from pyFAI.detectors.sensors import ALL_MATERIALS

    rng = np.random.default_rng(1)
    for energy in (*rng.uniform(1.01, 99.0, 300), *rng.uniform(1.01, 40.0, 300)):
        theirs = ALL_MATERIALS[material].mu(energy, unit="m")
        assert Sensor(material).attenuation(12.398419843320026e-10 / energy) == pytest.approx(theirs, rel=1e-9)


def test_sensor_of_a_known_detector():
    assert known_sensors("Eiger2CdTe_4M") == (Sensor("CdTe", 7.5e-4),)
    assert known_sensors("Pilatus1M")[0] == Sensor("Si", 3.2e-4)
    assert known_sensors("Detector") == ()


def test_sensor_that_cannot_be_is_refused():
    with pytest.raises(DetectorError, match="'Unobtainium' is not tabulated: there are .*CdTe"):
        Sensor("Unobtainium")
    with pytest.raises(DetectorError, match="thickness must be a positive length"):
        Sensor("Si", -1.0)
    with pytest.raises(DetectorError, match="tabulated from 1 to .* keV, the wavelength 1e-08 m means 0.12"):
        Sensor("Si").attenuation(1e-8)
