"""The first frame of a geometry, summed without a matrix, has the bits of all later ones."""

import copy
import pickle
import threading
import time

import numpy as np
import pytest

import azimuthal as az
from azimuthal.detector import Sensor
from azimuthal.integrator.preparation import Preparation
from azimuthal.pattern import Conditions
from azimuthal.splitting import full, kernels

SHAPE = (40, 150)
SENSOR = Sensor("Si", 1e-3)


def geometry(shape=SHAPE, **changes):
    detector = az.Detector.from_name("detector", shape=shape, pixel1=1e-3, pixel2=1e-3, sensor=SENSOR)
    parameters = {"distance": 0.1, "poni1": 0.011, "poni2": 0.0262, "rot1": 0.1, "rot2": -0.05, "rot3": 0.3}
    return az.Geometry(detector, wavelength=1e-10, **(parameters | changes))


def counts(shape=SHAPE, dtype=np.uint32):
    return np.random.default_rng(0).poisson(5.0, shape).astype(dtype)


def first_and_second(frame, splitting, place=None, bins=None, given=None, **keywords):
    """Return the patterns of a frame that comes twice, with what is known after each of them."""
    place = place or geometry()
    engine = az.Integrator(place, bins or az.RadialBins("q_nm^-1", 90), splitting=splitting, **keywords)
    known = []
    for _ in range(2):
        pattern = engine.integrate(frame, **(given or {}))
        known.append((pattern, engine.used_pixels.copy(), engine.span, engine.nbytes))
        assert engine.masked_pixels <= pattern.masked_pixels
    (first, *before, small), (second, *after, large) = known
    assert small < large or (before[0] & (frame.ravel() == 2**32 - 1)).any(), "it goes without a matrix"
    assert (before[0] == after[0]).all()
    assert before[1] == after[1]
    assert first.masked_pixels == second.masked_pixels
    outside = np.ones(first.npt, np.bool_)
    outside[before[1]] = False
    assert not first.sums[:, outside].any()
    return first.sums.tobytes(), second.sums.tobytes()


@pytest.mark.parametrize("splitting", ["no", "full"])
@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8", ">u4"])
def test_frames_of_any_type(splitting, dtype):
    one, two = first_and_second(counts(dtype=dtype), splitting, dummy=7, given={"monitor": 2.5})
    assert one == two


@pytest.mark.parametrize("splitting", ["no", "full"])
@pytest.mark.parametrize("unit", ["2th_deg", "d*2_A^-2", "log(1+q.nm)_None", "arcsinh(q.A)_None"])
@pytest.mark.parametrize("place", [{}, {"parallax": True}, {"rot2": 2.6, "distance": 0.3}, {"rot1": 1.4}])
def test_radial_coordinates_anywhere(splitting, unit, place):
    bins = az.RadialBins.covering(unit, 70, geometry(**place))
    one, two = first_and_second(counts(), splitting, geometry(**place), bins)
    assert one == two


@pytest.mark.parametrize("splitting", ["no", "full"])
@pytest.mark.parametrize("bounds", [(5.0, 20.0), (0.0, 1.0), (300.0, 301.0)])
@pytest.mark.parametrize("npt", [1, 30, 3000])
def test_ranges_that_cut_pixels_or_miss_them(splitting, bounds, npt):
    one, two = first_and_second(counts(), splitting, bins=az.RadialBins("q_nm^-1", npt, bounds))
    assert one == two


@pytest.mark.parametrize("splitting", ["no", "full"])
@pytest.mark.parametrize(
    "how",
    [
        {"solid_angle": None, "polarization": None},
        {"solid_angle": "absolute", "polarization": (0.5, 0.3)},
        {"mask": np.eye(*SHAPE), "gain": 3.0, "read_noise": 0.7},
        {"flat": np.random.default_rng(1).uniform(0.0, 2.0, SHAPE).round(1)},
        {"absorption": np.random.default_rng(2).uniform(0.5, 2.0, SHAPE), "mask": np.eye(*SHAPE)},
    ],
)
def test_corrections_and_frames_that_lack_pixels(splitting, how):
    frame = counts()
    frame[:, 60:90] = 2**32 - 1
    one, two = first_and_second(frame, splitting, **how, dummy=-1)
    assert one == two
    frame = counts()
    one, two = first_and_second(frame, splitting, **how, given={"mask": frame % 7 == 0})
    assert one == two


@pytest.mark.parametrize("splitting", ["no", "full"])
def test_images_of_several_bands(splitting):
    shape = (700, 610)
    place = geometry(shape, poni1=0.35, poni2=0.3)
    one, two = first_and_second(counts(shape), splitting, place, az.RadialBins("2th_deg", 500))
    assert one == two


def test_detector_with_gaps_and_pixels_of_two_sizes():
    place = az.Geometry(az.Detector.from_name("Pilatus 300k"), 0.1, 0.02, 0.01, rot1=0.2, wavelength=1e-10)
    for splitting in ("no", "full"):
        one, two = first_and_second(counts(place.shape, np.int32), splitting, place)
        assert one == two


