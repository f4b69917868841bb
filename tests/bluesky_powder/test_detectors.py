"""Several detectors in one recipe, and what the reduction is told besides its recipe."""

import json
import textwrap

import event_model
import numpy as np
import pytest

from bluesky_powder import PowderReduction
from bluesky_powder.errors import RecipeError
from bluesky_powder.recipe import Recipe, recipes_of
from bluesky_powder.replay import replay
from raw_runs import SHAPE, Derived, assert_same_bits, images, inline_run, recipe_in, stream_run, write_hdf5

LEFT, RIGHT = images(3, seed=1), images(3, seed=2)

TWO = """\
bins: {unit: 2th_deg, npt: 60, range: [1, 60]}
integration: {splitting: bbox}
corrections: {monitor: i0}
detectors:
  left:
    frames: det
    geometry: {poni: detector.poni}
  right:
    frames: other
    geometry: {goniometer: arm.json, motors: {pos: two_theta}}
    bins: {npt: 40}
    corrections: {mask: mask.npy}
"""


@pytest.fixture
def folder(tmp_path):
    recipe_in(tmp_path, moving=True)
    mask = np.zeros(SHAPE, bool)
    mask[:3] = True
    np.save(tmp_path / "mask.npy", mask)
    return tmp_path


def write(folder, text, name="several.yaml"):
    (folder / name).write_text(textwrap.dedent(text))
    return folder / name


def reduced(documents, recipe, **options):
    """Return what was derived, by detector."""
    together, by_detector, of_run = Derived(), {}, {}

    def take(name, document):
        together(name, document)
        if name == "start":
            of_run[document["uid"]] = by_detector.setdefault(document.get("detector"), Derived())
        run = document["uid"] if name == "start" else document.get("run_start") or run_of[document["descriptor"]]
        if name == "descriptor":
            run_of[document["uid"]] = run
        of_run[run](name, document)

    run_of = {}
    replay(documents, recipe, take, **options)
    return by_detector


def two_detectors(left=LEFT, right=RIGHT):
    """Return an inline run of two detectors, a motor and a monitor."""
    run = event_model.compose_run(metadata={"sample": "LaB6"})
    keys = {name: {"dtype": "number", "shape": [], "source": name} for name in ("two_theta", "i0")}
    supplies = {name: supply for name, supply in (("det", left), ("other", right)) if supply is not None}
    keys |= {
        name: {"dtype": "array", "shape": list(SHAPE), "source": name, "dtype_numpy": supply.dtype.str}
        for name, supply in supplies.items()
    }
    bundle = run.compose_descriptor(name="primary", data_keys=keys, time=1.7e9)
    events = []
    for at in range(3):
        data = {"two_theta": 5.0 * at, "i0": 100.0 + at, **{name: supply[at] for name, supply in supplies.items()}}
        stamps = dict.fromkeys(data, 1.7e9 + at)
        events.append(("event", bundle.compose_event(data=data, timestamps=stamps, time=1.7e9 + at, validate=False)))
    return [("start", run.start_doc), ("descriptor", bundle.descriptor_doc), *events, ("stop", run.compose_stop())]


def test_detectors_share_what_stands_beside_them(folder):
    left, right = recipes_of(write(folder, TWO))
    assert (left.detector, right.detector) == ("left", "right")
    assert (left.bins.npt, right.bins.npt) == (60, 40)
    assert left.bins.range == right.bins.range == (1.0, 60.0)
    assert left.corrections.monitor == right.corrections.monitor == "i0"
    assert left.corrections.mask is None
    assert right.corrections.mask.array.sum() == 150
    assert (left.integration.solid_angle, right.integration.solid_angle) == ("relative", "absolute")
    assert left.integration.splitting == "bbox"
    (again,) = recipes_of(right.stored() | {"corrections": {}})
    assert again.detector == "right"


def test_detectors_are_recipes_of_one_or_several(folder):
    path = write(folder, TWO)
    pair = recipes_of(path)
    assert recipes_of(pair) == pair
    assert recipes_of(list(pair)) == pair
    assert recipes_of(pair[0]) == pair[:1]
    (single,) = recipes_of(folder / "recipe.yaml")
    assert single.detector is None
    with pytest.raises(RecipeError, match="several recipes need a `detector` each, all different"):
        recipes_of([single, pair[0]])
    with pytest.raises(RecipeError, match="all different"):
        recipes_of([pair[0], pair[0]])
    with pytest.raises(RecipeError, match=r"line 4, detectors: several detectors are several recipes; give this to"):
        Recipe.load(path)
    with pytest.raises(RecipeError, match="several detectors are several recipes"):
        Recipe.of({"detectors": {"a": {}}})


