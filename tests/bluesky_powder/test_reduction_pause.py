"""Frames that come again after a pause, or late: the last version counts everywhere, as if it had been the only one."""

import numpy as np
import pytest

from bluesky_powder.reduction import history
from bluesky_powder.replay import replay
from raw_runs import Derived, assert_same_bits, images, inline_run, recipe_in, stream_run, write_hdf5

FIRST = images(2, seed=1)
AGAIN = images(3, seed=2)


def reduced(documents, recipe, **options):
    derived = Derived()
    replay(documents, recipe, derived, **options)
    return derived


def paused(first, again):
    """Return one inline run in which the events of `first` come before those of `again`, seq_nums from 1 each."""
    one, other = inline_run(*first), inline_run(*again)
    descriptor = one[1][1]["uid"]
    repeated = [(name, doc | {"descriptor": descriptor}) for name, doc in other[2:-1]]
    return [*one[:-1], *repeated, one[-1]]


def final_arrays(derived):
    """Return the last version of everything, and the last merge."""
    arrays = {key: value for key, value in derived.arrays().items() if key[0] in ("primary", "cumulative", "axes")}
    merged = derived.events["merged"][-1]["data"]
    return arrays | {("merged", key): value for key, value in merged.items()}


@pytest.mark.parametrize("moving", [False, True])
def test_pause_leaves_no_trace_of_the_first_versions(tmp_path, moving):
    recipe = recipe_in(tmp_path, moving=moving)
    before, after = ([0.0, 5.0], [0.0, 5.0, 10.0]) if moving else (None, None)
    derived = reduced(paused((FIRST, before), (AGAIN, after)), recipe)
    expected = reduced(inline_run(AGAIN, after), recipe)
    assert_same_bits(final_arrays(derived), final_arrays(expected))
    assert [event["seq_num"] for event in derived.events["primary"]] == [1, 2, 1, 2, 3]
    assert derived.latest("cumulative", "frames") == {1: 1, 2: 2, 3: 3}
    assert derived.stop["frames_seen"] == derived.stop["frames_reduced"] == 5
    assert derived.stop["frames_replaced"] == 2
    assert derived.stop["exit_status"] == "success"
    assert derived.stop["num_events"]["primary"] == 3


def test_pause_at_other_positions_replaces_geometries_too(tmp_path):
    recipe = recipe_in(tmp_path, moving=True)
    derived = reduced(paused((FIRST, [0.0, 7.0]), (AGAIN, [0.0, 5.0, 10.0])), recipe)
    expected = reduced(inline_run(AGAIN, [0.0, 5.0, 10.0]), recipe)
    assert_same_bits(final_arrays(derived), final_arrays(expected))


def test_pause_of_a_file_writing_detector_is_the_same(tmp_path):
    recipe = recipe_in(tmp_path, moving=True)
    frames = np.concatenate([FIRST, AGAIN])
    documents = stream_run(write_hdf5(tmp_path, frames), 5, [0.0, 1.0, 0.0, 5.0, 10.0])
    seq_nums = {0: 1, 1: 2, 2: 1, 3: 2, 4: 3}
    told = []
    for name, document in documents:
        if name == "stream_datum":
            seq_num = seq_nums[document["indices"]["start"]]
            document = document | {"seq_nums": {"start": seq_num, "stop": seq_num + 1}}
        elif name == "event":
            document = document | {"seq_num": seq_nums[document["seq_num"] - 1]}
        told.append((name, document))
    expected = reduced(inline_run(AGAIN, [0.0, 5.0, 10.0]), recipe)
    assert_same_bits(final_arrays(reduced(told, recipe)), final_arrays(expected))
    again = [d for d in told if d[0] != "event"]
    again[2:2] = [d for d in told if d[0] == "event"]
    events_first = reduced(again, recipe)
    assert_same_bits(final_arrays(events_first), final_arrays(expected))


def test_pause_before_an_abort_keeps_what_was_not_repeated(tmp_path):
    recipe = recipe_in(tmp_path)
    documents = paused((FIRST,), (AGAIN[:1],))
    derived = reduced(documents, recipe)
    expected = reduced(inline_run(np.array([AGAIN[0], FIRST[1]])), recipe)
    assert_same_bits(final_arrays(derived), final_arrays(expected))
    assert [event["seq_num"] for event in derived.events["cumulative"]] == [1, 2, 1, 2]


def test_pause_with_frames_that_are_not_whole_numbers_sums_the_rest_afresh(tmp_path):
    recipe = recipe_in(tmp_path)
    frames = images(4) * 0.37
    derived = reduced(paused((frames,), (frames[::-1][:3],)), recipe)
    expected = reduced(inline_run(np.array([frames[3], frames[2], frames[1], frames[3]])), recipe)
    assert_same_bits(final_arrays(derived), final_arrays(expected))


def test_pause_that_replaces_a_frame_that_is_gone_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(history, "RECALLED_BYTES", FIRST[0].nbytes)
    recipe = recipe_in(tmp_path)
    derived = reduced(paused((images(4, seed=3),), (AGAIN,)), recipe)
    last = derived.events["cumulative"][-1]["data"]
    assert last["frames"] == 4
    assert np.isnan(last["mean_frame_spottiness"])
    assert "no longer at hand; replay the run" in last["reason"]
    assert "no longer at hand; replay the run" in derived.stop["reason"]
    assert not np.isnan(last["union_spottiness"])


def test_pause_whose_second_version_fails_keeps_the_first(tmp_path):
    recipe = recipe_in(tmp_path)
    documents = paused((FIRST,), (np.zeros((1, 3, 3), np.uint32),))
    derived = reduced(documents, recipe)
    assert derived.stop["frames_skipped"] == 1
    expected = reduced(inline_run(FIRST), recipe)
    assert_same_bits(final_arrays(derived), final_arrays(expected))


def test_late_frames_are_put_where_they_belong(tmp_path):
    recipe = recipe_in(tmp_path, moving=True)
    frames, positions = images(5), [0.0, 0.0, 5.0, 5.0, 10.0]
    documents = inline_run(frames, positions)
    order = [2, 5, 3, 4, 1]
    shuffled = [*documents[:2], *(documents[1 + n] for n in order), documents[-1]]
    derived = reduced(shuffled, recipe)
    assert_same_bits(final_arrays(derived), final_arrays(reduced(documents, recipe)))
