"""The simulated detectors: one scan, the same frames whichever of them takes it; darks, recorders and flights."""

import asyncio
import json
from contextlib import nullcontext, suppress

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
import h5py
import hdf5plugin  # noqa: F401 - registers the filter
import numpy as np
import pytest
import tifffile
from area_detector_handlers.handlers import AreaDetectorHDF5Handler, AreaDetectorTiffHandler
from bluesky import RunEngine
from bluesky.utils import FailedStatus
from event_model import DocumentNames, Filler, sanitize_doc, schema_validators
from ophyd.sim import NumpySeqHandler
from ophyd_async.core import TriggerInfo

import azimuthal as az
from bluesky_powder import sim
from bluesky_powder.sim.devices import FrameDetector

POSITIONS, EXPOSURES = [5, 9], [2, 1]
HANDLERS = {
    "AD_HDF5_SWMR": AreaDetectorHDF5Handler,  # area-detector-handlers 0.0.10: its SWMR handler reads one point only
    "AD_TIFF": AreaDetectorTiffHandler,
    "NPY_SEQ": NumpySeqHandler,
}


@pytest.fixture(scope="module")
def RE():
    return RunEngine(context_managers=[])


@pytest.fixture
def make_beamline(RE, tmp_path):  # noqa: ARG001 - devices need a RunEngine
    small = az.Detector.from_name("Detector", shape=(16, 20), pixel1=2e-3, pixel2=2e-3)
    folders = iter("abcdefgh")

    def make(**keywords):
        keywords = {"detector": small, "exposure_time": 0.001, "monitor_rate": 1e9, **keywords}
        return sim.Beamline(tmp_path / next(folders), **keywords)

    return make


def documents(RE, plan):
    docs = []
    RE(plan, lambda *doc: docs.append(doc))
    for name, doc in docs:
        schema_validators[DocumentNames[name]].validate(json.loads(json.dumps(sanitize_doc(doc))))
    return docs


def path_of(uri):
    return uri.removeprefix("file://localhost")


def streamed(docs, per_event=1, descriptor=None):
    """Return frames that StreamDatums point at, (events, k, rows, columns)."""
    resource = next(doc for name, doc in docs if name == "stream_resource" and doc["data_key"] == "detector")
    spans = [
        range(doc["indices"]["start"], doc["indices"]["stop"])
        for name, doc in docs
        if name == "stream_datum"
        and doc["stream_resource"] == resource["uid"]
        and descriptor in (None, doc["descriptor"])
    ]
    per_file = per_event if "npy" in resource["mimetype"] else 1
    numbers = [
        per_event // per_file * index + k for span in spans for index in span for k in range(per_event // per_file)
    ]
    path = path_of(resource["uri"])
    if resource["mimetype"] == "application/x-hdf5":
        with h5py.File(path) as file:
            frames = file[resource["parameters"]["dataset"]][:][numbers]
    else:
        template = resource["parameters"].get("template", "_{:d}.npy")
        read = tifffile.imread if "tiff" in resource["mimetype"] else np.load
        frames = np.array([read(path + template.format(number)) for number in numbers])
    return frames.reshape(-1, per_event, *frames.shape[-2:])


def classic(docs):
    """Return frames of events, filled where they stand behind Datums, (events, k, rows, columns)."""
    with Filler(HANDLERS, inplace=False) as filler:
        filled = [(name, filler(name, doc)[1]) for name, doc in docs]
        frames = np.array([doc["data"]["detector"] for name, doc in filled if name == "event"])
    return frames.reshape(len(frames), -1, *frames.shape[-2:])


def events(docs):
    return [doc["data"] for name, doc in docs if name == "event"]


def numbers(docs):
    return [(event["two_theta"], event["sample_x"], event["i0"]) for event in events(docs)]


