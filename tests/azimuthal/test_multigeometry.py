"""Merges over geometries, mean frames, and the budgets that they live under."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import azimuthal as az
from azimuthal.detector import Sensor
from azimuthal.errors import BinningError, FrameError, MergeError

SHAPE = (30, 24)
BINS = az.RadialBins("2th_deg", 80, (0.0, 40.0))


def geometry(angle=0.0, distance=0.1):
    detector = az.Detector.from_name("detector", shape=SHAPE, pixel1=1e-3, pixel2=1e-3)
    return az.Geometry(detector, distance, 0.011, 0.0122, rot2=np.radians(angle), wavelength=1e-10)


def frame(seed, dtype=np.uint32, dummies=0.0):
    rng = np.random.default_rng(seed)
    values = rng.poisson(rng.gamma(0.5, 10.0, SHAPE)).astype(dtype)
    values[rng.random(SHAPE) < dummies] = 4_000_000_000 if dtype == np.uint32 else 60_000
    return values


def integrator(angle=0.0, **keywords):
    return az.Integrator(geometry(angle), BINS, **({"splitting": "no"} | keywords))


@pytest.mark.parametrize("given", [{}, {"dark": 1.0}])
@pytest.mark.parametrize("add", ["add", "extend"])
def test_geometry_of_another_treatment_is_refused_and_changes_nothing(given, add):
    thick = replace(geometry().detector, sensor=Sensor("Si", 4.5e-4))
    plain, other = (replace(geometry(), detector=thick, parallax=parallax) for parallax in (False, True))
    merger = az.MultiGeometry(BINS)
    merger.add(plain, frame(1), **given)
    before = merger.pattern.sums.copy(), merger.mean_frame_pattern.sums.copy()
    with pytest.raises(MergeError, match="parallax differs .False and True"):
        merger.add(other, frame(2), **given) if add == "add" else merger.extend([(other, frame(2))], **given)
    assert merger.mean_frames.frames == 1
    for one, expected in zip((merger.pattern, merger.mean_frame_pattern), before, strict=True):
        np.testing.assert_array_equal(one.sums, expected)
    merger.add(plain, frame(3), **given)
    assert merger.mean_frames.frames == 2


def test_mean_frame_of_one_frame_is_its_pattern():
    one = integrator()
    sums = az.MeanFrames()
    sums.add(one, frame(1), monitor=3.0)
    np.testing.assert_allclose(sums.pattern.sums, one.integrate(frame(1), monitor=3.0).sums, rtol=1e-12)
    assert sums.frames == 1


@pytest.mark.parametrize("splitting", ["no", "full"])
@pytest.mark.parametrize("dummies", [0.0, 0.1])
@pytest.mark.parametrize("dark", [0.0, 2.5])
@pytest.mark.parametrize("read_noise", [0.0, 2.0])
def test_mean_frame_sums_signal_normalization_and_variance_pixel_by_pixel(splitting, dummies, dark, read_noise):
    one = integrator(splitting=splitting, dummy=4_000_000_000, read_noise=read_noise)
    monitors = [1.0, 2.5, 0.5]
    frames = [frame(seed, dummies=dummies) for seed in range(3)]
    darks = {"dark": np.full(SHAPE, dark), "dark_variance": dark / 10} if dark else {}
    sums = az.MeanFrames()
    for each, monitor in zip(frames, monitors, strict=True):
        sums.add(one, each, monitor=monitor, **darks)
    valid = np.array([each != 4_000_000_000 for each in frames])
    signal = np.where(valid, np.array(frames) - dark, 0).sum(axis=0)
    variance = np.where(valid, np.array(frames) + read_noise**2 + dark / 10, 0).sum(axis=0)
    seen = (valid * np.array(monitors)[:, None, None]).sum(axis=0)
    expected = az.Integrator(one.geometry, BINS, splitting=splitting, flat=np.where(seen > 0, seen, 0)).integrate(
        signal, variance=variance
    )
    np.testing.assert_allclose(sums.pattern.sums, expected.sums, rtol=1e-11, atol=1e-9)


def test_union_falls_and_mean_frame_stays_when_nothing_moves():
    rng = np.random.default_rng(2)
    texture = rng.gamma(0.3, 100.0, SHAPE)
    one = integrator()
    with az.MultiGeometry(BINS, splitting="no").mean_frames as sums:
        frames = [rng.poisson(texture).astype(np.uint32) for _ in range(9)]
        patterns = [one.integrate(each) for each in frames]
        for each in frames:
            sums.add(one, each)
        first, merged = patterns[0].spottiness(), az.union(patterns).spottiness()
        assert merged == pytest.approx(first / 3, rel=0.05)
        assert sums.pattern.spottiness() == pytest.approx(first, rel=0.05)
        assert az.independent_frames(patterns, sums.pattern) == pytest.approx(1.0, abs=0.05)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 50), st.sampled_from([0.0, 10.0, 20.0])), min_size=2, max_size=8), st.data())
def test_mean_frame_with_a_frame_taken_out_has_the_bits_of_one_without_it(frames, data):
    out = data.draw(st.integers(0, len(frames) - 1))
    integrators = {angle: integrator(angle, dummy=4_000_000_000) for angle in (0.0, 10.0, 20.0)}

    def sums_of(some):
        sums = az.MeanFrames()
        for seed, angle in some:
            sums.add(integrators[angle], frame(seed, dummies=0.05))
        return sums

    removed = sums_of(frames)
    seed, angle = frames[out]
    removed.remove(integrators[angle], frame(seed, dummies=0.05))
    fresh = sums_of(frames[:out] + frames[out + 1 :])
    assert removed.frames == fresh.frames == len(frames) - 1
    if dict.fromkeys(removed.geometries) == dict.fromkeys(fresh.geometries):
        np.testing.assert_allclose(removed.pattern.sums, fresh.pattern.sums, rtol=1e-13)
    last = integrators[frames[-1][1]]
    for sums in (removed, fresh):
        sums.add(last, frame(99))
    if removed.geometries == fresh.geometries:
        assert (removed.pattern.sums == fresh.pattern.sums).all()


def test_mean_frame_refuses_to_take_out_what_it_cannot_exactly():
    one = integrator()
    sums = az.MeanFrames()
    with pytest.raises(FrameError, match="no frame of this geometry"):
        sums.remove(one, frame(1))
    sums.add(one, frame(1, np.float64) + 0.5)
    with pytest.raises(FrameError, match="not whole numbers"):
        sums.remove(one, frame(1, np.float64) + 0.5)
    with pytest.raises(FrameError, match="no frame with monitor 2.0"):
        sums.remove(one, frame(1), monitor=2.0)
    assert sums.frames == 1


def test_mean_frames_without_frames_have_no_pattern():
    with pytest.raises(FrameError, match="no frame was added"):
        _ = az.MeanFrames().pattern


def test_mean_frames_keep_to_their_budget_and_lose_nothing(tmp_path):
    angles = [0.0, 5.0, 10.0, 15.0]
    integrators = [integrator(angle) for angle in angles]
    order = [0, 1, 2, 3, 0, 1, 2, 3, 2]
    roomy = az.MeanFrames()
    tight = az.MeanFrames(byte_budget=2 * SHAPE[0] * SHAPE[1] * 4, scratch=tmp_path)
    for number, k in enumerate(order):
        for sums in (roomy, tight):
            sums.add(integrators[k], frame(number))
        assert tight.nbytes <= tight.byte_budget
        assert (tight.pattern.sums == roomy.pattern.sums).all()
    assert list(tmp_path.rglob("*.npz"))
    tight.close()
    assert not list(tmp_path.iterdir())


def test_mean_frames_beyond_the_scratch_budget_stay_in_the_merge(tmp_path):
    pixels = SHAPE[0] * SHAPE[1] * 4
    sums = az.MeanFrames(byte_budget=pixels, scratch=tmp_path, scratch_budget=2 * pixels)
    patterns = []
    for number in range(12):
        one = integrator(3.0 * number)
        sums.add(one, frame(number))
        patterns.append(one.integrate(frame(number)))
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.npz")) <= 2 * pixels
    assert sums.frames == 12
    np.testing.assert_allclose(sums.pattern.sums, az.union(patterns).sums, rtol=1e-12)


def test_multigeometry_merges_in_any_order_and_is_readable_at_any_moment():
    angles = [0.0, 8.0, 16.0]
    frames = [(angle, frame(10 + k)) for k, angle in enumerate(angles * 2)]
    merger = az.MultiGeometry(BINS, splitting="full")
    each = [merger.add(geometry(angle), image, monitor=2.0) for angle, image in frames]
    assert all(p.conditions.solid_angle == "absolute" for p in each)
    np.testing.assert_allclose(merger.pattern.sums, az.union(each).sums, rtol=1e-13)
    backwards = az.MultiGeometry(BINS, splitting="full")
    for angle, image in reversed(frames):
        backwards.add(geometry(angle), image, monitor=2.0)
    np.testing.assert_allclose(backwards.pattern.sums, merger.pattern.sums, rtol=1e-12)
    np.testing.assert_allclose(backwards.mean_frame_pattern.sums, merger.mean_frame_pattern.sums, rtol=1e-12)
    assert merger.integrators.misses == 3
    assert merger.integrators.hits == 3


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["add", "add", "take out"]), st.booleans()), min_size=1))
def test_mean_frames_read_now_and_then_have_the_bits_of_those_read_once(steps):
    engines = [integrator(angle) for angle in (0.0, 8.0, 16.0, 24.0)]
    read, unread = az.MeanFrames(), az.MeanFrames()
    added = {k: [] for k in range(4)}
    for seed, (k, what, look) in enumerate(steps):
        if what == "take out" and added[k]:
            image = added[k].pop()
            read.remove(engines[k], image)
            unread.remove(engines[k], image)
        else:
            added[k].append(frame(seed))
            read.add(engines[k], added[k][-1])
            unread.add(engines[k], added[k][-1])
        if look and read.frames:
            assert np.nansum(read.pattern.sum_signal) > 0
    if unread.frames:
        assert read.pattern.sums.tobytes() == unread.pattern.sums.tobytes()


def test_mean_frames_of_positions_one_after_another_merge_as_at_once():
    engines = [integrator(0.5 * k) for k in range(12)]
    followed, once = az.MeanFrames(), az.MeanFrames()
    for k, engine in enumerate([*engines, *engines[3:5]]):
        followed.integrate(engine, frame(k)[np.newaxis], [1.0], follow=True)
        once.add(engine, frame(k))
    np.testing.assert_array_equal(followed.pattern.sums, once.pattern.sums)
    together = az.union(engine.integrate(frame(k)) for k, engine in enumerate(engines))
    assert followed.pattern.sum_signal.sum() > together.sum_signal.sum()


def test_multigeometry_takes_stacks():
    stack = np.stack([frame(1), frame(2)])
    merger = az.MultiGeometry(BINS)
    patterns = merger.add(geometry(), stack, monitor=[1.0, 2.0])
    assert len(patterns) == 2
    np.testing.assert_array_equal(merger.pattern.sums, (patterns[0] | patterns[1]).sums)
    assert merger.mean_frames.frames == 2


def test_multigeometry_needs_bins_with_a_range_and_frames():
    with pytest.raises(BinningError, match="covering"):
        az.MultiGeometry(az.RadialBins("2th_deg", 10))
    with pytest.raises(FrameError, match="no frame was added"):
        _ = az.MultiGeometry(BINS).pattern


def whole_size(angle):
    one = integrator(angle)
    assert one.matrix.n_bins == BINS.npt
    return one.nbytes


def test_integrator_cache_drops_the_least_recently_used_beyond_its_budget():
    cache = az.IntegratorCache(BINS, byte_budget=sum(map(whole_size, (0.0, 1.0, 2.0))) - 1, splitting="no")
    first = cache.integrator(geometry(0.0))
    for angle in (1.0, 1.0, 0.0, 2.0):
        cache.integrator(geometry(angle))
    assert len(cache) == 3
    assert cache.integrator(geometry(2.0)).nbytes == whole_size(2.0)
    assert cache.nbytes <= cache.byte_budget
    assert cache.integrator(geometry(0.0)) is first
    assert (cache.hits, cache.misses, cache.dropped) == (4, 3, 1)
    cache.integrator(geometry(1.0))
    assert cache.misses == 4


def test_position_seen_once_has_no_matrix_and_gets_it_when_it_comes_back():
    cache = az.IntegratorCache(BINS, splitting="full")
    one = cache.integrator(geometry(3.0))
    first = one.integrate(frame(1))
    assert cache.nbytes == one.nbytes < 2 * SHAPE[0] * SHAPE[1] + 1, "flags of pixels, and nothing of bins"
    assert cache.integrator(geometry(3.0)) is one
    assert cache.nbytes == one.nbytes > 10 * SHAPE[0] * SHAPE[1]
    assert one.integrate(frame(1)).sums.tobytes() == first.sums.tobytes()


def test_positions_seen_once_are_merged_without_any_matrix():
    merger, single = az.MultiGeometry(BINS, splitting="full"), az.MultiGeometry(BINS, splitting="full")
    light = 2 * SHAPE[0] * SHAPE[1]
    for k in range(6):
        merger.add(geometry(2.0 * k), frame(k))
        assert merger.integrators.nbytes <= (k + 1) * light
    single.extend((geometry(2.0 * k), frame(k)) for k in range(6))
    assert single.integrators.nbytes <= 6 * light
    assert merger.mean_frame_pattern.sums.tobytes() == single.mean_frame_pattern.sums.tobytes()
    np.testing.assert_array_equal(merger.mean_frame_pattern.sums, merger.pattern.sums)
    assert merger.integrators.nbytes <= 6 * light, "not for reading either"
    for one in (merger, single):
        one.add(geometry(4.0), frame(9))
    assert merger.mean_frame_pattern.sums.tobytes() == single.mean_frame_pattern.sums.tobytes()


@pytest.mark.parametrize("method", ["integrate", "sigma_clip", "median"])
@pytest.mark.parametrize("given", [{"dark": 1.0}, {"mask": np.eye(*SHAPE)}])
def test_cache_keeps_to_its_budget_when_integrators_grow_after_they_were_handed_out(given, method):
    cache = az.IntegratorCache(BINS, byte_budget=3 * whole_size(0.0), splitting="no")
    held = []
    for k in range(60):
        held.append(cache.integrator(geometry(0.05 * (k % 20))))
        getattr(held[-1], method)(frame(k), **given)
        kept = [one for one in dict.fromkeys(held) if one in cache]
        assert cache.nbytes == sum(one.nbytes for one in kept) <= cache.byte_budget
        assert len(kept) == len(cache)


def test_multigeometry_takes_a_flat_for_each_geometry():
    rng = np.random.default_rng(3)
    flats = {angle: rng.uniform(0.5, 1.5, SHAPE) for angle in (0.0, 8.0)}
    merger = az.MultiGeometry(BINS, splitting="no", flat=np.full(SHAPE, 2.0))
    expected, means = [], []
    for seed, angle in enumerate((0.0, 8.0, 0.0, 16.0)):
        flat = flats.get(angle)
        pattern = merger.add(geometry(angle), frame(seed), flat=flat)
        one = integrator(angle, flat=np.full(SHAPE, 2.0) if flat is None else flat, solid_angle="absolute")
        assert (pattern.sums == one.integrate(frame(seed)).sums).all()
        expected.append(pattern)
        means.append((one, seed))
    np.testing.assert_allclose(merger.pattern.sums, az.union(expected).sums, rtol=1e-13)
    mean = az.MeanFrames()
    for one, seed in means:
        mean.add(one, frame(seed))
    np.testing.assert_allclose(merger.mean_frame_pattern.sums, mean.pattern.sums, rtol=1e-13)
    assert len(merger.integrators) == 3


def test_mean_frames_keep_two_flats_of_one_geometry_apart():
    ones, twos = integrator(flat=np.ones(SHAPE)), integrator(flat=np.full(SHAPE, 2.0))
    sums = az.MeanFrames()
    sums.add(ones, frame(1))
    sums.add(twos, frame(2))
    np.testing.assert_allclose(
        sums.pattern.sums, (ones.integrate(frame(1)) | twos.integrate(frame(2))).sums, rtol=1e-13
    )


def test_multigeometry_merges_different_detectors_and_wavelengths():
    small = az.Detector.from_name("detector", shape=(20, 50), pixel1=0.5e-3, pixel2=0.7e-3)
    other = az.Geometry(small, 0.25, 0.01, 0.02, rot1=0.2, wavelength=0.5e-10)
    merger = az.MultiGeometry(BINS, splitting="full")
    first = merger.add(geometry(), frame(1))
    second = merger.add(other, np.random.default_rng(1).poisson(9.0, (20, 50)))
    np.testing.assert_array_equal(merger.pattern.sums, first.sums + second.sums)
    assert merger.pattern.wavelength is None
    assert merger.mean_frames.frames == 2


@pytest.mark.parametrize("splitting", ["no", "full"])
@pytest.mark.parametrize(
    ("dtype", "dead"), [("u4", "none"), ("u4", "always"), ("u2", "later"), ("i4", "always"), ("f4", "none")]
)
def test_frames_integrated_and_added_together_have_the_bits_of_one_by_one(splitting, dtype, dead):
    rng = np.random.default_rng(11)
    frames = rng.poisson(30, (21, *SHAPE)).astype(dtype)
    if dead == "always":
        frames[:, 3, 4:9] = 7000
    if dead == "later":
        frames[13:, 8, 8] = 7000  # in the middle of a batch
    engine = az.Integrator(geometry(), BINS, splitting=splitting, dummy=7000 if dead != "none" else None)
    other = az.Integrator(geometry(3.0), BINS, splitting=splitting)
    monitors = rng.integers(1, 5, 21).astype(float)
    together, single = az.MeanFrames(), az.MeanFrames()
    for sums in (together, single):
        sums.add(other, rng.poisson(30, SHAPE) * 0 + 5)
    patterns, means = together.integrate(engine, frames, monitors, follow=True)
    for k, frame in enumerate(frames):
        single.add(engine, frame, monitor=monitors[k])
        assert patterns[k].sums.tobytes() == engine.integrate(frame, monitor=monitors[k]).sums.tobytes()
        assert means[k].sums.tobytes() == single.pattern.sums.tobytes()
        assert means[k].masked_pixels == single.pattern.masked_pixels
    assert together.frames == single.frames == 22
    silent = az.MeanFrames()
    silent.add(other, np.full(SHAPE, 5))
    assert silent.integrate(engine, frames, monitors) is not None
    assert silent.pattern.sums.tobytes() == single.pattern.sums.tobytes()
    together.remove(engine, frames[20], monitor=monitors[20])
    if dtype != "f4":
        assert together.pattern.sums.tobytes() == means[19].sums.tobytes()


def _by_hand(engine, frames):
    """Return the pattern of frames summed as int64."""
    return engine.integrate_counts(frames.sum(axis=0, dtype=np.int64).ravel(), float(len(frames)), len(frames), 0)


@pytest.mark.parametrize("splitting", ["no", "full"])
@pytest.mark.parametrize("follow", [False, True])
def test_sums_that_outgrow_their_dtype_are_widened_and_can_be_taken_out(splitting, follow):
    """A pixel at the largest count of uint32 brings the sums beyond uint32 with the second frame."""
    rng = np.random.default_rng(17)
    engine = az.Integrator(geometry(), BINS, splitting=splitting)
    frames = rng.poisson(30, (20, *SHAPE)).astype(np.uint32)
    frames[:, 7, 7] = 2**32 - 1
    sums = az.MeanFrames()
    _, means = sums.integrate(engine, frames, np.ones(20), follow=follow)
    for n, mean in enumerate(means, 1):
        assert mean.sums.tobytes() == _by_hand(engine, frames[:n]).sums.tobytes()
    assert sums.pattern.sums.tobytes() == _by_hand(engine, frames).sums.tobytes()
    assert sums.nbytes == 8 * SHAPE[0] * SHAPE[1]
    for frame in frames[1:]:
        sums.remove(engine, frame)
    assert sums.pattern.sums.tobytes() == engine.integrate(frames[0]).sums.tobytes()


@pytest.mark.parametrize("count", [1, 8])
@pytest.mark.parametrize("follow", [False, True])
def test_negative_counts_are_found_where_they_are_used(count, follow):
    """They have no Poisson variance, so that it has to be summed by itself; what is masked does not matter."""
    rng = np.random.default_rng(18)
    frames = rng.poisson(30, (9, *SHAPE)).astype(np.int32)
    frames[:, 2, 3] = -1
    mask = np.zeros(SHAPE, np.bool_)
    mask[2, 3] = True
    masked, open_ = (az.Integrator(geometry(), BINS, splitting="full", mask=m) for m in (mask, None))
    for engine, bytes_ in ((masked, 4), (open_, 16)):
        sums = az.MeanFrames()
        sums.add(engine, frames[0])
        patterns, means = sums.integrate(engine, frames[1 : count + 1], np.ones(count), follow=follow)
        some = frames[: count + 1]
        expected = engine.integrate(some.sum(axis=0), variance=np.maximum(some, 0).sum(axis=0), monitor=count + 1)
        np.testing.assert_allclose(sums.pattern.sums, expected.sums, rtol=1e-12)
        assert patterns[-1].sums.tobytes() == engine.integrate(some[-1]).sums.tobytes()
        assert sums.nbytes == bytes_ * SHAPE[0] * SHAPE[1]
        assert len(means) == (count if follow else 0)
        if follow:
            assert means[-1].sums.tobytes() == sums.pattern.sums.tobytes()


@pytest.mark.parametrize("splitting", ["no", "full"])
def test_frames_that_lack_other_pixels_each_time_are_summed_in_one_pass(splitting):
    rng = np.random.default_rng(19)
    engine = az.Integrator(geometry(), BINS, splitting=splitting, dummy=7000)
    frames = rng.poisson(30, (16, *SHAPE)).astype(np.uint16)
    frames[rng.random(frames.shape) < 0.05] = 7000
    monitors = rng.uniform(1.0, 2.0, 16)
    together, single = az.MeanFrames(), az.MeanFrames()
    together.integrate(engine, frames, monitors)
    for frame, monitor in zip(frames, monitors, strict=True):
        single.add(engine, frame, monitor=monitor)
    seen = ((frames != 7000) * monitors[:, np.newaxis, np.newaxis]).sum(axis=0)
    signal = np.where(frames != 7000, frames, 0).sum(axis=0)
    flat = az.Integrator(geometry(), BINS, splitting=splitting, flat=seen)
    np.testing.assert_allclose(together.pattern.sums, flat.integrate(signal).sums, rtol=1e-11)
    assert together.pattern.sums.tobytes() == single.pattern.sums.tobytes()
    assert together.pattern.masked_pixels == single.pattern.masked_pixels


def test_many_frames_one_by_one_have_the_bits_of_a_stack():
    frames = np.random.default_rng(20).poisson(30, (11, *SHAPE)).astype(np.uint16)
    together, single = (az.MultiGeometry(BINS, splitting="full") for _ in range(2))
    patterns = together.add(geometry(), frames, monitor=np.arange(1.0, 12.0))
    for k, frame in enumerate(frames):
        assert single.add(geometry(), frame, monitor=k + 1.0).sums.tobytes() == patterns[k].sums.tobytes()
    assert single.pattern.sums.tobytes() == together.pattern.sums.tobytes()
    assert single.mean_frame_pattern.sums.tobytes() == together.mean_frame_pattern.sums.tobytes()


def test_extend_merges_what_add_merges():
    rng = np.random.default_rng(12)
    angles = [0.0, 4.0, 8.0, 4.0, 12.0, 16.0, 0.0, 20.0, 24.0, 28.0]
    frames, monitors = rng.poisson(30, (len(angles), *SHAPE)).astype(np.uint32), rng.uniform(1, 2, len(angles))
    frames[2, 5] = 2**32 - 1
    together, single = (az.MultiGeometry(BINS, splitting="full", dummy=-1) for _ in range(2))
    patterns = together.extend(((geometry(a), f) for a, f in zip(angles, frames, strict=True)), monitor=monitors)
    for angle, frame, monitor, pattern in zip(angles, frames, monitors, patterns, strict=True):
        assert single.add(geometry(angle), frame, monitor=monitor).sums.tobytes() == pattern.sums.tobytes()
    assert together.pattern.sums.tobytes() == single.pattern.sums.tobytes()
    assert together.mean_frame_pattern.sums.tobytes() == single.mean_frame_pattern.sums.tobytes()
    assert together.integrators.misses == 8
    before = together.mean_frames.frames
    with pytest.raises(FrameError, match="shape"):
        together.extend([(geometry(0.0), frames[0]), (geometry(0.0), frames[0, 1:]), (geometry(0.0), frames[0])])
    assert together.mean_frames.frames == before + 1, "what came before the bad frame is merged, and nothing after it"


def test_extend_merges_what_came_before_an_error_of_the_iterable():
    def taken():
        yield geometry(0.0), frame(0)
        yield geometry(2.0), frame(1)
        raise OSError("the file ends here")

    merger = az.MultiGeometry(BINS, splitting="no")
    with pytest.raises(OSError, match="ends here"):
        merger.extend(taken())
    assert merger.mean_frames.frames == 2


def test_cache_keeps_to_its_budget_over_many_positions():
    cache = az.IntegratorCache(BINS, byte_budget=10 * integrator().nbytes, splitting="no")
    for k in range(200):
        cache.integrator(geometry(0.05 * k)).integrate(np.ones(SHAPE, np.uint16))
        assert cache.nbytes <= cache.byte_budget
    assert (cache.hits, cache.misses, cache.dropped) == (0, 200, 200 - len(cache))


@pytest.mark.parametrize("whole", [True, False])
def test_mean_frame_with_darks_is_that_of_the_summed_signals(whole):
    """Signed arithmetic, a dark that masks a pixel, and its variance, against plain numpy."""
    rng = np.random.default_rng(14)
    engine = az.Integrator(geometry(), BINS, splitting="no", gain=2.0, read_noise=0.5)
    frames = rng.poisson(5, (4, *SHAPE)).astype(np.uint16)
    dark = rng.poisson(6, SHAPE).astype(float) if whole else rng.uniform(4, 8, SHAPE)
    dark[2, 3] = np.nan
    spread = rng.uniform(0.5, 1.0, SHAPE)
    sums = az.MeanFrames()
    for frame in frames:
        sums.add(engine, frame, dark=dark, dark_variance=spread, monitor=2.0)
    signal = (frames - dark).sum(axis=0)
    variance = (2.0 * frames + spread + 0.25).sum(axis=0)
    left_out = np.isnan(dark)
    expected = engine.integrate(np.nan_to_num(signal), variance=variance, mask=left_out, monitor=8.0)
    np.testing.assert_allclose(sums.pattern.sums, expected.sums, rtol=1e-12)
    assert sums.pattern.sum_signal.min() < 0
    if whole:
        with pytest.raises(FrameError, match="whole numbers"):
            sums.remove(engine, frames[3], dark=dark, dark_variance=spread, monitor=2.0)


def test_whole_darks_can_be_taken_out_again_exactly():
    rng = np.random.default_rng(15)
    engine = az.Integrator(geometry(), BINS, splitting="full")
    frames, dark = rng.poisson(5, (3, *SHAPE)).astype(np.uint16), rng.poisson(6, SHAPE)
    sums, fewer = az.MeanFrames(), az.MeanFrames()
    for frame in frames:
        sums.add(engine, frame, dark=dark, dark_variance=dark)
    sums.remove(engine, frames[1], dark=dark, dark_variance=dark)
    for frame in frames[[0, 2]]:
        fewer.add(engine, frame, dark=dark, dark_variance=dark)
    assert sums.pattern.sums.tobytes() == fewer.pattern.sums.tobytes()


def test_renewed_merger_begins_anew_with_the_integrators_at_hand():
    frame = np.random.default_rng(16).poisson(30, SHAPE).astype(np.uint16)
    first = az.MultiGeometry(BINS, splitting="no")
    first.add(geometry(), frame)
    second = first.renewed()
    with pytest.raises(FrameError, match="no frame"):
        _ = second.pattern
    second.add(geometry(), frame)
    second.add(geometry(), frame)
    assert first.mean_frames.frames == 1
    assert (second.pattern.sums == 2 * first.pattern.sums).all()
    assert (second.integrators.hits, second.integrators.misses) == (2, 1)
