"""Sigma clipping, means between quantiles, medians: against loops in plain Python, and beside the installed pyFAI."""

import warnings

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pyFAI.detectors import detector_factory
from pyFAI.integrator.azimuthal import AzimuthalIntegrator

import azimuthal as az
import naive
from azimuthal.errors import FrameError, MergeError
from azimuthal.outliers import Quantiles, SigmaClip
from azimuthal.outliers.selection.kernels import between_quantiles

SHAPE = (40, 50)
STYLES = ["counts", "few counts", "normal", "equal", "spikes", "two values"]
QUANTILES = [
    (0.1, 0.9),
    (0.5, 0.5),
    (0.0, 1.0),
    (0.0, 0.0),
    (1.0, 1.0),
    (0.25, 0.75),
    (0.4, 0.6),
    (0.3, 0.301),
    (0, 0.5),
]


def geometry(shape=SHAPE):
    detector = az.Detector.from_name("detector", shape=shape, pixel1=1e-3, pixel2=1e-3)
    return az.Geometry(detector, 0.1, 0.011, 0.0262, 0.1, -0.05, 0.3, wavelength=1e-10)


def integrator(npt=15, shape=SHAPE, **keywords):
    place = geometry(shape)
    return az.Integrator(place, az.RadialBins.covering("2th_deg", npt, place), **({"splitting": "no"} | keywords))


def plain(npt=15, **keywords):
    """Return an integrator whose pixels all weigh the same."""
    return integrator(npt, **({"solid_angle": None, "polarization": None} | keywords))


def values_like(style, seed, shape=SHAPE):
    rng = np.random.default_rng(seed)
    if style == "few counts":
        return rng.poisson(0.7, shape).astype(float)
    if style == "normal":
        return rng.normal(-2.0, 30.0, shape)
    if style == "equal":
        return np.full(shape, rng.choice([0.0, 7.0, 0.1, -3.3]))
    if style == "two values":
        return rng.choice([2.0, 5.0], shape)
    frame = rng.poisson(40.0, shape).astype(float)
    if style == "spikes":
        frame[rng.random(shape) < 0.02] = 1e9
        frame[rng.random(shape) < 0.01] = 300.0
    return frame


def dense_shares(engine):
    dense = np.zeros((engine.matrix.n_pixels, engine.matrix.n_bins))
    csr = engine.matrix.csr
    for r in range(engine.matrix.n_bins):
        row = slice(csr.indptr[r], csr.indptr[r + 1])
        dense[csr.pixels[row], r] = csr.shares[row]
    return dense


def summed(engine, frame, kept, variance=None):
    """Return the seven sums over the kept entries, (pixels, bins)."""
    signal = np.where(kept.any(axis=1), frame.ravel(), 0.0)
    variance = np.maximum(signal, 0) if variance is None else variance.ravel()
    norm = engine.normalization.ravel()
    return naive.sums(dense_shares(engine) * kept, signal, norm, variance, np.zeros(signal.size, bool))


def clipped(engine, frame, variance=None, left_out=None, threshold=5.0, max_iter=5, model="azimuthal"):
    """Return the seven sums after sigma clipping by the definition."""
    left_out = np.zeros(frame.size, bool) if left_out is None else left_out.ravel()
    var = np.maximum(frame, 0) if variance is None else variance
    flat = frame.ravel(), engine.normalization.ravel(), var.ravel(), left_out
    return summed(
        engine, frame, naive.kept_by_clipping(dense_shares(engine), *flat, threshold, max_iter, model), variance
    )


def between(engine, frame, lower, upper, left_out=None):
    """Return the seven sums between two quantiles by the definition."""
    left_out = np.zeros(frame.size, bool) if left_out is None else left_out.ravel()
    flat = frame.ravel(), engine.normalization.ravel(), left_out
    return summed(engine, frame, naive.kept_between_quantiles(dense_shares(engine), *flat, lower, upper))


def assert_sums(pattern, truth):
    np.testing.assert_allclose(pattern.sums, truth, rtol=1e-11, atol=1e-9 * np.abs(truth).max(initial=1e-300))
    np.testing.assert_allclose(pattern.count, truth[0], rtol=1e-13)


