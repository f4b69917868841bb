"""Darks: which one belongs to a frame, that it is subtracted with its sign and its errors, and that the bits stay."""

import logging
import re

import bluesky.plan_stubs as bps
import bluesky.plans as bp
import bluesky.preprocessors as bpp
import numpy as np
import pytest
from bluesky import RunEngine

import azimuthal as az
from bluesky_powder import PowderReduction
from bluesky_powder.frames import darks as darks_room
from bluesky_powder.reduction import waiting
from bluesky_powder.replay import replay
from bluesky_powder.sim import Beamline, take_dark
from dark_runs import MixedRun, expected_pattern, filed_run, mean_and_variance
from raw_runs import SHAPE, Derived, assert_same_bits, copied, images, inline_run, recipe_in, write_hdf5

DARKS = np.random.default_rng(5).poisson(30, (4, *SHAPE)).astype(np.uint16)
FRAMES = (images(6) + 30).astype(np.uint16)


def reduced(documents, recipe, **options):
    derived = Derived()
    replay(documents, recipe, derived, **options)
    return derived


def assert_pattern(data, pattern):
    assert np.array_equal(data["intensity"], pattern.intensity, equal_nan=True)
    assert np.array_equal(data["sem"], pattern.sem, equal_nan=True)
    assert data["total_counts"] == pattern.sum_signal.sum()
    assert data["masked_pixels"] == pattern.masked_pixels


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
    plain = [darks_room.Dark(np.full(SHAPE, float(n)), np.full(SHAPE, n + 0.5)) for n in range(5)]
    store = darks_room.DarkStore(byte_budget=2 * plain[0].nbytes, scratch=tmp_path)
    kept = [store.put(str(n), dark) for n, dark in enumerate(plain)]
    assert store.nbytes == 2 * plain[0].nbytes
    for n in (0, 3, 1, 4, 2):
        dark = kept[n].read()
        assert np.array_equal(dark.values, plain[n].values)
        assert np.array_equal(dark.variance, plain[n].variance)
        assert dark.mask is None
    store.close()
    assert not list(tmp_path.iterdir())
    small = darks_room.DarkStore(byte_budget=1, scratch=tmp_path, scratch_budget=3 * plain[0].nbytes)
    kept = [small.put(str(n), dark) for n, dark in enumerate(plain)]
    with pytest.raises(darks_room.FrameSkipped, match="no longer at hand; replay the run"):
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


def dark_run(frames=DARKS, **metadata):
    run = MixedRun(**metadata)
    for image in frames:
        run.add("primary", image)
    return run


@pytest.fixture
def by_run(tmp_path):
    return recipe_in(tmp_path, corrections={"dark": {"run": "sc_dk_field_uid"}})


def test_dark_run_that_passed_by_is_remembered(by_run):
    dark = dark_run(dark_frame=True)
    light = inline_run(FRAMES[:2], sc_dk_field_uid=dark.uid)
    derived = reduced([*dark.stop(), *light], by_run)
    assert derived.start["raw_uid"] == light[0][1]["uid"], "a dark run gives no derived run"
    mean, variance = mean_and_variance(DARKS)
    for event, frame in zip(derived.events["primary"], FRAMES, strict=False):
        assert_pattern(event["data"], expected_pattern(by_run, frame, mean, variance))
        assert event["data"]["dark_uid"] == dark.uid


def test_dark_run_that_is_looked_up_gives_the_same_bits(by_run):
    dark = dark_run(dark_frame=True)
    light = inline_run(FRAMES[:3], sc_dk_field_uid=dark.uid)
    asked = []

    def runs(uid):
        asked.append(uid)
        return dark.stop()

    looked_up = reduced([*light, *inline_run(FRAMES[:1], sc_dk_field_uid=dark.uid)], by_run, runs=runs)
    assert asked == [dark.uid], "once for both runs"
    assert looked_up.stops[0]["exit_status"] == looked_up.stops[1]["exit_status"] == "success"
    assert_same_bits(reduced(light, by_run, runs=runs), reduced([*dark.stop(), *light], by_run))


def test_dark_run_in_a_dark_stream_is_found_too(by_run):
    run = MixedRun()
    run.add("dark", DARKS)
    light = inline_run(FRAMES[:1], sc_dk_field_uid=run.uid)
    derived = reduced(light, by_run, runs=lambda _: run.stop())
    mean, variance = mean_and_variance(DARKS)
    assert_pattern(derived.events["primary"][0]["data"], expected_pattern(by_run, FRAMES[0], mean, variance))


def broken(_):
    raise KeyError("no such run")


@pytest.mark.parametrize(
    ("metadata", "options", "says"),
    [
        ({}, {}, "the start document has no 'sc_dk_field_uid', which should be the uid of a dark run"),
        ({"sc_dk_field_uid": 7}, {}, "the start document has 7 as 'sc_dk_field_uid'"),
        ({"sc_dk_field_uid": "gone"}, {}, "the dark run gone did not pass by in this session; give `runs`"),
        ({"sc_dk_field_uid": "gone"}, {"runs": broken}, "the dark run gone could not be had: KeyError: 'no such run'"),
        ({"sc_dk_field_uid": "none"}, {"runs": lambda _: []}, "the dark run none cannot be used: it has no images"),
    ],
)
def test_dark_run_that_is_not_to_be_had_says_why(by_run, tmp_path, metadata, options, says):
    derived = reduced(inline_run(FRAMES[:2], **metadata), by_run, **options)
    (reason,) = derived.reasons()
    assert says in reason
    assert derived.stop["frames_skipped"] == 2
    lenient = recipe_in(tmp_path, corrections={"dark": {"run": "sc_dk_field_uid"}, "missing_dark": "unsubtracted"})
    derived = reduced(inline_run(FRAMES[:2], **metadata), lenient, **options)
    assert derived.stop["frames_skipped"] == 0
    assert set(derived.latest("primary", "dark_uid").values()) == {""}


