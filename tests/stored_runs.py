"""Scans of the simulated beamline, reduced live, for tests that store them and replay them from there."""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
import pytest
from bluesky.utils import RunEngineInterrupted
from ophyd_async.core import TriggerInfo

import azimuthal as az
from bluesky_powder import PowderReduction
from bluesky_powder.sim import Beamline, arm_scan, fly_scan, take_dark
from pauses import paused_after_two_events
from raw_runs import Derived, copied

POSITIONS, EXPOSURES, NPT = (4.0, 9.0), (2, 2), 40
EVENTS = sum(EXPOSURES)


@dataclass(frozen=True)
class Scan:
    """How a scan is taken: a plan, given the beamline; what the recipe says differently then; whether it is paused."""

    plan: Callable[[Beamline], Any]
    recipe: Mapping[str, Any] = field(default_factory=dict)
    paused: bool = False


@dataclass(frozen=True)
class Taken:
    """A scan that was taken: what the live reduction derived, the raw documents, and the recipe."""

    derived: Derived
    documents: list[tuple[str, dict[str, Any]]]
    recipe: Any

    @property
    def uid(self):
        return self.documents[0][1]["uid"]


def _step(detector, frames_per_event=1, **options):
    return lambda beamline: arm_scan(
        beamline, POSITIONS, EXPOSURES, detector=detector(beamline), frames_per_event=frames_per_event, **options
    )


def _files(kind, k=1):
    return Scan(_step(lambda beamline: beamline.file_detector(kind), k))


def _classic(spec=None, k=1):
    return Scan(_step(lambda beamline: beamline.classic_detector(spec, frames_per_event=k), k))


def _flown(k=1):
    panda = {
        "geometry": {"goniometer": "goniometer.json", "motors": {"pos": "panda-two_theta"}},
        "corrections": {"monitor": "panda-i0"},
    }
    return Scan(
        lambda beamline: fly_scan(beamline, POSITIONS, EXPOSURES, [beamline.recorder()], frames_per_event=k), panda
    )


def _with_baseline(scan):
    return Scan(lambda beamline: bpp.baseline_wrapper(scan.plan(beamline), [beamline.sample]), scan.recipe)


def _paused(scan):
    """Go back by two events after the second one."""
    return Scan(
        lambda beamline: paused_after_two_events(beamline.RE, scan.plan(beamline), rewind=True),
        scan.recipe,
        paused=True,
    )


def _darkened(detector):
    """Take a dark frame before the first and before the third event."""

    def plan(beamline):
        device = detector(beamline)

        @bpp.stage_decorator([device])
        @bpp.run_decorator()
        def inner():
            if hasattr(device, "prepare"):
                yield from bps.prepare(device, TriggerInfo(number_of_events=1), wait=True)
            for position in POSITIONS:
                yield from bps.mv(beamline.arm, position)
                yield from take_dark(beamline, device)
                for _ in range(2):
                    yield from bps.trigger_and_read([device, beamline.i0, beamline.arm])

        return inner()

    return Scan(plan, {"corrections": {"monitor": "i0", "dark": "stream"}})


SCANS = {
    "HDF5": _with_baseline(_files("hdf5")),
    "HDF5, two frames an event": _files("hdf5", 2),
    "HDF5, flown": _with_baseline(_flown()),
    "HDF5, paused": _paused(_files("hdf5")),
    "TIFF": _files("tiff"),
    "TIFF, two frames an event": _files("tiff", 2),
    "npy": _files("npy"),
    "arrays": _classic(),
    "arrays, two frames an event": _classic(None, 2),
    "arrays, paused": _paused(_classic()),
    "HDF5, with darks": _darkened(lambda beamline: beamline.detector),
    "arrays, with darks": _darkened(lambda beamline: beamline.classic_detector()),
    "Resource, AD_HDF5": _classic("AD_HDF5_SWMR"),
    "Resource, AD_TIFF": _classic("AD_TIFF"),
}


def take(RE, folder, scan):
    """Take a scan with a live reduction."""
    small = az.Detector.from_name("Detector", shape=(16, 20), pixel1=2e-3, pixel2=2e-3)
    beamline = Beamline(folder, detector=small, exposure_time=1e-3, monitor_rate=1e9)
    beamline.RE = RE
    sections = {"integration": {"splitting": "bbox"}, "corrections": {"monitor": "i0"}, **scan.recipe}
    recipe = beamline.recipe(POSITIONS, npt=NPT, **sections)
    derived, documents = Derived(), []
    with PowderReduction(recipe) as reduction:
        reduction.subscribe(derived)
        takers = (reduction, lambda name, document: documents.append((name, copied(document))))
        tokens = [RE.subscribe(each) for each in takers]
        try:
            if scan.paused:
                with pytest.raises(RunEngineInterrupted):
                    RE(scan.plan(beamline))
                RE.resume()
            else:
                RE(scan.plan(beamline))
        finally:
            for token in tokens:
                RE.unsubscribe(token)
        assert reduction.wait(120)
    assert derived.stop["exit_status"] == "success", derived.stop
    assert not derived.stop["frames_skipped"], derived.stop
    return Taken(derived, documents, recipe)


def renamed(documents):
    """Return the documents of a run under another uid."""
    told, uid = copied(documents), str(uuid.uuid4())
    for name, document in told:
        if name == "start":
            document["uid"] = uid
        if "run_start" in document:
            document["run_start"] = uid
    return told


def store(client, documents, **options):
    """Write documents into Tiled, as TiledWriter does while they come, and return the run."""
    from bluesky_tiled_plugins import TiledWriter

    writer = TiledWriter(client, **{"batch_size": 1, **options})
    for name, document in copied(documents):
        writer(name, document)
    return client[documents[0][1]["uid"]]
