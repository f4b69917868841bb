import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from azimuthal.errors import DetectorError, ExpressionError, GeometryError, GoniometerError
from azimuthal.goniometer import Goniometer, rounded_positions

FILES = ["ID29", "ROBL_v1", "ROBL_v2", "extended_2axes_eiger2", "extended_imxpad_from_tests"]
PARAMETERS = ("distance", "poni1", "poni2", "rot1", "rot2", "rot3", "wavelength")


def content(**changes):
    """Return a small two-theta arm, with changes to its transformation."""
    return {
        "content": "Goniometer calibration v2",
        "detector": "Eiger2 CdTe 1M",
        "detector_config": {"orientation": 2},
        "wavelength": 1e-10,
        "param": [0.2, 0.01, 0.017],
        "param_names": ["dist", "poni", "scale"],
        "pos_names": ["pos"],
        "trans_function": {
            "content": "GeometryTransformation",
            "param_names": ["dist", "poni", "scale"],
            "pos_names": ["pos"],
            "dist_expr": "dist",
            "poni1_expr": "poni",
            "poni2_expr": "poni",
            "rot1_expr": "0",
            "rot2_expr": "scale * pos",
            "rot3_expr": "0",
        }
        | changes,
    }


def read(document):
    return Goniometer.from_text(json.dumps(document))


@pytest.fixture
def files(shared_reference):
    return shared_reference / "goniometers"


@pytest.mark.parametrize("name", FILES)
def test_goniometer_geometries_are_pyfais(files, name):
    from pyFAI.goniometer import Goniometer as Reference

    ours = Goniometer.from_json(files / f"{name}.json")
    theirs = Reference.sload(str(files / f"{name}.json"))
    rng = np.random.default_rng(5)
    for _ in range(10):
        position = {key: rng.uniform(0.5, 40.0) for key in ours.position_names}
        values = tuple(position.values())
        geometry, ai = ours.geometry(position), theirs.get_ai(values if len(values) > 1 else values[0])
        for key in PARAMETERS:
            expected = getattr(ai, "dist" if key == "distance" else key)
            assert getattr(geometry, key) == pytest.approx(expected, rel=1e-12, abs=1e-13)
        assert geometry.shape == tuple(ai.detector.shape)
        assert geometry.detector.orientation == ai.detector.orientation
    expected = ai.center_array(unit="2th_rad")
    np.testing.assert_allclose(geometry.two_theta(), expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", FILES)
def test_goniometer_written_is_read_back_by_us_and_by_pyfai(files, name, tmp_path):
    from pyFAI.goniometer import Goniometer as Reference

    ours = Goniometer.from_json(files / f"{name}.json")
    ours.to_json(tmp_path / "arm.json")
    again, theirs = Goniometer.from_json(tmp_path / "arm.json"), Reference.sload(str(tmp_path / "arm.json"))
    assert again == ours
    assert hash(again) == hash(ours)
    position = dict.fromkeys(ours.position_names, 7.5)
    geometry, ai = ours.geometry(position), theirs.get_ai((7.5,) * len(position) if len(position) > 1 else 7.5)
    assert ai.rot2 == pytest.approx(geometry.rot2, abs=1e-13)
    assert ai.wavelength == pytest.approx(geometry.wavelength, rel=1e-13)
    assert ai.detector.orientation == geometry.detector.orientation


def test_goniometer_version_1_1_has_the_detector_at_the_top():
    from pyFAI.goniometer import Goniometer as Reference  # noqa: F401  only to say that it reads this version too

    old = content()
    del old["detector_config"]
    old |= {"content": "Goniometer calibration v1.1", "pixel1": 150e-6, "pixel2": 150e-6, "orientation": 4}
    detector = read(old).detector
    assert (detector.shape, detector.binning, detector.orientation) == ((531, 514), (2, 2), 4)


def test_goniometer_takes_its_position_in_any_way():
    arm = read(content())
    expected = arm.geometry(pos=12.5)
    assert expected.rot2 == pytest.approx(0.017 * 12.5, rel=1e-15)
    assert expected.wavelength == 1e-10
    for at in (12.5, np.float32(12.5), np.array(12.5), {"pos": 12.5}, {"pos": np.float64(12.5)}):
        assert arm.geometry(at) == expected
    assert arm.geometry(pos=np.int16(12)) == arm.geometry(12)
    assert arm.geometry(12).detector is arm.detector


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "position 'pos' is missing: this goniometer needs pos"),
        ({"two_theta": 3.0}, "unknown position 'two_theta': this goniometer has pos"),
        ({"pos": 3.0, "x": 1.0}, "unknown position 'x'"),
        ({"pos": math.nan}, "position 'pos' must be a finite number, not nan"),
        ({"pos": math.inf}, "position 'pos' must be a finite number"),
        ({"pos": "12.5"}, "position 'pos' must be a finite number, not '12.5'"),
        ({"pos": None}, "position 'pos' must be a finite number, not None"),
        ({"pos": np.array([12.5])}, "position 'pos' must be a finite number"),
        (None, "position 'pos' is missing"),
    ],
)
def test_goniometer_position_that_is_wrong_is_named(given, told):
    with pytest.raises(GoniometerError, match=told):
        read(content()).geometry(given)


