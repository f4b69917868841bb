"""One scan of the simulated beamline, acquired and handed over in every way there is: the same patterns, bit for bit.

`WAYS` is how detectors hand frames over: each row is taken by a RunEngine with the reduction subscribed. `BACK` is how
the documents of a run that is over come back.
"""

import functools
import json
import re
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
import event_model
import numpy as np
import pytest
from bluesky import RunEngine
from bluesky.utils import RunEngineInterrupted
from event_model import RunRouter
from ophyd_async.core import TriggerInfo

import azimuthal as az
from bluesky_powder import PowderReduction, replay
from bluesky_powder.sim import Beamline, arm_scan, fly_scan, take_dark
from pauses import paused_after_two_events
from raw_runs import Derived, assert_same_bits, copied

SCAN = {"positions": (4.0, 9.0), "exposures": (2, 3), "still_at": (9.0,)}
EVENTS, NPT = 5, 50


@dataclass(frozen=True)
class Way:
    """How a scan is acquired: a plan, given beamline and frames an event; and what the recipe says differently then.

    In a flight the monitor of each frame is known, in an event that of all its frames: with more than one the two can
    only be compared without it.
    """

    plan: Callable[[Beamline, int], Any]
    recipe: Mapping[str, Any] = field(default_factory=dict)
    flies: bool = False


def files(kind):
    return Way(
        lambda beamline, k: arm_scan(beamline, **SCAN, detector=beamline.file_detector(kind), frames_per_event=k)
    )


def classic(spec=None):
    return Way(
        lambda beamline, k: arm_scan(
            beamline, **SCAN, detector=beamline.classic_detector(spec, frames_per_event=k), frames_per_event=k
        )
    )


def flown(kind="hdf5", samples=1):
    def plan(beamline, k):
        recorder = beamline.recorder(samples=samples)
        return fly_scan(
            beamline, **SCAN, recorders=[recorder], detector=beamline.file_detector(kind), frames_per_event=k
        )

    monitor = {"key": "panda-i0", "take": "sum"}
    return Way(plan, {"motors": {"pos": "panda-two_theta"}, "corrections": {"monitor": monitor}}, flies=True)


def recorded():
    """A step scan whose monitor is a column in a file beside the frames."""

    def plan(beamline, k):
        also = [beamline.recorder(["i0"], samples=3)]
        return arm_scan(beamline, **SCAN, detector=beamline.detector, frames_per_event=k, also=also)

    return Way(plan, {"corrections": {"monitor": {"key": "panda-i0", "take": "sum"}}}, flies=True)


WAYS = {
    "arrays in events": classic(),
    "Resource, AD_HDF5": classic("AD_HDF5_SWMR"),
    "Resource, AD_TIFF": classic("AD_TIFF"),
    "Resource, NPY_SEQ": classic("NPY_SEQ"),
    "StreamResource, HDF5": files("hdf5"),
    "StreamResource, TIFF": files("tiff"),
    "StreamResource, npy": files("npy"),
    "flight, HDF5": flown(),
    "flight, HDF5, three samples a frame": flown(samples=3),
    "flight, TIFF": flown("tiff"),
    "step, monitor in a file": recorded(),
}


class Raw:
    """Takes raw documents, as they were when they came."""

    def __init__(self):
        self.documents = []

    def __call__(self, name, document):
        self.documents.append((name, copied(document)))


@pytest.fixture(scope="module")
def RE():
    return RunEngine(context_managers=[])


def beamline_in(folder, **options):
    small = az.Detector.from_name("Detector", shape=(16, 20), pixel1=2e-3, pixel2=2e-3)
    return Beamline(folder, detector=small, exposure_time=1e-3, monitor_rate=1e9, **options)


def recipe_of(beamline, way=None, *, monitor=True, corrections=None):
    said = WAYS[way].recipe if way else {}
    geometry = {"goniometer": beamline.goniometer_path.name, "motors": said.get("motors", {"pos": "two_theta"})}
    corrections = corrections or (said.get("corrections", {"monitor": "i0"}) if monitor else {})
    sections = {"geometry": geometry, "integration": {"splitting": "bbox"}, "corrections": corrections}
    return beamline.recipe(SCAN["positions"], npt=NPT, **sections)


