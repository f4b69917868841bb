"""Shares of a cake's cells against the dense truth of tests/naive.py, above all where azimuths jump."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import naive
from azimuthal.bins import AzimuthalBins
from azimuthal.splitting import Corners, Poles, half_widths, share_full
from azimuthal.splitting.cake import Grid, cake_bbox, cake_full, cake_whole, half_azimuths

SHAPE = (9, 11)
QUANTUM = 2.0**-24
NOTHING = np.zeros(SHAPE, bool)


def plane(beam_row, beam_column, shape=SHAPE):
    """Return radii and azimuths of the vertices, then of the centres, of a grid of unit pixels around a beam."""
    y = np.arange(shape[0] + 1)[:, None] - beam_row + np.zeros(shape[1] + 1)
    x = np.arange(shape[1] + 1)[None, :] - beam_column + np.zeros((shape[0] + 1, 1))
    yc, xc = y[:-1, :-1] + 0.5, x[:-1, :-1] + 0.5
    return np.hypot(y, x), np.arctan2(y, x), np.hypot(yc, xc), np.arctan2(yc, xc)


def four_corners(vertices):
    return np.stack([vertices[:-1, :-1], vertices[1:, :-1], vertices[1:, 1:], vertices[:-1, 1:]], -1)


def dense(matrix, grid):
    """Return the matrix as (pixels, azimuthal, radial)."""
    out = np.zeros((matrix.n_pixels, matrix.n_bins))
    csr = matrix.csr
    bins = np.repeat(np.arange(matrix.n_bins), np.diff(csr.indptr))
    assert (csr.shares > 0).all(), "cells without a share are not stored"
    np.add.at(out, (csr.pixels, bins), csr.shares)
    assert np.unique(csr.pixels * matrix.n_bins + bins).size == bins.size, "no cell twice"
    return out.reshape(-1, grid.azimuthal.size - 1, grid.radial.size - 1)


def grid_of(n_radial, n_azimuthal, radial=(0.0, 12.0), azimuthal=(-180.0, 180.0)):
    return Grid(np.linspace(*radial, n_radial + 1), AzimuthalBins(n_azimuthal, azimuthal).edges, 360.0)


def all_splittings(beam, skipped, grid):
    """Return shares by our kernels and by naive ones, splitting by splitting."""
    radial, azimuth, centres, chi = plane(*beam)
    corners, edges = Corners.from_vertices(radial, azimuth), (grid.radial, grid.azimuthal)
    half, half_chi = half_widths(centres, corners), half_azimuths(chi, corners, Poles())
    r, c = four_corners(radial).reshape(-1, 4), four_corners(azimuth).reshape(-1, 4)
    degrees = chi * (180.0 / np.pi)
    return {
        "no": (cake_whole(centres, chi, skipped, grid), naive.cake_no(centres, degrees, skipped, *edges)),
        "bbox": (
            cake_bbox(centres, half, chi, half_chi, skipped, grid),
            naive.cake_bbox(centres, half, degrees, np.degrees(half_chi), skipped, *edges),
        ),
        "full": (cake_full(corners, skipped, grid), naive.cake_full(r, c, skipped, *edges)),
    }


beams = st.floats(-15, 25).filter(lambda x: abs(x - round(x)) > 1e-3 and abs(x - round(x)) != 0.5)
azimuths = st.tuples(st.floats(-180, 180), st.floats(1, 359), st.integers(1, 12)).map(
    lambda t: AzimuthalBins(t[2], (t[0], t[0] + t[1])).range + (t[2],)
) | st.integers(1, 12).map(lambda n: (-180.0, 180.0, n))


@settings(max_examples=40, deadline=None)
@given(beams, beams, azimuths, st.floats(0, 6), st.floats(0.5, 20), st.integers(1, 12), st.integers(0, 2**31))
def test_cake_shares_are_those_of_the_definition(row, column, azimuth, low, width, n, seed):
    grid = grid_of(n, azimuth[2], (low, low + width), azimuth[:2])
    skipped = np.random.default_rng(seed).random(SHAPE) < 0.1
    for name, (matrix, truth) in all_splittings((row, column), skipped, grid).items():
        shares = dense(matrix, grid)
        tolerance = 0.0 if name == "no" else 1.1 * QUANTUM + 1e-9
        np.testing.assert_allclose(shares, truth, rtol=0, atol=tolerance, err_msg=name)
        assert (shares * 2.0**24 == np.rint(shares * 2.0**24)).all(), "shares are whole quanta"
        assert shares.sum(axis=(1, 2)).max(initial=0) <= 1.0


@pytest.mark.parametrize("beam", [(4.3, 5.7), (4.0, 5.0), (4.0, 5.5), (4.5, 5.5), (-3.0, 4.0), (4.5, 20.0)])
@pytest.mark.parametrize("start", [-180.0, -90.0, 0.0, 33.3])
@pytest.mark.parametrize(("n_radial", "n_azimuthal"), [(1, 1), (5, 7), (60, 90)])
def test_cake_shares_add_up_to_one_on_the_full_turn(beam, start, n_radial, n_azimuthal):
    grid = grid_of(n_radial, n_azimuthal, (0.0, 40.0), (start, start + 360.0))
    for name, (matrix, _) in all_splittings_without_truth(beam, grid).items():
        assert (dense(matrix, grid).sum(axis=(1, 2)) == 1.0).all(), name


def all_splittings_without_truth(beam, grid):
    radial, azimuth, centres, chi = plane(*beam)
    corners = Corners.from_vertices(radial, azimuth)
    half, half_chi = half_widths(centres, corners), half_azimuths(chi, corners, Poles())
    return {
        "no": (cake_whole(centres, chi, NOTHING, grid), None),
        "bbox": (cake_bbox(centres, half, chi, half_chi, NOTHING, grid), None),
        "full": (cake_full(corners, NOTHING, grid), None),
    }


@pytest.mark.parametrize("beam", [(4.3, 5.7), (4.0, 5.0), (4.5, 20.0)])
def test_cake_full_summed_over_the_azimuth_is_the_pattern(beam):
    grid = grid_of(31, 8, (0.0, 9.0))
    radial, azimuth, _, _ = plane(*beam)
    corners = Corners.from_vertices(radial, azimuth)
    cake = dense(cake_full(corners, NOTHING, grid), grid).sum(axis=1)
    pattern = share_full(corners, NOTHING, grid.radial)
    line = dense(pattern, grid_of(31, 1, (0.0, 9.0)))[:, 0]
    np.testing.assert_allclose(cake, line, atol=3 * QUANTUM)


def test_cake_pixel_across_the_jump_is_shared_by_both_ends():
    beam = (4.5, 20.0)  # azimuths jump inside the pixels of row 4
    grid = grid_of(1, 36, (0.0, 40.0))
    for name, (matrix, _) in all_splittings_without_truth(beam, grid).items():
        rows = dense(matrix, grid)[:, :, 0].reshape(*SHAPE, -1)
        if name != "no":
            np.testing.assert_allclose(rows[4, :, 0], 0.5, atol=2 * QUANTUM, err_msg=name)
            np.testing.assert_allclose(rows[4, :, -1], 0.5, atol=2 * QUANTUM, err_msg=name)
        np.testing.assert_allclose(rows[0], rows[8][:, ::-1], atol=2 * QUANTUM, err_msg=name)


def test_cake_pixel_that_holds_the_beam_fills_the_turn():
    radial, azimuth, _, _ = plane(0.75, 0.5, shape=(1, 1))
    grid = grid_of(4, 8, (0.0, 1.0))
    matrix = cake_full(Corners.from_vertices(radial, azimuth), np.zeros((1, 1), bool), grid)
    farthest = np.hypot(0.75, 0.5)
    np.testing.assert_allclose(dense(matrix, grid)[0, :, :3], 0.25 / farthest / 8, atol=QUANTUM)


def test_cake_values_at_the_ends_of_the_turn_belong_to_it():
    radial, chi = np.ones((1, 3)), np.array([[np.pi, -np.pi * (1 - 1e-15), 0.0]])
    skipped = np.zeros((1, 3), bool)
    line = np.array([0.0, 2.0])
    cells = [
        cake_whole(radial, chi, skipped, Grid(line, AzimuthalBins(n, bounds).edges, 360.0)).csr.first_bins
        for n, bounds in ((4, (-180, 180)), (4, (0, 360)), (2, (-180, -170)), (2, (170, 180)), (2, (170, -170)))
    ]
    assert [found.tolist() for found in cells] == [[3, 0, 2], [2, 2, 0], [0, 0, -1], [1, -1, -1], [1, 1, -1]]


@pytest.mark.parametrize(
    ("given_range", "kept"),
    [
        ((170, -170), (170, 190)),
        ((150, 210), (150, 210)),
        ((150, -150), (150, 210)),
        ((-210, -150), (150, 210)),
        ((200, 250), (-160, -110)),
        ((0, 360), (0, 360)),
        ((180, 540), (-180, 180)),
        ((-180, 180), (-180, 180)),
        ((180, 190), (-180, -170)),
        ((90, -90), (90, 270)),
    ],
)
def test_azimuth_range_wraps(given_range, kept):
    bins = AzimuthalBins(4, given_range)
    assert bins.range == kept
    assert bins == AzimuthalBins(4, kept)
    np.testing.assert_allclose(bins.edges, np.linspace(*kept, 5))


@pytest.mark.parametrize("bad", [(10, 10), (0, 361), (-200, 200), (0, -361), (180, -180), (np.nan, 1), (0, np.inf)])
def test_azimuth_range_that_is_empty_or_over_a_turn_is_refused(bad):
    with pytest.raises(ValueError, match="azimuth range"):
        AzimuthalBins(4, bad)


@pytest.mark.parametrize("npt", [0, -1, 2.5, True, "x", None])
def test_azimuthal_bins_need_a_whole_number(npt):
    with pytest.raises(ValueError, match="npt: .* bins; give a whole number"):
        AzimuthalBins(npt)
