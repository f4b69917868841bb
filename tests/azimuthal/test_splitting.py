"""Shares of bins against the dense truth of tests/naive.py."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import azimuthal as az
import naive
from azimuthal.bins import corners_of, poles_of
from azimuthal.errors import BinningError
from azimuthal.splitting import Corners, check_splitting, half_widths, share_bbox, share_full, share_whole

SHAPE = (12, 14)
QUANTUM = 2.0**-24


def plane(beam_row, beam_column, squeeze=0.0, shape=SHAPE):
    """Return vertex radii, vertex azimuths and centre radii of a flat grid of unit pixels around a beam."""
    y = np.arange(shape[0] + 1)[:, None] - beam_row + np.zeros(shape[1] + 1)
    x = np.arange(shape[1] + 1)[None, :] - beam_column + np.zeros((shape[0] + 1, 1))
    yc, xc = y[:-1, :-1] + 0.5, x[:-1, :-1] + 0.5
    stretch = 1.0 + squeeze
    return np.hypot(y, stretch * x), np.arctan2(y, stretch * x), np.hypot(yc, stretch * xc)


def four_corners(vertices):
    return np.stack([vertices[:-1, :-1], vertices[1:, :-1], vertices[1:, 1:], vertices[:-1, 1:]], -1)


def dense(matrix):
    """Return the matrix as (pixels, bins) through its bin order, checking that no pixel stands twice in a row."""
    out = np.zeros((matrix.n_pixels, matrix.n_bins))
    csr = matrix.csr
    for r in range(matrix.n_bins):
        row = slice(csr.indptr[r], csr.indptr[r + 1])
        assert np.unique(csr.pixels[row]).size == csr.pixels[row].size
        out[csr.pixels[row], r] = csr.shares[row]
    return out


beams = st.floats(-20, 30).filter(lambda x: abs(x - round(x)) > 1e-3)
ranges = st.tuples(st.floats(0, 10), st.floats(0.5, 25), st.integers(1, 120)).map(
    lambda t: np.linspace(t[0], t[0] + t[1], t[2] + 1)
)


@settings(max_examples=60, deadline=None)
@given(beams, beams, ranges, st.floats(-0.2, 0.2), st.integers(0, 2**31))
def test_shares_are_those_of_the_definition(row, column, edges, squeeze, seed):
    radial, azimuth, centres = plane(row, column, squeeze)
    skipped = np.random.default_rng(seed).random(SHAPE) < 0.1
    corners = Corners.from_vertices(radial, azimuth)
    half = half_widths(centres, corners)
    np.testing.assert_allclose(
        half, np.abs(four_corners(radial) - centres[..., None]).max(axis=-1), rtol=1e-15, atol=1e-15
    )

    assert (dense(share_whole(centres, skipped, edges)) == naive.shares_no(centres, skipped, edges)).all()
    bbox = dense(share_bbox(centres, half, skipped, edges))
    np.testing.assert_allclose(bbox, naive.shares_bbox(centres, half, skipped, edges), atol=1.1 * QUANTUM)
    full = dense(share_full(corners, skipped, edges))
    r, chi = four_corners(radial).reshape(-1, 4), four_corners(azimuth).reshape(-1, 4)
    np.testing.assert_allclose(full, naive.shares_full(r, chi, skipped, edges), atol=1.1 * QUANTUM + 1e-9)
    for shares in (bbox, full):
        assert (shares * 2.0**24 == np.rint(shares * 2.0**24)).all(), "shares are whole quanta"
        assert shares.min() >= 0
        assert shares.sum(axis=1).max(initial=0) <= 1.0


@pytest.mark.parametrize("beam", [(5.3, 6.7), (5.0, 6.0), (5.0, 6.5), (-3.0, 4.0)])
@pytest.mark.parametrize("npt", [1, 7, 400])
def test_shares_add_up_to_one_inside_the_range(beam, npt):
    radial, azimuth, centres = plane(*beam)
    corners = Corners.from_vertices(radial, azimuth)
    edges = np.linspace(0.0, 40.0, npt + 1)
    nothing = np.zeros(SHAPE, bool)
    for matrix in (
        share_bbox(centres, half_widths(centres, corners), nothing, edges),
        share_full(corners, nothing, edges),
    ):
        assert (dense(matrix).sum(axis=1) == 1.0).all()


def test_full_pixel_that_holds_the_beam_spans_zero_to_its_farthest_corner():
    radial, azimuth, _ = plane(0.75, 0.5, shape=(1, 1))
    edges = np.linspace(0.0, 1.0, 11)
    shares = dense(share_full(Corners.from_vertices(radial, azimuth), np.zeros((1, 1), bool), edges))[0]
    farthest = np.hypot(0.75, 0.5)
    np.testing.assert_allclose(shares[:9], 0.1 / farthest, atol=QUANTUM)
    np.testing.assert_allclose(shares[9], (farthest - 0.9) / farthest, atol=QUANTUM)


def test_full_pixel_with_a_corner_on_the_beam_fills_its_quarter_turn():
    radial, azimuth, _ = plane(0.0, 0.0, shape=(1, 1))
    edges = np.linspace(0.0, 2.0, 9)
    shares = dense(share_full(Corners.from_vertices(radial, azimuth), np.zeros((1, 1), bool), edges))[0]
    # Up to radius 1 the corner is a quarter turn wide; from there to sqrt(2) straight edges close it.
    whole = 1.0 + (np.sqrt(2) - 1.0) / 2
    np.testing.assert_allclose(shares[:4], 0.25 / whole, atol=QUANTUM)
    assert shares.sum() == 1.0


def test_full_pixel_across_the_discontinuity_is_not_torn():
    left = plane(5.5, 20.0)  # the row through y = 0 at negative x: azimuths jump from pi to -pi inside it
    right = plane(5.5, -20.0 + SHAPE[1])  # its mirror image
    edges = np.linspace(5.0, 25.0, 30)
    nothing = np.zeros(SHAPE, bool)
    a, b = (dense(share_full(Corners.from_vertices(p[0], p[1]), nothing, edges)) for p in (left, right))
    mirrored = b.reshape(*SHAPE, -1)[:, ::-1].reshape(a.shape)
    np.testing.assert_allclose(a, mirrored, atol=1.1 * QUANTUM)


def test_free_corners_give_what_shared_vertices_give():
    radial, azimuth, _ = plane(5.3, -6.7)
    edges = np.linspace(2.0, 15.0, 50)
    nothing = np.zeros(SHAPE, bool)
    shared = share_full(Corners.from_vertices(radial, azimuth), nothing, edges)
    free = share_full(Corners.from_corners(four_corners(radial), four_corners(azimuth)), nothing, edges)
    assert (dense(shared) == dense(free)).all()


def test_values_on_edges_belong_to_the_upper_bin_and_the_last_edge_to_the_last():
    edges = np.linspace(0.0, 0.3, 4)  # 0.1 and 0.2 are not representable: the edges themselves decide
    values = np.array([[0.0, edges[1], np.nextafter(edges[1], 0), edges[2], 0.3, np.nextafter(0.3, 1), -1e-300]])
    assert share_whole(values, np.zeros(values.shape, bool), edges).csr.first_bins.tolist() == [0, 1, 0, 2, 2, -1, -1]


def test_values_below_the_range_never_leak_into_the_first_bin():
    """pyFAI truncates towards zero: there, bin 0 also collects the bin below the range."""
    values = np.linspace(-0.99, 0.99, 199)[None]
    bins = share_whole(values, np.zeros(values.shape, bool), np.linspace(0.0, 3.0, 4)).csr.first_bins
    assert (bins[values[0] < 0] == -1).all()
    assert (bins[values[0] >= 0] == 0).all()


def test_unknown_splitting_is_refused_with_what_exists():
    with pytest.raises(BinningError, match="'pseudo' does not exist; choose one of no, bbox, full"):
        check_splitting("pseudo")


@pytest.mark.parametrize("name", ["Eiger2 CdTe 500k", "Pilatus 100k", "Xpad S540 flat"])
def test_corners_of_some_rows_at_a_time_give_the_same_matrix(name):
    geometry = az.Geometry(az.Detector.from_name(name), 0.1, 0.02, 0.03, rot1=0.2, wavelength=1e-10)
    edges, poles = np.linspace(0.0, 60.0, 201), poles_of(geometry, "2th_deg")
    whole = share_full(corners_of(geometry, "2th_deg"), geometry.detector.mask, edges, poles)
    parts = share_full(partial(corners_of, geometry, "2th_deg"), geometry.detector.mask, edges, poles)
    assert len(whole.bands) == len(parts.bands)
    for one, other in zip(whole.bands, parts.bands, strict=True):
        assert one.first_tile == other.first_tile
        assert all((a == b).all() for a, b in zip(one.arrays[1:], other.arrays[1:], strict=True))
    assert (whole.used == parts.used).all()
