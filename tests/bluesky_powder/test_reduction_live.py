"""The callback on a real RunEngine: never in its way, and the same numbers as a replay."""

import logging
import subprocess
import sys
import textwrap
import threading

import bluesky.plan_stubs as bps
import bluesky.plans as bp
import bluesky.preprocessors as bpp
import numpy as np
import pytest
from bluesky import RunEngine
from bluesky.utils import FailedStatus, RunEngineInterrupted
from ophyd.sim import SynSignal, SynSignalWithRegistry, hw

from bluesky_powder import PowderReduction, replay
from bluesky_powder.sim import Beamline, arm_scan
from raw_runs import SHAPE, Derived, assert_same_bits, copied, images, inline_run, recipe_in


class Raw:
    """Takes raw documents, as they were when they came."""

    def __init__(self):
        self.documents = []

    def __call__(self, name, document):
        self.documents.append((name, copied(document)))


@pytest.fixture
def engine():
    RE = RunEngine({})
    yield RE
    if RE.state != "idle":
        RE.abort()


def inline_detector(frames):
    supply = iter(frames)
    return SynSignal(func=lambda: next(supply), name="det")


def live(RE, recipe, plan, **options):
    """Run a plan with a live reduction; return what it derived, the raw documents, and the reduction, closed."""
    derived, raw = Derived(), Raw()
    with PowderReduction(recipe, **options) as reduction:
        reduction.subscribe(derived)
        RE.subscribe(reduction)
        RE.subscribe(raw)
        RE(plan)
        assert reduction.wait(120)
    return derived, raw.documents


def replayed(documents, recipe):
    derived = Derived()
    replay(documents, recipe, derived)
    return derived


def test_live_step_scan_equals_its_replay(engine, tmp_path):
    beamline = Beamline(tmp_path, detector="Pilatus 100k")
    recipe = beamline.recipe([0, 8], npt=200)
    derived, documents = live(engine, recipe, arm_scan(beamline, [0, 8], 2))
    assert derived.stop["exit_status"] == "success", derived.stop
    assert derived.stop["frames_reduced"] == 4
    assert derived.latest("primary", "pos") == {1: 0.0, 2: 0.0, 3: 8.0, 4: 8.0}
    assert_same_bits(derived, replayed(documents, recipe))
    events_first = sorted(documents[2:-1], key=lambda pair: pair[0].startswith("stream"))
    assert_same_bits(derived, replayed([*documents[:2], *events_first, documents[-1]], recipe))


def test_live_inline_detector_equals_its_replay(engine, tmp_path):
    recipe, frames = recipe_in(tmp_path), images(4)
    derived, documents = live(engine, recipe, bp.count([inline_detector(frames)], 3))
    expected = Derived()
    replay(inline_run(frames[1:]), recipe, expected)  # describing the detector takes the first frame
    assert derived.stop["frames_reduced"] == 3
    assert_same_bits(derived, replayed(documents, recipe))
    assert derived.latest("primary", "total_counts").keys() == expected.latest("primary", "total_counts").keys()


def test_live_detector_with_resources_equals_its_replay(engine, tmp_path):
    recipe = recipe_in(tmp_path, moving=True, geometry={"goniometer": "arm.json", "motors": {"pos": "motor"}})
    frames = images(10)
    numbers = iter(range(10))
    detector = SynSignalWithRegistry(func=lambda: frames[next(numbers)], name="det", save_path=str(tmp_path))
    derived, documents = live(engine, recipe, bp.scan([detector], hw().motor, 0, 10, 3))
    assert derived.stop["exit_status"] == "success", derived.stop
    assert derived.latest("primary", "pos") == {1: 0.0, 2: 5.0, 3: 10.0}
    assert_same_bits(derived, replayed(documents, recipe))


