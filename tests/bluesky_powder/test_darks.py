"""Darks: which one belongs to a frame, that it is subtracted with its sign and its errors, and that the bits stay."""

import logging
import re

import numpy as np
import pytest

import azimuthal as az
from bluesky_powder import PowderReduction
from bluesky_powder.errors import FrameSkipped
from bluesky_powder.frames.darks.dark import Dark
from bluesky_powder.frames.darks.store import DarkStore
from bluesky_powder.reduction import waiting
from bluesky_powder.replay import replay
from dark_runs import DARKS, FRAMES, MixedRun, assert_pattern, expected_pattern, filed_run, mean_and_variance
from raw_runs import SHAPE, Derived, assert_same_bits, inline_run, recipe_in, write_hdf5


def reduced(documents, recipe, **options):
    derived = Derived()
    replay(documents, recipe, derived, **options)
    return derived


def two_darks(stream="dark"):
    """Return a run with a dark, two frames, another dark, two frames; and the uids of the darks."""
    run = MixedRun()
    first = run.add(stream, DARKS[0])
    run.add("primary", FRAMES[0])
    run.add("primary", FRAMES[1])
    second = run.add(stream, DARKS[1])
    run.add("primary", FRAMES[2])
    run.add("primary", FRAMES[3])
    return run.stop(), first, second


@pytest.fixture
def recipe(tmp_path):
    return recipe_in(
        tmp_path,
        corrections={"dark": "stream"},
        integration={"splitting": "bbox", "error_model": "poisson", "gain": 2.0, "read_noise": 3.0},
    )