@pytest.mark.parametrize("kind", ["mappings", "paths", "texts", "a file of both", "an iterator"])
def test_detectors_are_recipes_of_several_of_any_kind(folder, monkeypatch, kind):
    monkeypatch.chdir(folder)  # what paths in mappings are relative to
    path = write(folder, TWO)
    pair = recipes_of(path)
    stored = [recipe.stored() for recipe in pair]
    files = []
    for recipe in pair:
        files.append(folder / f"{recipe.detector}.json")
        files[-1].write_text(json.dumps(recipe.stored()))
    given = {
        "mappings": stored,
        "paths": tuple(files),
        "texts": [str(file) for file in files],
        "a file of both": [path],
        "an iterator": iter([pair[0], files[1]]),
    }[kind]
    assert [recipe.stored() for recipe in recipes_of(given)] == stored


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (None, r"None \(NoneType\) is no recipe; give a Recipe, a file's path, a mapping, or several of these"),
        (3, r"3 \(int\) is no recipe"),
        (b"recipe.yaml", r"b'recipe.yaml' \(bytes\) is no recipe"),
        ([None], r"None \(NoneType\) is no recipe"),
        ([("start", {"uid": "a" * 99})], r"\('start', {'uid': 'aaa.*\.\.\. \(tuple\) is no recipe"),
        ((), "several recipes need a `detector` each"),
        ([{"frames": "det"}], r"recipe: 2 mistakes\n  geometry: missing"),
        (("no-such.yaml",), r"cannot read the recipe no-such\.yaml"),
    ],
)
def test_detectors_are_no_recipes_of_anything_else(given, says):
    with pytest.raises(RecipeError, match=says):
        recipes_of(given)
    with pytest.raises(RecipeError, match=says):
        PowderReduction(given)


