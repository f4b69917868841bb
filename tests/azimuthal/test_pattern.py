"""Patterns against naive sums: intensity, errors, union, spottiness."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import naive
from azimuthal.errors import MergeError, PatternError
from azimuthal.pattern import Packed, Pattern, RunningUnion, grade, independent_frames, independent_frames_from, union
from azimuthal.pattern.spottiness import mean_scatter
from azimuthal.pattern.sums import Conditions

EDGES = np.linspace(0.0, 6.0, 7)
RNG = np.random.default_rng(11)


def frame(seed, *, pixels=240, counts=30.0, split=False, empty_last=False):
    """Return dense shares, signal and norm of a random frame."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform(-0.3, 5.0 if empty_last else 6.3, pixels)
    if split:
        shares = naive.shares_bbox(centres, rng.uniform(0.05, 0.9, pixels), np.zeros(pixels, bool), EDGES)
    else:
        shares = naive.shares_no(centres, np.zeros(pixels, bool), EDGES)
    return shares, rng.poisson(counts, pixels).astype(float), rng.uniform(0.5, 2.0, pixels)


def pattern_of(shares, signal, norm, left_out=None, **fields):
    nothing = np.zeros(signal.shape, bool) if left_out is None else left_out
    sums = naive.sums(shares, signal, norm, np.maximum(signal, 0.0), nothing)
    kind = {"conditions": Conditions("no"), "unit": "2th_deg", "edges": EDGES} | fields
    return Pattern(sums=sums, **kind)


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_azimuthal_variance_is_the_two_pass_sum(seed, split):
    shares, signal, norm = frame(seed, split=split)
    pattern = pattern_of(shares, signal, norm)
    truth = naive.two_pass_variance(shares, signal, norm, np.zeros(signal.shape, bool))
    np.testing.assert_allclose(pattern.sum_variance, truth, rtol=1e-9)
    np.testing.assert_allclose(pattern.intensity, pattern.sum_signal / pattern.sum_normalization)
    np.testing.assert_allclose(pattern.sem, np.sqrt(truth) / pattern.sum_normalization, rtol=1e-9)
    np.testing.assert_allclose(pattern.std, np.sqrt(truth / pattern.sum_normalization2), rtol=1e-9)


def test_variance_of_a_flat_ring_is_never_negative():
    shares, signal, norm = frame(1)
    pattern = pattern_of(shares, 12345.678 * norm, norm)
    assert (pattern.sum_variance >= 0).all()
    np.testing.assert_allclose(pattern.sem / pattern.intensity, 0, atol=1e-7)


def test_empty_bins_are_nan_everywhere_and_count_nowhere():
    pattern = pattern_of(*frame(2, empty_last=True))
    for array in (pattern.intensity, pattern.sem, pattern.std, pattern.spottiness_profile()):
        assert np.isnan(array[-1])
        assert np.isfinite(array[:-1]).all()
    assert pattern.sum_variance[-1] == 0
    assert not pattern.filled[-1]


def test_poisson_errors_come_from_the_same_sums():
    shares, signal, norm = frame(3)
    pattern = pattern_of(shares, signal, norm)
    poisson = pattern.with_errors("poisson")
    assert poisson.error_model == "poisson"
    assert pattern.error_model == "azimuthal"
    np.testing.assert_allclose(poisson.sum_variance, (shares**2 * signal[:, None]).sum(axis=0))
    np.testing.assert_allclose(poisson.sem, np.sqrt(poisson.sum_variance) / poisson.sum_normalization)
    with pytest.raises(PatternError, match="'hybrid' does not exist"):
        pattern.with_errors("hybrid")


def test_ring_without_counts_reports_the_poisson_error_of_one_count():
    shares, signal, norm = frame(4, counts=0.0)
    poisson = pattern_of(shares, signal, norm, gain=2.0).with_errors("poisson")
    assert (poisson.sum_variance == 0).all()
    np.testing.assert_allclose(poisson.sem, math.sqrt(2.0) / poisson.sum_normalization)
    np.testing.assert_allclose(poisson.std, np.sqrt(2.0 / poisson.sum_normalization2))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=6, unique=True), st.randoms(), st.booleans())
