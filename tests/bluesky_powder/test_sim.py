"""The simulated beamline: crystallography, grains, images, devices and documents."""

import json
import math
import re
import subprocess
import sys
from pathlib import Path

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
import h5py
import hdf5plugin  # noqa: F401 - registers the filter
import numpy as np
import pytest
from bluesky import RunEngine
from event_model import DocumentNames, schema_validators
from ophyd_async.core import TriggerInfo

import azimuthal as az
from bluesky_powder import sim
from bluesky_powder.sim.crystal import scattering_factor, structure_factor
from bluesky_powder.sim.image import View
from bluesky_powder.sim.specimen import Crystallites
from bluesky_powder.sim.writer import DATASET, FrameFile, next_free

WAVELENGTH = 0.3e-10
GAP = np.iinfo(np.uint32).max


@pytest.fixture(scope="module")
def RE() -> RunEngine:
    return RunEngine(context_managers=[])


@pytest.fixture
def small() -> az.Detector:
    return az.Detector.from_name("Detector", shape=(200, 180), pixel1=172e-6, pixel2=172e-6)


@pytest.fixture
def make_beamline(RE, small, tmp_path):  # noqa: ARG001 - devices need a RunEngine
    def make(folder="data", **keywords):
        keywords = {"detector": small, "exposure_time": 0.001, "monitor_rate": 2e8, **keywords}
        return sim.Beamline(tmp_path / folder, **keywords)

    return make


def centred(detector: az.Detector, two_theta: float = 0.0, distance: float = 0.2) -> az.Geometry:
    rows, columns = detector.shape
    return az.Geometry(
        detector=detector,
        wavelength=WAVELENGTH,
        distance=distance,
        poni1=rows * detector.pixel1 / 2,
        poni2=columns * detector.pixel2 / 2,
        rot1=0.0,
        rot2=-math.radians(two_theta),
        rot3=0.0,
    )


def frames_of(docs) -> np.ndarray:
    resource = next(doc for name, doc in docs if name == "stream_resource")
    with h5py.File(resource["uri"].removeprefix("file://localhost"), "r") as file:
        return file[resource["parameters"]["dataset"]][:]


# --- crystals -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("element", "electrons"), [("B", 5), ("O", 8), ("Si", 14), ("La", 57), ("Ce", 58)])
def test_scattering_factor_counts_electrons_forward(element, electrons):
    assert scattering_factor(element, 0.0) == pytest.approx(electrons, rel=1e-3)


@pytest.mark.parametrize(
    ("crystal", "calibrant"), [(sim.CEO2, "CeO2"), (sim.LAB6, "LaB6_SRM660c"), (sim.SILICON, "Si_SRM640e")]
)
def test_rings_match_tabulated_spacings_and_multiplicities(crystal, calibrant):
    pyFAI = pytest.importorskip("pyFAI")
    table = Path(pyFAI.__file__).parent / "resources" / "calibration" / f"{calibrant}.D"
    rows = re.findall(r"^\s*([\d.]+) # \(.*\)\s+(\d+)\s", table.read_text(encoding="utf-8"), re.MULTILINE)
    rings = crystal.rings(WAVELENGTH, math.radians(20))
    assert len(rings) >= 8
    for ring, (spacing, multiplicity) in zip(rings, rows, strict=False):
        assert ring.spacing == pytest.approx(float(spacing), rel=2e-5)
        assert ring.multiplicity == int(multiplicity)
        assert 2 * ring.spacing * math.sin(ring.two_theta / 2) == pytest.approx(WAVELENGTH * 1e10)


def test_ring_power_agrees_with_tabulated_intensity():
    # Relative intensities of the first rings of CeO2 for Cu Kα (NIST SRM 674b): 111, 200, 220, 311.
    rings = sim.CEO2.rings(1.5406e-10, math.radians(60))[:4]
    lorentz = [ring.power * (1 + math.cos(ring.two_theta) ** 2) / math.sin(ring.two_theta) for ring in rings]
    relative = np.array(lorentz) / lorentz[0]
    # The table is for an absorbing sample with anomalous dispersion.
    np.testing.assert_allclose(relative, [1.0, 0.28, 0.49, 0.36], rtol=0.2)


def test_structure_factor_knows_absences():
    forbidden = structure_factor(sim.SILICON, np.array([[2, 0, 0], [2, 2, 2], [2, 1, 0]]))
    allowed = structure_factor(sim.SILICON, np.array([[1, 1, 1], [2, 2, 0]]))
    assert np.abs(forbidden).max() < 1e-9
    assert np.abs(allowed).min() > 10


def test_rings_beyond_the_shortest_spacing_are_none():
    assert sim.CEO2.rings(1e-8, math.pi) == ()


# --- specimen -----------------------------------------------------------------------------------------------------


