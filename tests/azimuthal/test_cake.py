"""Cakes and sectors, and patterns over the azimuth: integrated frames against naive sums."""

import warnings

import numpy as np
import pytest

import azimuthal as az
import naive
from azimuthal.errors import BinningError, MergeError, PatternError

SHAPE = (14, 17)
PIXEL = 2e-3
BINS = az.RadialBins("2th_deg", 12, (0.0, 14.0))


def geometry(**changes):
    detector = az.Detector.from_name("detector", shape=SHAPE, pixel1=PIXEL, pixel2=PIXEL)
    parameters = {"distance": 0.1, "poni1": 0.0113, "poni2": 0.0146, "rot3": 0.4}
    return az.Geometry(detector, wavelength=1e-10, **(parameters | changes))


def counts(seed=0, mean=40.0):
    return np.random.default_rng(seed).poisson(mean, SHAPE).astype(np.uint32)


def naive_shares(g, unit, edges, azimuth_edges, splitting, skipped):
    """Return dense shares (pixels, azimuthal, radial) from positions alone."""
    centres, chi = g.radial(unit), g.azimuth()
    corners, corner_chi = g.corners(unit)
    if splitting == "no":
        return naive.cake_no(centres, np.degrees(chi), skipped, edges, azimuth_edges)
    if splitting == "full":
        flat = corners.reshape(-1, 4), corner_chi.reshape(-1, 4)
        return naive.cake_full(*flat, skipped, edges, azimuth_edges)
    half = np.abs(corners - centres[..., None]).max(axis=-1)
    turned = np.abs((corner_chi - chi[..., None] + np.pi) % (2 * np.pi) - np.pi)
    extents = centres, half, np.degrees(chi), np.degrees(turned.max(axis=-1))
    return naive.cake_bbox(*extents, skipped, edges, azimuth_edges)


@pytest.mark.parametrize("splitting", ["no", "bbox", "full"])
@pytest.mark.parametrize("azimuth", [(8, (-180, 180)), (5, (170, -100)), (3, (0, 90)), (1, (20, -20)), (7, (90, 450))])
@pytest.mark.parametrize("unit", ["2th_deg", "q_A^-1"])
def test_cake_sums_are_those_of_the_definition(splitting, azimuth, unit):
    g = geometry()
    rng = np.random.default_rng(3)
    mask, flat = rng.random(SHAPE) < 0.05, rng.uniform(0.5, 1.5, SHAPE)
    bins, azimuth = az.RadialBins.covering(unit, 6, g), az.AzimuthalBins(*azimuth)
    integrator = az.Integrator(g, bins, azimuth, splitting, mask=mask, flat=flat)
    frame = counts()
    cake = integrator.integrate(frame, monitor=2.0)
    shares = naive_shares(g, unit, bins.edges, azimuth.edges, splitting, mask).reshape(frame.size, -1)
    signal = frame.ravel().astype(float)
    norm = 2.0 * integrator.normalization.ravel()
    truth = naive.sums(shares, signal, norm, signal, np.zeros(frame.size, bool)).reshape(cake.sums.shape)
    np.testing.assert_allclose(cake.sums, truth, rtol=1e-6, atol=1e-5)
    variance = naive.two_pass_variance(shares, signal, norm, np.zeros(frame.size, bool)).reshape(cake.shape)
    well = cake.count > 1e-3
    np.testing.assert_allclose(cake.sum_variance[well], variance[well], rtol=1e-5, atol=1e-3)
    assert cake.shape == cake.intensity.shape == (azimuth.npt, bins.npt)
    np.testing.assert_array_equal(cake.azimuthal_edges, azimuth.edges)
    np.testing.assert_allclose(cake.azimuthal, azimuth.edges[:-1] + np.diff(azimuth.edges) / 2)
    np.testing.assert_array_equal(cake.radial, 0.5 * (bins.edges[1:] + bins.edges[:-1]))
    assert cake.masked_pixels == mask.sum()


