"""Replay of documents as such; what comes from Tiled, databroker and files has tests of its own."""

import event_model
import h5py
import pytest

from bluesky_powder import replay
from bluesky_powder.errors import RecipeError, ReplayError
from bluesky_powder.replay import documents_of
from raw_runs import (
    SHAPE,
    Derived,
    assert_same_bits,
    images,
    inline_run,
    recipe_in,
    stream_run,
    write_hdf5,
)


def reduced(documents, recipe, **options):
    derived = Derived()
    uids = replay(documents, recipe, derived, **options)
    assert uids == [start["uid"] for start in derived.starts]
    return derived


def test_replay_of_a_run_that_never_ended_says_so(tmp_path):
    derived = reduced(inline_run(images(3))[:-1], recipe_in(tmp_path))
    assert derived.stop["exit_status"] == "abort"
    assert derived.stop["reason"] == "there is no stop document: the run may still be going on"
    assert derived.stop["frames_reduced"] == 3


def test_replay_of_documents_that_fail_keeps_what_came_before(tmp_path):
    def documents():
        yield from inline_run(images(3))[:4]
        raise RuntimeError("the disk is on fire")

    derived = Derived()
    with pytest.raises(RuntimeError, match="the disk is on fire"):
        replay(documents(), recipe_in(tmp_path), derived)
    assert derived.stop["exit_status"] == "fail"
    assert derived.stop["reason"] == "there is no stop document: the disk is on fire"
    assert derived.stop["frames_reduced"] == 2


def test_replay_of_several_runs_returns_all_derived_uids(tmp_path):
    runs, derived = [inline_run(images(2, seed=seed)) for seed in (1, 2)], Derived()
    uids = replay([pair for run in runs for pair in run], recipe_in(tmp_path), derived)
    assert uids == [start["uid"] for start in derived.starts]
    assert [start["raw_uid"] for start in derived.starts] == [run[0][1]["uid"] for run in runs]


def test_replay_takes_pairs_mappings_and_generators(tmp_path):
    recipe, documents = recipe_in(tmp_path), inline_run(images(2))
    expected = reduced(documents, recipe)
    assert_same_bits(reduced(iter(documents), recipe), expected)
    assert_same_bits(reduced([list(pair) for pair in documents], recipe), expected)
    assert_same_bits(reduced([{"name": n, "doc": d} for n, d in documents], recipe), expected)


def test_replay_takes_the_names_of_event_model(tmp_path):
    documents = inline_run(images(1))
    derived = Derived()
    replay([(event_model.DocumentNames[name], document) for name, document in documents], recipe_in(tmp_path), derived)
    assert derived.stop["frames_reduced"] == 1


def test_replay_is_the_function_however_it_is_imported(tmp_path):
    import bluesky_powder
    import bluesky_powder.replay as room
    from bluesky_powder.replay import replay as function

    recipe, documents = recipe_in(tmp_path), inline_run(images(1))
    for callable_ in (bluesky_powder.replay, room, function, replay):
        assert len(callable_(documents, recipe)) == 1


def test_replay_takes_a_recipe_file_or_a_stored_recipe(tmp_path):
    recipe, documents = recipe_in(tmp_path), inline_run(images(2))
    expected = reduced(documents, recipe)
    assert_same_bits(reduced(documents, tmp_path / "recipe.yaml"), expected)
    assert_same_bits(reduced(documents, expected.start["recipe"]), expected)


def test_replay_tells_of_its_progress(tmp_path):
    documents, seen = inline_run(images(2)), []
    replay(documents, recipe_in(tmp_path), progress=lambda name, _: seen.append(name))
    assert seen == [name for name, _ in documents]


@pytest.mark.parametrize(
    ("given", "says"), [(7, "7 has no documents"), ("uid", "'uid' has no documents"), ([3], "3 is no")]
)
def test_replay_of_what_is_no_run_says_so(tmp_path, given, says):
    with pytest.raises(ReplayError, match=says):
        replay(given, recipe_in(tmp_path))


def test_replay_with_a_wrong_recipe_says_so():
    with pytest.raises(RecipeError):
        replay([], {"frames": "det"})


@pytest.mark.parametrize(
    ("form", "shown"),
    [
        (lambda recipe, _: recipe, "a Recipe"),
        (lambda recipe, _: [recipe, recipe], "a list"),
        (lambda recipe, _: recipe.stored(), "a dict"),
        (lambda _, path: path, "'.*recipe.yaml'"),
        (lambda _, path: str(path), "'.*recipe.yaml'"),
    ],
)
def test_replay_of_a_recipe_with_a_run_says_what_comes_first(tmp_path, form, shown):
    recipe, run = recipe_in(tmp_path), inline_run(images(1))
    with pytest.raises(RecipeError, match=f"takes the run first and the recipe second; {shown} came first"):
        replay(form(recipe, tmp_path / "recipe.yaml"), run)


def test_replay_with_a_run_for_a_recipe_says_so():
    run = inline_run(images(1))
    with pytest.raises(RecipeError, match=r"\(tuple\) is no recipe"):
        replay(run, run)


def test_replay_leaves_out_the_empty_stop_document():
    assert list(documents_of([("start", {"uid": "a"}), ("stop", {})])) == [("start", {"uid": "a"})]


def test_replay_of_a_server_that_fails_says_so(tmp_path):
    class Gone:
        def documents(self):
            raise ConnectionError("no route to host")

    with pytest.raises(ReplayError, match="no route to host"):
        replay(Gone(), recipe_in(tmp_path))


def test_replay_reads_each_file_only_once_a_frame(tmp_path):
    uri = write_hdf5(tmp_path, images(3))
    documents = stream_run(uri, 3)
    derived = reduced(documents, recipe_in(tmp_path))
    with h5py.File(tmp_path / "frames.h5", "a") as file:  # nobody holds it open any more
        assert file["entry/data/data"].shape == (3, *SHAPE)
    assert derived.stop["frames_reduced"] == 3
