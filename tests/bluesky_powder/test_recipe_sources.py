"""Where a recipe takes positions, monitor and exposure from: what it says, what it refuses, and units."""

import math

import numpy as np
import pytest

from bluesky_powder.errors import RecipeError
from bluesky_powder.frames import Wanted
from bluesky_powder.recipe import Recipe
from bluesky_powder.recipe.conversions import factor, unit_name
from bluesky_powder.recipe.sources import KeySource, key_of
from bluesky_powder.replay import replay
from number_runs import Lanes, datum, descriptor, event, number_key, resource, write_columns
from raw_runs import SHAPE, Derived, assert_same_bits, images, inline_run, recipe_in


def geometry(motors, **more):
    return {"goniometer": "arm.json", "motors": motors, **more}


def mistakes(folder, **sections):
    recipe_in(folder)
    with pytest.raises(RecipeError) as caught:
        recipe_in(folder, **sections)
    return str(caught.value)


def test_recipe_sources_say_more_than_a_data_key(tmp_path):
    motors = {"pos": {"key": "two_theta", "take": "first", "unit": "mrad", "to_unit": "deg"}}
    corrections = {"monitor": {"key": "i0", "stream": "i0_monitor", "samples": 10}, "exposure": 0.2}
    recipe = recipe_in(tmp_path, geometry=geometry(motors, tolerance={"pos": 0.001}), corrections=corrections)
    assert recipe.geometry.motors == {"pos": KeySource(key="two_theta", take="first", unit="mrad", to_unit="deg")}
    assert recipe.corrections.monitor == KeySource(key="i0", stream="i0_monitor", samples=10)
    wanted = Wanted.by(recipe)
    assert (wanted.exposure, wanted.data_keys) == (0.2, {"two_theta", "i0"})
    again = Recipe.model_validate(recipe.stored())
    assert again.stored() == recipe.stored()
    assert again.corrections.monitor == recipe.corrections.monitor


def test_recipe_plain_sources_are_stored_as_they_were(tmp_path):
    recipe = recipe_in(tmp_path, geometry=geometry({"pos": "two_theta"}), corrections={"monitor": 5, "exposure": "t"})
    assert recipe.stored()["geometry"]["motors"] == {"pos": "two_theta"}
    assert (recipe.corrections.monitor, recipe.corrections.exposure) == (5.0, "t")
    assert [key_of(source) for source in ("a", KeySource(key="b"), 1.0, None)] == ["a", "b", None, None]
    assert str(KeySource(key="b", take="mean")) == "b"


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ({"kee": "a"}, ["motors.pos.kee: unknown key; did you mean 'key'?", "motors.pos.key: missing (the data key)"]),
        (
            {"key": "a", "colour": 1},
            ["motors.pos.colour: unknown key; here can stand: key, take, unit, to_unit"],
        ),
        ({"key": 3}, ["motors.pos.key: 3 is no name"]),
        ({"key": " "}, ["motors.pos.key: is empty"]),
        (
            {"key": "a", "take": "median"},
            ["motors.pos.take: 'median' is not possible; choose 'mean', 'first' or 'sum'"],
        ),
        ({"key": "a", "take": "sum"}, ["motors.pos.take: positions do not add up"]),
        ({"key": "a", "to_unit": "degs"}, ["motors.pos.to_unit: 'degs' is no unit that is known here (angles: rad,"]),
        ({"key": "a", "to_unit": 3}, ["motors.pos.to_unit: '3' is no unit"]),
        ({"key": "a", "unit": "mrad"}, ["motors.pos.unit: converts nothing without `to_unit`"]),
        (
            {"key": "a", "unit": "mm", "to_unit": "deg"},
            ["motors.pos.to_unit: 'mm' is no angle, and cannot become 'deg'"],
        ),
        ({"key": "a", "samples": 3}, ["motors.pos.samples: is about another stream; say which with `stream`"]),
        ({"key": "a", "stream": "m", "samples": 0}, ["motors.pos.samples: 0 is not possible"]),
        ({"key": "a", "stream": "m", "samples": "some"}, ["motors.pos.samples: 'some' is not possible"]),
        ([1], ["motors.pos: [1] is neither a data key nor a number"]),
        (True, ["motors.pos: True is neither a data key nor a number"]),
        (math.inf, ["motors.pos: inf is no finite number"]),
        ("", ["motors.pos: is empty; give a data key or a number"]),
    ],
)
def test_recipe_sources_that_make_no_sense_are_told_by_key(tmp_path, source, says):
    text = mistakes(tmp_path, geometry=geometry({"pos": source}))
    for line in says:
        assert f"geometry.{line}" in text