def specimen(seed=0, **powder) -> sim.Specimen:
    return sim.Specimen(sim.Powder(**powder), WAVELENGTH, math.radians(30), beam_width=0.2, seed=seed)


def test_specimen_is_the_same_wherever_it_is_seen_again():
    one, other = specimen(3).at(0.13), specimen(3).at(0.13)
    np.testing.assert_array_equal(one.chi, other.chi)
    strip = specimen(3)
    strip.at(5.0)
    np.testing.assert_array_equal(strip.at(0.13).power, one.power)
    assert len(np.intersect1d(one.chi, specimen(4).at(0.13).chi)) == 0


@pytest.mark.parametrize(("move", "kept"), [(0.0, 1.0), (0.05, 0.75), (0.1, 0.5), (0.2, 0.0), (-1.0, 0.0)])
def test_specimen_keeps_the_crystallites_that_stay_in_the_beam(move, kept):
    strip = specimen()
    before, after = strip.at(0.33), strip.at(0.33 + move)
    common = len(np.intersect1d(before.chi, after.chi))
    assert common / len(before.chi) == pytest.approx(kept, abs=0.03)


def test_specimen_rings_have_their_power_on_average():
    strip = specimen(crystallites=20000.0)
    ring = strip.rings[0]
    seen = [strip.at(x) for x in np.arange(20) * 0.2]
    mean = np.mean([grains.power[grains.two_theta == ring.two_theta].sum() for grains in seen])
    powder = strip.powder
    assert mean == pytest.approx(ring.power * powder.ring_power * (1 - powder.smooth_share), rel=0.03)


# --- image --------------------------------------------------------------------------------------------------------


def test_view_collects_the_power_of_rings_and_spots():
    detector = az.Detector.from_name("Detector", shape=(700, 700), pixel1=150e-6, pixel2=150e-6)
    strip = specimen(background=0.0, smooth_share=0.4, ring_width=1e-3, spot_width=1e-3)
    view = View(centred(detector), strip, polarization=0.0)
    ring = strip.rings[0]
    inside = centred(detector).two_theta() < (ring.two_theta + strip.rings[1].two_theta) / 2
    polarization = (1 + math.cos(ring.two_theta) ** 2) / 2
    full = strip.powder.ring_power * ring.power * polarization
    nothing = Crystallites(*np.empty((3, 0)))
    assert view.expected(nothing)[inside].sum() == pytest.approx(0.4 * full, rel=1e-3)
    grains = strip.at(0.0)
    first = grains.two_theta == ring.two_theta
    spots = (view.expected(grains) - view.expected(nothing))[inside].sum()
    assert spots == pytest.approx(grains.power[first].sum() * polarization, rel=1e-3)


@pytest.mark.parametrize("arm", [6.0, 9.0])
@pytest.mark.parametrize("orientation", [1, 2, 3, 4])
def test_view_puts_a_spot_where_its_angles_are(arm, orientation):
    detector = az.Detector.from_name(
        "Detector", shape=(200, 180), pixel1=172e-6, pixel2=172e-6, orientation=orientation
    )
    geometry = centred(detector, arm)
    strip = specimen(background=0.0, smooth_share=0.0)
    spot = Crystallites(np.array([math.radians(8.0)]), np.array([1.7]), np.array([1.0]))
    image = View(geometry, strip, 0.99).expected(spot)
    share = image / image.sum()
    assert (share * geometry.two_theta()).sum() == pytest.approx(math.radians(8.0), abs=2e-5)
    assert (share * geometry.azimuth()).sum() == pytest.approx(1.7, abs=2e-4)


def test_view_sees_nothing_of_spots_elsewhere(small):
    view = View(centred(small, 8.0), specimen(background=0.0, smooth_share=0.0), 0.99)
    behind = Crystallites(np.array([math.radians(8.0), math.radians(172.0)]), np.array([-1.6, -1.6]), np.ones(2))
    assert view.expected(behind).sum() == 0


def test_view_exposes_poisson_counts_and_gaps():
    detector = az.Detector.from_name("Pilatus 100k")
    view = View(centred(detector, 8.0), specimen(), 0.99)
    grains = specimen().at(0.0)
    expected = view.expected(grains) * 1e5
    frame = view.expose(grains, 1e5, np.random.default_rng(0))
    assert frame.dtype == np.uint32
    np.testing.assert_array_equal(frame == GAP, detector.mask)
    good = ~detector.mask & (expected > 0)
    chi2 = np.square(frame[good] - expected[good]) / expected[good]
    assert chi2.mean() == pytest.approx(1.0, abs=0.05)


# --- files --------------------------------------------------------------------------------------------------------