def test_live_pause_and_resume(engine, tmp_path):
    beamline = Beamline(tmp_path, detector="Pilatus 100k")
    recipe = beamline.recipe([0], npt=200)
    readables = [beamline.detector, beamline.i0, beamline.arm]
    paused = []

    @bpp.stage_decorator([beamline.detector])
    @bpp.run_decorator()
    def plan():
        yield from bps.checkpoint()
        for _ in range(2):
            yield from bps.trigger_and_read(readables)
        if not paused:
            paused.append(True)
            yield from bps.pause()
        yield from bps.trigger_and_read(readables)

    derived, raw = Derived(), Raw()
    with PowderReduction(recipe) as reduction:
        for subscriber in (reduction, raw):
            engine.subscribe(subscriber)
        reduction.subscribe(derived)
        with pytest.raises(RunEngineInterrupted):
            engine(plan())
        engine.resume()
        reduction.wait(120)
    seq_nums = [event["seq_num"] for event in derived.events["primary"]]
    assert seq_nums == [doc["seq_num"] for name, doc in raw.documents if name == "event"]
    assert len(seq_nums) > len(set(seq_nums))
    assert derived.stop["frames_replaced"] == len(seq_nums) - len(set(seq_nums))
    assert derived.latest("cumulative", "frames")[3] == 3
    assert_same_bits(derived, replayed(raw.documents, recipe))


def test_live_run_that_fails_keeps_what_was_reduced(engine, tmp_path):
    recipe = recipe_in(tmp_path)
    detector = inline_detector(images(5))

    @bpp.run_decorator()
    def plan():
        for _ in range(2):
            yield from bps.trigger_and_read([detector])
        raise RuntimeError("the shutter is stuck")

    derived = Derived()
    with PowderReduction(recipe) as reduction:
        reduction.subscribe(derived)
        engine.subscribe(reduction)
        with pytest.raises((RuntimeError, FailedStatus), match="stuck"):
            engine(plan())
    assert derived.stop["exit_status"] == "fail"
    assert "the shutter is stuck" in derived.stop["reason"]
    assert derived.stop["frames_reduced"] == 2


def test_live_frames_that_find_no_room_are_counted_and_the_engine_does_not_wait(engine, tmp_path):
    recipe, release = recipe_in(tmp_path), threading.Event()
    derived = Derived()
    reduction = PowderReduction(recipe, max_documents=2)
    reduction.subscribe(derived)
    reduction.subscribe(lambda name, _: name == "start" and release.wait(120))  # slower than any detector
    engine.subscribe(reduction)
    engine(bp.count([inline_detector(images(13))], 12))  # ends although nothing was reduced yet
    assert not reduction.wait(0.01)
    release.set()
    assert reduction.close(60)
    stop = derived.stop
    assert stop["frames_seen"] == 12
    assert stop["frames_reduced"] == len(derived.events["primary"]) < 12
    assert stop["frames_skipped"] == 12 - stop["frames_reduced"] > 0
    (reason,) = derived.reasons()
    assert reason.startswith("the reduction was behind and its queue full (2 documents")
    assert "replay the run" in stop["reason"]


def test_live_queue_is_bounded_in_bytes_too(engine, tmp_path):
    recipe, release = recipe_in(tmp_path), threading.Event()
    derived, frames = Derived(), images(9)
    with PowderReduction(recipe, max_bytes=2 * frames[0].nbytes) as reduction:
        reduction.subscribe(derived)
        reduction.subscribe(lambda name, _: name == "start" and release.wait(120))
        engine.subscribe(reduction)
        engine(bp.count([inline_detector(frames)], 8))
        release.set()
    assert derived.stop["frames_seen"] == 8
    assert 2 <= derived.stop["frames_reduced"] < 8


@pytest.mark.parametrize("failure", [OSError, SystemExit, KeyboardInterrupt])
def test_live_subscriber_that_fails_is_logged_and_others_are_served(engine, tmp_path, caplog, failure):
    def broken(*_):
        raise failure("disk full")

    derived = Derived()
    with PowderReduction(recipe_in(tmp_path)) as reduction:
        reduction.subscribe(broken)
        reduction.subscribe(derived)
        engine.subscribe(reduction)
        engine(bp.count([inline_detector(images(3))], 2))
    assert derived.stop["exit_status"] == "success"
    assert "disk full" in caplog.text


