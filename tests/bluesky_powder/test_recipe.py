"""The recipe: every mistake told by key and line, files read at once, a stored recipe that stands on its own."""

import json
import textwrap

import h5py
import numpy as np
import pytest
import tifffile

from bluesky_powder.errors import RecipeError
from bluesky_powder.recipe import Recipe

PONI = """\
poni_version: 2.1
Detector: Detector
Detector_config: {"pixel1": 1e-4, "pixel2": 1e-4, "max_shape": [20, 30], "orientation": 3}
Distance: 0.1
Poni1: 0.001
Poni2: 0.0015
Rot1: 0.0
Rot2: 0.0
Rot3: 0.0
Wavelength: 1e-10
"""
ARM = {
    "content": "Goniometer calibration v2",
    "detector": "Detector",
    "detector_config": {"pixel1": 1e-4, "pixel2": 1e-4, "max_shape": [20, 30], "orientation": 3},
    "wavelength": 1e-10,
    "param": [0.1, 0.001, 0.0015, 0.017453292519943295],
    "param_names": ["dist", "poni1", "poni2", "scale"],
    "pos_names": ["pos"],
    "trans_function": {
        "content": "GeometryTransformation",
        "param_names": ["dist", "poni1", "poni2", "scale"],
        "pos_names": ["pos"],
        "dist_expr": "dist",
        "poni1_expr": "poni1",
        "poni2_expr": "poni2",
        "rot1_expr": "0.0",
        "rot2_expr": "-pos * scale",
        "rot3_expr": "0.0",
        "constants": {"pi": 3.141592653589793},
    },
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "detector.poni").write_text(PONI)
    (tmp_path / "arm.json").write_text(json.dumps(ARM))
    np.save(tmp_path / "mask.npy", np.zeros((20, 30), np.int8))
    return tmp_path


def write(folder, text, name="recipe.yaml"):
    path = folder / name
    path.write_text(textwrap.dedent(text))
    return path


def mistakes_of(folder, text, name="recipe.yaml"):
    with pytest.raises(RecipeError) as caught:
        Recipe.load(write(folder, text, name))
    return str(caught.value)


FIXED = """\
    frames: eiger
    geometry: {poni: detector.poni}
    bins: {unit: 2th_deg, npt: 50}
    """
MOVING = """\
    frames: a
    geometry: {goniometer: arm.json, motors: {pos: t}}
    bins: {unit: 2th_deg, npt: 5, range: [1, 2]}
    """


def test_recipe_has_defaults_where_they_are_safe(folder):
    recipe = Recipe.load(write(folder, FIXED))
    assert recipe.frames == "eiger"
    assert recipe.bins.range is None
    assert recipe.integration.splitting == "full"
    assert recipe.integration.error_model == "azimuthal"
    assert recipe.integration.solid_angle == "relative"
    assert recipe.integration.polarization == 0.99
    assert recipe.corrections.bad_monitor == "skip"
    assert not recipe.geometry.moves
    assert recipe.geometry.at({}, (20, 30)).wavelength == 1e-10


def test_recipe_with_a_goniometer_takes_absolute_solid_angles(folder):
    recipe = Recipe.load(
        write(
            folder,
            """\
            frames: eiger
            geometry: {goniometer: arm.json, motors: {pos: two_theta}}
            bins: {unit: 2th_deg, npt: 50, range: [2, 60]}
            """,
        )
    )
    assert recipe.integration.solid_angle == "absolute"
    assert recipe.geometry.moves
    assert recipe.geometry.at({"pos": 10.0}, (20, 30)).rot2 == pytest.approx(-np.deg2rad(10))


def test_recipe_solid_angle_can_be_switched_off(folder):
    recipe = Recipe.load(write(folder, FIXED + "integration: {solid_angle: null}"))
    assert recipe.integration.solid_angle is None