def live(RE, recipe, plan, *, pause=False):
    """Run a plan with a live reduction; return what was derived, and the raw documents."""
    derived, raw = Derived(), Raw()
    with PowderReduction(recipe) as reduction:
        reduction.subscribe(derived)
        tokens = [RE.subscribe(each) for each in (reduction, raw)]
        try:
            if pause:
                with pytest.raises(RunEngineInterrupted):
                    RE(plan)
                RE.resume()
            else:
                RE(plan)
        finally:
            for token in tokens:
                RE.unsubscribe(token)
        assert reduction.wait(120)
    return derived, raw.documents


def replayed(given, recipe, **options):
    derived = Derived()
    replay(given, recipe, derived, **options)
    assert derived.stop["exit_status"] == "success", derived.stop
    assert derived.stop["frames_skipped"] == 0, derived.stop
    return derived


@pytest.fixture(scope="module")
def acquired(RE, tmp_path_factory):
    """Return a function (way, frames an event) -> (live derived, raw documents, recipe); each is acquired once."""
    folder = tmp_path_factory.mktemp("scans")

    @functools.cache
    def acquire(way, per_event, monitor=True):
        beamline = beamline_in(folder / re.sub(r"\W+", "_", f"{way} {per_event} {monitor}"))
        recipe = recipe_of(beamline, way, monitor=monitor)
        return (*live(RE, recipe, WAYS[way].plan(beamline, per_event)), recipe)

    acquire.folder = folder
    return acquire


@pytest.mark.parametrize("per_event", [1, 2])
@pytest.mark.parametrize("way", WAYS)
def test_way_in_gives_the_same_patterns_live_and_replayed(acquired, way, per_event):
    monitor = per_event == 1 or not WAYS[way].flies
    derived, documents, recipe = acquired(way, per_event, monitor)
    assert derived.stop["exit_status"] == "success", derived.stop
    assert derived.stop["reason"] == ""
    assert derived.stop["frames_reduced"] == derived.stop["frames_seen"] == EVENTS * per_event, derived.stop
    assert_same_bits(derived, acquired("arrays in events", per_event, monitor)[0])
    assert_same_bits(derived, replayed(documents, recipe))


@pytest.mark.parametrize("per_event", [1, 2])
def test_ways_in_agree_on_what_the_engine_makes_of_the_frames(acquired, per_event):
    derived, documents, recipe = acquired("arrays in events", per_event)
    bins = recipe.bins.radial_bins()
    events = [document["data"] for name, document in documents if name == "event"]
    assert len(events) == EVENTS
    for event, told in zip(events, derived.events["primary"], strict=True):
        geometry = recipe.geometry.at({"pos": event["two_theta"]}, (16, 20))
        engine = az.Integrator(geometry, bins, splitting="bbox", solid_angle="absolute", polarization=0.99)
        frames = event["detector"].reshape(-1, 16, 20)
        expected = az.union([engine.integrate(frame, monitor=event["i0"]) for frame in frames])
        assert np.array_equal(told["data"]["intensity"], expected.intensity, equal_nan=True)
        assert np.array_equal(told["data"]["sem"], expected.sem, equal_nan=True)
        assert np.isfinite(expected.intensity).sum() > NPT / 3
        assert told["data"]["pos"] == event["two_theta"]


@pytest.fixture(scope="module")
def server(acquired, tmp_path_factory):
    """Return a client of a Tiled server that can read the detectors' files."""
    from bluesky_powder.server import PowderServer

    with PowderServer(tmp_path_factory.mktemp("catalog"), readable=[acquired.folder]) as server:
        client = server.client()
        yield client
        client.context.close()


def lines_of_json(documents, folder, _):
    path = folder / "run.jsonl"
    path.write_text("".join(json.dumps([n, event_model.sanitize_doc(d)]) + "\n" for n, d in documents))
    return path


def msgpacked(documents, folder, _):
    suitcase = pytest.importorskip("suitcase.msgpack")
    (path,) = suitcase.export(copied(documents), folder)["all"]
    return path