def clip(engine, frame, **keywords):
    """Clip without the advice about splitting."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "sigma_clip: splitting")
        return engine.sigma_clip(frame, **keywords)


# ------------------------------------------------------------------------------------------------- the definition


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10**6),
    st.sampled_from(STYLES),
    st.sampled_from(["no", "bbox", "full"]),
    st.sampled_from([0.0, 1.0, 2.5, 5.0]),
    st.sampled_from([0, 1, 2, 5, 50]),
    st.sampled_from(["azimuthal", "poisson"]),
    st.sampled_from([3, 15, 200]),
)
@example(26731, "few counts", "bbox", 0.0, 5, "azimuthal", 200)  # zeros stay when all else is gone
def test_sigma_clip_keeps_what_the_definition_keeps(seed, style, splitting, threshold, max_iter, model, npt):
    engine = integrator(npt, splitting=splitting)
    frame = values_like(style, seed)
    pattern = clip(engine, frame, threshold=threshold, max_iter=max_iter, error_model=model)
    assert_sums(pattern, clipped(engine, frame, threshold=threshold, max_iter=max_iter, model=model))
    assert pattern.error_model == model


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10**6),
    st.sampled_from(STYLES),
    st.sampled_from(["no", "bbox", "full"]),
    st.sampled_from(QUANTILES) | st.tuples(st.floats(0, 0.5), st.floats(0.5, 1)),
    st.sampled_from([3, 15, 200]),
    st.booleans(),
)
def test_quantile_mean_keeps_what_the_definition_keeps(seed, style, splitting, quantiles, npt, weigh_alike):
    engine = (plain if weigh_alike else integrator)(npt, splitting=splitting)
    frame = values_like(style, seed)
    assert_sums(engine.quantile_mean(frame, *quantiles), between(engine, frame, *quantiles))


def test_median_is_the_mean_between_equal_quantiles():
    engine, frame = plain(), values_like("normal", 1)
    assert (engine.median(frame).sums == engine.quantile_mean(frame, 0.5, 0.5).sums).all()
    bins = engine.matrix.csr.first_bins
    medians = [np.median(frame.ravel()[bins == r]) if (bins == r).any() else np.nan for r in range(15)]
    np.testing.assert_allclose(engine.median(frame).intensity, medians, rtol=1e-13)


def test_median_is_that_of_the_weights():
    """One heavy pixel among light ones is the median by itself."""
    flat = np.ones(SHAPE)
    engine = az.Integrator(geometry(), az.RadialBins("2th_deg", 1, (0, 90)), splitting="no", flat=flat)
    flat[7, 7] = 1e6
    heavy = az.Integrator(geometry(), engine.bins, splitting="no", flat=flat)
    frame = values_like("normal", 2)
    assert engine.median(frame).intensity[0] != heavy.median(frame).intensity[0]
    assert heavy.median(frame).intensity[0] == frame[7, 7] / heavy.normalization[7, 7]
    assert heavy.median(frame).count[0] == 1


def truth_of_selection(v, w, lower, upper):
    """Return the values kept between quantiles, by sorting everything."""
    values, group = np.unique(v, return_inverse=True)
    upto = np.cumsum(np.bincount(group, w))
    before = np.concatenate([[0.0], upto[:-1]])
    begin, end, slack = lower * upto[-1], upper * upto[-1], 1e-12 * upto[-1]
    kept = (before >= begin - slack) & (upto <= end + slack) | (before <= begin + slack) & (upto >= end - slack)
    if not kept.any():
        kept = (before - slack <= (begin + end) / 2) & ((begin + end) / 2 <= upto + slack)
    return values[kept]


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 10**6),
    st.sampled_from([1, 2, 3, 24, 25, 32, 100, 1000, 20000]),
    st.sampled_from([1, 2, 3, 40, 10**9]),
    st.sampled_from(["alike", "even", "wild"]),
    st.sampled_from(QUANTILES) | st.tuples(st.floats(0, 0.5), st.floats(0.5, 1)),
    st.sampled_from(["shuffled", "ascending", "descending"]),
)
def test_selection_finds_the_values_that_sorting_finds(seed, n, distinct, weights, quantiles, order):
    rng = np.random.default_rng(seed)
    v = rng.integers(0, distinct, n) * rng.choice([1.0, -0.37])
    w = {"alike": np.full(n, 0.97), "even": rng.uniform(0.9, 1.1, n), "wild": 10.0 ** rng.uniform(-6, 0, n)}[weights]
    if order != "shuffled":
        at = np.argsort(v if order == "ascending" else -v)
        v, w = v[at], w[at]
    low, high = between_quantiles(v, w, n, *(float(q) for q in quantiles), np.empty(n), np.empty(n))
    np.testing.assert_array_equal(np.unique(v[(v >= low) & (v <= high)]), truth_of_selection(v, w, *quantiles))


def test_order_of_ties_does_not_matter():
    """Among equal values, pyFAI's unstable sort decides whose weight counts."""
    rng = np.random.default_rng(3)
    flat = 2.0 ** rng.integers(-3, 4, SHAPE)
    frame = values_like("few counts", 3) * flat
    one_ring = az.RadialBins("2th_deg", 1, (0, 90))
    first = None
    for _ in range(5):
        at = rng.permutation(flat.size)
        weights, values = (plane.ravel()[at].reshape(SHAPE) for plane in (flat, frame))
        engine = az.Integrator(geometry(), one_ring, splitting="no", flat=weights, solid_angle=None, polarization=None)
        for quantiles in ((0.2, 0.6), (0.5, 0.5), (0.45, 0.55)):
            pattern = engine.quantile_mean(values, *quantiles)
            assert_sums(pattern, between(engine, values, *quantiles))
        first = first or pattern
        assert (pattern.sums == first.sums).all()