def test_recipe_reads_the_whole_design_example(folder):
    np.save(folder / "flat.npy", np.ones((20, 30)))
    recipe = Recipe.load(
        write(
            folder,
            """\
            frames: eiger                        # data key that holds the frames
            geometry:
              goniometer: arm.json               # or  poni: detector.poni
              motors: {pos: two_theta}
            bins: {unit: 2th_deg, npt: 2000, range: [2, 6e1]}
            integration: {splitting: no, error_model: poisson, solid_angle: relative, polarization: 0.99}
            corrections: {mask: mask.npy, flat: flat.npy, dark: 2.5, monitor: i0, bad_monitor: unnormalised}
            """,
        )
    )
    keywords = recipe.integrator_keywords()
    assert keywords["splitting"] == "no"
    assert keywords["mask"].shape == keywords["flat"].shape == (20, 30)
    assert recipe.corrections.dark == 2.5
    assert recipe.corrections.monitor == "i0"
    assert recipe.bins.range == (2.0, 60.0)


def test_recipe_in_json_says_the_same(folder):
    text = json.dumps(
        {"frames": "eiger", "geometry": {"poni": "detector.poni"}, "bins": {"unit": "2th_deg", "npt": 50}}, indent="\t"
    )
    recipe = Recipe.load(write(folder, text, "recipe.json"))
    assert recipe.stored() == Recipe.load(write(folder, FIXED)).stored()


def test_recipe_takes_the_no_of_older_yaml_readers(folder):
    values = {
        "frames": "eiger",
        "geometry": {"poni": "detector.poni"},
        "bins": {"unit": "2th_deg", "npt": 5},
        "integration": {"splitting": False},
    }
    assert Recipe.model_validate(values, context={"folder": folder}).integration.splitting == "no"


def test_recipe_tells_every_mistake_with_key_and_line(folder):
    text = mistakes_of(
        folder,
        """\
        # everything that can be wrong
        frame: eiger
        geometry:
          goniometer: arm.json
          motors: {poss: two_theta}
        bins:
          unit: 2theta
          npt: 0
        integration:
          spliting: full
          polarization: 7
          error_model: gaussian
        corrections:
          dark: {steam: dark}
          mask: nothere.npy
          mask: elsewhere.npy
        outliers: {method: sigma_clop, quantile: [0.9, 0.1]}
        npt: 3
        """,
    )
    assert text.startswith(f"{folder / 'recipe.yaml'}: 15 mistakes\n")
    for line in (
        "line 2, frames: missing (data key that holds the frames); for example `frames: eiger`",
        "line 2, frame: unknown key; did you mean 'frames'?",
        "line 5, geometry.motors: position 'pos' of arm.json has no source",
        "line 5, geometry.motors.poss: arm.json has no position 'poss'; did you mean 'pos'?",
        "line 6, bins.range: missing: a goniometer moves the detector",
        "line 7, bins.unit: ",
        "line 8, bins.npt: 0 bins",
        "line 10, integration.spliting: unknown key; did you mean 'splitting'?",
        "line 11, integration.polarization: 7 is not possible",
        "line 12, integration.error_model: 'gaussian' is not possible; choose 'azimuthal' or 'poisson'",
        "line 14, corrections.dark: {'steam': 'dark'} says not where darks come from; write `stream`, ",
        f"line 16, corrections.mask: there is no file {folder / 'elsewhere.npy'}",
        "line 16, corrections.mask: given twice (also on line 15)",
        "line 17, outliers.method: 'sigma_clop' is not possible; choose",
        "line 18, npt: belongs under 'bins'",
    ):
        assert line in text


@pytest.mark.parametrize(
    ("text", "name", "says"),
    [
        ("frames: [\n]]", "recipe.yaml", "line 2: not valid YAML"),
        ('{"frames": "a",\n "bins" 3}', "recipe.json", "line 2: not valid JSON"),
        ("", "recipe.yaml", "not a recipe"),
        ("- frames", "recipe.yaml", "not a recipe"),
        ("frames: a\ngeometry: detector.poni\nbins: {unit: 2th_deg, npt: 5}", "recipe.yaml", "line 2, geometry: "),
        ("a: &a [*a]", "recipe.yaml", "line 1, a: unknown key"),
    ],
)
def test_recipe_text_that_is_none_says_where(folder, text, name, says):
    assert says in mistakes_of(folder, text, name)