def stored(documents, _, server):
    """Return the run in Tiled, written there by Bluesky's writer under another uid."""
    from bluesky_tiled_plugins import TiledWriter

    uid = str(uuid.uuid4())
    writer = TiledWriter(server)
    for name, document in json.loads(
        json.dumps(event_model.sanitize_doc(list(documents))).replace(uid_of(documents), uid)
    ):
        writer(name, document)
    return server[uid]


def stored_elsewhere(documents, folder, server):
    """Return the run in Tiled, with files that are on the server's machine only, as far as the documents say."""
    documents = copied(documents)
    for name, document in documents:
        if name == "stream_resource":
            document["uri"] = document["uri"].replace("file://localhost", "file://storage.example.org")
    return stored(documents, folder, server)


def uid_of(documents):
    return documents[0][1]["uid"]


BACK = {
    "lines of JSON": (lines_of_json, list(WAYS)),
    "msgpack": (msgpacked, ["arrays in events", "Resource, AD_HDF5", "Resource, AD_TIFF", "Resource, NPY_SEQ"]),
    "Tiled": (stored, ["arrays in events", "StreamResource, HDF5", "flight, HDF5", "step, monitor in a file"]),
    "Tiled, by HTTP only": (stored_elsewhere, ["StreamResource, HDF5", "StreamResource, TIFF", "StreamResource, npy"]),
}


@pytest.mark.parametrize(("back", "way"), [(back, way) for back, (_, ways) in BACK.items() for way in ways])
def test_way_in_gives_the_same_patterns_when_it_comes_back(acquired, server, tmp_path, way, back):
    derived, documents, recipe = acquired(way, 1)
    assert_same_bits(replayed(BACK[back][0](documents, tmp_path, server), recipe), derived)


def test_there_are_many_ways_in():
    acquisitions = 2 * len(WAYS) + 2 * 2 + 1  # one and two frames an event; through a RunRouter; datum_page
    assert acquisitions + sum(len(ways) for _, ways in BACK.values()) >= 40


@pytest.mark.parametrize("pace", ["live", "replay"])
@pytest.mark.parametrize("way", ["arrays in events", "Resource, NPY_SEQ"])
def test_way_in_through_a_run_router_that_makes_pages(acquired, way, pace):
    expected, documents, recipe = acquired(way, 2)
    derived, names = Derived(), set()
    with PowderReduction(recipe, pace=pace) as reduction:
        reduction.subscribe(derived)

        def taker(name, document):
            names.add(name)
            reduction(name, document)

        router = RunRouter([lambda *_: ([taker], [])])
        for name, document in documents:
            router(name, copied(document))
    assert "event_page" in names
    assert "event" not in names
    assert_same_bits(derived, expected)


def test_way_in_with_datum_pages(acquired):
    expected, documents, recipe = acquired("Resource, NPY_SEQ", 1)
    packed = event_model.pack_datum_page(*(document for name, document in documents if name == "datum"))
    pages = [pair for pair in documents if pair[0] != "datum"]
    at = next(n for n, (name, _) in enumerate(pages) if name == "event")
    assert_same_bits(replayed([*pages[:at], ("datum_page", packed), *pages[at:]], recipe), expected)


@pytest.mark.parametrize("rewind", [False, True])
@pytest.mark.parametrize("way", [way for way in WAYS if "flight" not in way])
def test_way_in_of_a_paused_run_is_the_same_live_and_replayed(RE, tmp_path, way, rewind):
    beamline = beamline_in(tmp_path)
    recipe = recipe_of(beamline, way)
    plan = paused_after_two_events(RE, WAYS[way].plan(beamline, 1), rewind=rewind)
    derived, documents = live(RE, recipe, plan, pause=True)
    seq_nums = [document["seq_num"] for name, document in documents if name == "event"]
    assert seq_nums == ([1, 2, 1, 2, 3, 4, 5] if rewind else [1, 2, 3, 4, 5])
    assert derived.stop["exit_status"] == "success", derived.stop
    assert [event["seq_num"] for event in derived.events["primary"]] == seq_nums
    assert derived.stop["frames_replaced"] == len(seq_nums) - EVENTS
    assert derived.latest("cumulative", "frames")[EVENTS] == EVENTS
    assert_same_bits(derived, replayed(documents, recipe))


