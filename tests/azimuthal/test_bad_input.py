"""Bad input: the right answer or a clear error, never a wrong number."""

import warnings

import numpy as np
import pytest

import azimuthal as az
from azimuthal.errors import FrameError

SHAPE = (20, 24)
BINS = az.RadialBins("2th_deg", 9, (0.0, 16.0))
SPLITTINGS = ["no", "bbox", "full"]


def geometry():
    detector = az.Detector.from_name("detector", shape=SHAPE, pixel1=1e-3, pixel2=1e-3)
    return az.Geometry(detector, 0.08, 0.0102, 0.0115, wavelength=1e-10)


def integrator(splitting="no", bins=BINS, **keywords):
    return az.Integrator(geometry(), bins, splitting=splitting, **keywords)


def counts(seed=0, mean=30.0):
    return np.random.default_rng(seed).poisson(mean, SHAPE).astype(np.uint32)


def some(seed=1, part=0.1):
    return np.random.default_rng(seed).random(SHAPE) < part


def holds_the_same(one, two):
    np.testing.assert_allclose(one.sums, two.sums, rtol=1e-11, atol=1e-300)
    assert np.isfinite(one.sums).all()
    assert one.masked_pixels == two.masked_pixels


@pytest.mark.parametrize("splitting", SPLITTINGS)
@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["frame", "dark", "dark_variance", "variance"])
def test_values_that_are_not_finite_are_left_out(splitting, odd, where):
    pixels = some()
    frame, given = counts().astype(float), {}
    clean = {"dark": np.full(SHAPE, 2.0), "dark_variance": np.full(SHAPE, 0.5)} if "dark" in where else {}
    clean |= {"variance": np.full(SHAPE, 3.0)} if where == "variance" else {}
    given = {name: array.copy() for name, array in clean.items()}
    if where != "frame":
        given[where][pixels] = odd
    if where.endswith("variance") and odd < 0:
        with pytest.raises(FrameError, match=f"{where}: holds negative numbers"):
            integrator(splitting).integrate(frame, **given)
        return
    dirty = np.where(pixels, odd, frame) if where == "frame" else frame
    one = integrator(splitting)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        holds_the_same(one.integrate(dirty, **given), one.integrate(frame, mask=pixels, **clean))
        both = np.where(pixels, np.inf, frame)
        holds_the_same(one.integrate(both, **given), one.integrate(frame, mask=pixels, **clean))