def test_recipe_that_is_not_there_says_so(folder):
    with pytest.raises(RecipeError, match=r"cannot read the recipe .*nothere\.yaml"):
        Recipe.load(folder / "nothere.yaml")


@pytest.mark.parametrize(
    ("geometry", "says"),
    [
        ("{}", "geometry: give `poni: detector.poni` or `goniometer: arm.json`"),
        ("{poni: detector.poni, goniometer: arm.json}", "geometry: both poni and goniometer are given"),
        ("{poni: nothere.poni}", "geometry.poni: there is no file"),
        ("{poni: detector.poni, motors: {pos: tth}}", "geometry.motors: a PONI file has no positions"),
        ("{goniometer: arm.json, motors: {pos: true}}", "geometry.motors.pos: True is neither a data key nor a number"),
        ("{poni: unknown.poni}", "geometry.poni: unknown.poni: "),
        ("{poni: short.poni}", "geometry.poni: short.poni: key 'Distance' is missing"),
        ("{goniometer: evil.json, motors: {pos: tth}}", "geometry.goniometer: evil.json: "),
    ],
)
def test_recipe_geometry_mistakes_name_key_and_file(folder, geometry, says):
    (folder / "unknown.poni").write_text(PONI.replace("Detector: Detector", "Detector: Pilatos 7M"))
    (folder / "short.poni").write_text(PONI.replace("Distance: 0.1\n", ""))
    evil = json.dumps(ARM).replace('"rot3_expr": "0.0"', '"rot3_expr": "omega + 1"')
    (folder / "evil.json").write_text(evil)
    text = f"frames: a\ngeometry: {geometry}\nbins: {{unit: 2th_deg, npt: 5, range: [1, 2]}}\n"
    assert f"line 2, {says}" in mistakes_of(folder, text)


def test_recipe_names_an_unknown_name_in_an_expression(folder):
    (folder / "evil.json").write_text(json.dumps(ARM).replace('"rot3_expr": "0.0"', '"rot3_expr": "omega + 1"'))
    text = (
        "frames: a\ngeometry: {goniometer: evil.json, motors: {pos: t}}\nbins: {unit: 2th_deg, npt: 5, range: [1, 2]}"
    )
    assert "omega" in mistakes_of(folder, text)


def test_recipe_without_wavelength_cannot_have_q(folder):
    (folder / "detector.poni").write_text(PONI.replace("Wavelength: 1e-10\n", ""))
    text = FIXED.replace("2th_deg", "q_A^-1")
    assert "line 3, bins.unit: q_A^-1 needs a wavelength, which detector.poni does not give" in mistakes_of(
        folder, text
    )


def test_recipe_poni_without_a_shape_takes_the_frames(folder):
    (folder / "detector.poni").write_text(PONI.replace('"max_shape": [20, 30], ', ""))
    recipe = Recipe.load(write(folder, FIXED))
    assert recipe.geometry.detector is None
    assert recipe.geometry.at({}, (7, 9)).shape == (7, 9)


