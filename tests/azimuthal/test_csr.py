"""The matrix in its two orders, and the sums over it, against dense numpy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import naive
from azimuthal.csr import TiledMatrix, tiles
from azimuthal.csr.vectors import WIDTH
from azimuthal.integrator.summing import Corrections, Summing, Totals

N_BINS = 9
EDGES = np.linspace(0, 9, N_BINS + 1)
SHAPE = (41, 150)  # three rows of tiles, two side by side, none of them whole in both directions
NO_MASK = np.empty(0, bool)


def random_shares(seed, split, shape=SHAPE):
    """Return shares as (pixels, bins): of neighbouring bins, or of one bin a pixel; some pixels have none."""
    rng = np.random.default_rng(seed)
    pixels = shape[0] * shape[1]
    centres = rng.uniform(-1, 10, pixels)
    if not split:
        return naive.shares_no(centres, np.zeros(pixels, bool), EDGES)
    half = rng.uniform(0, 2, pixels)
    return np.rint(naive.shares_bbox(centres, half, np.zeros(pixels, bool), EDGES) * 2**24) / 2**24


def matrix_of(dense, split, shape=SHAPE):
    """Return our matrix from shares as (pixels, bins)."""

    def share(start, stop):
        here = dense[start:stop]
        indptr = np.concatenate([[0], np.cumsum((here > 0).sum(axis=1))])
        shares = here[here > 0].astype(np.float32) if split else np.empty(0, np.float32)
        return indptr, np.nonzero(here)[1].astype(np.int32), shares

    return TiledMatrix.of_pixels(shape, dense.shape[1], share)


def case(seed, split):
    dense = random_shares(seed, split)
    return matrix_of(dense, split), dense


@pytest.mark.parametrize("split", [False, True])
def test_bin_order_holds_the_same_shares(split):
    matrix, dense = case(0, split)
    rebuilt = np.zeros_like(dense)
    before = matrix.nbytes
    csr = matrix.csr
    assert matrix.nbytes == before + csr.nbytes
    for r in range(N_BINS):
        row = slice(csr.indptr[r], csr.indptr[r + 1])
        assert np.unique(csr.pixels[row]).size == csr.pixels[row].size
        rebuilt[csr.pixels[row], r] = csr.shares[row]
    assert (rebuilt == dense).all()
    assert matrix.n_pixels == len(dense)
    assert (matrix.used == dense.any(axis=1)).all()
    assert (csr.first_bins == np.where(dense.any(axis=1), (dense > 0).argmax(axis=1), -1)).all()


@pytest.mark.parametrize("split", [False, True])
def test_tiles_hold_each_bin_once_and_pixels_in_order(split):
    matrix, _ = case(1, split)
    for band in matrix.bands:
        assert (band.shares is None) is not split
        for t in range(band.tile_ptr.size - 1):
            assert (np.diff(band.row_bins[band.tile_ptr[t] : band.tile_ptr[t + 1]]) > 0).all()
        for r in range(band.row_bins.size):
            assert (np.diff(band.pixels[band.row_ptr[r] : band.row_ptr[r + 1]].astype(int)) > 0).all()


def test_bins_far_apart_in_a_tile_are_sorted_too():
    """A cake's tile has few of very many cells."""
    rng = np.random.default_rng(3)
    cells = rng.integers(0, 10**6, SHAPE[0] * SHAPE[1]).astype(np.int32)
    matrix = TiledMatrix.of_pixels(
        SHAPE, 10**6, lambda a, b: (np.arange(b - a + 1), cells[a:b], np.empty(0, np.float32))
    )
    assert (matrix.csr.first_bins == cells).all()
    counts = Summing(matrix, np.ones(cells.size), 1.0, 0.0).raw(np.ones(cells.size, np.uint8), NO_MASK, 1, 0)[0][0]
    assert (counts == np.bincount(cells, minlength=10**6)).all()


def test_bands_depend_on_the_image_alone():
    assert tiles.bands((2162, 2068), 2000)[-1] == (119, 136)
    assert len(tiles.bands((2162, 2068), 2000)) == tiles.MOST_BANDS
    assert tiles.bands((195, 487), 2000) == [(0, 13)]
    assert len(tiles.bands((2162, 2068), 360 * 2000)) == 1, "sums of many bands would fill memory"
    assert tiles.bands((1, 1), 1) == [(0, 1)]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.booleans(), st.sampled_from(["u1", "u2", "u4", "i2", "i4", "f4", "f8"]), st.booleans())