# ------------------------------------------------------------------------------------------------- odd rings


def rings_of(*lengths):
    """Return an integrator whose ring r has the given number of pixels, all of weight 1, and the frame's shape."""
    place = geometry((1, 40))
    bins = az.RadialBins.covering("2th_deg", len(lengths), place)
    centres = place.radial("2th_deg").ravel()
    mask = np.ones(centres.size, bool)
    for r, length in enumerate(lengths):
        inside = np.flatnonzero((centres >= bins.edges[r]) & (centres < bins.edges[r + 1]))
        assert inside.size >= length
        mask[inside[:length]] = False
    engine = az.Integrator(place, bins, splitting="no", mask=mask[None], solid_angle=None, polarization=None)
    assert engine.integrate(np.ones((1, 40))).count.tolist() == list(lengths)
    return engine


def frame_of(engine, *rings):
    frame = np.zeros(engine.shape)
    csr = engine.matrix.csr
    for r, values in enumerate(rings):
        frame.ravel()[csr.pixels[csr.indptr[r] : csr.indptr[r + 1]]] = values
    return frame


@pytest.mark.parametrize("model", ["azimuthal", "poisson", "hybrid"])
def test_empty_and_single_pixel_rings_stay_as_they_are(model):
    engine = rings_of(0, 1, 2, 0)
    frame = frame_of(engine, [], [7], [3, 5], [])
    for pattern in (
        engine.sigma_clip(frame, error_model=model),
        engine.median(frame),
        engine.quantile_mean(frame, 0.1, 0.9),
    ):
        assert pattern.count.tolist() == [0, 1, 2, 0]
        np.testing.assert_array_equal(pattern.intensity, [np.nan, 7, 4, np.nan])


def test_all_empty_rings_are_an_empty_pattern():
    engine = integrator(mask=np.ones(SHAPE))
    for pattern in (engine.sigma_clip(np.ones(SHAPE)), engine.median(np.ones(SHAPE))):
        assert not pattern.sums.any()
        assert np.isnan(pattern.intensity).all()


@pytest.mark.parametrize(
    ("quantiles", "values", "kept"),
    [
        ((0.25, 0.75), [1, 9], 5),  # pyFAI selects nothing
        ((0.4, 0.6), [1, 9], 5),  # nor here
        ((0.4, 0.55), [1, 9], 1),
        ((0.45, 0.6), [1, 9], 9),
        ((0.4, 0.6), [1, 2, 9], 2),
        ((0.5, 0.5), [4, 1, 9], 4),
        ((0.5, 0.5), [4, 1, 9, 6], 5),
        ((0.5, 0.5), [4, 4, 4, 9], 4),
        ((0.5, 0.5), [1, 1, 9, 9], 5),
        ((0.5, 0.5), [1, 9, 9, 1, 9], 9),
        ((0.0, 0.0), [3, 1, 2], 1),
        ((1.0, 1.0), [3, 1, 2], 3),
        ((0.2, 0.8), [100, 1, 2, 3, -50], 2),
        ((0.1, 0.9), [5, 5, 5, 5], 5),
    ],
)
def test_quantiles_of_short_rings(quantiles, values, kept):
    engine = rings_of(len(values))
    assert engine.quantile_mean(frame_of(engine, values), *quantiles).intensity[0] == kept