def test_what_is_subscribed_twice_is_called_once(tmp_path):
    derived = Derived()
    with PowderReduction(recipe_in(tmp_path), pace="replay") as reduction:
        first = reduction.subscribe(derived)
        assert reduction.subscribe(derived) == first
        for name, document in inline_run(images(1)):
            reduction(name, document)
        reduction.unsubscribe(first)
        assert reduction.subscribe(derived) != first
    assert [name for name, _ in derived.documents].count("start") == 1


def test_what_cannot_be_called_is_refused_at_once(tmp_path):
    with (
        PowderReduction(recipe_in(tmp_path)) as reduction,
        pytest.raises(TypeError, match="'results' cannot be called"),
    ):
        reduction.subscribe("results")


def test_replay_ends_when_a_subscriber_ends_the_program(tmp_path):
    def ending(*_):
        raise SystemExit("enough")

    with pytest.raises(SystemExit, match="enough"):
        replay(inline_run(images(2)), recipe_in(tmp_path), ending)


def test_live_reduction_survives_whatever_it_is_given(tmp_path):
    derived = Derived()
    with PowderReduction(recipe_in(tmp_path)) as reduction:
        reduction.subscribe(derived)
        for name, document in (
            ("start", {}),
            ("start", None),
            ("descriptor", {"run_start": "nobody"}),
            ("event", {"data": 7}),
            ("event", {}),
            ("stream_datum", {}),
            ("nonsense", {}),
            ("stop", {}),
        ):
            reduction(name, document)
        for name, document in inline_run(images(2)):
            reduction(name, document)
    assert derived.stop["frames_reduced"] == 2


def test_live_reduction_is_not_confused_by_changes_to_documents(tmp_path):
    recipe, release = recipe_in(tmp_path), threading.Event()
    derived = Derived()

    def vandal(name, document):
        if name == "event":
            document["data"].pop("det")
        if name == "descriptor":
            document["data_keys"].clear()

    with PowderReduction(recipe) as reduction:
        reduction.subscribe(derived)
        reduction.subscribe(lambda name, _: name == "start" and release.wait(120))
        for name, document in inline_run(images(3)):
            reduction(name, document)
            vandal(name, document)
        release.set()
    assert derived.stop["frames_reduced"] == 3


def test_live_reduction_serves_run_after_run(engine, tmp_path):
    recipe = recipe_in(tmp_path)
    derived = Derived()
    with PowderReduction(recipe) as reduction:
        token = reduction.subscribe(derived)
        engine.subscribe(reduction)
        engine(bp.count([inline_detector(images(3))], 2))
        engine(bp.scan([inline_detector(images(4))], hw().motor, 0, 1, 3))
        engine(bp.count([hw().noisy_det], 2))
        assert reduction.wait(120)
        reduction.unsubscribe(token)
        engine(bp.count([inline_detector(images(3))], 2))
    assert [stop["frames_reduced"] for stop in derived.stops] == [2, 3]


def test_live_reduction_keeps_nothing_of_runs_that_are_over(tmp_path):
    with PowderReduction(recipe_in(tmp_path), pace="replay") as reduction:
        for metadata in ({}, {"analysis_stage": "powder"}):
            for name, document in inline_run(images(2), **metadata):
                reduction(name, document)
            reduction("event", {"descriptor": "late", "uid": "e", "seq_num": 3, "time": 1.0, "data": {}})
        router = reduction._router  # noqa: SLF001 - what it keeps is the point
        assert not router._runs  # noqa: SLF001
        assert not router._run_of  # noqa: SLF001


def test_live_reduction_that_is_closed_says_so(tmp_path, caplog):
    reduction = PowderReduction(recipe_in(tmp_path))
    assert reduction.close()
    assert reduction.close()
    assert reduction.wait()
    reduction("start", {"uid": "a"})
    assert "came after the reduction was closed" in caplog.text


def test_live_reduction_refuses_a_pace_that_does_not_exist(tmp_path):
    with pytest.raises(ValueError, match="pace 'slow' does not exist"):
        PowderReduction(recipe_in(tmp_path), pace="slow")