@pytest.mark.parametrize("per_event", [1, 2])
def test_sim_detectors_take_the_same_frames_in_one_scan(RE, make_beamline, per_event):
    plain = make_beamline()
    docs = documents(RE, sim.arm_scan(plain, POSITIONS, EXPOSURES, frames_per_event=per_event))
    expected, readings = streamed(docs, per_event), numbers(docs)
    assert expected.shape == (3, per_event, 16, 20)
    assert len({frame.tobytes() for frame in expected.reshape(-1, 320)}) == 3 * per_event
    for files in ("tiff", "npy"):
        beamline = make_beamline()
        detector = beamline.file_detector(files)
        docs = documents(
            RE, sim.arm_scan(beamline, POSITIONS, EXPOSURES, detector=detector, frames_per_event=per_event)
        )
        np.testing.assert_array_equal(streamed(docs, per_event), expected)
        assert numbers(docs) == readings
    for spec in (None, *HANDLERS):
        beamline = make_beamline()
        detector = beamline.classic_detector(spec, frames_per_event=per_event)
        docs = documents(RE, sim.arm_scan(beamline, POSITIONS, EXPOSURES, detector=detector))
        np.testing.assert_array_equal(classic(docs), expected)
        assert numbers(docs) == readings


@pytest.mark.parametrize("per_event", [1, 2])
def test_sim_flight_takes_the_frames_of_the_step_scan_and_records_its_numbers(RE, make_beamline, per_event):
    step = make_beamline()
    docs = documents(RE, sim.arm_scan(step, POSITIONS, EXPOSURES, still_at=[9], frames_per_event=per_event))
    expected, readings = streamed(docs, per_event), np.array(numbers(docs))
    fly = make_beamline()
    recorder = fly.recorder(samples=3)
    plan = sim.fly_scan(fly, POSITIONS, EXPOSURES, [recorder], still_at=[9], frames_per_event=per_event)
    docs = documents(RE, plan)
    np.testing.assert_array_equal(streamed(docs, per_event), expected)
    assert not events(docs)
    keys = next(doc["data_keys"] for name, doc in docs if name == "descriptor")
    columns = []
    for column in ("two_theta", "sample_x", "i0"):
        resource = next(doc for name, doc in docs if name == "stream_resource" and doc["data_key"] == f"panda-{column}")
        assert keys[f"panda-{column}"]["shape"] == [3 * per_event]
        with h5py.File(path_of(resource["uri"])) as file:
            columns.append(file[resource["parameters"]["dataset"]][:].reshape(3, 3 * per_event))
    two_theta, sample, i0 = columns
    np.testing.assert_array_equal(two_theta, np.repeat(readings[:, :1], 3 * per_event, axis=1))
    np.testing.assert_array_equal(sample, np.repeat(readings[:, 1:2], 3 * per_event, axis=1))
    np.testing.assert_array_equal(i0.sum(axis=1), readings[:, 2])
    assert (i0 == np.round(i0)).all()


def test_sim_detectors_of_other_names_have_noise_of_their_own(RE, make_beamline):
    beamline = make_beamline()
    other = beamline.file_detector("tiff", name="other")
    docs = documents(RE, sim.arm_scan(beamline, [5], 2, also=[other]))
    resources = {doc["data_key"]: doc for name, doc in docs if name == "stream_resource"}
    assert resources.keys() == {"detector", "other"}
    frames = streamed(docs)[:, 0]
    theirs = [tifffile.imread(f"{path_of(resources['other']['uri'])}other_{n:06d}.tif") for n in range(2)]
    assert (frames != theirs).mean() > 0.5
    np.testing.assert_allclose(np.sum(theirs), frames.sum(), rtol=0.05)


def with_darks(beamline, detector=None):
    detector = detector or beamline.detector

    @bpp.stage_decorator([detector])
    @bpp.run_decorator()
    def plan():
        for _ in range(2):
            yield from sim.take_dark(beamline, detector)
            yield from bps.trigger_and_read([detector, beamline.i0])

    return plan()


def test_sim_shutter_leaves_dark_current_only_and_does_not_change_the_light_frames(RE, make_beamline):
    dull = make_beamline()
    light = streamed(documents(RE, sim.arm_scan(dull, [0], 2, still_at=[0])))
    beamline = make_beamline(dark_current=2e6)
    docs = documents(RE, with_darks(beamline))
    names = {doc["name"]: uid for name, doc in docs if name == "descriptor" for uid in [doc["uid"]]}
    dark, primary = (streamed(docs, descriptor=names[name]).astype(int) for name in ("dark", "primary"))
    assert dark.shape == primary.shape == (2, 1, 16, 20)
    assert dark.mean() == pytest.approx(2000, rel=0.1)  # 2e6 a second
    per_pixel = dark.mean(axis=(0, 1))
    assert per_pixel.std() > 0.3 * per_pixel.mean()  # pixels differ far beyond counting noise
    difference = primary - light - dark.mean(axis=0)
    assert abs(difference.mean()) < 5 * np.sqrt(1.5 * 2000 / difference.size)
    assert [event["i0"] for event in events(docs) if event] == pytest.approx([1e6, 1e6], rel=0.1)