def test_union_is_the_pattern_of_all_pixels_in_any_order_and_grouping(seeds, random, split):
    frames = [frame(seed, split=split, counts=1 + seed % 50) for seed in seeds]
    patterns = [pattern_of(*one) for one in frames]
    shares, signal, norm = (np.concatenate(parts) for parts in zip(*frames, strict=True))
    together = pattern_of(shares, signal, norm)
    merged = union(patterns)
    np.testing.assert_allclose(merged.sums, together.sums, rtol=1e-12)
    truth = naive.two_pass_variance(shares, signal, norm, np.zeros(signal.shape, bool))
    np.testing.assert_allclose(merged.sum_variance, truth, rtol=1e-9, atol=1e-9)

    shuffled = list(patterns)
    random.shuffle(shuffled)
    cut = random.randint(0, len(patterns) - 1)
    regrouped = shuffled[cut]
    for other in shuffled[:cut] + shuffled[cut + 1 :]:
        regrouped = other | regrouped
    np.testing.assert_allclose(regrouped.sums, merged.sums, rtol=1e-12)


def test_union_adds_masked_pixels_and_forgets_a_wavelength_that_differs():
    one = pattern_of(*frame(1), masked_pixels=3, wavelength=1e-10)
    two = pattern_of(*frame(2), masked_pixels=4, wavelength=2e-10)
    assert (one | two).masked_pixels == 7
    assert (one | two).wavelength is None
    assert (one | one).wavelength == 1e-10


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"unit": "q_A^-1"}, r"unit differs \('2th_deg' and 'q_A\^-1'\)"),
        ({"edges": EDGES + 1e-9}, "edges differ .edge 0"),
        ({"conditions": Conditions("full")}, "splitting differs .'no' and 'full'"),
        ({"conditions": Conditions("no", solid_angle="absolute")}, "solid_angle differs"),
        ({"conditions": Conditions("no", polarization=(0.9, 0.0))}, "polarization differs"),
        ({"conditions": Conditions("no", parallax=True)}, "parallax differs"),
        ({"conditions": Conditions("no", outliers="sigma_clip 5")}, "outliers differs"),
    ],
)
def test_union_refuses_what_differs_by_name(changes, said):
    one, two = pattern_of(*frame(1)), pattern_of(*frame(2), **changes)
    with pytest.raises(MergeError, match=said):
        one | two
    with pytest.raises(ValueError, match="pattern 2 cannot be merged"):
        union([one, two])


def test_running_union_has_the_bits_of_the_union_whenever_it_is_read():
    patterns = [pattern_of(*frame(seed), wavelength=1e-10 if seed < 3 else None, gain=seed + 1.0) for seed in range(5)]
    running, read = RunningUnion(), []
    with pytest.raises(MergeError, match="no patterns given"):
        _ = running.pattern
    for k, pattern in enumerate(patterns):
        filled = np.flatnonzero(pattern.count)
        running.add(pattern, slice(filled[0], filled[-1] + 1) if k % 2 else slice(None))
        read.append(running.pattern)
        assert running.pattern is read[-1]
    for k, merged in enumerate(read):
        expected = union(patterns[: k + 1])
        assert merged.sums.tobytes() == expected.sums.tobytes(), "and stays so when others are added"
        assert (merged.gain, merged.wavelength, merged.masked_pixels) == (
            expected.gain,
            expected.wavelength,
            expected.masked_pixels,
        )
    with pytest.raises(MergeError, match="pattern 6 cannot be merged with the first one: unit differs"):
        running.add(replace(patterns[0], unit="q_nm^-1"))
    assert running.pattern is read[-1]
    assert running.patterns == 5


@pytest.mark.parametrize("span", [slice(None), slice(1, 5)])
def test_packed_pattern_comes_back_as_it_was(span):
    pattern = pattern_of(*frame(3), wavelength=1e-10, gain=2.0, masked_pixels=7)
    sums = np.zeros_like(pattern.sums)
    sums[:, span] = pattern.sums[:, span]
    pattern = replace(pattern, sums=sums)
    packed = Packed(pattern, span)
    again = packed.pattern
    assert packed.nbytes == sums[:, span].nbytes
    assert again.sums.tobytes() == sums.tobytes()
    for name in ("unit", "edges", "conditions", "error_model", "gain", "masked_pixels", "wavelength"):
        assert getattr(again, name) is getattr(pattern, name) or getattr(again, name) == getattr(pattern, name)


