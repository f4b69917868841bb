"""``bluesky-powder range``: what positions cover."""

import math
import re
from functools import partial

import pytest
import yaml

from azimuthal import RadialBins
from bluesky_powder.recipe import Recipe
from command_line import run_command
from raw_runs import SHAPE, recipe_in


@pytest.fixture
def run(monkeypatch, capsys):
    return partial(run_command, monkeypatch, capsys)


@pytest.fixture
def recipe(tmp_path):
    """A recipe with a goniometer whose bins have no range yet, as one has before this command."""
    recipe_in(tmp_path, moving=True)
    path = tmp_path / "recipe.yaml"
    content = yaml.safe_load(path.read_text())
    del content["bins"]["range"]
    path.write_text(yaml.safe_dump(content))
    return path


def test_range_of_a_recipe_without_one(run, recipe):
    outcome = run("range", recipe, "--positions", "0:60:20")
    assert outcome.code == 0, outcome
    lines = outcome.out.splitlines()
    assert [re.match(r"pos = (\d+):", line)[1] for line in lines[:4]] == ["0", "20", "40", "60"]
    content = yaml.safe_load(recipe.read_text())
    content["bins"] = yaml.safe_load(lines[-1].partition("bins: ")[2])
    recipe.write_text(yaml.safe_dump(content))
    complete = Recipe.load(recipe)
    covering = RadialBins.covering(
        "2th_deg", 60, [complete.geometry.at({"pos": float(pos)}, SHAPE) for pos in (0, 20, 40, 60)]
    )
    low, high = complete.bins.range
    assert low <= covering.range[0] < covering.range[1] <= high
    assert math.isclose(high, covering.range[1], abs_tol=2e-3)


def test_positions_may_be_a_list_a_range_or_one(run, recipe):
    assert "all: " not in run("range", recipe, "--positions", "10").out
    for positions, number in (("0,30", 2), ("pos=30:0:15", 3), ("0:60", 21), ("5:5", 1)):
        assert len(re.findall(r"^pos = ", run("range", recipe, "--positions", positions).out, re.MULTILINE)) == number


def test_range_of_a_detector_that_does_not_move(run, tmp_path, shared_data):
    recipe_in(tmp_path)
    outcome = run("range", tmp_path / "recipe.yaml")
    assert outcome.out.startswith("the detector: ")
    content = yaml.safe_load((tmp_path / "recipe.yaml").read_text())
    content["geometry"] = {"poni": str(shared_data / "ceo2" / "CeO2_Pilatus1M.poni")}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(content))
    assert "give the frames' --shape" in run("range", tmp_path / "recipe.yaml").said_in_one_line
    assert run("range", tmp_path / "recipe.yaml", "--shape", "1043x981").out.startswith("the detector: 0 to 30.8")


def test_bad_input_is_told_in_one_line(run, recipe, tmp_path):
    for arguments, told in (
        ((recipe,), "give --positions 0:60 for the position 'pos'"),
        ((recipe, "--positions", "tilt=0:60"), "there is no position 'tilt'; the recipe has pos"),
        ((recipe, "--positions", "0:60:0"), "not a range"),
        ((recipe, "--positions", "a"), "not a range"),
        ((recipe, "--positions", "0:60:0.001"), "give a larger step"),
        ((recipe, "--positions", "0:6", "--shape", "10"), "is not rows x columns"),
        ((tmp_path / "none.yaml", "--positions", "0:6"), "cannot read the recipe"),
    ):
        assert told in run("range", *arguments).said_in_one_line
    recipe_in(tmp_path)
    assert "0 positions that move" in run("range", tmp_path / "recipe.yaml", "--positions", "0:6").said_in_one_line