def test_sim_recorders_do_not_see_dark_frames(RE, make_beamline):
    beamline = make_beamline(dark_current=1e6)
    recorder = beamline.recorder(["i0"])

    @bpp.stage_decorator([beamline.detector, recorder])
    @bpp.run_decorator()
    def plan():
        yield from sim.take_dark(beamline)
        yield from bps.trigger_and_read([beamline.detector, recorder, beamline.i0])

    docs = documents(RE, plan())
    resource = next(doc for name, doc in docs if name == "stream_resource" and doc["data_key"] == "panda-i0")
    with h5py.File(path_of(resource["uri"])) as file:
        np.testing.assert_array_equal(file["i0"][:], [events(docs)[-1]["i0"]])


@pytest.mark.parametrize("spec", [None, "AD_TIFF"])
def test_sim_detectors_serve_bluesky_darkframes(RE, make_beamline, spec):
    darkframes = pytest.importorskip("bluesky_darkframes")
    beamline = make_beamline(dark_current=2e6)
    detector = beamline.classic_detector(spec)

    def dark_plan(detector):
        yield from bps.mv(beamline.shutter, "closed")
        yield from bps.unstage(detector)
        yield from bps.stage(detector)
        yield from bps.trigger(detector, group="dark")
        yield from bps.wait("dark")
        snapshot = darkframes.SnapshotDevice(detector)
        yield from bps.unstage(detector)
        yield from bps.stage(detector)
        yield from bps.mv(beamline.shutter, "open")
        return snapshot

    preprocess = darkframes.DarkFramePreprocessor(dark_plan=dark_plan, detector=detector, max_age=60)
    docs = documents(RE, preprocess(sim.arm_scan(beamline, [5, 9], 1, detector=detector)))
    streams = {doc["uid"]: doc["name"] for name, doc in docs if name == "descriptor"}
    order = [streams[doc["descriptor"]] for name, doc in docs if name == "event"]
    assert order == ["dark", "primary", "primary"]
    frames = classic(docs).astype(float)
    assert frames[0].mean() == pytest.approx(2000, rel=0.1)
    assert (frames[1:].mean(axis=(1, 2, 3)) > 2200).all()


def test_sim_classic_detector_that_cannot_write_fails_the_plan_and_says_why(RE, make_beamline, monkeypatch):
    beamline = make_beamline()
    detector = beamline.classic_detector("AD_TIFF")

    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr("bluesky_powder.sim.writer.tifffile.imwrite", full)
    with pytest.raises(FailedStatus) as failed:
        RE(sim.arm_scan(beamline, [5], 1, detector=detector))
    assert "no space left" in str(failed.value.__cause__)


class DeafExposer:
    """Does not hear it the first time that it is cancelled, as `asyncio.wait_for` before Python 3.12 when it ends."""

    def __init__(self):
        self.asked, self.exposures = asyncio.Event(), 0

    async def begin(self):
        pass

    async def expose(self, _):
        self.exposures += 1
        self.asked.set()
        with suppress(asyncio.CancelledError) if self.exposures == 1 else nullcontext():
            await asyncio.sleep(3600)
        return np.ones((2, 3), np.uint32)

    async def done(self):
        pass


@pytest.mark.parametrize("files", ["hdf5", "tiff", "npy"])
def test_sim_detector_is_unstaged_though_a_frame_still_comes(tmp_path, files):
    exposer = DeafExposer()

    async def unstage_while_exposing():
        detector = FrameDetector("detector", tmp_path, (2, 3), exposer, 0.0, files)
        await detector.connect()
        await detector.stage()
        await detector.prepare(TriggerInfo(number_of_events=500))
        await detector.kickoff()
        await exposer.asked.wait()
        await asyncio.wait_for(detector.unstage(), 60)

    asyncio.run(unstage_while_exposing())
    assert exposer.exposures == 2