def test_darks_of_the_stream_serve_the_frames_after_them(recipe):
    documents, first, second = two_darks()
    derived = reduced(documents, recipe)
    assert derived.stop["exit_status"] == "success", derived.stop
    assert derived.latest("primary", "dark_uid") == {1: first, 2: first, 3: second, 4: second}
    for at, event in enumerate(derived.events["primary"]):
        dark, variance = mean_and_variance([DARKS[at // 2]], 2.0, 3.0)
        assert_pattern(event["data"], expected_pattern(recipe, FRAMES[at], dark, variance).with_errors("poisson"))


def test_darks_in_a_stream_of_another_name(tmp_path):
    documents, first, second = two_darks("shutter")
    recipe = recipe_in(tmp_path, stream="primary", corrections={"dark": {"stream": "shutter"}})
    derived = reduced(documents, recipe)
    assert derived.latest("primary", "dark_uid") == {1: first, 2: first, 3: second, 4: second}


def test_darks_of_one_event_are_averaged(recipe):
    run = MixedRun()
    run.add("dark", DARKS)
    run.add("primary", FRAMES[0])
    derived = reduced(run.stop(), recipe)
    dark, variance = mean_and_variance(DARKS, 2.0, 3.0)
    expected = expected_pattern(recipe, FRAMES[0], dark, variance).with_errors("poisson")
    assert_pattern(derived.events["primary"][0]["data"], expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.uint64, np.int16, np.int32, np.float32, bool])
def test_darks_are_subtracted_with_their_sign(tmp_path, dtype):
    frame, dark = (1, 1) if dtype is bool else (5, 7)
    run = MixedRun()
    run.add("dark", np.full(SHAPE, dark, dtype))
    run.add("primary", np.full(SHAPE, frame, dtype))
    recipe = recipe_in(
        tmp_path, corrections={"dark": "stream"}, integration={"solid_angle": None, "polarization": None}
    )
    intensity = reduced(run.stop(), recipe).events["primary"][0]["data"]["intensity"]
    assert np.nanmin(intensity) == pytest.approx(frame - dark)
    assert np.nanmax(intensity) == pytest.approx(frame - dark)


def test_darks_without_data_mask_the_pixels_of_frames(tmp_path):
    recipe = recipe_in(tmp_path, corrections={"dark": "stream", "dummy": -1})
    pair = DARKS[:2].copy()
    pair[1, 10:20, 10:20] = 65535  # what -1 is in this dtype
    frame = FRAMES[0].copy()
    frame[0, :5] = 65535
    run = MixedRun()
    run.add("dark", pair)
    run.add("primary", frame)
    derived = reduced(run.stop(), recipe)
    mask = np.zeros(SHAPE, bool)
    mask[10:20, 10:20] = True
    mean, variance = mean_and_variance(DARKS[:2])
    expected = expected_pattern(recipe, frame, np.where(mask, 0, mean), variance, mask)
    assert_pattern(derived.events["primary"][0]["data"], expected)
    assert expected.masked_pixels >= 95


def test_darks_that_are_nan_mask_the_pixels_of_frames(tmp_path):
    dark = DARKS[0].astype(np.float32)
    dark[3, 4] = np.nan
    run = MixedRun()
    run.add("dark", dark)
    run.add("primary", FRAMES[0])
    derived = reduced(run.stop(), recipe_in(tmp_path, corrections={"dark": "stream"}))
    assert derived.events["primary"][0]["data"]["masked_pixels"] == 1
    assert derived.stop["exit_status"] == "success"


def test_darks_missing_skip_the_frame_or_leave_it_unsubtracted(tmp_path, caplog):
    run = MixedRun()
    run.add("primary", FRAMES[0])
    run.add("dark", DARKS[0])
    run.add("primary", FRAMES[1])
    recipe = recipe_in(tmp_path, corrections={"dark": "stream"})
    derived = reduced(run.stop(), recipe)
    assert derived.reasons() == {
        "there is no dark frame before it in the stream 'dark' "
        "(`missing_dark: unsubtracted` in the recipe keeps such frames)": 1
    }
    assert derived.stop["skip_reasons"][0]["seq_nums"] == [1]
    assert list(derived.latest("primary", "dark_uid")) == [2]
    lenient = recipe_in(tmp_path, corrections={"dark": "stream", "missing_dark": "unsubtracted"})
    derived = reduced(run.stop(), lenient)
    assert derived.stop["frames_skipped"] == 0
    assert derived.latest("primary", "dark_uid")[1] == ""
    assert_pattern(derived.events["primary"][0]["data"], expected_pattern(lenient, FRAMES[0], None, None))
    assert "no dark frame" in caplog.text


def test_darks_missing_from_a_whole_run(tmp_path):
    recipe = recipe_in(tmp_path, corrections={"dark": "stream"})
    derived = reduced(inline_run(FRAMES[:3]), recipe)
    assert derived.stop["exit_status"] == "fail"
    assert derived.stop["frames_skipped"] == 3
    lenient = recipe_in(tmp_path, corrections={"dark": "stream", "missing_dark": "unsubtracted"})
    plain = recipe_in(tmp_path)
    assert_same_bits(reduced(inline_run(FRAMES[:3]), lenient), reduced(inline_run(FRAMES[:3]), plain))


def test_darks_that_wait_for_nothing_do_not_fill_the_memory(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.DEBUG, "bluesky_powder.reduction")
    monkeypatch.setattr(waiting, "MOST_BYTES_WAITING", 3 * FRAMES[0].nbytes)
    derived, skipped = Derived(), []
    with PowderReduction(recipe_in(tmp_path, corrections={"dark": "stream"}), pace="replay") as reduction:
        reduction.subscribe(derived)
        for name, document in inline_run(FRAMES):
            reduction(name, document)
            skipped.append(len(re.findall(r"event \d+ skipped: there is no dark", caplog.text)))
    assert skipped == [0, 0, 0, 0, 0, 1, 2, 3, 6]
    assert derived.stop["frames_skipped"] == 6


def test_darks_of_the_wrong_shape_say_so(tmp_path):
    run = MixedRun()
    run.add("dark", DARKS[0, :-1])
    run.add("primary", FRAMES[0])
    derived = reduced(run.stop(), recipe_in(tmp_path, corrections={"dark": "stream"}))
    assert derived.reasons() == {"the dark has 39×50 pixels, the frame 40×50": 1}


def test_darks_that_cannot_be_read_skip_their_frames_only(tmp_path):
    recipe = recipe_in(tmp_path, corrections={"dark": "stream"})
    run = MixedRun()
    run.add("dark", DARKS[0])
    run.add("primary", FRAMES[0])
    run.add("dark", DARKS[0].astype("U5"))
    run.add("primary", FRAMES[1])
    third = run.add("dark", DARKS[2])
    run.add("primary", FRAMES[2])
    derived = reduced(run.stop(), recipe)
    (reason,) = derived.reasons()
    assert "the dark frame before it cannot be used: the frame's dtype <U5 is not a real number" in reason
    assert derived.latest("primary", "dark_uid")[3] == third
    assert list(derived.latest("primary", "dark_uid")) == [1, 3]


def orders(documents):
    """Return the documents of a run in other legal orders."""
    start, stop = documents[0], documents[-1]
    descriptors = [d for d in documents if d[0] == "descriptor"]
    events = [d for d in documents if d[0] == "event"]
    dark = next(d[1]["uid"] for d in descriptors if d[1]["name"] == "dark")
    of_dark = [d for d in events if d[1]["descriptor"] == dark]
    others = [d for d in events if d[1]["descriptor"] != dark]
    first, last = (sorted(descriptors, key=lambda d: (d[1]["name"] == "dark") == late) for late in (False, True))
    return {
        "descriptors first": [start, *descriptors, *events, stop],
        "darks first": [start, *descriptors, *of_dark, *others, stop],
        "stream by stream, darks last": [start, first[-1], *others, last[-1], *of_dark, stop],
        "darks last": [start, *descriptors, *others, *of_dark, stop],
    }


def test_darks_do_not_depend_on_the_order_of_documents(recipe):
    documents, *_ = two_darks()
    expected = reduced(documents, recipe)
    assert expected.stop["frames_reduced"] == 4
    for order, told in orders(documents).items():
        derived = reduced(told, recipe)
        assert derived.stop["exit_status"] == "success", (order, derived.stop)
        assert_same_bits(derived, expected)
        assert derived.latest("primary", "dark_uid") == expected.latest("primary", "dark_uid"), order


STREAMS = ["dark", "primary", "primary", "dark", "primary", "primary"]


def in_one_file(folder):
    """Write the images of `two_darks` as a detector would that knows nothing of darks."""
    return write_hdf5(folder, np.stack([DARKS[0], FRAMES[0], FRAMES[1], DARKS[1], FRAMES[2], FRAMES[3]]))


def test_darks_in_files_give_the_same_bits(recipe, tmp_path):
    documents = filed_run(in_one_file(tmp_path), STREAMS)
    expected = reduced(two_darks()[0], recipe)
    assert_same_bits(reduced(documents, recipe), expected)
    kinds = {kind: [d for d in documents[1:-1] if d[0] == kind] for kind in ("descriptor", "event", "stream_resource")}
    rest = [d for d in documents[1:-1] if d[0] == "stream_datum"]
    dark = next(d["uid"] for _, d in kinds["descriptor"] if d["name"] == "dark")
    for darks_first in (True, False):
        datums = sorted(rest, key=lambda d: (d[1]["descriptor"] == dark) != darks_first)
        told = [documents[0], *(d for kind in kinds.values() for d in kind), *datums, documents[-1]]
        assert_same_bits(reduced(told, recipe), expected)


def test_darks_serve_a_flight(recipe, tmp_path):
    streams = ["dark", "primary", "primary", "primary"]
    uri = write_hdf5(tmp_path, np.stack([DARKS[0], *FRAMES[:3]]))
    run = MixedRun()
    run.add("dark", DARKS[0])
    for frame in FRAMES[:3]:
        run.add("primary", frame)
    expected = reduced(run.stop(), recipe)
    for flown in (["primary"], ["primary", "dark"]):
        documents = filed_run(uri, streams, flown=flown)
        assert_same_bits(reduced(documents, recipe), expected)
        frames_first = [d for d in documents if d[0] != "stream_datum"]
        frames_first[-1:-1] = [d for d in documents if d[0] == "stream_datum"][::-1]
        derived = reduced(frames_first, recipe)
        assert derived.stop["frames_reduced"] == 3, derived.stop
        assert_same_bits(final(derived), final(expected))


def test_darks_during_a_flight_serve_what_comes_after_them(recipe, tmp_path):
    documents = filed_run(in_one_file(tmp_path), STREAMS, flown=["primary"])
    first, second = (document["uid"] for name, document in documents if name == "event")
    derived = reduced(documents, recipe)
    assert derived.latest("primary", "dark_uid") == {1: first, 2: first, 3: second, 4: second}
    by_event = reduced(filed_run(in_one_file(tmp_path), STREAMS), recipe)
    assert_same_bits(final(derived), final(by_event))


def test_darks_that_come_later_than_they_should_are_told_of(recipe):
    run = MixedRun()
    run.add("dark", DARKS[0])
    run.add("primary", FRAMES[0], time=1.7e9 + 50)
    run.add("dark", DARKS[1], time=1.7e9 + 40)
    derived = reduced(run.stop(), recipe)
    assert "1 dark frames came after frames that were taken later" in derived.stop["reason"]


def paused_with_darks(first, again):
    """Return a run that was paused: (dark, frame) pairs, and then again from the first seq_num."""
    run = MixedRun()
    for part in (first, again):
        for at, (dark, frame) in enumerate(part, 1):
            run.add("dark", dark, seq_num=at)
            run.add("primary", frame, seq_num=at)
    return run.stop()


def final(derived):
    arrays = {key: value for key, value in derived.arrays().items() if key[0] in ("primary", "cumulative")}
    return arrays | {("merged", key): value for key, value in derived.events["merged"][-1]["data"].items()}


@pytest.mark.parametrize("k", [1, 3])
def test_darks_and_pauses_leave_no_trace(tmp_path, k):
    recipe = recipe_in(tmp_path, corrections={"dark": "stream"})
    sets = [DARKS[[at, (at + 1) % 4, (at + 2) % 4][:k]] for at in range(4)]
    again = [(sets[2], FRAMES[3]), (sets[3], FRAMES[4]), (sets[1], FRAMES[5])]
    derived = reduced(paused_with_darks([(sets[0], FRAMES[0]), (sets[1], FRAMES[1])], again), recipe)
    expected = reduced(paused_with_darks([], again), recipe)
    assert derived.stop["frames_replaced"] == 2
    assert_same_bits(final(derived), final(expected))
    assert not np.isnan(derived.events["cumulative"][-1]["data"]["mean_frame_spottiness"])


@pytest.mark.parametrize("budget", [2**30, 4 * 40_000])
def test_darks_on_disk_change_no_bit(tmp_path, budget):
    recipe = recipe_in(tmp_path, corrections={"dark": "stream"})
    again = [(DARKS[[2, 3]], FRAMES[3]), (DARKS[[1, 3]], FRAMES[4]), (DARKS[[0, 3]], FRAMES[5])]
    first = [(DARKS[[0, 1]], FRAMES[0]), (DARKS[[1, 2]], FRAMES[1]), (DARKS[[0, 2]], FRAMES[2])]
    derived = reduced(paused_with_darks(first, again), recipe, byte_budget=budget, scratch=tmp_path)
    assert_same_bits(final(derived), final(reduced(paused_with_darks([], again), recipe)))
    assert not list(tmp_path.glob("bluesky-powder-darks-*"))


def test_dark_store_keeps_to_its_budgets(tmp_path):
    plain = [Dark(np.full(SHAPE, float(n)), np.full(SHAPE, n + 0.5)) for n in range(5)]
    store = DarkStore(byte_budget=2 * plain[0].nbytes, scratch=tmp_path)
    kept = [store.put(str(n), dark) for n, dark in enumerate(plain)]
    assert store.nbytes == 2 * plain[0].nbytes
    for n in (0, 3, 1, 4, 2):
        dark = kept[n].read()
        assert np.array_equal(dark.values, plain[n].values)
        assert np.array_equal(dark.variance, plain[n].variance)
        assert dark.mask is None
    store.close()
    assert not list(tmp_path.iterdir())
    small = DarkStore(byte_budget=1, scratch=tmp_path, scratch_budget=3 * plain[0].nbytes)
    kept = [small.put(str(n), dark) for n, dark in enumerate(plain)]
    with pytest.raises(FrameSkipped, match="no longer at hand; replay the run"):
        kept[0].read()
    assert np.array_equal(kept[-2].read().values, plain[-2].values)
    small.close()


def test_darks_enter_the_mean_frame_exactly(recipe):
    documents, *_ = two_darks()
    derived = reduced(documents, recipe)
    integrator = az.Integrator(recipe.geometry.at({}, SHAPE), recipe.bins.radial_bins(), **recipe.integrator_keywords())
    mean = az.MeanFrames()
    for at in range(4):
        dark, variance = mean_and_variance([DARKS[at // 2]], 2.0, 3.0)
        mean.add(integrator, FRAMES[at], dark=dark, dark_variance=variance)
    last = derived.events["cumulative"][-1]["data"]
    assert last["mean_frame_spottiness"] == mean.pattern.spottiness()
    signal = sum(FRAMES[at].astype(float) - DARKS[at // 2] for at in range(4))
    each = [4 * np.ones(SHAPE)]
    variance = sum(2.0 * FRAMES[at].astype(float) + 9.0 + 2.0 * DARKS[at // 2] + 9.0 for at in range(4))
    summed = integrator.integrate_sums(signal, variance, each[0].ravel())
    assert last["mean_frame_spottiness_excess"] == pytest.approx(summed.spottiness(excess=True), rel=1e-12)


def test_dark_from_a_file_has_the_variance_that_is_given(tmp_path):
    dark = DARKS[0].astype(np.int32)
    np.save(tmp_path / "dark.npy", dark)
    np.save(tmp_path / "variance.npy", DARKS[1])
    for given, value in (("variance.npy", DARKS[1].astype(float)), (4, 4.0)):
        corrections = {"dark": "dark.npy", "dark_variance": given}
        recipe = recipe_in(tmp_path, corrections=corrections, integration={"error_model": "poisson"})
        data = reduced(inline_run(FRAMES[:1]), recipe).events["primary"][0]["data"]
        assert_pattern(data, expected_pattern(recipe, FRAMES[0], dark, value).with_errors("poisson"))
        assert "dark_uid" not in data