def test_goniometer_with_two_motors_wants_names(files):
    arm = Goniometer.from_json(files / "extended_2axes_eiger2.json")
    assert arm.position_names == ("ty", "x")
    assert arm.geometry(ty=3.0, x=1.0) == arm.geometry({"ty": 3.0}, x=1.0)
    with pytest.raises(GoniometerError, match="give them by name"):
        arm.geometry(3.0)
    with pytest.raises(GoniometerError, match="position 'x' is missing: this goniometer needs ty, x"):
        arm.geometry(ty=3.0)


def test_goniometer_extended_wavelength():
    document = content(content="ExtendedTransformation", wavelength_expr="hc/(10 + pos)*1e-10")
    assert read(document).geometry(2.0).wavelength == pytest.approx(12.398419843320026e-10 / 12.0, rel=1e-15)
    del document["trans_function"]["wavelength_expr"]
    assert read(document).geometry(2.0).wavelength == 1e-10
    del document["wavelength"]
    assert read(document).geometry(2.0).wavelength is None


@pytest.mark.parametrize(
    ("changes", "error", "told"),
    [
        ({"rot2_expr": "e*pos"}, ExpressionError, "rot2_expr: expression 'e\\*pos' contains the unknown name 'e'"),
        ({"rot2_expr": "hc*pos"}, ExpressionError, "unknown name 'hc'"),
        ({"rot3_expr": None}, GoniometerError, '"rot3_expr" is missing'),
        ({"content": "Rotation"}, GoniometerError, "unknown transformation 'Rotation'"),
        ({"wavelength_expr": "1e-10"}, GoniometerError, "GeometryTransformation has no wavelength_expr"),
        ({"spin_expr": "1"}, GoniometerError, "has no spin_expr"),
        ({"constants": {"scale": 1.0}}, GoniometerError, "name 'scale' is defined twice"),
        ({"pos_names": ["pi"]}, GoniometerError, "name 'pi' is defined twice"),
        ({"pos_names": ["dist"]}, GoniometerError, "name 'dist' is defined twice"),
        ({"pos_names": ["pos", "pos"]}, GoniometerError, "name 'pos' is defined twice"),
        ({"pos_names": ["two theta"]}, GoniometerError, '"pos_names" must be a list of names'),
        ({"param_names": None}, GoniometerError, '"param_names" must be a list of names'),
        ({"param_names": ["dist", "poni"]}, GoniometerError, r'"param" must be a list of 2 numbers \(dist, poni\)'),
        ({"constants": {"k": "x"}}, GoniometerError, "constant 'k' must be a finite number"),
        ({"constants": [1]}, GoniometerError, '"constants" must be a JSON object'),
        ({"content": "ExtendedTransformation", "pos_names": ["q"]}, GoniometerError, "name 'q' is defined twice"),
    ],
)
def test_goniometer_transformation_that_is_wrong_is_told_at_load(changes, error, told):
    with pytest.raises(error, match=told):
        read(content(**changes))


@pytest.mark.parametrize(
    ("changes", "error", "told"),
    [
        ({"content": "Something"}, GoniometerError, "\"content\" must be 'Goniometer calibration v2'"),
        ({"trans_function": None}, GoniometerError, '"trans_function" must be a JSON object'),
        ({"detector": "Eigr"}, DetectorError, "goniometer text: unknown detector 'Eigr'"),
        ({"detector": None}, GoniometerError, '"detector" must be a name'),
        ({"detector": "Detector"}, DetectorError, "generic detector without max_shape"),
        ({"detector_config": "["}, GoniometerError, '"detector_config" is not valid JSON'),
        ({"detector_config": [1]}, GoniometerError, '"detector_config" must be a JSON object'),
        ({"param": [0.2, 0.01, None]}, GoniometerError, "parameter 'scale' must be a finite number"),
        ({"param": [0.2, 0.01, math.nan]}, GoniometerError, "parameter 'scale' must be a finite number, not nan"),
        ({"wavelength": "x"}, GoniometerError, '"wavelength" must be a finite number'),
    ],
)
def test_goniometer_file_that_is_wrong_is_told_at_load(changes, error, told):
    with pytest.raises(error, match=told):
        read(content() | changes)


