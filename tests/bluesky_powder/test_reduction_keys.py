"""What the descriptors of derived runs say of positions and monitor: their names, and their units."""

import copy
import json

import numpy as np
import pytest

from bluesky_powder.recipe.sources import KeySource
from bluesky_powder.reduction.keys import position_keys
from bluesky_powder.reduction.raw_units import RawUnits
from bluesky_powder.replay import replay
from number_runs import descriptor, event, number_key
from raw_runs import ARM, Derived, images, inline_run, recipe_in

FRAMES = 3


def described(documents, recipe):
    """Return what the derived descriptor says of the data keys of primary."""
    derived = Derived()
    replay(documents, recipe, derived)
    assert derived.stop["exit_status"] == "success", derived.stop["reason"]
    (found,) = (document for document in derived.descriptors.values() if document["name"] == "primary")
    return found["data_keys"], derived


def beside(documents, name, key, units, values, at=1):
    """Return documents with another stream, whose descriptor comes at a place, and whose events follow it."""
    told = [descriptor(name, {key: number_key(units=units)}, name)]
    told += [event(number, {key: value}, number - 1, of=name) for number, value in enumerate(values, 1)]
    told[0][1].update(run_start=documents[0][1]["uid"], time=1.0)
    return [*documents[:at], *told, *documents[at:]]


@pytest.mark.parametrize("at", [1, 2], ids=["before the frames", "after them"])
@pytest.mark.parametrize("source", ["stage", {"key": "stage", "stream": "baseline"}])
def test_units_of_a_position_come_from_the_baseline(tmp_path, at, source):
    recipe = recipe_in(tmp_path, moving=True, geometry={"goniometer": "arm.json", "motors": {"pos": source}})
    documents = beside(inline_run(images(FRAMES)), "baseline", "stage", "mm", [5.0, 17.0], at)
    keys, derived = described(documents, recipe)
    assert (keys["pos"]["units"], keys["pos"]["source"]) == ("mm", "raw:stage")
    assert {document["time"] for document in derived.descriptors.values()} == {1.7e9}  # as old as the frames' one


@pytest.mark.parametrize("at", [1, 2])
def test_units_of_a_monitor_come_from_its_stream(tmp_path, at):
    monitor = {"key": "current", "stream": "beam", "samples": 1}
    recipe = recipe_in(tmp_path, corrections={"monitor": monitor})
    documents = beside(inline_run(images(FRAMES)), "beam", "current", "A", [0.5, 0.5, 0.5], at)
    assert described(documents, recipe)[0]["monitor"]["units"] == "A"


@pytest.mark.parametrize(
    ("units", "counts", "told"), [("ms", 50.0, "s"), ("s", 0.05, "s"), (None, 0.05, None), ("ticks", 0.05, "ticks")]
)
def test_units_of_an_exposure_alone(tmp_path, units, counts, told):
    recipe = recipe_in(tmp_path, corrections={"exposure": "expo"})
    documents = beside(inline_run(images(FRAMES)), "baseline", "expo", units, [counts])
    keys, derived = described(documents, recipe)
    assert keys["monitor"]["units"] == told
    assert keys["monitor"]["source"] == "raw:expo"
    assert [made["data"]["monitor"] for made in derived.events["primary"]] == pytest.approx([0.05] * FRAMES)


def test_units_of_an_exposure_that_the_recipe_gives_are_seconds(tmp_path):
    recipe = recipe_in(tmp_path, corrections={"exposure": 0.5})
    assert described(inline_run(images(1)), recipe)[0]["monitor"]["units"] == "s"


def test_units_of_two_streams_do_not_mix():
    units = RawUnits()
    configured = {"arm": {"data": {}, "data_keys": {"x": {"units": "rad"}, "y": {"units": "um"}}}}
    units.describe(descriptor("primary", {"x": number_key(units="deg")}, configuration=configured)[1])
    units.describe(descriptor("beam", {"x": number_key(units="A"), "only": number_key(units="V")}, "b")[1])
    units.describe(descriptor("baseline", {"x": number_key(units="mm"), "y": number_key(units="m")}, "c")[1])
    assert [units.of(key) for key in ("x", "y", "only", "none")] == ["deg", "um", None, None]
    streams = ("primary", "beam", "baseline", "later")
    assert [units.of(KeySource(key="x", stream=name)) for name in streams] == ["deg", "A", "mm", None]


@pytest.mark.parametrize(
    ("names", "keys"),
    [
        (["pos", "a.b"], ["pos", "a_b"]),
        (["a.b", "a_b", "a/b"], ["position_a_b", "a_b", "position_a_b_2"]),
        (["monitor", "dark_uid", "spottiness"], ["position_monitor", "position_dark_uid", "position_spottiness"]),
        (["monitor", "position_monitor"], ["position_monitor_2", "position_monitor"]),
    ],
)
def test_position_keys_are_free_and_all_different(names, keys):
    assert [position_keys(names)[name] for name in names] == keys


def test_positions_of_like_names_keep_their_values(tmp_path):
    arm = copy.deepcopy(ARM) | {"pos_names": ["dark_uid", "a_b", "ab_"]}
    arm["trans_function"]["pos_names"] = arm["pos_names"]
    arm["trans_function"]["rot1_expr"] = "(dark_uid + a_b + ab_) * scale"
    recipe_in(tmp_path)
    (tmp_path / "three.json").write_text(json.dumps(arm))
    motors = {"dark_uid": 1.0, "a_b": 2.0, "ab_": 3.0}
    recipe = recipe_in(
        tmp_path, geometry={"goniometer": "three.json", "motors": motors}, corrections={"dark": "stream"}
    )
    documents = inline_run(images(1))
    keys = {"det": {"dtype": "array", "shape": [40, 50], "source": "det", "dtype_numpy": "<u4"}}
    dark = [descriptor("dark", keys, "d"), event(1, {"det": np.zeros((40, 50), np.uint32)}, 0, of="d")]
    dark[0][1]["run_start"] = documents[0][1]["uid"]
    _, derived = described([documents[0], *dark, *documents[1:]], recipe)
    (made,) = derived.events["primary"]
    found = {key: made["data"][key] for key in ("position_dark_uid", "a_b", "ab_")}
    assert found == {"position_dark_uid": 1.0, "a_b": 2.0, "ab_": 3.0}
    assert isinstance(made["data"]["dark_uid"], str)