def test_live_reduction_logs_where_a_run_goes(tmp_path, caplog):
    caplog.set_level(logging.INFO, "bluesky_powder")
    with PowderReduction(recipe_in(tmp_path)) as reduction:
        for name, document in inline_run(images(1)):
            reduction(name, document)
    assert "is reduced into" in caplog.text


def test_live_reduction_finishes_what_is_queued_at_the_end_of_the_program(tmp_path):
    recipe_in(tmp_path)
    program = f"""
        import sys
        sys.path[:0] = {sys.path!r}
        from raw_runs import images, inline_run
        from bluesky_powder import PowderReduction

        reduction = PowderReduction({str(tmp_path / "recipe.yaml")!r})
        say = lambda doc: print(doc["frames_reduced"], doc["exit_status"], flush=True)
        reduction.subscribe(lambda name, doc: name == "stop" and say(doc))
        for name, document in inline_run(images(5)):
            reduction(name, document)
        """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.split() == ["5", "success"]


REAL = {
    "async_count": 3,
    "async_count_4_per_event": 8,
    "async_fly": 12,
    "async_scan": 3,
    "async_scan_baseline": 2,
}


@pytest.mark.parametrize("name", REAL)
def test_live_documents_of_real_detectors_are_understood(shared_reference, tmp_path, name):
    import h5py

    from bluesky_powder.recipe import Recipe
    from raw_runs import reference_run

    documents = reference_run(shared_reference, name)
    with h5py.File(tmp_path / "run.h5", "w") as file:
        file["entry/data/data"] = np.random.default_rng(0).poisson(20, (12, 240, 320)).astype(np.uint8)
    for kind, document in documents:
        if kind == "stream_resource":
            document["uri"] = f"file://localhost{tmp_path}/run.h5"
    recipe_in(tmp_path, frames="bdet")
    poni = tmp_path / "detector.poni"
    poni.write_text(poni.read_text().replace('"max_shape": [40, 50], ', ""))
    derived = replayed(documents, Recipe.load(tmp_path / "recipe.yaml"))
    assert derived.stop["exit_status"] == "success", derived.stop
    assert derived.stop["frames_reduced"] == REAL[name]


def test_live_documents_of_real_legacy_detectors_are_understood(shared_reference, tmp_path):
    from bluesky_powder.recipe import Recipe
    from raw_runs import reference_run

    recipe_in(tmp_path, frames="img")
    poni = tmp_path / "detector.poni"
    poni.write_text(poni.read_text().replace('"max_shape": [40, 50], ', ""))
    recipe = Recipe.load(tmp_path / "recipe.yaml")
    inline = reference_run(shared_reference, "legacy_direct_img_inline")
    for kind, document in inline:
        if kind == "event":
            document["data"]["img"] = np.ones((10, 10))
    assert replayed(inline, recipe).stop["frames_reduced"] == 2
    for kind, document in (documents := reference_run(shared_reference, "legacy_img_scan")):
        if kind == "resource":
            document["root"] = str(tmp_path)
            for index in (0, 1):
                np.save(tmp_path / f"{document['resource_path']}_{index}.npy", np.ones((10, 10)))
    assert replayed(documents, recipe).stop["frames_reduced"] == 2
    assert SHAPE != (10, 10)


def test_live_reduction_that_has_a_fault_of_its_own_ends_in_its_stop_document(engine, tmp_path, monkeypatch, caplog):
    from bluesky_powder.reduction.patterns import FrameReducer

    def fault(*_):
        raise ZeroDivisionError("nobody thought of this")

    derived, supply = Derived(), inline_detector(images(5))
    with PowderReduction(recipe_in(tmp_path)) as reduction:
        reduction.subscribe(derived)
        engine.subscribe(reduction)
        engine(bp.count([supply], 1))
        reduction.wait(120)
        monkeypatch.setattr(FrameReducer, "reduce", fault)
        engine(bp.count([supply], 2))
    good, bad = derived.stops
    assert good["exit_status"] == "success"
    assert bad["exit_status"] == "fail"
    assert bad["skip_reasons"][0]["reason"] == "unexpected ZeroDivisionError: nobody thought of this"
    assert "Traceback" in caplog.text