@pytest.mark.parametrize("value", [0.1, 1e-30, 7.0, -3.3, 1e12])
@pytest.mark.parametrize("threshold", [0.0, 5.0])
def test_equal_values_are_never_clipped(value, threshold):
    """Their standard deviation is nothing but rounding."""
    flat = np.random.default_rng(5).uniform(0.01, 30.0, SHAPE)
    engine = integrator(4, flat=flat)
    frame = value * engine.normalization
    for max_iter in (1, 5):
        pattern = engine.sigma_clip(frame, threshold, max_iter)
        np.testing.assert_array_equal(pattern.count, engine.integrate(frame).count)
        frame[20, 20] *= 1e6
        pattern = engine.sigma_clip(frame, threshold, max_iter)
        assert pattern.count.sum() == frame.size - 1
        frame[20, 20] /= 1e6


def test_value_on_the_cut_stays():
    """Strictly beyond the cut is dropped; two equally heavy values lie exactly one standard deviation out."""
    engine = rings_of(2)
    frame = frame_of(engine, [0.1, 0.3])
    assert engine.sigma_clip(frame, 1.0).count[0] == 2
    assert engine.sigma_clip(frame, 0.999999).count[0] == 0


def test_threshold_of_zero_leaves_chauvenets_criterion():
    """Of n normal values, about one half lies beyond it."""
    engine = plain(1, shape=(100, 100))
    frame = np.random.default_rng(8).normal(0, 1, (100, 100))
    frame[50, 50] = 4.5
    cut = np.sqrt(2 * np.log(1e4 / np.sqrt(2 * np.pi)))
    assert 4.0 < cut < 4.1
    pattern = engine.sigma_clip(frame, 0)
    assert pattern.count[0] < 1e4
    assert_sums(pattern, engine.sigma_clip(frame, 1.5).sums)
    assert engine.sigma_clip(frame, 4.7).count[0] == 1e4


def test_far_outlier_does_not_cost_digits():
    """After a pixel of 1e9 is gone, the scatter of values around 1 is exact again."""
    engine = plain(1)
    frame = np.random.default_rng(9).uniform(0.9, 1.1, SHAPE)
    clean = engine.sigma_clip(frame, 2.0, 50)
    frame[::20, ::25] = [[1e9, -1e9], [1e8, 3e9]]
    hidden = np.zeros(SHAPE, bool)
    hidden[::20, ::25] = True
    np.testing.assert_allclose(
        engine.sigma_clip(frame, 2.0, 50).sums, engine.sigma_clip(frame, 2.0, 50, mask=hidden).sums, rtol=1e-13
    )
    assert clean.count[0] > 1000


def test_ring_without_counts_clips_by_the_spread_of_one_count():
    engine = rings_of(5)
    pattern = engine.sigma_clip(
        frame_of(engine, [0] * 5), error_model="poisson", dark=frame_of(engine, [0, 0, 0, 0, 9])
    )
    assert pattern.count[0] == 4
    assert pattern.sem[0] == engine.integrate(frame_of(engine, [0] * 5)).with_errors("poisson").sem[0] * 5 / 4


# ------------------------------------------------------------------------------------------------- frames


@pytest.mark.parametrize("splitting", ["no", "full"])
@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "i4", "i8", "u8", "f4", "f8", ">u2"])
def test_dummies_masks_and_nan_are_left_out_before_anything_is_sorted(splitting, dtype):
    engine = integrator(splitting=splitting, dummy=77, delta_dummy=1)
    rng = np.random.default_rng(11)
    frame = rng.poisson(20, SHAPE).astype(dtype)
    odd, masked = rng.random(SHAPE) < 0.2, rng.random(SHAPE) < 0.1
    frame[odd] = rng.choice([77, 78, np.nan], odd.sum()) if dtype.startswith("f") else rng.choice([76, 77], odd.sum())
    left_out = odd | masked
    signal = np.where(left_out, 0.0, frame)
    assert_sums(clip(engine, frame, mask=masked), clipped(engine, signal, left_out=left_out))
    assert_sums(engine.median(frame, mask=masked), between(engine, signal, 0.5, 0.5, left_out))
    pattern = engine.quantile_mean(frame, 0.1, 0.8, mask=masked)
    assert_sums(pattern, between(engine, signal, 0.1, 0.8, left_out))
    assert pattern.masked_pixels == engine.integrate(frame, mask=masked).masked_pixels == left_out.sum()