@pytest.mark.parametrize("splitting", SPLITTINGS)
@pytest.mark.parametrize("odd", [0.0, np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("what", ["flat", "absorption"])
def test_flat_that_says_nothing_leaves_its_pixel_out(splitting, odd, what):
    pixels, flat = some(), np.random.default_rng(2).uniform(0.5, 1.5, SHAPE)
    dirty = np.where(pixels, odd, flat)
    if odd == -np.inf:
        with pytest.raises(FrameError, match=f"{what}: {pixels.sum()} pixels are negative; mask them"):
            integrator(splitting, **{what: dirty})
        return
    frame = counts()
    holds_the_same(
        integrator(splitting, **{what: dirty}).integrate(frame),
        integrator(splitting, **{what: flat}, mask=pixels).integrate(frame),
    )


def test_negative_flat_is_refused_unless_its_pixel_is_masked():
    pixels = some()
    flat = np.where(pixels, -1.0, 1.5)
    with pytest.raises(FrameError, match="flat: .* pixels are negative; mask them or set them to 0"):
        integrator(flat=flat)
    frame = counts()
    masked = integrator(flat=flat, mask=pixels).integrate(frame)
    holds_the_same(masked, integrator(flat=np.full(SHAPE, 1.5), mask=pixels).integrate(frame))


@pytest.mark.parametrize("splitting", SPLITTINGS)
def test_everything_left_out_is_an_empty_pattern(splitting):
    everything = np.ones(SHAPE, bool)
    empty = [
        integrator(splitting, mask=everything).integrate(counts()),
        integrator(splitting, flat=np.zeros(SHAPE)).integrate(counts()),
        integrator(splitting).integrate(counts(), mask=everything),
        integrator(splitting).integrate(np.full(SHAPE, np.nan)),
        integrator(splitting, dummy=7).integrate(np.full(SHAPE, 7)),
        integrator(splitting, bins=az.RadialBins("2th_deg", 5, (100.0, 120.0))).integrate(counts()),
        integrator(splitting, bins=az.RadialBins("2th_deg", 5, (-20.0, -10.0))).integrate(counts()),
    ]
    for pattern in empty:
        assert not pattern.sums.any()
        assert not pattern.filled.any()
        for model in ("azimuthal", "poisson"):
            other = pattern.with_errors(model)
            assert np.isnan([other.intensity, other.sem, other.std]).all()
        assert np.isnan([pattern.spottiness(), pattern.spottiness_error(), pattern.mean_excess]).all()
    for pattern in empty[:5]:
        assert pattern.masked_pixels == np.prod(SHAPE)


def test_pixel_alone_in_its_ring_has_no_scatter_and_a_counting_error():
    detector = az.Detector.from_name("detector", shape=(1, 12), pixel1=1e-3, pixel2=1e-3)
    g = az.Geometry(detector, 0.1, 5e-4, -1e-3)
    frame = np.arange(12)[None] ** 2
    pattern = az.Integrator(g, az.RadialBins("r_mm", 12, (1.0, 13.0)), splitting="no").integrate(frame)
    assert (pattern.count == 1).all()
    np.testing.assert_allclose(pattern.sum_signal, frame[0])
    assert (pattern.sem == 0).all()
    poisson = pattern.with_errors("poisson")
    np.testing.assert_allclose(poisson.sem, np.sqrt(np.maximum(frame[0], 1)) / poisson.sum_normalization)
    assert pattern.spottiness() == 0.0
    assert np.isnan(pattern.spottiness(excess=True)), "no ring with ten effective pixels"


@pytest.mark.parametrize("monitor", [0, 0.0, -1.0, np.nan, np.inf, "many", None, [1.0, 2.0], 1j])
def test_monitor_that_cannot_normalize_is_refused(monitor):
    with pytest.raises(FrameError, match="monitor: "):
        integrator().integrate(counts(), monitor=monitor)


@pytest.mark.parametrize("monitor", [[1.0, 2.0], [1.0, 0.0, 1.0], [1.0, np.nan, 1.0], np.ones((3, 1)), -1.0, ["a"] * 3])
def test_monitors_that_do_not_fit_a_stack_are_refused(monitor):
    with pytest.raises(FrameError, match="monitor: "):
        integrator().integrate(np.stack([counts()] * 3), monitor=monitor)


def test_stack_takes_masks_and_variances_of_its_frames():
    frames = np.stack([counts(seed) for seed in range(3)])
    masks = np.stack([some(seed) for seed in range(3)])
    variances = np.random.default_rng(0).uniform(1, 2, frames.shape)
    one = integrator("full")
    for k, pattern in enumerate(one.integrate(frames, mask=masks, variance=variances, monitor=[1, 2, 3])):
        holds_the_same(pattern, one.integrate(frames[k], mask=masks[k], variance=variances[k], monitor=k + 1.0))
    with pytest.raises(FrameError, match="mask: 2 planes for 3 frames"):
        one.integrate(frames, mask=masks[:2])
    assert one.integrate(frames[:0]) == []


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (np.zeros((24, 20)), r"shape \(24, 20\)"),
        (np.zeros(20), r"shape \(20,\)"),
        (True, r"shape \(\)"),
        (np.full(SHAPE, 0.5), "fractions or NaN"),
        (np.full(SHAPE, np.nan), "fractions or NaN"),
        (np.full(SHAPE, "x"), "dtype <U1 is not a real number"),
        (np.full(SHAPE, None), "dtype object"),
        (np.zeros(SHAPE, complex), "dtype complex128"),
    ],
)
def test_mask_of_wrong_shape_or_dtype_is_refused(mask, said):
    with pytest.raises(FrameError, match=f"mask: .*{said}"):
        integrator(mask=mask)
    with pytest.raises(FrameError, match=f"mask: .*{said}"):
        integrator().integrate(counts(), mask=mask)


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (1, "?"),
        (255, "u1"),
        (-1, "i1"),
        (256, "u2"),
        (300, "i2"),
        (-300, ">i4"),
        (2**31, "u8"),
        (300, "f4"),
        (256, "f8"),
    ],
)
def test_any_whole_number_masks(value, dtype):
    """pyFAI casts masks to int8, where 256 becomes 0."""
    mask = np.where(some(), value, 0).astype(dtype)
    frame = counts()
    expected = integrator(mask=some()).integrate(frame)
    np.testing.assert_array_equal(integrator(mask=mask).integrate(frame).sums, expected.sums)
    holds_the_same(integrator().integrate(frame, mask=mask), expected)