@pytest.mark.parametrize(
    ("tolerance", "says"),
    [
        ({"pos": 0}, "geometry.tolerance.pos: 0 is no tolerance; give a number above 0"),
        ({"pos": "fine"}, "geometry.tolerance.pos: 'fine' is no tolerance"),
        ({"pos": math.nan}, "geometry.tolerance.pos: nan is no tolerance"),
        ({"poss": 0.1}, "geometry.tolerance.poss: arm.json has no position 'poss'; did you mean 'pos'?"),
        (0.1, "geometry.tolerance: 0.1 is no section"),
    ],
)
def test_recipe_tolerances_that_make_no_sense_are_told_by_key(tmp_path, tolerance, says):
    assert says in mistakes(tmp_path, geometry=geometry({"pos": "a"}, tolerance=tolerance))


def test_recipe_tolerance_needs_a_goniometer(tmp_path):
    text = mistakes(tmp_path, geometry={"poni": "detector.poni", "tolerance": {"pos": 0.1}})
    assert "geometry.tolerance: a PONI file has no positions" in text


@pytest.mark.parametrize(
    ("corrections", "says"),
    [
        ({"exposure": 0}, "corrections.exposure: 0.0 cannot normalize a frame"),
        ({"exposure": {"key": "t", "to_unit": "ms"}}, "corrections.exposure.to_unit: 'ms': the exposure is in seconds"),
        ({"exposure": {"key": "t", "unit": "deg", "to_unit": "s"}}, "'deg' is no time, and cannot become 's'"),
        ({"monitor": {"key": "i0", "strem": "m"}}, "corrections.monitor.strem: unknown key; did you mean 'stream'?"),
    ],
)
def test_recipe_monitors_that_make_no_sense_are_told_by_key(tmp_path, corrections, says):
    assert says in mistakes(tmp_path, corrections=corrections)


@pytest.mark.parametrize(
    ("unit", "to_unit", "expected"),
    [
        ("deg", "degrees", 1.0),
        ("rad", "deg", 180 / np.pi),
        ("mrad", "urad", 1e3),
        ("arcsec", "deg", 1 / 3600),
        ("arcmin", "arcsec", 60.0),
        ("mdeg", "deg", 1e-3),
        ("mm", "m", 1e-3),
        ("\u03bcm", "mm", 1e-3),
        ("\u00b5m", "nm", 1e3),
        ("Angstrom", "nm", 0.1),
        ("ms", "s", 1e-3),
        ("DEG", "rad", np.pi / 180),
    ],
)
def test_units_convert(unit, to_unit, expected):
    assert factor(unit, to_unit) == pytest.approx(expected, rel=1e-15)
    assert factor(to_unit, unit) == pytest.approx(1 / expected, rel=1e-15)


def test_units_that_are_not_known_say_which_are():
    with pytest.raises(
        ValueError, match=r"'steps' is no unit that is known here \(angles: rad, .*lengths: m, .*times: s"
    ):
        unit_name("steps")
    with pytest.raises(ValueError, match="'mm' is no time"):
        factor("mm", "s")


# --- what comes of it ---------------------------------------------------------------------------------------------


def reduced(documents, recipe):
    derived = Derived()
    replay(documents, recipe, derived)
    return derived