def test_frame_of_nothing_but_dummies_is_empty():
    engine = integrator(dummy=5)
    for pattern in (engine.sigma_clip(np.full(SHAPE, 5)), engine.median(np.full(SHAPE, 5))):
        assert not pattern.sums.any()
        assert pattern.masked_pixels == SHAPE[0] * SHAPE[1]


@pytest.mark.parametrize("model", ["azimuthal", "poisson"])
@pytest.mark.parametrize("splitting", ["no", "full"])
def test_dark_gain_and_variance_enter_as_in_integrate(model, splitting):
    engine = integrator(splitting=splitting, gain=2.0, read_noise=3.0)
    rng = np.random.default_rng(12)
    frame = rng.poisson(20, SHAPE).astype(np.uint16)
    frame[rng.random(SHAPE) < 0.01] = 5000
    dark, dark_variance = rng.uniform(3, 30, SHAPE), rng.uniform(0.1, 0.4, SHAPE)
    variance = 2.0 * frame + 9.0
    assert_sums(
        clip(engine, frame, error_model=model),
        clipped(engine, frame.astype(float), variance, model=model),
    )
    assert_sums(
        clip(engine, frame, error_model=model, dark=dark, dark_variance=dark_variance),
        clipped(engine, frame - dark, variance + dark_variance, model=model),
    )
    assert_sums(
        clip(engine, frame, error_model=model, variance=dark),
        clipped(engine, frame.astype(float), dark, model=model),
    )
    everything = engine.quantile_mean(frame, 0, 1, dark=dark, variance=dark_variance)
    expected = engine.integrate(frame, dark=dark, variance=dark_variance).sums
    np.testing.assert_allclose(everything.sums, expected, rtol=1e-11, atol=1e-8)


def test_not_finite_darks_and_variances_leave_pixels_out():
    engine, frame = integrator(), values_like("counts", 13)
    dark, variance = np.zeros(SHAPE), np.ones(SHAPE)
    dark[3], variance[5] = np.nan, np.inf
    rows = np.zeros(SHAPE, bool)
    rows[[3, 5]] = True
    pattern = engine.sigma_clip(frame, dark=dark, variance=variance)
    expected = engine.sigma_clip(frame, mask=rows, variance=np.ones(SHAPE))
    assert (pattern.sums == expected.sums).all()
    assert pattern.masked_pixels == expected.masked_pixels == 2 * SHAPE[1]


@pytest.mark.parametrize("treat", [lambda e, f, **k: e.sigma_clip(f, 3, **k), lambda e, f, **k: e.median(f, **k)])
def test_monitor_scales_and_decides_nothing(treat):
    engine, frame = integrator(), values_like("spikes", 14)
    one, seven = treat(engine, frame), treat(engine, frame, monitor=0.7)
    assert (one.count == seven.count).all()
    np.testing.assert_allclose(seven.intensity, one.intensity / 0.7, rtol=1e-14)
    np.testing.assert_allclose(seven.std, one.std / 0.7, rtol=1e-7, atol=1e-5)


def test_stack_is_its_frames_one_by_one():
    engine = integrator()
    frames = np.stack([values_like("spikes", seed) for seed in range(4)]).astype(np.uint32)
    monitors, variances = [1.0, 2.0, 0.5, 3.0], 1.0 + frames
    masks = np.random.default_rng(26).random(frames.shape) < 0.1
    for treat in (
        lambda f, **k: engine.sigma_clip(f, 4.0, **k),
        lambda f, **k: engine.quantile_mean(f, 0.1, 0.9, **k),
        lambda f, **k: engine.median(f, **k),
    ):
        patterns = treat(frames, monitor=monitors, variance=variances, mask=masks)
        assert len(patterns) == 4
        for k, pattern in enumerate(patterns):
            alone = treat(frames[k], monitor=monitors[k], variance=variances[k], mask=masks[k])
            assert (pattern.sums == alone.sums).all()
    assert engine.median(frames[:0]) == []
    assert len(engine.median(frames, variance=variances[0], monitor=2.0)) == 4


# ------------------------------------------------------------------------------------------------- patterns


