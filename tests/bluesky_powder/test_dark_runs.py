"""Darks that are runs of their own, and darks as bluesky-darkframes and a beamline take them live."""

import logging

import bluesky.plan_stubs as bps
import bluesky.plans as bp
import bluesky.preprocessors as bpp
import numpy as np
import pytest
from bluesky import RunEngine

import azimuthal as az
from bluesky_powder import PowderReduction
from bluesky_powder.replay import replay
from bluesky_powder.sim import Beamline, take_dark
from dark_runs import DARKS, FRAMES, MixedRun, assert_pattern, expected_pattern, mean_and_variance
from raw_runs import Derived, assert_same_bits, copied, inline_run, recipe_in


def reduced(documents, recipe, **options):
    derived = Derived()
    replay(documents, recipe, derived, **options)
    return derived


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


def test_dark_run_that_is_the_run_itself_says_so(by_run):
    light = inline_run(FRAMES[:2])
    light[0] = ("start", light[0][1] | {"sc_dk_field_uid": light[0][1]["uid"]})
    derived = reduced(light, by_run, runs=lambda _: light)
    (reason,) = derived.reasons()
    assert "the start document names its own run under 'sc_dk_field_uid'" in reason
    assert derived.stop["frames_skipped"] == 2


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
        assert reduction.wait(120)
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
        assert reduction.wait(120)
    assert derived.stop["exit_status"] == "success", derived.stop
    assert derived.stop["frames_reduced"] == 4
    uids = [e["data"]["dark_uid"] for e in derived.events["primary"]]
    assert uids[0] == uids[1] != uids[2] == uids[3]
    assert_same_bits(derived, reduced(told, recipe))
    events_first = sorted(told[2:-1], key=lambda pair: pair[0].startswith("stream"))
    assert_same_bits(derived, reduced([*told[:2], *events_first, told[-1]], recipe))