@pytest.mark.parametrize(
    ("corrections", "says"),
    [
        ("{mask: small.npy}", "corrections.mask: small.npy has shape (3, 4), the detector Detector has (20, 30)"),
        ("{mask: flat.npy}", "corrections.mask: flat.npy holds float64, a mask is boolean or whole numbers"),
        ("{flat: bad.npy}", "corrections.flat: bad.npy holds negative numbers; a factor like flat has none"),
        ("{absorption: bad.npy}", "a factor like absorption has none"),
        ("{mask: cube.npy}", "holds int64 of shape (2, 20, 30); need one image"),
        ("{mask: mask.txt}", "give .npy, .tif, .h5::dataset or .edf"),
        ("{mask: mask.h5}", "needs the name of a dataset; write mask.h5::dataset, with one of: entry/mask"),
        ("{mask: 'mask.h5::nothing'}", "has no dataset 'nothing'"),
        ("{mask: broken.tif}", "cannot read"),
        ("{monitor: 0}", "corrections.monitor: 0.0 cannot normalize a frame"),
        ("{dark: yes.npy}", "corrections.dark: there is no file"),
        ("{dark: true}", "corrections.dark: True is no dark; write `stream`, "),
        ("{dark: .inf}", "corrections.dark: inf is no number to calculate with"),
        ("{dark: {run: 3}}", "corrections.dark: {'run': 3} says not where darks come from"),
        ("{dark: {run: a, stream: b}}", "says not where darks come from"),
        ("{dark: {stream: shutter}}", "corrections.dark: which stream holds the frames, if 'shutter' holds darks?"),
        ("{dark: 2, dark_variance: bad.npy}", "corrections.dark_variance: a variance is finite and at least 0"),
        ("{dark: 2, dark_variance: small.npy}", "corrections.dark_variance: small.npy has shape (3, 4)"),
        ("{dark: stream, dark_variance: 2}", "corrections.dark_variance: goes with a dark from a file or number"),
        ("{dark_variance: 2}", "corrections.dark_variance: there is no dark that it could belong to"),
        ("{dark: stream, missing_dark: none}", "corrections.missing_dark: 'none' is not possible; choose 'skip' or"),
    ],
)
def test_recipe_correction_mistakes_name_key_and_file(folder, corrections, says):
    np.save(folder / "small.npy", np.zeros((3, 4), bool))
    np.save(folder / "flat.npy", np.ones((20, 30)))
    np.save(folder / "bad.npy", np.full((20, 30), -1.0))
    np.save(folder / "cube.npy", np.zeros((2, 20, 30), np.int64))
    (folder / "mask.txt").write_text("0")
    (folder / "broken.tif").write_bytes(b"nothing")
    with h5py.File(folder / "mask.h5", "w") as file:
        file["entry/mask"] = np.zeros((20, 30), bool)
    assert says in mistakes_of(folder, FIXED + f"corrections: {corrections}\n")


def test_recipe_reads_masks_of_every_kind(folder):
    mask = np.zeros((20, 30), np.uint8)
    mask[3, 4] = 1
    np.save(folder / "m.npy", mask)
    tifffile.imwrite(folder / "m.tif", mask)
    with h5py.File(folder / "m.h5", "w") as file:
        file["entry/mask"] = mask[np.newaxis]
    header = "{\nByteOrder = HighByteFirst ;\nDataType = UnsignedShort ;\nDim_1 = 30 ;\nDim_2 = 20 ;\n"
    big = mask.astype(">u2").tobytes()
    (folder / "m.edf").write_bytes((header.ljust(510) + "}\n").encode() + big)
    for name in ("m.npy", "m.tif", "m.h5::entry/mask", "m.edf"):
        recipe = Recipe.load(write(folder, FIXED + f"corrections: {{mask: '{name}'}}\n"))
        assert np.array_equal(recipe.corrections.mask.array, mask), name


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("stream", {"stream": "dark"}),
        ("{stream: dark}", {"stream": "dark"}),
        ("{run: sc_dk_field_uid}", {"run": "sc_dk_field_uid"}),
        ("2.5", 2.5),
        ("null", None),
    ],
)
def test_recipe_reads_where_darks_come_from(folder, given, meant):
    recipe = Recipe.load(write(folder, FIXED + f"corrections: {{dark: {given}}}\n"))
    assert recipe.stored()["corrections"]["dark"] == meant
    again = Recipe.model_validate(json.loads(json.dumps(recipe.stored())), context={"folder": folder})
    assert again.corrections == recipe.corrections


def test_recipe_refuses_the_stream_of_the_frames_for_darks(folder):
    text = FIXED + "stream: dark\n    corrections: {dark: stream}\n"
    assert "corrections.dark: the stream 'dark' holds the frames themselves" in mistakes_of(folder, text)