def test_clipped_patterns_merge_by_adding_their_sums():
    engine = integrator()
    frames = [values_like("spikes", seed) for seed in range(3)]
    for treat in (engine.sigma_clip, engine.median, lambda f: engine.quantile_mean(f, 0.1, 0.9)):
        parts = [treat(frame) for frame in frames]
        merged = az.union(parts)
        np.testing.assert_allclose(merged.sums, sum(p.sums for p in parts), rtol=1e-14)
        assert merged.conditions == parts[0].conditions
        W, V = merged.sum_normalization, merged.sum_signal
        np.testing.assert_allclose(merged.intensity[merged.filled], (V / W)[merged.filled], rtol=1e-14)


def test_patterns_treated_differently_do_not_merge():
    engine, frame = integrator(), values_like("counts", 15)
    treated = [
        engine.integrate(frame),
        engine.sigma_clip(frame),
        engine.sigma_clip(frame, 4),
        engine.sigma_clip(frame, max_iter=4),
        engine.sigma_clip(frame, error_model="poisson"),
        engine.median(frame),
        engine.quantile_mean(frame, 0.1, 0.9),
        engine.quantile_mean(frame, 0.1, 0.8),
    ]
    for i, one in enumerate(treated):
        for j, other in enumerate(treated):
            if i != j:
                with pytest.raises(MergeError, match="outliers differs"):
                    one | other
            else:
                assert ((one | other).sums == 2 * one.sums).all()
    assert engine.quantile_mean(frame, 0.5, 0.5).conditions == engine.median(frame).conditions
    assert "sigma_clip threshold=5.0 max_iter=5 azimuthal" in engine.sigma_clip(frame).conditions.outliers


def test_hybrid_clips_by_scatter_and_reports_counting_statistics():
    engine, frame = integrator(), values_like("spikes", 16)
    azimuthal, hybrid = engine.sigma_clip(frame), engine.sigma_clip(frame, error_model="hybrid")
    assert (azimuthal.sums == hybrid.sums).all()
    assert (azimuthal.error_model, hybrid.error_model) == ("azimuthal", "poisson")
    np.testing.assert_array_equal(hybrid.sem, azimuthal.with_errors("poisson").sem)
    assert ((azimuthal | hybrid).sums == 2 * azimuthal.sums).all()


def test_quantiles_are_robust_where_means_are_not():
    engine = plain(10, shape=(100, 100))
    rng = np.random.default_rng(17)
    frame = rng.normal(100, 5, (100, 100))
    frame[rng.random(frame.shape) < 0.03] = 1e5
    for pattern in (engine.median(frame), engine.quantile_mean(frame, 0.1, 0.75), engine.sigma_clip(frame, 3, 50)):
        assert (np.abs(pattern.intensity - 100) < 3).all()
    assert (engine.integrate(frame).intensity > 1000).all()


@pytest.mark.parametrize("splitting", ["no", "full"])
def test_cells_of_a_cake_are_treated_one_by_one(splitting):
    engine = integrator(6, splitting=splitting, azimuth=az.AzimuthalBins(5, (-180, 180)))
    frame = values_like("spikes", 24)
    cake = clip(engine, frame, threshold=2.0)
    assert isinstance(cake, az.Cake)
    assert cake.sums.shape == (7, 5, 6)
    np.testing.assert_allclose(cake.sums.reshape(7, -1), clipped(engine, frame, threshold=2.0), rtol=1e-11, atol=1e-2)
    median = engine.median(frame)
    np.testing.assert_allclose(median.sums.reshape(7, -1), between(engine, frame, 0.5, 0.5), rtol=1e-11, atol=1e-2)
    frame[3, 3] = np.nan
    assert engine.median(frame).masked_pixels == 1


def test_nothing_dropped_is_plain_integration():
    engine, frame = integrator(splitting="full"), values_like("counts", 25).astype(np.uint16)
    expected = engine.integrate(frame, monitor=3.0)
    for pattern in (clip(engine, frame, threshold=50, monitor=3.0), engine.quantile_mean(frame, 0, 1, monitor=3.0)):
        np.testing.assert_allclose(pattern.sums, expected.sums, rtol=1e-12)
        assert (pattern.count == expected.count).all()


# ------------------------------------------------------------------------------------------------- threads


