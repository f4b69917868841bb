"""Integration of frames: against naive sums, and the many ways in which a frame can be odd."""

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba.core.dispatcher import Dispatcher

import azimuthal as az
import naive
from azimuthal.errors import BinningError, FrameError

SHAPE = (40, 50)
RNG = np.random.default_rng(7)


def geometry(**changes):
    detector = az.Detector.from_name("detector", shape=SHAPE, pixel1=1e-3, pixel2=1e-3)
    parameters = {"distance": 0.1, "poni1": 0.011, "poni2": 0.0262, "rot1": 0.1, "rot2": -0.05, "rot3": 0.3}
    return az.Geometry(detector, wavelength=1e-10, **(parameters | changes))


def counts(seed=0, mean=40.0, dtype=np.uint32):
    return np.random.default_rng(seed).poisson(mean, SHAPE).astype(dtype)


def dense_shares(integrator):
    matrix = integrator.matrix
    dense = np.zeros((matrix.n_pixels, matrix.n_bins))
    csr = matrix.csr
    for r in range(matrix.n_bins):
        row = slice(csr.indptr[r], csr.indptr[r + 1])
        dense[csr.pixels[row], r] = csr.shares[row]
    return dense


def truth(integrator, signal, variance=None, left_out=None, monitor=1.0):
    signal = np.asarray(signal, float).ravel()
    variance = np.maximum(signal, 0) if variance is None else np.asarray(variance).ravel()
    left_out = np.zeros(signal.size, bool) if left_out is None else left_out.ravel()
    norm = integrator.normalization.ravel() * monitor
    return naive.sums(dense_shares(integrator), signal, norm, variance, left_out)


BINS = az.RadialBins("2th_deg", 60, (2.0, 25.0))