def test_raw_sums_and_what_a_frame_leaves_out(seed, split, dtype, with_mask):
    matrix, dense = case(seed % 5, split)
    rng = np.random.default_rng(seed)
    frame = rng.poisson(20, len(dense)).astype(dtype)
    if frame.dtype.kind != "u":
        frame -= 10  # negative counts have no Poisson variance
    norm = rng.uniform(0.5, 2, len(dense))
    masked = rng.random(len(dense)) < 0.1 if with_mask else NO_MASK
    low, high = (18, 19) if frame.dtype.kind in "ui" else (17.5, 19.5)
    left_out = (frame >= low) & (frame <= high) | (masked if with_mask else False)
    sums, lost = Summing(matrix, norm, 1.5, 0.5).raw(frame, masked, low, high)
    signal = frame.astype(float)
    truth = naive.sums(dense, signal, norm, 1.5 * np.maximum(signal, 0) + 0.25, left_out)
    np.testing.assert_allclose(sums, truth, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(sums[[1, 4, 5]], truth[[1, 4, 5]], rtol=1e-11, atol=1e-9)
    assert (sums[0] == truth[0]).all(), "shares are multiples of a quantum: N is exact"
    assert lost == (left_out & (dense.sum(axis=1) > 0)).sum()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.booleans(), st.sampled_from(["u2", "u4", "i4", "i8", "f4", "f8"]), st.booleans())
def test_a_batch_has_the_bits_of_its_frames(seed, split, dtype, with_mask):
    matrix, dense = case(seed % 5, split)
    rng = np.random.default_rng(seed)
    frames = rng.poisson(20, (WIDTH, len(dense))).astype(dtype)
    dead = rng.random(len(dense)) < 0.001
    frames[:, dead] = 3
    frames[2, ::97] = 3
    frames[5, : SHAPE[1] * 16] = 3  # whole tiles, so that bins lose most of what they had
    masked = rng.random((WIDTH, len(dense))) < 0.01 if with_mask else None
    summing = Summing(matrix, rng.uniform(0.5, 2, len(dense)), 1.5, 0.5)
    batch = summing.batch(frames, masked, 3, 3)
    for f, (sums, lost) in enumerate(batch):
        one, one_lost = summing.raw(frames[f], NO_MASK if masked is None else masked[f], 3, 3)
        assert one.tobytes() == sums.tobytes()
        assert one_lost == lost


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 10**6),
    st.booleans(),
    st.sampled_from([("u2", np.uint32), ("u4", np.uint32), ("i4", np.uint32), ("u4", np.int64)]),
    st.sampled_from([1, WIDTH]),
    st.booleans(),
)
def test_totals_are_summed_after_each_frame(seed, split, dtypes, count, follow):
    matrix, dense = case(seed % 5, split)
    dtype, wide = dtypes
    rng = np.random.default_rng(seed)
    frames = rng.poisson(20, (count, len(dense))).astype(dtype)
    dead = rng.random(len(dense)) < 0.01
    frames[:, dead] = 3
    before = rng.poisson(100, len(dense)).astype(wide)
    before[dead | ~matrix.used] = 0
    summing = Summing(matrix, rng.uniform(0.5, 2, len(dense)), 1.5, 0.0)
    totals = Totals(before.copy(), 4, dead, summing.weights_of(dead)[0], follow)
    if count == 1:
        results = [summing.raw(frames[0], NO_MASK, 3, 3, totals=totals)]
    else:
        results = summing.batch(frames, None, 3, 3, totals)
    counted = np.where((frames == 3) | ~matrix.used, 0, frames)
    assert (totals.counts == before + counted.sum(axis=0)).all()
    assert not totals.spoilt
    for f, (sums, lost) in enumerate(results):
        one, one_lost = summing.raw(frames[f], NO_MASK, 3, 3)
        assert (sums.tobytes(), lost) == (one.tobytes(), one_lost)
    assert len(totals.sums) == (count if follow else 0)
    for f, sums in enumerate(totals.sums):
        after = (before + counted[: f + 1].sum(axis=0)).astype(np.int64)
        assert summing.raw(after, dead, 1, 0, 5 + f)[0].tobytes() == sums.tobytes()