def test_result_does_not_depend_on_threads(monkeypatch):
    engine = integrator(50, shape=(600, 700))
    frame = np.random.default_rng(18).poisson(30, (600, 700)).astype(np.uint16)
    many = [engine.sigma_clip(frame, 2.5), engine.quantile_mean(frame, 0.1, 0.9), engine.median(frame)]
    monkeypatch.setenv("AZIMUTHAL_THREADS", "1")
    alone = [engine.sigma_clip(frame, 2.5), engine.quantile_mean(frame, 0.1, 0.9), engine.median(frame)]
    assert all((a.sums == b.sums).all() for a, b in zip(many, alone, strict=True))


def test_rings_do_not_see_each_other():
    """A pixel that is an outlier in one ring only stays in the other ones."""
    engine = integrator(15, splitting="full")
    frame = values_like("counts", 19)
    whole = clip(engine, frame, threshold=2.0)
    for r in (0, 6, 14):
        edges = engine.bins.edges[r : r + 2]
        alone = az.Integrator(geometry(), az.RadialBins("2th_deg", 1, tuple(edges)), splitting="full")
        np.testing.assert_allclose(clip(alone, frame, threshold=2.0).sums[:, 0], whole.sums[:, r], rtol=1e-5)


# ------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("threshold", [-1, -1e-300, np.nan, np.inf])
def test_threshold_that_means_nothing_is_refused(threshold):
    with pytest.raises(FrameError, match="threshold: "):
        SigmaClip(threshold)


@pytest.mark.parametrize("max_iter", [-1, 2.5, "3"])
def test_rounds_that_mean_nothing_are_refused(max_iter):
    with pytest.raises(FrameError, match="max_iter: "):
        SigmaClip(max_iter=max_iter)


@pytest.mark.parametrize("quantiles", [(-0.1, 0.5), (0.1, 1.1), (10, 90), (np.nan, 0.5), (0.5, np.nan), (0.9, 0.1)])
def test_quantiles_that_mean_nothing_are_refused(quantiles):
    with pytest.raises(FrameError, match="quantiles: "):
        Quantiles(*quantiles)


def test_other_mistakes_are_told_by_name():
    engine, frame = integrator(), values_like("counts", 20)
    with pytest.raises(
        FrameError, match="error_model: 'gaussian' does not exist; choose one of azimuthal, poisson, hy"
    ):
        engine.sigma_clip(frame, error_model="gaussian")
    with pytest.raises(FrameError, match="monitor: 2 values for one frame"):
        engine.median(frame, monitor=[1, 2])
    with pytest.raises(FrameError, match="monitor: 0.0 cannot normalize"):
        engine.median(frame, monitor=0)
    with pytest.raises(FrameError, match="monitor: 3 values for 2 frames"):
        engine.median(np.stack([frame, frame]), monitor=[1, 2, 3])
    with pytest.raises(FrameError, match="variance: 3 planes for 2 frames"):
        engine.median(np.stack([frame, frame]), variance=np.ones((3, *SHAPE)))
    with pytest.raises(FrameError, match="frame: shape"):
        engine.median(frame[:5])
    with pytest.raises(FrameError, match="mask: shape"):
        engine.median(frame, mask=[1, 0])


@pytest.mark.parametrize("splitting", ["bbox", "full"])
def test_sigma_clip_advises_against_splitting(splitting):
    engine = integrator(splitting=splitting)
    with pytest.warns(UserWarning, match=f"splitting '{splitting}' shares pixels") as told:
        engine.sigma_clip(values_like("counts", 21))
    assert told[0].filename == __file__
    engine.median(values_like("counts", 21))


# ------------------------------------------------------------------------------------------------- beside pyFAI

METHOD = ("no", "csr", "cython")
EPS32 = 1.0 + 2.0**-23
ASKED = (3.0, 40.0)


def beside_pyfai(unit_normalization, seed=22):
    """Return pyFAI's integrator, ours with its bins, and the keywords of pyFAI's calls."""
    place = az.Geometry(az.Detector.from_name("Eiger2 250k"), 0.06, 0.01, 0.012, 0.02, -0.03, 0.4, wavelength=1e-10)
    rotations = {"rot1": place.rot1, "rot2": place.rot2, "rot3": place.rot3}
    detector = detector_factory(place.detector.name)
    ai = AzimuthalIntegrator(place.distance, place.poni1, place.poni2, **rotations, detector=detector, wavelength=1e-10)
    mask = place.detector.mask | (np.random.default_rng(seed).random(place.shape) < 0.01)
    solid_angle, polarization = (None, None) if unit_normalization else ("relative", 0.99)
    bins = az.RadialBins("2th_deg", 200, (ASKED[0], ASKED[1] * EPS32))
    engine = az.Integrator(place, bins, splitting="no", mask=mask, solid_angle=solid_angle, polarization=polarization)
    call = {
        "unit": "2th_deg",
        "radial_range": ASKED,
        "method": METHOD,
        "mask": mask.astype(np.int8),
        "correctSolidAngle": not unit_normalization,
        "polarization_factor": polarization,
    }
    return ai, engine, call