def test_frame_file_can_be_read_while_it_grows(tmp_path):
    file = FrameFile(tmp_path / "f.h5", (4, 5), np.uint32)
    with h5py.File(file.path, "r", swmr=True, libver="latest") as reader:
        for i in range(3):
            file.append(np.full((4, 5), i, np.uint32))
            data = reader[DATASET]
            data.id.refresh()
            assert data.shape == (i + 1, 4, 5)
            assert (data[i] == i).all()
    file.close()
    file.append(np.zeros((4, 5), np.uint32))
    assert file.frames == 3


def test_next_free_goes_on_after_the_last(tmp_path):
    assert next_free(tmp_path, "eiger").name == "eiger_00001.h5"
    for name in ("eiger_00007.h5", "eiger_x.h5", "eiger_two_00009.h5", "other_00011.h5"):
        (tmp_path / name).touch()
    assert next_free(tmp_path, "eiger").name == "eiger_00008.h5"


# --- beamline -----------------------------------------------------------------------------------------------------


KERNELS_THAT_A_FRAME_ADDS = """
import sys
from bluesky import RunEngine
from numba.core.dispatcher import Dispatcher
import azimuthal as az
from bluesky_powder.sim import Beamline
from bluesky_powder.sim.world import Camera, Moment

def compiled():
    modules = [module for name, module in list(sys.modules.items()) if name.startswith("azimuthal")]
    kernels = {each for module in modules for each in vars(module).values() if isinstance(each, Dispatcher)}
    return {f"{each.py_func.__qualname__}{signature}" for each in kernels for signature in each.signatures}

RE = RunEngine(context_managers=[])
name, rows = sys.argv[2:]
detector = az.Detector.from_name(name, shape=(int(rows), 70), pixel1=1e-3, pixel2=2e-3) if int(rows) else name
before = compiled()
beamline = Beamline(sys.argv[1], detector=detector, dark_current=1.0)
made = compiled()
for arm, shutter in ((0.0, "open"), (21.5, "open"), (21.5, "closed")):
    Camera(beamline._world).expose(Moment(arm, 0.1, shutter), 0.01)
print(len(before), len(made - before), sorted(compiled() - made))
"""