@pytest.mark.parametrize("count", [1, WIDTH])
@pytest.mark.parametrize(("value", "total"), [(1, 2**32 - 1), (2**31 - 1, 2**32 - 2**31 + 1), (-1, 5)])
def test_totals_tell_when_they_are_spoilt_and_wrap(count, value, total):
    matrix, dense = case(3, split=True)
    at = int(np.flatnonzero(matrix.used)[7])
    frames = np.zeros((count, len(dense)), np.int32)
    frames[-1, at] = value
    before = np.zeros(len(dense), np.uint32)
    before[at] = total
    totals = Totals(before.copy())
    summing = Summing(matrix, np.ones(len(dense)), 1.0, 0.0)
    summing.raw(frames[0], NO_MASK, 1, 0, totals=totals) if count == 1 else summing.batch(frames, None, 1, 0, totals)
    assert totals.spoilt
    assert int(totals.counts[at]) == (total + value) % 2**32


@pytest.mark.parametrize("follow", [False, True])
@pytest.mark.parametrize(
    ("value", "used", "spoilt"),
    [(2**29 - 1, True, False), (2**29, True, True), (2**32 - 4, True, True), (2**32 - 4, False, False)],
)
def test_totals_add_large_counts_of_a_batch_exactly_or_tell(value, used, spoilt, follow):
    matrix, dense = case(3, split=True)
    at = int(np.flatnonzero(matrix.used == used)[7])
    frames = np.zeros((WIDTH, len(dense)), np.uint32)
    frames[:, at] = value
    totals = Totals(np.zeros(len(dense), np.uint32), follow=follow)
    summing = Summing(matrix, np.ones(len(dense)), 1.0, 0.0)
    results = summing.batch(frames, None, 1, 0, totals)
    assert totals.spoilt == spoilt
    assert int(totals.counts[at]) == (WIDTH * value % 2**32 if used else 0)
    for frame, (sums, _) in zip(frames, results, strict=True):
        assert sums.tobytes() == summing.raw(frame, NO_MASK, 1, 0)[0].tobytes()


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("per_pixel", [False, True])
def test_corrected_sums(split, per_pixel):
    matrix, dense = case(5, split)
    rng = np.random.default_rng(5)
    pixels = len(dense)
    frame, dark = rng.poisson(20, pixels).astype(np.uint16), rng.poisson(25, pixels).astype(float)
    dark[::17] = np.nan
    norm = rng.uniform(0.5, 2, pixels)
    monitor = rng.integers(0, 3, pixels).astype(float) if per_pixel else np.array([2.0])
    spread = rng.uniform(1, 2, pixels) if per_pixel else np.array([0.75])
    summing = Summing(matrix, norm, 1.5, 0.5)
    left_out = ~np.isfinite(dark) | (frame == 20)
    weights = norm * monitor
    sums, lost = summing.corrected(frame, NO_MASK, 20, 20, Corrections(dark, spread, monitor=monitor))
    truth = naive.sums(dense, frame - dark, weights, 1.5 * frame + 0.25 + spread, left_out)
    np.testing.assert_allclose(sums, truth, rtol=1e-12, atol=1e-12)
    assert lost == (left_out & dense.any(axis=1)).sum()

    sums, _ = summing.corrected(frame, NO_MASK, 20, 20, Corrections(dark, spread, spread, monitor))
    truth = naive.sums(dense, frame - dark, weights, np.broadcast_to(spread, pixels), left_out)
    np.testing.assert_allclose(sums, truth, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("split", [False, True])
def test_some_pixels_with_their_own_monitors(split):
    matrix, dense = case(6, split)
    rng = np.random.default_rng(6)
    counts, norm = rng.poisson(20, len(dense)), rng.uniform(0.5, 2, len(dense))
    chosen = rng.permutation(len(dense))[:50]
    monitor = rng.integers(0, 3, 50).astype(float)
    everywhere = np.zeros(len(dense))
    everywhere[chosen] = monitor
    truth = naive.sums(dense, counts.astype(float), norm * everywhere, 1.5 * counts, everywhere == 0)
    sums = Summing(matrix, norm, 1.5, 0.0).some(chosen, counts, monitor)
    np.testing.assert_allclose(sums, truth, rtol=1e-12, atol=1e-12)