def test_what_a_user_does_to_a_flat_afterwards_changes_nothing():
    flat, mask = np.random.default_rng(3).uniform(0.5, 2.0, SHAPE), np.zeros(SHAPE, np.bool_)
    engine = az.Integrator(geometry(), az.RadialBins("q_nm^-1", 50), flat=flat, mask=mask)
    flat *= 3.0
    mask[:20] = True
    first = engine.integrate(counts())
    assert engine.integrate(counts()).sums.tobytes() == first.sums.tobytes()
    assert first.masked_pixels == 0


@pytest.mark.parametrize("frames", [0, 1, 2])
def test_integrators_are_pickled_and_copied_with_what_they_know(frames):
    engine = az.Integrator(geometry(), az.RadialBins("q_nm^-1", 50), flat=np.full(SHAPE, 2.0))
    for _ in range(frames):
        engine.integrate(counts())
    others = pickle.loads(pickle.dumps(engine)), copy.deepcopy(engine)
    expected = engine.median(counts()).sums.tobytes(), engine.integrate(counts()).sums.tobytes()
    for other in others:
        assert (other.median(counts()).sums.tobytes(), other.integrate(counts()).sums.tobytes()) == expected
        assert other.nbytes == engine.nbytes


def test_first_frames_of_many_threads_are_the_same():
    engine, gate, sums = az.Integrator(geometry(), az.RadialBins("q_nm^-1", 50)), threading.Barrier(6), []

    def integrate():
        gate.wait()
        sums.append(engine.integrate(counts()).sums.tobytes())

    threads = [threading.Thread(target=integrate) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(sums) == 6
    assert len(set(sums)) == 1


@pytest.fixture
def hesitation():
    """Threads pause before every line that decides who has the first frame, so that others come between."""

    def pause(frame, event, argument):  # noqa: ARG001 - as tracing wants it
        if frame.f_code is not Preparation.first.__code__:
            return None
        time.sleep(0.001)
        return pause

    threading.settrace(pause)
    yield
    threading.settrace(None)


@pytest.mark.usefixtures("hesitation")
def test_one_of_many_threads_does_the_work_of_the_first_frame():
    place, frame, nothing = geometry(), counts().ravel(), np.zeros(0, np.bool_)
    bins, gaps = az.RadialBins("q_nm^-1", 50, (5.0, 20.0)), np.zeros(SHAPE, np.bool_)
    rounds = [Preparation(place, bins, None, Conditions("no"), (None, None), gaps, 1.0, 0.0) for _ in range(10)]
    gate, firsts = threading.Barrier(4), [0] * len(rounds)

    def come_first():
        for number, preparation in enumerate(rounds):
            gate.wait()
            if preparation.first(frame, nothing, 1, 0) is not None:
                firsts[number] += 1

    threads = [threading.Thread(target=come_first) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert firsts == [1] * len(rounds)


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-3.0, 7.0), (1e3, 1e3 + 0.1), (0.3, 31.7)])
@pytest.mark.parametrize("npt", [1, 7, 1000])
def test_bins_of_lines_are_those_that_the_edges_decide(bounds, npt):
    edges = np.linspace(*bounds, npt + 1)
    width = bounds[1] - bounds[0]
    some = np.random.default_rng(4).uniform(bounds[0] - 0.1 * width, bounds[1] + 0.1 * width, 400)
    x = np.concatenate([edges, np.nextafter(edges, -np.inf), np.nextafter(edges, np.inf), some, [np.nan, np.inf]])
    unused = np.random.default_rng(5).random(x.size) < 0.05
    bins = np.empty(x.size, np.int32)
    kernels.bins_of_line(x, unused, edges, bins)
    expected = np.searchsorted(edges, x, side="right") - 1
    expected[x == edges[-1]] = npt - 1
    expected[unused | ~((x >= edges[0]) & (x <= edges[-1]))] = -1
    np.testing.assert_array_equal(bins, expected)

    low, high = np.minimum(x, np.roll(x, 7)), np.maximum(x, np.roll(x, 7))
    first, many = np.empty(x.size, np.int64), np.empty(x.size, np.int64)
    for part in (slice(None), slice(3 * npt + 3, 3 * npt + 390)):  # with and without values on edges
        span = low[part].copy(), high[part].copy(), low[part].size, unused[part].copy(), edges
        full.bins_of_spans(*span, first, many)
        for j, (a, b, skip) in enumerate(zip(low[part], high[part], unused[part], strict=True)):
            inside = not skip and a <= edges[-1] and b >= edges[0] and b - a < np.inf
            k = min(max(int(np.searchsorted(edges, a, side="right")) - 1, 0), npt - 1) if inside else 0
            end = max(int(np.searchsorted(edges, b, side="left")), k + 1) if inside else 0
            assert (first[j], many[j]) == ((k, min(end, npt) - k) if inside else (0, 0))