@pytest.mark.parametrize(("name", "rows"), [("Detector", 90), ("Pilatus 100k", 0)])
def test_beamline_leaves_nothing_to_compile_in_a_scan(tmp_path, name, rows):
    # In a process of its own: in this one all may be compiled.
    command = [sys.executable, "-c", KERNELS_THAT_A_FRAME_ADDS, str(tmp_path / "data"), name, str(rows)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split(maxsplit=2)
    assert told[0] == "0"
    assert int(told[1]) > 0
    assert told[2].strip() == "[]"


def test_arm_scan_makes_valid_documents(RE, make_beamline):
    beamline = make_beamline("a folder, with ünusual characters")
    docs = []
    RE(sim.arm_scan(beamline, [5, 9], [2, 1], md={"sample": {"name": "CeO2"}}), lambda *doc: docs.append(doc))
    for name, doc in docs:
        schema_validators[DocumentNames[name]].validate(json.loads(json.dumps(doc)))
    events = [doc["data"] for name, doc in docs if name == "event"]
    assert [event["two_theta"] for event in events] == [5, 5, 9]
    assert np.diff([event["sample_x"] for event in events]) == pytest.approx([0.2, 0.2])
    assert [doc["indices"] for name, doc in docs if name == "stream_datum"] == [
        {"start": i, "stop": i + 1} for i in range(3)
    ]
    resource = next(doc for name, doc in docs if name == "stream_resource")
    assert " " not in resource["uri"]
    with h5py.File(beamline.directory / "detector_00001.h5") as file:
        assert file[DATASET].shape == (3, 200, 180)
        assert file[DATASET].chunks == (1, 200, 180)


def test_frames_scale_with_the_monitor(RE, make_beamline):
    beamline = make_beamline()
    docs = []
    RE(sim.arm_scan(beamline, [6], 4, still_at=[6]), lambda *doc: docs.append(doc))
    monitor = np.array([doc["data"]["i0"] for name, doc in docs if name == "event"])
    assert monitor == pytest.approx(2e5, rel=0.1)
    assert len(set(monitor)) == 4
    totals = frames_of(docs).sum(axis=(1, 2), dtype=np.float64)
    ratio = totals / monitor
    np.testing.assert_allclose(ratio, ratio[0], rtol=5 / math.sqrt(totals.min()))


def test_beamline_repeats_itself_with_the_same_seed(RE, make_beamline):
    stacks = []
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        docs = []
        RE(sim.arm_scan(make_beamline(folder, seed=seed), [6, 9], 2), lambda *doc, docs=docs: docs.append(doc))
        stacks.append(frames_of(docs))
    np.testing.assert_array_equal(stacks[0], stacks[1])
    assert (stacks[0] != stacks[2]).mean() > 0.1


@pytest.mark.parametrize(("still_at", "fresh"), [((), True), ((8,), False)])
def test_sample_decides_whether_spots_stay(RE, make_beamline, still_at, fresh):
    beamline = make_beamline(powder=sim.Powder(ring_power=60.0))
    docs = []
    RE(sim.arm_scan(beamline, [8], 2, still_at=still_at), lambda *doc: docs.append(doc))
    one, other = frames_of(docs).astype(float)
    spots = one > np.percentile(one, 99.5)
    assert (other[spots].mean() < 0.5 * one[spots].mean()) == fresh


def test_goniometer_file_says_the_same_to_pyfai(make_beamline):
    goniometer = pytest.importorskip("pyFAI.goniometer")
    beamline = make_beamline(detector="Eiger2 CdTe 500k")
    theirs = goniometer.Goniometer.sload(str(beamline.goniometer_path)).get_ai(13.0)
    ours = beamline.geometry(13.0)
    two_theta = theirs.center_array(ours.shape, unit="2th_rad")
    np.testing.assert_allclose(ours.two_theta(), two_theta, atol=1e-9)
    middle = ours.two_theta()[255:257, 513:515].mean()
    assert math.degrees(middle) == pytest.approx(13.0, abs=1e-3)
    # The arm goes up: what is seen lies above the beam.
    assert ours.azimuth()[256, 514] == pytest.approx(math.pi / 2, abs=1e-2)


def test_recipe_covers_the_positions(make_beamline):
    beamline = make_beamline()
    recipe = beamline.recipe([5, 15], npt=300)
    low, high = recipe.bins.range
    for position in (5, 15):
        angles = np.degrees(beamline.geometry(position).two_theta())
        assert low <= angles.min()
        assert angles.max() <= high
    assert recipe.bins.npt == 300
    assert recipe.frames == "detector"
    assert beamline.recipe([5], bins={"unit": "q_A^-1", "npt": 10, "range": [1, 2]}).bins.unit == "q_A^-1"


def test_exposure_time_can_be_prepared(RE, make_beamline):
    beamline = make_beamline()

    @bpp.stage_decorator([beamline.detector])
    @bpp.run_decorator()
    def plan():
        yield from bps.prepare(beamline.detector, TriggerInfo(livetime=0.005), wait=True)
        yield from bps.trigger_and_read([beamline.detector, beamline.i0])

    docs = []
    RE(plan(), lambda *doc: docs.append(doc))
    event = next(doc for name, doc in docs if name == "event")
    assert event["data"]["i0"] == pytest.approx(1e6, rel=0.1)


def test_detector_flies(RE, make_beamline):
    beamline = make_beamline()

    @bpp.stage_decorator([beamline.detector])
    @bpp.run_decorator()
    def plan():
        yield from bps.prepare(beamline.detector, TriggerInfo(number_of_events=5), wait=True)
        yield from bps.declare_stream(beamline.detector, name="primary")
        yield from bps.kickoff(beamline.detector, wait=True)
        yield from bps.collect_while_completing([beamline.detector], [beamline.detector], flush_period=0.05)

    docs = []
    RE(plan(), lambda *doc: docs.append(doc))
    ranges = [doc["indices"] for name, doc in docs if name == "stream_datum"]
    assert (ranges[0]["start"], ranges[-1]["stop"]) == (0, 5)
    assert frames_of(docs).shape == (5, 200, 180)


def test_failed_plan_leaves_a_readable_file(RE, make_beamline):
    beamline = make_beamline()

    docs = []

    @bpp.stage_decorator([beamline.detector])
    @bpp.run_decorator()
    def failing():
        yield from bps.trigger_and_read([beamline.detector])
        raise RuntimeError("the hutch was opened")

    with pytest.raises(RuntimeError, match="hutch"):
        RE(failing(), lambda *doc: docs.append(doc))
    assert docs[-1][1]["exit_status"] == "fail"
    assert frames_of(docs).shape == (1, 200, 180)


def test_axis_travels_at_its_speed(RE, make_beamline):
    beamline = make_beamline(arm_speed=30.0)
    docs = []

    @bpp.monitor_during_decorator([beamline.arm])
    @bpp.run_decorator()
    def plan():
        yield from bps.mv(beamline.arm, 30.0)

    RE(plan(), lambda *doc: docs.append(doc))
    seen = [doc["data"]["two_theta"] for name, doc in docs if name == "event"]
    assert (seen[0], seen[-1]) == (0.0, 30.0)
    assert any(0 < value < 30 for value in seen)


def test_beamline_asks_for_a_run_engine(monkeypatch, tmp_path):
    monkeypatch.setattr("bluesky_powder.sim.beamline.get_bluesky_event_loop", lambda: None)
    with pytest.raises(sim.NoRunEngine, match="make the RunEngine first"):
        sim.Beamline(tmp_path)