def test_goniometer_that_is_no_json_names_the_file(tmp_path):
    (tmp_path / "arm.json").write_text("{")
    with pytest.raises(GoniometerError, match=r"arm\.json: not valid JSON"):
        Goniometer.from_json(tmp_path / "arm.json")
    with pytest.raises(GoniometerError, match="must hold a JSON object"):
        Goniometer.from_text("[]")
    with pytest.raises(FileNotFoundError):
        Goniometer.from_json(tmp_path / "none.json")


def test_goniometer_parameters_may_be_named_and_expressions_numbers():
    document = content(rot3_expr=0.5)
    document["param"] = {"scale": 0.017, "poni": 0.01, "dist": 0.2}
    arm = read(document)
    assert arm == read(content(rot3_expr="0.5"))
    assert arm.geometry(10).rot3 == 0.5


def test_goniometer_impossible_geometry_tells_the_position():
    with pytest.raises(GoniometerError, match=r"no geometry at pos = 30\.0: distance must be positive"):
        read(content(dist_expr="dist - pos")).geometry(30)
    with pytest.raises(GeometryError, match=r"rot2: expression '1/\(pos-3\)' with pos = 3\.0 has no value"):
        read(content(rot2_expr="1/(pos-3)")).geometry(3)


def test_goniometer_generic_detector_takes_the_frames_shape():
    document = content() | {"detector": "Detector", "detector_config": {"pixel1": 1e-4, "pixel2": 1e-4}}
    arm = Goniometer.from_text(json.dumps(document), shape=(30, 40))
    assert arm.detector.shape == (30, 40)
    with pytest.raises(DetectorError, match="frames of 1062 x 1028 pixels, not 30 x 40"):
        Goniometer.from_text(json.dumps(content()), shape=(30, 40))


def test_goniometer_is_frozen():
    arm = read(content())
    with pytest.raises(dataclasses.FrozenInstanceError):
        arm.wavelength = 1.0


def test_rounded_positions_are_whole_multiples_of_the_tolerance():
    positions = {"pos": 12.34567, "height": -0.0261, "angle": 1.2345678}
    rounded = rounded_positions(positions, {"pos": 0.0005, "height": 0.01})
    assert rounded == {"pos": 24691 * 0.0005, "height": -3 * 0.01, "angle": 1.2345678}
    assert positions["pos"] == 12.34567
    assert rounded_positions({"pos": 3}, {}) == {"pos": 3}


@pytest.mark.parametrize(("steps", "nearest"), [(0.5, 0), (1.5, 2), (2.5, 2), (-0.5, 0), (-1.5, -2), (2.5000001, 3)])
def test_rounded_positions_take_halves_to_even(steps, nearest):
    assert rounded_positions({"pos": steps * 0.25}, {"pos": 0.25}) == {"pos": nearest * 0.25}
    assert math.copysign(1, rounded_positions({"pos": -0.01}, {"pos": 0.25})["pos"]) == 1


@given(
    position=st.floats(-1e6, 1e6),
    jitter=st.floats(-0.49, 0.49),
    grid=st.sampled_from([0.0005, 0.001, 0.1, 1 / 3, 2.0]),
)
def test_rounded_positions_do_not_move_when_rounded_again_nor_by_jitter_around_the_grid(position, jitter, grid):
    rounded = rounded_positions({"pos": position}, {"pos": grid})["pos"]
    assert abs(rounded - position) <= grid / 2 + abs(position) * 1e-15
    assert rounded_positions({"pos": rounded}, {"pos": grid})["pos"] == rounded
    assert rounded_positions({"pos": rounded + jitter * grid}, {"pos": grid})["pos"] == rounded


@pytest.mark.parametrize("grid", [0.0, -1.0, math.nan, math.inf])
def test_rounded_positions_need_a_tolerance_above_0(grid):
    with pytest.raises(GoniometerError, match="the tolerance of position 'pos' must be a finite number above 0"):
        rounded_positions({"pos": 1.0}, {"pos": grid})


@pytest.mark.parametrize(("position", "grid"), [(math.nan, 0.1), (math.inf, 0.1), (1e300, 1e-300)])
def test_rounded_positions_that_have_no_multiple_are_refused(position, grid):
    with pytest.raises(GoniometerError, match="position 'pos'"):
        rounded_positions({"pos": position}, {"pos": grid})