def test_detectors_mistakes_are_told_where_they_stand(folder):
    path = write(
        folder,
        """\
        bins: {unit: 2th_degg, npt: 60}
        corrections: {dark: stream}
        detectors:
          left:
            frames: det
            corrections: {dark_variance: 3}
          right:
            frams: other
            geometry: {goniometer: arm.json, motors: {pos: two_theta}}
            frames_per_event: both
          third: 5
        """,
    )
    with pytest.raises(RecipeError) as caught:
        recipes_of(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: 8 mistakes\n")
    for line in (
        "line 1, bins.unit: unknown radial unit '2th_degg'",
        "line 4, detectors.left.geometry: missing (where the detector is)",
        "line 6, detectors.left.corrections.dark_variance: goes with a dark from a file or number",
        "line 7, detectors.right.frames: missing (data key that holds the frames)",
        "line 7, detectors.right.bins.range: missing: a goniometer moves the detector",
        "line 8, detectors.right.frams: unknown key; did you mean 'frames'?",
        "line 10, detectors.right.frames_per_event: 'both' is not possible; choose 'each' or 'sum'",
        "line 11, detectors.third: 5 is no recipe",
    ):
        assert line in text


@pytest.mark.parametrize("given", ["detectors:", "detectors: [a, b]", "detectors: {}"])
def test_detectors_without_names_are_told(folder, given):
    with pytest.raises(RecipeError, match="line 1, detectors: give each detector a name"):
        recipes_of(write(folder, given))


def test_detectors_give_a_derived_run_each(folder):
    documents = two_detectors()
    path = write(folder, TWO)
    derived = reduced(documents, path)
    assert set(derived) == {"left", "right"}
    for name, recipe in zip(("left", "right"), recipes_of(path), strict=True):
        alone = reduced(documents, recipe)
        assert derived[name].stop["exit_status"] == "success"
        assert_same_bits(derived[name], alone[name])
        assert derived[name].start["detector"] == name
        assert derived[name].start["recipe"] == recipe.stored()
        assert derived[name].start["raw_uid"] == documents[0][1]["uid"]
    assert derived["left"].start["uid"] != derived["right"].start["uid"]
    assert derived["right"].latest("primary", "pos") == {1: 0.0, 2: 5.0, 3: 10.0}


def test_detectors_that_a_run_lacks_leave_the_others(folder, caplog):
    path = write(folder, TWO)
    derived = reduced(two_detectors(right=None), path)
    assert set(derived) == {"left"}
    assert derived["left"].stop["exit_status"] == "success"
    assert not caplog.records
    right_only = reduced(two_detectors(left=None), path)
    assert set(right_only) == {"right"}
    assert_same_bits(right_only["right"], reduced(two_detectors(), path)["right"])


def test_detectors_that_a_run_lacks_all_are_told_once(folder):
    documents = two_detectors(left=None)
    renamed = write(folder, TWO.replace("frames: other", "frames: another"))
    derived = reduced(documents, renamed)
    assert set(derived) == {"left"}
    assert "the run has no data key 'det'" in derived["left"].stop["reason"]


def test_detectors_fail_alone(folder):
    wrong = RIGHT[:, :-1]
    derived = reduced(two_detectors(right=wrong), write(folder, TWO))
    assert derived["left"].stop["exit_status"] == "success"
    assert derived["right"].stop["exit_status"] == "fail"
    assert_same_bits(derived["left"], reduced(two_detectors(), write(folder, TWO))["left"])


def test_detectors_live_equal_their_replay(folder):
    path = write(folder, TWO)
    live = Derived()
    documents = two_detectors()
    with PowderReduction(path) as reduction:
        reduction.subscribe(live)
        for name, document in documents:
            reduction(name, document)
        assert reduction.wait(120)
    assert len(live.stops) == 2
    by_detector = reduced(documents, path)
    intensities = [event["data"]["intensity"] for event in live.events["primary"]]
    for derived in by_detector.values():
        for event in derived.events["primary"]:
            own = event["data"]["intensity"]
            assert any(own.tobytes() == other.tobytes() for other in intensities)


def test_detectors_may_be_one_with_two_recipes(folder):
    text = """\
        frames: det
        geometry: {poni: detector.poni}
        bins: {unit: 2th_deg, npt: 60, range: [1, 60]}
        detectors:
          split:
          whole: {integration: {splitting: no}}
        """
    derived = reduced(inline_run(LEFT), write(folder, text))
    assert set(derived) == {"split", "whole"}
    split, whole = (derived[name].events["primary"][0]["data"]["intensity"] for name in ("split", "whole"))
    assert not np.array_equal(split, whole, equal_nan=True)


# What the reduction is told besides its recipe.


def test_derived_run_says_what_it_supersedes(folder):
    documents = two_detectors()
    asked = []

    def supersedes(raw_uid, detector):
        asked.append((raw_uid, detector))
        return ["old", "older"] if detector == "left" else None

    derived = reduced(documents, write(folder, TWO), supersedes=supersedes)
    assert sorted(asked) == [(documents[0][1]["uid"], "left"), (documents[0][1]["uid"], "right")]
    assert derived["left"].start["supersedes"] == ["old", "older"]
    assert "supersedes" not in derived["right"].start


def test_derived_run_without_the_frames_supersedes_nothing(tmp_path):
    recipe = recipe_in(tmp_path, frames="camera")
    derived = reduced(inline_run(LEFT), recipe, supersedes=lambda *_: ["old"])[None]
    assert "supersedes" not in derived.start
    assert "the run has no data key 'camera'" in derived.stop["reason"]


def test_derived_run_begins_where_the_catalog_cannot_be_asked(tmp_path, caplog):
    def supersedes(*_):
        raise ConnectionError("the catalog is away")

    derived = reduced(inline_run(LEFT), recipe_in(tmp_path), supersedes=supersedes)[None]
    assert "supersedes" not in derived.start
    assert derived.stop["exit_status"] == "success"
    assert "the catalog is away" in caplog.text


class Elsewhere:
    """A server that has the frames."""

    def __init__(self, frames):
        self.frames = frames
        self.asked = []

    def read(self, run_uid, stream, data_key, index, count):
        self.asked.append((run_uid, stream, data_key, index, count))
        return self.frames[index : index + count]


def test_frames_that_are_elsewhere_are_asked_for(tmp_path):
    recipe = recipe_in(tmp_path)
    documents = stream_run("file://far-away/data/frames.h5", 3)
    remote = Elsewhere(LEFT)
    derived = reduced(documents, recipe, remote=remote)[None]
    assert derived.stop["exit_status"] == "success", derived.stop
    assert_same_bits(derived, reduced(inline_run(LEFT), recipe)[None])
    assert {asked[:3] for asked in remote.asked} == {(documents[0][1]["uid"], "primary", "det")}


def test_folders_mounted_elsewhere_are_found(tmp_path):
    recipe = recipe_in(tmp_path)
    uri = write_hdf5(tmp_path, LEFT).replace(str(tmp_path), "/detector/disk")
    derived = reduced(stream_run(uri, 3), recipe, root_map={"/detector/disk": str(tmp_path)})[None]
    assert_same_bits(derived, reduced(inline_run(LEFT), recipe)[None])