def test_recipe_tolerance_makes_one_geometry_of_jitter(tmp_path):
    shot, jittered = images(4), [0.0003, -0.0002, 5.0001, 4.9998]
    exact = recipe_in(tmp_path, moving=True)
    recipe = recipe_in(tmp_path, geometry=geometry({"pos": "two_theta"}, tolerance={"pos": 0.001}))
    derived = reduced(inline_run(shot, jittered), recipe)
    assert derived.events["merged"][-1]["data"]["geometries"] == 2
    assert list(derived.latest("primary", "pos").values()) == jittered
    assert reduced(inline_run(shot, jittered), exact).events["merged"][-1]["data"]["geometries"] == 4
    expected = reduced(inline_run(shot, [0.0, 0.0, 5.0, 5.0]), recipe)
    without = {key: value for key, value in expected.arrays().items() if key[2] != "pos"}
    assert_same_bits({key: value for key, value in derived.arrays().items() if key[2] != "pos"}, without)


def document_run(documents):
    """Return documents as those of a whole run."""
    start = ("start", {"uid": "raw-run", "time": 1.7e9})
    return [
        start,
        *documents,
        ("stop", {"uid": "end", "run_start": "raw-run", "time": 1.8e9, "exit_status": "success"}),
    ]


def test_positions_and_monitors_give_the_same_patterns_wherever_they_stand(tmp_path):
    """One scan, its numbers in events, in columns of a flight, in other streams, in other units."""
    shot, angles, counts = images(6), [0.0, 0.0, 2.5, 2.5, 5.0, 5.0], [3.0, 4.0, 5.0, 6.0, 7.0, 8.0]
    lanes = Lanes(tmp_path, 6, columns={"two_theta": angles, "i0": counts}, frames=shot)
    plain = recipe_in(tmp_path, geometry=geometry({"pos": "two_theta"}), corrections={"monitor": "i0"})
    expected = reduced(inline_run(shot, angles, counts), plain).arrays()
    ways = {"columns": (lanes.live(), plain), "flight": (lanes.flown(), plain)}

    thirds = [event(n + 1, {"i0": counts[n // 3] / 3}, (n + 1) / 3, of="m") for n in range(18)]
    monitor = [descriptor("m", {"i0": number_key()}, "m"), *thirds]
    file = write_columns(tmp_path, "arm.h5", angle=np.repeat(angles, 2) * 1000)
    arm = [
        descriptor("arm", {"angle": number_key([1], external="STREAM:", units="mdeg")}, "a"),
        resource("arm", "angle", file, "/angle"),
        datum("arm", 0, 12, of="a"),
    ]
    (tmp_path / "bare").mkdir()
    bare = Lanes(tmp_path / "bare", 6, frames=shot)
    motors = {"pos": {"key": "angle", "stream": "arm", "to_unit": "deg", "samples": 2}}
    for samples in (None, 3, "time"):
        corrections = {"monitor": {"key": "i0", "stream": "m", "samples": samples}}
        recipe = recipe_in(tmp_path, geometry=geometry(motors), corrections=corrections)
        ways[f"other streams, {samples}"] = [*bare.live(), *arm, *monitor], recipe
    for way, (documents, recipe) in ways.items():
        arrays = reduced(document_run(documents), recipe).arrays()
        assert arrays.keys() == expected.keys(), way
        exact = "other" not in way  # thirds do not add up to the last bit
        for key, value in arrays.items():
            assert np.array_equal(value, expected[key], equal_nan=True) or not exact, (way, key)
            np.testing.assert_allclose(value, expected[key], rtol=1e-9, atol=1e-12, err_msg=f"{way} {key}")


def test_exposure_divides_patterns(tmp_path):
    shot = images(2)
    plain = reduced(inline_run(shot), recipe_in(tmp_path))
    halved = reduced(inline_run(shot), recipe_in(tmp_path, corrections={"exposure": 0.5}))
    for number, intensity in halved.latest("primary", "intensity").items():
        np.testing.assert_allclose(intensity, 2 * plain.latest("primary", "intensity")[number], rtol=1e-14)
    assert shot.shape[1:] == SHAPE