def test_recipe_reads_a_dark_file_and_its_variance(folder):
    np.save(folder / "dark.npy", np.full((20, 30), 2, np.int32))
    recipe = Recipe.load(write(folder, FIXED + "corrections: {dark: dark.npy, dark_variance: dark.npy}\n"))
    assert recipe.corrections.dark.array.dtype == np.int32
    again = Recipe.model_validate(json.loads(json.dumps(recipe.stored())), context={"folder": folder})
    assert np.array_equal(again.corrections.dark_variance.array, recipe.corrections.dark.array)


def test_stored_recipe_is_json_and_loads_again_without_its_files(folder, tmp_path_factory):
    recipe = Recipe.load(write(folder, FIXED))
    text = json.dumps(recipe.stored())
    assert "Wavelength: 1e-10" in text
    again = Recipe.model_validate(json.loads(text), context={"folder": tmp_path_factory.mktemp("elsewhere")})
    assert again.stored() == recipe.stored()
    assert again.geometry.at({}, (20, 30)) == recipe.geometry.at({}, (20, 30))


def test_stored_goniometer_recipe_loads_again(folder, tmp_path_factory):
    stored = Recipe.load(write(folder, MOVING)).stored()
    again = Recipe.model_validate(stored, context={"folder": tmp_path_factory.mktemp("elsewhere")})
    assert again.stored() == stored


def test_stored_recipe_holds_arrays_by_their_checksum(folder):
    stored = Recipe.load(write(folder, FIXED + "corrections: {mask: mask.npy}\n")).stored()
    mask = stored["corrections"]["mask"]
    assert mask["file"] == "mask.npy"
    assert mask["shape"] == [20, 30]
    assert mask["dtype"] == "int8"
    assert len(mask["sha256"]) == 64
    assert Recipe.model_validate(stored, context={"folder": folder}).stored() == stored


def test_stored_recipe_says_which_array_is_missing_or_another(folder, tmp_path_factory):
    stored = Recipe.load(write(folder, FIXED + "corrections: {mask: mask.npy}\n")).stored()
    with pytest.raises(
        RecipeError, match=r"corrections\.mask: the stored recipe needs its array mask\.npy \(20×30 int8"
    ):
        Recipe.model_validate(stored, context={"folder": tmp_path_factory.mktemp("elsewhere")})
    np.save(folder / "mask.npy", np.ones((20, 30), np.int8))
    with pytest.raises(RecipeError, match=r"mask\.npy is not the array that the stored recipe was used with"):
        Recipe.model_validate(stored, context={"folder": folder})


def test_recipe_of_takes_whatever_stands_for_one(folder):
    path = write(folder, FIXED)
    recipe = Recipe.load(path)
    assert Recipe.of(recipe) is recipe
    assert Recipe.of(path).stored() == Recipe.of(str(path)).stored() == Recipe.of(recipe.stored()).stored()


def test_recipe_is_frozen(folder):
    recipe = Recipe.load(write(folder, FIXED))
    with pytest.raises(ValueError, match="frozen"):
        recipe.frames = "other"


def test_recipe_reads_every_reference_goniometer(shared_reference, tmp_path):
    files = sorted((shared_reference / "goniometers").glob("*.json"))
    assert files
    for path in files:
        names = [*json.loads(path.read_text())["trans_function"]["pos_names"]]
        motors = json.dumps({name: f"motor_{name}" for name in names})
        text = MOVING.replace("arm.json", str(path)).replace("{pos: t}", motors)
        assert Recipe.load(write(tmp_path, text)).geometry.detector is not None


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ("{method: median, threshold: 3}", "outliers.threshold: is no part of method median"),
        ("{method: quantile}", "outliers.quantile: missing"),
        ("{quantile: [0.9, 0.1]}", "outliers.quantile: [0.9, 0.1] are not two rising fractions"),
        ("{method: sigma_clip, threshold: -1}", "outliers.threshold: "),
        ("{threshold: 5}", "outliers.method: missing"),
    ],
)
def test_recipe_outliers_that_make_no_sense_are_told(folder, section, says):
    text = f"frames: a\ngeometry: {{poni: detector.poni}}\nbins: {{unit: 2th_deg, npt: 5}}\noutliers: {section}\n"
    assert f"line 4, {says}" in mistakes_of(folder, text, "recipe.yaml")