def test_union_of_nothing_is_refused():
    with pytest.raises(MergeError, match="no patterns"):
        union([])


def test_patterns_are_values():
    pattern = pattern_of(*frame(1))
    with pytest.raises(ValueError, match="read-only"):
        pattern.sum_signal[0] = 1
    other = pattern.with_sums(2 * pattern.sums, masked_pixels=5)
    assert other.masked_pixels == 5
    np.testing.assert_allclose(other.intensity, pattern.intensity)
    with pytest.raises(PatternError, match="does not fit 6 bins"):
        pattern.with_sums(np.zeros((7, 5)))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("excess", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_spottiness_is_that_of_the_definition(seed, excess, weighted):
    shares, signal, norm = frame(seed, empty_last=seed == 3, pixels=[30, 60, 240][seed % 3])
    signal *= np.random.default_rng(seed).lognormal(0, 0.5, signal.size)
    pattern = pattern_of(shares, signal, norm)
    variance = naive.two_pass_variance(shares, signal, norm, np.zeros(signal.shape, bool))
    _, V, W, Q, _, _, P = pattern.sums
    truth = naive.spottiness(V, W, Q, variance, P, weighted=weighted, excess=excess)
    np.testing.assert_allclose(pattern.spottiness(weighted=weighted, excess=excess), truth, rtol=1e-9)
    if not excess:
        in_pyfai = naive.pyfai_spottiness(V, W, variance, weighted=weighted)
        np.testing.assert_allclose(pattern.spottiness(weighted=weighted, pyfai=True), in_pyfai, rtol=1e-9)
    profile = pattern.spottiness_profile(excess=excess)
    counted = profile[np.isfinite(profile)]
    if not weighted and counted.size and counted.mean() > 0:
        np.testing.assert_allclose(np.sqrt(counted.mean()), truth, rtol=1e-9)


def test_spottiness_error_is_the_standard_error_of_the_mean_excess():
    shares, signal, norm = frame(5, pixels=600)
    pattern = pattern_of(shares, signal, norm)
    R, intensity = pattern.spottiness_profile(excess=True), pattern.intensity
    n = len(R)
    np.testing.assert_allclose(pattern.spottiness_error(), R.std(ddof=1) / np.sqrt(n))
    mean = np.average(R, weights=intensity)
    weighted = np.sqrt(n / (n - 1) * (intensity**2 * (R - mean) ** 2).sum()) / intensity.sum()
    np.testing.assert_allclose(pattern.spottiness_error(weighted=True), weighted)
    np.testing.assert_allclose(pattern.mean_excess, R.mean())


@pytest.mark.parametrize("seed", range(4))
def test_rings_that_do_not_count_stay_out_of_error_and_mean(seed):
    pattern = pattern_of(*frame(seed, pixels=80, counts=5.0, empty_last=True))
    R, intensity = pattern.spottiness_profile(excess=True), pattern.intensity
    counts = np.isfinite(R)
    assert 0 < counts.sum() < len(R)
    scatter, weights, n = R[counts], intensity[counts], int(counts.sum())
    mean = np.average(scatter, weights=weights)
    both = np.sqrt(np.maximum([scatter.mean(), mean], 0.0))
    np.testing.assert_allclose([pattern.spottiness(w, excess=True) for w in (False, True)], both, rtol=1e-12)
    if n < 2:
        assert math.isnan(pattern.spottiness_error())
    else:
        np.testing.assert_allclose(pattern.spottiness_error(), scatter.std(ddof=1) / np.sqrt(n), rtol=1e-12)
    in_columns = pattern.with_sums(np.asfortranarray(pattern.sums))
    assert in_columns.spottiness_numbers() == pattern.spottiness_numbers()


@pytest.mark.parametrize("seed", range(4))
def test_errors_have_the_same_bits_whether_spottiness_was_asked_before(seed):
    asked = pattern_of(*frame(seed, empty_last=seed == 3, pixels=[30, 60, 240][seed % 3], counts=[30.0, 0.1][seed % 2]))
    fresh = asked.with_sums(asked.sums)
    asked.spottiness_numbers()
    assert asked.azimuthal_variance.tobytes() == fresh.azimuthal_variance.tobytes()
    assert asked.sem.tobytes() == fresh.sem.tobytes()
    with pytest.raises(ValueError, match="read-only"):
        asked.azimuthal_variance[0] = 1.0


@pytest.mark.parametrize(("seed", "pixels", "counts"), [(0, 600, 30.0), (1, 60, 3.0), (2, 30, 0.1), (3, 240, 0.0)])
def test_all_numbers_at_once_have_the_bits_of_each(seed, pixels, counts):
    pattern = pattern_of(*frame(seed, pixels=pixels, counts=counts, split=seed % 2 == 0))
    numbers = pattern.spottiness_numbers()
    np.testing.assert_array_equal(
        [numbers.plain, numbers.weighted, numbers.excess, numbers.excess_weighted],
        [pattern.spottiness(weighted=w, excess=e) for e in (False, True) for w in (False, True)],
    )
    np.testing.assert_array_equal(numbers.excess_error, pattern.spottiness_error())
    np.testing.assert_array_equal(numbers.mean_excess, mean_scatter(pattern, weighted=False, excess=True))


def test_spottiness_of_a_smooth_powder_is_noise_alone_and_its_excess_zero():
    """400 counts a ring make S = 0.05 by themselves (DESIGN 3)."""
    rings, pixels = 400, 200
    rng = np.random.default_rng(0)
    edges = np.arange(rings + 1.0)
    signal = rng.poisson(2.0, (rings, pixels)).astype(float)
    N = np.full(rings, float(pixels))
    sums = np.array([N, signal.sum(1), N, N, signal.sum(1), (signal**2).sum(1), signal.sum(1)])
    pattern = Pattern("2th_deg", edges, sums, Conditions("no"))
    assert pattern.spottiness() == pytest.approx(0.05, rel=0.02)
    assert abs(pattern.mean_excess) < 3 * pattern.spottiness_error()
    assert pattern.spottiness(excess=True) < 0.012


def test_spottiness_without_counts_is_nan():
    pattern = pattern_of(*frame(6, counts=0.0))
    assert math.isnan(pattern.spottiness())
    assert math.isnan(pattern.spottiness(weighted=True, excess=True))
    assert math.isnan(pattern.spottiness_error())
    assert pattern.grade is None
    with pytest.raises(PatternError, match="no excess form"):
        pattern.spottiness(excess=True, pyfai=True)


def test_grades():
    assert [grade(x) for x in (0.0, 0.0499, 0.05, 0.15, 0.1501, math.nan)] == [
        "smooth",
        "smooth",
        "mild",
        "mild",
        "strong",
        None,
    ]


@pytest.mark.parametrize(("kept", "expected"), [(1.0, 1.0), (0.0, 40.0)])
def test_independent_frames_tells_static_from_fresh(kept, expected):
    rings, pixels, frames = 200, 400, 40
    rng = np.random.default_rng(3)
    edges = np.arange(rings + 1.0)

    def sums_of(signal, n):
        ones = np.full(rings, float(pixels))
        return np.array(
            [ones, signal.sum(1), n * ones, n**2 * ones, n * signal.sum(1), (signal**2).sum(1), signal.sum(1)]
        )

    still = rng.gamma(0.5, 2.0, (rings, pixels))
    each = []
    total = np.zeros((rings, pixels))
    for _ in range(frames):
        texture = kept * still + (1 - kept) * rng.gamma(0.5, 2.0, (rings, pixels))
        counts = rng.poisson(5.0 * texture).astype(float)
        total += counts
        each.append(Pattern("2th_deg", edges, sums_of(counts, 1.0), Conditions("no")))
    mean_frame = Pattern("2th_deg", edges, sums_of(total, float(frames)), Conditions("no"))
    assert independent_frames(each, mean_frame) == pytest.approx(expected, rel=0.06)
    values = [pattern.mean_excess for pattern in each]
    assert independent_frames_from(values, mean_frame) == independent_frames(each, mean_frame)


def test_independent_frames_of_a_smooth_powder_is_nothing_to_measure():
    rng = np.random.default_rng(5)
    shares, _, norm = frame(7, pixels=600)
    norm[:] = 1.0
    patterns = [pattern_of(shares, rng.poisson(5.0, 600).astype(float), norm) for _ in range(2)]
    smooth = pattern_of(shares, np.full(600, 5.0), norm)  # less scatter than counting explains
    with pytest.warns(UserWarning, match="nothing to measure"):
        assert math.isnan(independent_frames(patterns, smooth))