@pytest.mark.parametrize("splitting", ["no", "bbox", "full"])
def test_cake_summed_over_the_turn_is_the_pattern(splitting):
    frame, mask = counts(2), np.random.default_rng(4).random(SHAPE) < 0.1
    keywords = {"splitting": splitting}
    pattern = az.Integrator(geometry(), BINS, **keywords).integrate(frame, mask=mask)
    cake = az.Integrator(geometry(), BINS, az.AzimuthalBins(9), **keywords).integrate(frame, mask=mask)
    whole = quietly(cake.sector, -180, 180)
    np.testing.assert_allclose(whole.sums[:3], pattern.sums[:3], rtol=1e-6)
    np.testing.assert_allclose(whole.intensity, pattern.intensity, rtol=1e-6)
    if splitting == "no":
        np.testing.assert_allclose(whole.sums, pattern.sums, rtol=1e-13)
    else:
        assert (whole.sem <= pattern.sem * (1 + 1e-9)).all(), "shares of one pixel are taken for independent"


def quietly(function, *arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return function(*arguments)


def test_azimuth_range_of_one_row_cuts_pixels_by_their_share():
    """Two sectors that make up the turn hold every pixel exactly once, whatever their bounds cut through."""
    frame = counts(5)
    whole = az.Integrator(geometry(), BINS, splitting="full").integrate(frame)
    parts = []
    for bounds in ((33.3, -100.0), (-100.0, 33.3)):
        cake = az.Integrator(geometry(), BINS, az.AzimuthalBins(1, bounds), splitting="full").integrate(frame)
        parts.append(cake.sector(*bounds))
    for name in ("count", "sum_signal", "sum_normalization"):
        added = getattr(parts[0], name) + getattr(parts[1], name)
        np.testing.assert_allclose(added, getattr(whole, name), rtol=1e-6)


@pytest.mark.parametrize(
    ("bounds", "rows"),
    [
        ((0, 90), [4, 5]),
        ((-180, 180), [0, 1, 2, 3, 4, 5, 6, 7]),
        ((157.5, -112.5), [0, 7]),
        ((150, -150), [0, 7]),
        ((150, 210), [0, 7]),
        ((22.5, 67.5), [4]),
        ((0, 360), [0, 1, 2, 3, 4, 5, 6, 7]),
        ((-30, -20), [3]),
    ],
)
def test_sector_takes_whole_bins_by_their_centres(bounds, rows):
    cake = az.Integrator(geometry(), BINS, az.AzimuthalBins(8), splitting="no").integrate(counts(6))
    sector = cake.sector(*bounds)
    assert isinstance(sector, az.Pattern)
    np.testing.assert_allclose(sector.sums, cake.sums[:, rows].sum(axis=1), rtol=1e-14)
    np.testing.assert_array_equal(sector.edges, cake.edges)
    assert (sector.unit, sector.conditions) == (cake.unit, cake.conditions)


def test_sector_without_bins_or_sense_is_refused():
    cake = az.Integrator(geometry(), BINS, az.AzimuthalBins(4, (0, 90)), splitting="no").integrate(counts())
    with pytest.raises(PatternError, match=r"no azimuthal bin has its centre in \(100, 110\)"):
        cake.sector(100, 110)
    for bad in ((10, 10), (0, 400), (np.nan, 3)):
        with pytest.raises(ValueError, match="azimuth range"):
            cake.sector(*bad)


def test_sector_of_split_pixels_warns_that_errors_come_out_low():
    cake = az.Integrator(geometry(), BINS, az.AzimuthalBins(4), splitting="full").integrate(counts())
    with pytest.warns(UserWarning, match="sector: with splitting 'full' .* errors come out low"):
        cake.sector(0, 180)
    cake.sector(0, 90)  # one bin shares nothing with itself


def test_cakes_merge_and_are_refused_by_the_name_of_what_differs():
    integrator = az.Integrator(geometry(), BINS, az.AzimuthalBins(8), splitting="full")
    one, two = integrator.integrate(np.stack([counts(1), counts(2)]))
    np.testing.assert_array_equal((one | two).sums, one.sums + two.sums)
    same = az.Integrator(geometry(), BINS, az.AzimuthalBins(8, (180, 540)), splitting="full")
    assert (one | same.integrate(counts(3))).shape == (8, 12)
    other = az.Integrator(geometry(), BINS, az.AzimuthalBins(8, (0, 360)), splitting="full").integrate(counts(3))
    with pytest.raises(MergeError, match="azimuthal edges differ .edge 0"):
        one | other
    fewer = az.Integrator(geometry(), BINS, az.AzimuthalBins(4), splitting="full").integrate(counts(3))
    with pytest.raises(MergeError, match="azimuthal edges differ .8 and 4 bins"):
        one | fewer
    with pytest.raises(MergeError, match="kind differs .Cake and Pattern"):
        az.union([one, az.Integrator(geometry(), BINS, splitting="full").integrate(counts(3))])


def test_cakes_of_many_geometries_merge():
    merger = az.MultiGeometry(BINS, azimuth=az.AzimuthalBins(6), splitting="no")
    places = [geometry(), geometry(rot2=0.05)]
    patterns = [merger.add(place, counts(seed)) for seed, place in enumerate(places)]
    stack = merger.add(places[0], np.stack([counts(7), counts(8)]), mask=np.zeros((2, *SHAPE)))
    assert isinstance(patterns[0], az.Cake)
    np.testing.assert_allclose(merger.pattern.sums, az.union([*patterns, *stack]).sums, rtol=1e-13)
    assert merger.mean_frame_pattern.shape == (6, 12)


@pytest.mark.parametrize("azimuth", [(0, 90), 8, "all", az.RadialBins("2th_deg", 3)])
def test_azimuth_that_is_no_bins_is_refused(azimuth):
    with pytest.raises(BinningError, match=r"azimuth: .* is no AzimuthalBins"):
        az.Integrator(geometry(), BINS, azimuth)


def test_bins_that_are_no_bins_are_refused():
    with pytest.raises(BinningError, match="bins: 100 is no RadialBins"):
        az.Integrator(geometry(), 100)
    with pytest.raises(BinningError, match="azimuths already"):
        az.Integrator(geometry(), az.RadialBins("chi_deg", 10), az.AzimuthalBins(4))


@pytest.mark.parametrize("splitting", ["no", "bbox", "full"])
@pytest.mark.parametrize("bounds", [None, (-180, 180), (170, -90), (10, 80)])
@pytest.mark.parametrize("unit", ["chi_deg", "chi_rad"])
def test_pattern_over_the_azimuth_is_a_cake_with_one_radial_bin(splitting, bounds, unit):
    scale = 1.0 if unit == "chi_deg" else np.pi / 180
    given_range = None if bounds is None else tuple(scale * x for x in bounds)
    pattern = az.Integrator(geometry(), az.RadialBins(unit, 9, given_range), splitting=splitting).integrate(counts(9))
    azimuth = az.AzimuthalBins(9, bounds or (-180, 180))
    cake = az.Integrator(geometry(), az.RadialBins("2th_deg", 1, (0, 180)), azimuth, splitting=splitting)
    expected = cake.integrate(counts(9))
    np.testing.assert_allclose(pattern.sums, expected.sums[:, :, 0], rtol=2e-6, atol=1e-5)
    np.testing.assert_allclose(pattern.edges / scale, azimuth.edges)
    assert isinstance(pattern, az.Pattern)
    if bounds in (None, (-180, 180)):
        assert pattern.count.sum() == SHAPE[0] * SHAPE[1]


def test_azimuths_covered_are_those_of_the_vertices_or_the_full_turn():
    away = geometry(poni1=-0.02, poni2=-0.02, rot3=0.0)
    chi = away.corners("2th_deg")[1]
    low, high = az.RadialBins("chi_deg", 5).resolved(away).range
    np.testing.assert_allclose((low, high), (np.degrees(chi.min()), np.degrees(chi.max())))
    assert az.RadialBins("chi_deg", 5).resolved(geometry()).range == (-180.0, 180.0)
    assert az.RadialBins.covering("chi_rad", 5, [geometry(rot3=0.0, poni2=0.1)]).range == (-np.pi, np.pi)