@pytest.mark.parametrize("what", ["frame", "mask", "flat", "dark"])
def test_masked_array_of_numpy_is_refused_rather_than_taken_without_its_mask(what):
    masked = np.ma.array(counts(), mask=some())
    frame = masked if what == "frame" else counts()
    keywords = {what: masked} if what in ("mask", "flat") else {}
    given = {what: masked} if what == "dark" else {}
    with pytest.raises(FrameError, match=f"{what}: a masked array of numpy"):
        integrator(**keywords).integrate(frame, **given)


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8", "g", "?"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("splitting", SPLITTINGS)
def test_frame_of_any_dtype_and_byte_order_and_layout_is_the_same(dtype, order, splitting):
    values = counts(mean=20.0) if dtype != "?" else counts(mean=0.5) > 0
    frame = values.astype(np.dtype(dtype).newbyteorder(order))
    expected = integrator(splitting).integrate(values.astype(float))
    layouts = [
        frame,
        np.asfortranarray(frame),
        np.repeat(frame, 2, axis=1)[:, ::2],
        frame[::-1, ::-1].copy()[::-1, ::-1],
    ]
    for layout in layouts:
        np.testing.assert_array_equal(integrator(splitting).integrate(layout).sums, expected.sums)
    for dark in (3, np.full(SHAPE, 3, np.uint16)):
        minus = integrator(splitting).integrate(frame, dark=dark)
        np.testing.assert_allclose(minus.sum_signal, expected.sum_signal - 3 * expected.count, rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize("splitting", SPLITTINGS)
@pytest.mark.parametrize("with_dark", [False, True])
def test_large_uint64_counts_are_not_seen_as_negative(splitting, with_dark):
    frame = counts().astype(np.uint64)
    huge = some(3, 0.02)
    frame[huge] = np.uint64(2**63 + 4096)
    given = {"dark": 0} if with_dark else {}
    expected = integrator(splitting).integrate(frame.astype(float), **given)
    holds_the_same(integrator(splitting).integrate(frame, **given), expected)
    assert expected.sum_signal.max() > 2.0**62
    for value in (2**63 + 4096, float(2**63 + 4096)):
        dummies = integrator(splitting, dummy=value).integrate(frame, **given)
        holds_the_same(dummies, integrator(splitting).integrate(frame, mask=huge, **given))


def test_uint64_dummies_at_the_maximum():
    frame = counts().astype(np.uint64)
    pixels = some(4, 0.05)
    frame[pixels] = np.iinfo(np.uint64).max
    expected = integrator().integrate(frame, mask=pixels)
    for dummy in (-1, 2**64 - 1, float(2**64)):
        holds_the_same(integrator(dummy=dummy).integrate(frame), expected)
    detector = az.Detector.from_name("Eiger2 250k")
    eiger = az.Integrator(az.Geometry(detector, 0.1, 0.02, 0.019), az.RadialBins("2th_deg", 1, (0, 30)), splitting="no")
    image = np.full(detector.shape, 3, np.uint64)
    image[0, :3] = [2**64 - 1, 2**64 - 2, 2**64 - 3]
    image[0, 3] = 2**64 - 4
    assert eiger.integrate(image).count[0] == image.size - 3
    assert eiger.integrate(image).sum_signal[0] == pytest.approx(2.0**64, rel=1e-12)


@pytest.mark.parametrize(("dummy", "dtype"), [(np.nan, "u4"), (np.inf, "i2"), (0.5, "u2"), (-1e30, "i4")])
def test_dummy_that_the_frame_cannot_hold_is_told(dummy, dtype):
    with pytest.raises(FrameError, match="dummy: .* (is no value of|does not fit)"):
        integrator(dummy=dummy, delta_dummy=1.0).integrate(counts().astype(dtype))


@pytest.mark.parametrize("delta", [-1.0, np.nan, np.inf])
def test_delta_dummy_that_is_no_tolerance_is_refused(delta):
    with pytest.raises(FrameError, match="delta_dummy: .* must be finite and at least 0"):
        integrator(dummy=1, delta_dummy=delta)


def test_dummy_of_a_half_precision_frame_is_taken_in_it():
    frame = np.full(SHAPE, 3, np.float16)
    frame[0, :4] = 0.1
    assert integrator(dummy=0.1).integrate(frame).count.sum() == integrator().integrate(frame).count.sum() - 4


@pytest.mark.parametrize(
    "frame",
    [np.zeros((3, 3)), np.zeros(20), np.float64(3), np.zeros((2, 2, *SHAPE)), np.zeros((2, 3, 3)), [[1, 2]], "x"],
)
def test_frame_of_wrong_shape_is_refused(frame):
    with pytest.raises(FrameError, match="frame: (shape|dtype)"):
        integrator().integrate(frame)


@pytest.mark.parametrize(
    "keywords",
    [
        {"gain": -1.0},
        {"gain": np.nan},
        {"read_noise": "loud"},
        {"polarization": 1.5},
        {"polarization": np.nan},
        {"polarization": (0.9, np.inf)},
        {"polarization": (0.9, 0.1, 0.2)},
        {"polarization": "horizontal"},
        {"solid_angle": "some"},
        {"solid_angle": True},
        {"splitting": "pseudo"},
        {"splitting": None},
        {"flat": np.ones((3, 3))},
        {"absorption": np.ones(3)},
        {"flat": np.full(SHAPE, 1j)},
    ],
)
def test_keyword_that_cannot_be_is_refused_by_name(keywords):
    (name,) = keywords
    with pytest.raises(ValueError, match=name.replace("_", "[ _]")):
        az.Integrator(geometry(), BINS, **keywords)


@pytest.mark.parametrize(
    "given_range", [(5, 5), (6, 5), (0, np.inf), (np.nan, 1), (1,), (1, 2, 3), "wide", 5, (None, 2)]
)
def test_range_that_is_none_is_refused(given_range):
    with pytest.raises(ValueError, match="range: "):
        az.RadialBins("2th_deg", 10, given_range)