def spotty_frame(shape, seed=22):
    rng = np.random.default_rng(seed)
    frame = rng.poisson(60, shape).astype(np.float32) + 1
    frame[rng.random(shape) < 0.005] += 900
    return frame


def compared(theirs, pattern, rings, rtol):
    """Compare sums and intensities ring by ring; bin 0 of pyFAI also holds the bin below the range."""
    inside = (np.arange(pattern.npt) > 0) & rings
    assert inside.sum() > 150
    np.testing.assert_allclose(theirs.count[inside], pattern.count[inside])
    for ours, name in (
        (pattern.sum_signal, "sum_signal"),
        (pattern.sum_normalization, "sum_normalization"),
        (pattern.sum_normalization2, "sum_normalization2"),
    ):
        np.testing.assert_allclose(getattr(theirs, name)[inside], ours[inside], rtol=rtol)
    np.testing.assert_allclose(theirs.intensity[inside], pattern.intensity[inside], rtol=3e-7)
    return inside


@pytest.mark.parametrize("threshold", [0.0, 3.0, 5.0])
@pytest.mark.parametrize("max_iter", [1, 2, 5])
@pytest.mark.parametrize("model", ["azimuthal", "poisson", "hybrid"])
def test_sigma_clip_is_that_of_pyfai_for_unit_normalization(threshold, max_iter, model):
    """Its streaming variance is the two-pass one there; no pixel is without counts, which its Poisson model floors."""
    ai, engine, call = beside_pyfai(unit_normalization=True)
    frame = spotty_frame(engine.shape)
    theirs = ai.sigma_clip(frame, 200, error_model=model, thres=threshold, max_iter=max_iter, **call)
    pattern = engine.sigma_clip(frame, threshold, max_iter, error_model=model)
    inside = compared(theirs, pattern, pattern.count >= 3, rtol=1e-12)
    np.testing.assert_allclose(theirs.sem[inside], pattern.sem[inside], rtol=3e-7)
    np.testing.assert_allclose(theirs.std[inside], pattern.std[inside], rtol=3e-7)
    assert pattern.count.sum() < engine.integrate(frame).count.sum()


@pytest.mark.parametrize("threshold", [0.0, 3.0, 5.0])
def test_poisson_clipping_is_that_of_pyfai_for_any_normalization(threshold):
    ai, engine, call = beside_pyfai(unit_normalization=False)
    frame = spotty_frame(engine.shape)
    theirs = ai.sigma_clip(frame, 200, error_model="poisson", thres=threshold, **call)
    pattern = engine.sigma_clip(frame, threshold, error_model="poisson")
    inside = compared(theirs, pattern, pattern.count >= 3, rtol=3e-7)
    np.testing.assert_allclose(theirs.sem[inside], pattern.sem[inside], rtol=3e-7)


@pytest.mark.parametrize("unit_normalization", [True, False])
@pytest.mark.parametrize("percentiles", [50, (10, 90), (20, 55), (0, 100)])
def test_quantiles_are_those_of_pyfai_where_there_are_no_ties(unit_normalization, percentiles):
    ai, engine, call = beside_pyfai(unit_normalization)
    frame = np.random.default_rng(23).permutation(np.arange(1, engine.shape[0] * engine.shape[1] + 1))
    frame = frame.reshape(engine.shape).astype(np.float32)
    theirs = ai.medfilt1d_ng(frame, 200, percentile=percentiles, error_model="poisson", **call)
    low, high = np.broadcast_to(percentiles, 2) / 100
    pattern = engine.quantile_mean(frame, low, high).with_errors("poisson")
    assert (theirs.count == pattern.count)[1:].mean() > 0.98
    # pyFAI's running sum is rounded to float32, and it selects nothing where an interval crosses one boundary.
    inside = compared(theirs, pattern, pattern.filled & (theirs.count == pattern.count), 1e-6)
    np.testing.assert_allclose(theirs.sem[inside], pattern.sem[inside], rtol=1e-6)