def test_way_in_of_a_flight_that_is_aborted_keeps_what_was_reduced(RE, tmp_path):
    beamline = beamline_in(tmp_path)
    recipe = recipe_of(beamline, "flight, HDF5")
    derived, raw, told_of, asked = Derived(), Raw(), set(), []

    def pause_at_the_first_frames(name, document):
        if name == "stream_datum":
            told_of.add(document["stream_resource"])
        if len(told_of) == 3 and not asked:  # frames, positions and monitor
            asked.append(threading.Thread(target=RE.request_pause))
            asked[0].start()

    plan = fly_scan(beamline, [4.0], [5000], recorders=[beamline.recorder()], still_at=[4.0], flush_period=0.02)
    with PowderReduction(recipe) as reduction:
        reduction.subscribe(derived)
        tokens = [RE.subscribe(each) for each in (reduction, raw, pause_at_the_first_frames)]
        with pytest.raises(RunEngineInterrupted):
            RE(plan)
        asked[0].join()
        RE.abort()
        for token in tokens:
            RE.unsubscribe(token)
        assert reduction.wait(120)
    told = sum(
        document["indices"]["stop"] - document["indices"]["start"]
        for name, document in raw.documents
        if name == "stream_datum"
    )
    assert derived.stop["exit_status"] == "abort"
    assert derived.stop["reason"] == "the raw run ended with 'abort': no reason given"
    assert 0 < derived.stop["frames_reduced"] <= told / 3 < 5000  # frames, positions and monitor are told of
    again = Derived()
    replay(raw.documents, recipe, again)
    assert_same_bits(derived, again)
    assert again.stop["reason"] == derived.stop["reason"]


DARKENED = {
    "HDF5": lambda beamline: beamline.detector,
    "TIFF": lambda beamline: beamline.file_detector("tiff"),
    "npy": lambda beamline: beamline.file_detector("npy"),
    "arrays": lambda beamline: beamline.classic_detector(),
    "AD_TIFF": lambda beamline: beamline.classic_detector("AD_TIFF"),
    "NPY_SEQ": lambda beamline: beamline.classic_detector("NPY_SEQ"),
}


def with_darks(beamline, detector):
    """Take two dark frames before two light ones, and another in between."""

    @bpp.stage_decorator([detector])
    @bpp.run_decorator()
    def plan():
        if hasattr(detector, "prepare"):
            yield from bps.prepare(detector, TriggerInfo(), wait=True)
        yield from bps.mv(beamline.arm, 4.0)
        yield from take_dark(beamline, detector)
        yield from take_dark(beamline, detector)
        for _ in range(2):
            yield from bps.trigger_and_read([detector, beamline.i0, beamline.arm])
            yield from take_dark(beamline, detector)

    return plan()


def test_ways_in_with_darks_give_the_same_patterns(RE, tmp_path):
    expected = None
    for name, make in DARKENED.items():
        beamline = beamline_in(tmp_path / name, dark_current=2e5)
        recipe = recipe_of(beamline, corrections={"monitor": "i0", "dark": "stream"})
        derived, documents = live(RE, recipe, with_darks(beamline, make(beamline)))
        assert derived.stop["exit_status"] == "success", (name, derived.stop)
        assert derived.stop["frames_reduced"] == 2, (name, derived.stop)
        assert_same_bits(derived, replayed(documents, recipe))
        assert_same_bits(derived, expected or derived)
        expected = expected or derived
    dull = beamline_in(tmp_path / "dull")
    bright, _ = live(RE, recipe_of(dull), with_darks(dull, dull.detector))
    with_dark, without = (run.latest("primary", "total_counts")[1] for run in (expected, bright))
    noise = np.sqrt(2 * 200 * 320)  # 200 dark counts in each of 320 pixels, once in the frame, once in the dark
    assert abs(with_dark - without) < 5 * noise