def test_dark_run_that_does_not_say_so_is_remembered_as_well(by_run):
    dark = dark_run()
    light = inline_run(FRAMES[:2], sc_dk_field_uid=dark.uid)
    derived = reduced([*dark.stop(), *light], by_run)
    assert [stop["frames_reduced"] for stop in derived.stops] == [0, 2]


def test_dark_runs_are_forgotten_beyond_the_budget(by_run):
    runs = [dark_run(DARKS[at : at + 1], dark_frame=True) for at in range(3)]
    told = [document for run in runs for document in run.stop()]
    lights = [inline_run(FRAMES[:1], sc_dk_field_uid=run.uid) for run in runs]
    one = 16 * DARKS[0].size
    derived = reduced([*told, *(d for light in lights for d in light)], by_run, byte_budget=4 * (2 * one + 10))
    assert [stop["frames_reduced"] for stop in derived.stops] == [0, 1, 1]


@pytest.fixture
def engine():
    RE = RunEngine({})
    yield RE
    if RE.state != "idle":
        RE.abort()


def test_darks_of_bluesky_darkframes_live_and_replayed(engine, tmp_path, caplog):
    darkframes = pytest.importorskip("bluesky_darkframes")
    from bluesky_darkframes.sim import DiffractionDetector, Shutter, generate_image

    caplog.set_level(logging.INFO)
    detector, shutter = DiffractionDetector(name="sim"), Shutter(name="shutter", value="open")
    detector.exposure_time.put(0.01)

    def dark_plan(detector):
        yield from bps.unstage(detector)
        yield from bps.stage(detector)
        yield from bps.mv(shutter, "closed")
        yield from bps.trigger(detector, group="dark")
        yield from bps.wait("dark")
        snapshot = darkframes.SnapshotDevice(detector)
        yield from bps.unstage(detector)
        yield from bps.stage(detector)
        yield from bps.mv(shutter, "open")
        return snapshot

    engine.preprocessors.append(darkframes.DarkFramePreprocessor(dark_plan=dark_plan, detector=detector, max_age=100))
    recipe_in(tmp_path, frames="sim_image", corrections={"dark": "stream"})
    poni = tmp_path / "detector.poni"
    poni.write_text(poni.read_text().replace("[40, 50]", "[200, 200]"))
    derived, told = Derived(), []
    with PowderReduction(tmp_path / "recipe.yaml") as reduction:
        reduction.subscribe(derived)
        engine.subscribe(reduction)
        engine.subscribe(lambda name, document: told.append((name, copied(document))))
        for _ in range(2):  # the second run has the same snapshot, told again
            engine(bp.count([detector], 2))
        assert reduction.wait(60)
    assert [stop["exit_status"] for stop in derived.stops] == ["success", "success"], derived.stops
    assert [stop["frames_reduced"] for stop in derived.stops] == [2, 2]
    dark = generate_image(dark=True).astype(float)
    light = generate_image().astype(float)
    recipe = reduction.recipes[0]
    integrator = az.Integrator(
        recipe.geometry.at({}, (200, 200)), recipe.bins.radial_bins(), **recipe.integrator_keywords()
    )
    expected = integrator.integrate(light.astype(np.uint16), dark=dark, dark_variance=dark)
    for event in derived.events["primary"]:
        assert_pattern(event["data"], expected)
        assert event["data"]["dark_uid"]
    assert_same_bits(derived, reduced(told, tmp_path / "recipe.yaml"))


def test_darks_of_the_beamline_live_and_replayed(engine, tmp_path):
    beamline = Beamline(tmp_path, detector="Pilatus 100k", dark_current=3.0)
    section = {"corrections": {"dark": "stream", "monitor": "i0"}}
    recipe = beamline.recipe([0, 8], npt=100, **section)
    readables = [beamline.detector, beamline.i0, beamline.arm]

    @bpp.stage_decorator([beamline.detector])
    @bpp.run_decorator()
    def plan():
        for position in (0, 8):
            yield from bps.mv(beamline.arm, position)
            yield from take_dark(beamline)
            for _ in range(2):
                yield from bps.trigger_and_read(readables)

    derived, told = Derived(), []
    with PowderReduction(recipe) as reduction:
        reduction.subscribe(derived)
        engine.subscribe(reduction)
        engine.subscribe(lambda name, document: told.append((name, copied(document))))
        engine(plan())
        assert reduction.wait(60)
    assert derived.stop["exit_status"] == "success", derived.stop
    assert derived.stop["frames_reduced"] == 4
    uids = [e["data"]["dark_uid"] for e in derived.events["primary"]]
    assert uids[0] == uids[1] != uids[2] == uids[3]
    assert_same_bits(derived, reduced(told, recipe))
    events_first = sorted(told[2:-1], key=lambda pair: pair[0].startswith("stream"))
    assert_same_bits(derived, reduced([*told[:2], *events_first, told[-1]], recipe))