@pytest.mark.parametrize("splitting", ["no", "bbox", "full"])
@pytest.mark.parametrize("unit", ["2th_deg", "q_nm^-1"])
def test_sums_are_those_of_the_definition(splitting, unit):
    g = geometry()
    bins = az.RadialBins.covering(unit, 50, g)
    rng = np.random.default_rng(1)
    flat, absorption = rng.uniform(0.5, 1.5, SHAPE), rng.uniform(0.8, 1.0, SHAPE)
    mask = rng.random(SHAPE) < 0.05
    integrator = az.Integrator(g, bins, splitting=splitting, mask=mask, flat=flat, absorption=absorption)
    norm = flat * absorption * g.solid_angle("relative") * g.polarization(0.99)
    np.testing.assert_allclose(integrator.normalization, norm, rtol=1e-14)
    frame = counts()
    pattern = integrator.integrate(frame, monitor=3.0)
    np.testing.assert_allclose(pattern.sums, truth(integrator, frame, left_out=mask, monitor=3.0), rtol=1e-12)
    assert pattern.masked_pixels == mask.sum()
    shares = dense_shares(integrator)
    if splitting == "full":
        np.testing.assert_allclose(shares.sum(axis=1)[~mask.ravel()], 1.0, atol=1e-7)
    assert not shares[mask.ravel()].any()


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(["?", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8", ">u2", ">i4", ">f4"]),
    st.sampled_from(["C", "F", "strided"]),
)
def test_every_dtype_and_layout_gives_the_same_pattern(dtype, layout):
    integrator = az.Integrator(geometry(), BINS, splitting="no")
    values = counts(2, mean=0.4 if dtype == "?" else 20.0) if dtype != "?" else counts(2, mean=0.4) > 0
    frame = values.astype(dtype)
    if layout == "F":
        frame = np.asfortranarray(frame)
    elif layout == "strided":
        frame = np.repeat(frame, 2, axis=1)[:, ::2]
    np.testing.assert_array_equal(integrator.integrate(frame).sums, integrator.integrate(values.astype("f8")).sums)


def test_read_only_arrays_give_the_same_without_kernels_of_their_own():
    """As arrays are that come over a network, or from a file that is mapped into memory."""

    def read_only(array):
        array = array.copy()
        array.setflags(write=False)
        return array

    def results(arrays, splitting):
        frames, masks, dark, variance = arrays
        merger = az.MultiGeometry(BINS, splitting=splitting)
        merger.add(geometry(), frames)
        integrator, whole = (az.Integrator(geometry(), BINS, splitting=each) for each in (splitting, "no"))
        plane = {"dark": dark, "dark_variance": variance}
        return [
            merger.pattern,
            merger.mean_frame_pattern,
            integrator.integrate(frames[0], mask=masks[0]),  # without the matrix, which comes with the next
            *integrator.integrate(frames, mask=masks),
            integrator.integrate(frames[0]),
            integrator.integrate(frames[0], dark=1.0),
            integrator.integrate(frames[0], **plane),
            integrator.integrate(frames[0], variance=variance),
            whole.sigma_clip(frames[0], mask=masks[0]),
            whole.sigma_clip(frames[0], **plane),
            integrator.quantile_mean(frames[0], 0.1, 0.9),
            integrator.median(frames[0], **plane),
        ]

    def compiled():
        modules = [module for name, module in sys.modules.items() if name.partition(".")[0] == "azimuthal"]
        kernels = {each for module in modules for each in vars(module).values() if isinstance(each, Dispatcher)}
        return {(kernel.py_func.__qualname__, str(one)) for kernel in kernels for one in kernel.signatures}

    frames = np.stack([counts(seed) for seed in range(9)])
    frames[3, 5, 5] = 2**32 - 1
    arrays = frames, frames == 30, counts(9).astype(float), counts(10).astype(float)
    for splitting in ("no", "full"):
        expected = results(arrays, splitting)
        before = compiled()
        for one, other in zip(results([read_only(each) for each in arrays], splitting), expected, strict=True):
            np.testing.assert_array_equal(one.sums, other.sums)
        assert compiled() == before


def test_dark_is_subtracted_with_its_sign_and_its_variance_added():
    integrator = az.Integrator(geometry(), BINS, splitting="bbox", gain=2.0, read_noise=3.0)
    frame = counts(3, mean=5.0, dtype=np.uint16)
    dark, dark_variance = RNG.uniform(3, 9, SHAPE), RNG.uniform(0.1, 0.4, SHAPE)
    pattern = integrator.integrate(frame, dark=dark, dark_variance=dark_variance)
    variance = 2.0 * frame + 9.0 + dark_variance
    np.testing.assert_allclose(pattern.sums, truth(integrator, frame - dark, variance), rtol=1e-11, atol=1e-9)
    assert (integrator.integrate(np.full(SHAPE, 5, np.uint16), dark=7).sum_signal[5:10] < 0).all()


def test_given_variance_stands_for_all_others():
    integrator = az.Integrator(geometry(), BINS, splitting="no", read_noise=3.0)
    frame, variance = counts(4), RNG.uniform(1, 2, SHAPE)
    pattern = integrator.integrate(frame, variance=variance)
    np.testing.assert_allclose(pattern.sums, truth(integrator, frame, variance), rtol=1e-12)
    with pytest.raises(FrameError, match="variance: holds negative"):
        integrator.integrate(frame, variance=-variance)


@pytest.mark.parametrize("splitting", ["no", "bbox", "full"])
@pytest.mark.parametrize("fraction", [0.02, 0.5, 0.97, 1.0])
def test_frame_mask_leaves_what_a_static_mask_leaves(splitting, fraction):
    rng = np.random.default_rng(6)
    mask = rng.random(SHAPE) < fraction
    frame = counts(6)
    dynamic = az.Integrator(geometry(), BINS, splitting=splitting).integrate(frame, mask=mask)
    static = az.Integrator(geometry(), BINS, splitting=splitting, mask=mask).integrate(frame)
    np.testing.assert_allclose(dynamic.sums, static.sums, rtol=1e-12, atol=1e-300)
    assert (np.isnan(dynamic.intensity) == (static.count == 0)).all()


def test_not_finite_values_are_left_out():
    integrator = az.Integrator(geometry(), BINS)
    frame = counts(7, dtype=np.float32)
    odd = RNG.random(SHAPE) < 0.05
    frame[odd] = RNG.choice([np.nan, np.inf, -np.inf], odd.sum())
    clean = np.where(odd, 0, frame)
    np.testing.assert_array_equal(integrator.integrate(frame).sums, integrator.integrate(clean, mask=odd).sums)
    dark = np.zeros(SHAPE)
    dark[odd] = np.nan
    np.testing.assert_allclose(
        integrator.integrate(clean, dark=dark).sums, integrator.integrate(frame).sums, rtol=1e-12, atol=1e-300
    )


def eiger():
    detector = az.Detector.from_name("Eiger2 250k")
    return az.Geometry(detector, 0.1, 0.02, 0.019, wavelength=1e-10)


@pytest.mark.parametrize(
    ("dtype", "odd", "left_out"),
    [
        ("u4", [2**32 - 1, 2**32 - 2, 2**32 - 3], True),
        ("u4", [2**32 - 4, 65535, 0], False),
        ("u2", [65535, 65534, 65533], True),
        ("i4", [-1, -2, -3], True),
        ("i4", [-4, 0, 2**31 - 1], False),
        ("u8", [2**64 - 1, 2**64 - 3], True),
        ("f4", [-1.0, -2.0, -3.0], False),
    ],
)
def test_detector_dummies_apply_to_integer_frames_and_wrap(dtype, odd, left_out):
    """pyFAI leaves out -2 +- 1.5 of float frames too, which biases frames with the background subtracted."""
    integrator = az.Integrator(eiger(), az.RadialBins("2th_deg", 1, (0, 30)), splitting="no")
    frame = np.full(integrator.shape, 5, dtype)
    frame.ravel()[100 : 100 + len(odd)] = odd
    expected = frame.size - len(odd) if left_out else frame.size
    assert integrator.integrate(frame).count[0] == expected


@pytest.mark.parametrize(
    ("dtype", "dummy", "delta", "values", "n_left_out"),
    [
        ("u4", 65535, None, [65535, 65536, 2**32 - 1], 1),
        ("u2", -1, None, [65535, 65534], 1),
        ("u2", 65535, 2, [65535, 65533, 65532, 0, 1], 2),
        ("i4", -2, 1.5, [-1, -3, -4], 2),
        ("f4", -10.1, 1e-3, [-10.1, -10.2], 1),
        ("f4", 0.1, None, [np.float32(0.1), 0.1000001], 1),
        ("u1", 65535, None, [255, 0], 0),
    ],
)
def test_user_dummy_is_taken_in_the_dtype_of_the_frame(dtype, dummy, delta, values, n_left_out):
    integrator = az.Integrator(
        geometry(), az.RadialBins("2th_deg", 1, (0, 90)), splitting="no", dummy=dummy, delta_dummy=delta
    )
    frame = np.full(SHAPE, 7, dtype)
    frame.ravel()[: len(values)] = np.array(values, np.float64).astype(dtype)
    assert integrator.integrate(frame).count[0] == frame.size - n_left_out


def test_stack_is_its_frames_one_by_one():
    integrator = az.Integrator(geometry(), BINS)
    frames = np.stack([counts(seed) for seed in range(5)])
    monitors = [1.0, 2.0, 0.5, 3.0, 4.0]
    patterns = integrator.integrate(frames, monitor=monitors)
    for frame, monitor, pattern in zip(frames, monitors, patterns, strict=True):
        assert (pattern.sums == integrator.integrate(frame, monitor=monitor).sums).all()


def test_range_of_none_covers_every_vertex_and_begins_at_the_beam():
    g = geometry(rot1=0.0, rot2=0.0, rot3=0.0)
    bins = az.RadialBins("2th_deg", 10).resolved(g)
    vertices, _ = g.vertices("2th_deg")
    assert bins.range == (0.0, vertices.max())
    away = geometry(poni1=-0.02)
    assert az.RadialBins("2th_deg", 10).resolved(away).range[0] == away.vertices("2th_deg")[0].min() > 0
    both = az.RadialBins.covering("2th_deg", 10, [g, away])
    assert both.range == (0.0, max(g.vertices("2th_deg")[0].max(), away.vertices("2th_deg")[0].max()))


def test_bins_without_a_range_or_without_extent_are_refused():
    with pytest.raises(BinningError, match="no range yet"):
        _ = az.RadialBins("2th_deg", 10).edges
    with pytest.raises(BinningError, match="low < high"):
        az.RadialBins("2th_deg", 10, (5, 5))
    with pytest.raises(BinningError, match="npt: 0 bins"):
        az.RadialBins("2th_deg", 0)
    with pytest.raises(BinningError, match="no geometries"):
        az.RadialBins.covering("2th_deg", 10, [])


@pytest.mark.parametrize("monitor", [0.0, -1.0, np.nan, np.inf])
def test_monitor_that_cannot_normalize_is_refused(monitor):
    with pytest.raises(FrameError, match="monitor: "):
        az.Integrator(geometry(), BINS).integrate(counts(), monitor=monitor)


def test_wrong_shapes_and_dtypes_are_told_by_name():
    integrator = az.Integrator(geometry(), BINS)
    with pytest.raises(FrameError, match=r"frame: shape \(3, 4\) does not fit the detector's \(40, 50\)"):
        integrator.integrate(np.zeros((3, 4)))
    with pytest.raises(FrameError, match="frame: dtype complex128"):
        integrator.integrate(np.zeros(SHAPE, complex))
    with pytest.raises(FrameError, match="mask: shape"):
        az.Integrator(geometry(), BINS, mask=np.zeros((2, 2)))
    with pytest.raises(FrameError, match="mask: holds fractions"):
        az.Integrator(geometry(), BINS, mask=np.full(SHAPE, 0.5))
    with pytest.raises(FrameError, match="dark: shape"):
        integrator.integrate(counts(), dark=np.zeros(3))
    flat = np.ones(SHAPE)
    flat[3, 3] = -1
    with pytest.raises(FrameError, match="flat: 1 pixels are negative"):
        az.Integrator(geometry(), BINS, flat=flat)
    with pytest.raises(FrameError, match="polarization: factor 2"):
        az.Integrator(geometry(), BINS, polarization=2)
    with pytest.raises(FrameError, match="monitor: 2 values for one frame"):
        integrator.integrate(counts(), monitor=[1.0, 2.0])


def test_any_number_but_zero_masks():
    """pyFAI casts masks to int8, in which 256 is 0."""
    mask = np.zeros(SHAPE, np.int32)
    mask[:20] = 256
    integrator = az.Integrator(geometry(), BINS, mask=mask)
    assert integrator.masked_pixels == 20 * SHAPE[1]


def test_zero_flat_leaves_the_pixel_out():
    flat = np.ones(SHAPE)
    flat[:10], flat[10:12] = 0.0, np.nan
    integrator = az.Integrator(geometry(), BINS, flat=flat)
    static = az.Integrator(geometry(), BINS, mask=np.arange(SHAPE[0])[:, None] < np.full(SHAPE, 12))
    frame = counts()
    np.testing.assert_allclose(integrator.integrate(frame).sums, static.integrate(frame).sums, rtol=1e-13)


def test_all_pixels_masked_is_an_empty_pattern():
    pattern = az.Integrator(geometry(), BINS, mask=np.ones(SHAPE)).integrate(counts())
    assert not pattern.filled.any()
    assert np.isnan(pattern.intensity).all()
    assert np.isnan(pattern.spottiness())


def test_integrator_is_safe_to_share_between_threads():
    from concurrent.futures import ThreadPoolExecutor

    integrator = az.Integrator(geometry(), BINS)
    frames = [counts(seed) for seed in range(40)]
    alone = [integrator.integrate(frame).sums for frame in frames]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda frame: integrator.integrate(frame).sums, frames))
    assert all((a == b).all() for a, b in zip(alone, together, strict=True))
