"""The matrix in its two orders, and the sums over it, against dense numpy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import naive
from azimuthal.csr import PixelMatrix, kernels

N_BINS = 9
EDGES = np.linspace(0, 9, N_BINS + 1)


def random_matrix(seed, split):
    rng = np.random.default_rng(seed)
    pixels = 300
    centres = rng.uniform(-1, 10, pixels)
    if not split:
        bins = np.array([-1 if (r := naive.bin_of(x, EDGES)) is None else r for x in centres], np.int32)
        return PixelMatrix(N_BINS, bins), naive.shares_no(centres, np.zeros(pixels, bool), EDGES)
    dense = (
        np.rint(naive.shares_bbox(centres, rng.uniform(0, 2, pixels), np.zeros(pixels, bool), EDGES) * 2**24) / 2**24
    )
    indptr = np.concatenate([[0], np.cumsum((dense > 0).sum(axis=1))])
    _, bins = np.nonzero(dense)
    return PixelMatrix(N_BINS, bins.astype(np.int32), indptr, dense[dense > 0].astype(np.float32)), dense


@pytest.mark.parametrize("split", [False, True])
def test_bin_order_holds_the_same_shares(split):
    matrix, dense = random_matrix(0, split)
    rebuilt = np.zeros_like(dense)
    before = matrix.nbytes
    csr = matrix.csr
    assert matrix.nbytes == before + csr.indptr.nbytes + csr.pixels.nbytes + csr.shares.nbytes
    for r in range(N_BINS):
        row = slice(csr.indptr[r], csr.indptr[r + 1])
        assert (np.diff(csr.pixels[row]) > 0).all()
        rebuilt[csr.pixels[row], r] = csr.shares[row]
    assert (rebuilt == dense).all()
    assert matrix.n_pixels == len(dense)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.booleans(), st.sampled_from(["u2", "u4", "i4", "f4", "f8"]), st.booleans())
def test_raw_sums_and_what_a_frame_leaves_out(seed, split, dtype, with_mask):
    matrix, dense = random_matrix(seed, split)
    rng = np.random.default_rng(seed)
    frame = rng.poisson(20, len(dense)).astype(dtype)
    norm = rng.uniform(0.5, 2, len(dense))
    masked = rng.random(len(dense)) < 0.1 if with_mask else np.empty(0, bool)
    low, high = (18, 19) if frame.dtype.kind in "ui" else (17.5, 19.5)
    left_out = (frame >= low) & (frame <= high) | (masked if with_mask else False)
    sums, lost = np.zeros((7, N_BINS)), np.zeros(1, np.int64)
    common = (0, len(dense), frame, masked, low, high, norm)
    if split:
        kernels.add_raw_shared(*common, matrix.indptr, matrix.bins, matrix.shares, 1.5, 0.25, sums, lost)
    else:
        kernels.add_raw_whole(*common, matrix.bins, 1.5, 0.25, sums, lost)
    signal = frame.astype(float)
    truth = naive.sums(dense, signal, norm, 1.5 * signal + 0.25, left_out)
    everything = naive.sums(dense, signal, norm, signal, np.zeros(len(dense), bool))
    given_rows, taken_rows = [1, 4, 5, 6], [0, 2, 3]
    np.testing.assert_allclose(sums[given_rows], truth[given_rows], rtol=1e-12)
    np.testing.assert_allclose(everything[taken_rows] - sums[taken_rows], truth[taken_rows], rtol=1e-9, atol=1e-11)
    assert lost[0] == (left_out & (dense.sum(axis=1) > 0)).sum()


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("per_pixel", [False, True])
def test_prepared_sums(split, per_pixel):
    matrix, dense = random_matrix(5, split)
    rng = np.random.default_rng(5)
    signal, variance = rng.normal(3, 5, len(dense)), rng.uniform(1, 2, len(dense))
    signal[::17] = np.nan
    norm = rng.uniform(0.5, 2, len(dense))
    monitor = rng.integers(0, 3, len(dense)).astype(float) if per_pixel else np.array([2.0])
    sums = np.zeros((7, N_BINS))
    common = (0, len(dense), signal, variance, norm, monitor)
    if split:
        kernels.add_prepared_shared(*common, matrix.indptr, matrix.bins, matrix.shares, sums)
    else:
        kernels.add_prepared_whole(*common, matrix.bins, sums)
    truth = naive.sums(dense, signal, norm * monitor, variance, np.zeros(len(dense), bool))
    np.testing.assert_allclose(sums, truth, rtol=1e-12, atol=1e-12)
