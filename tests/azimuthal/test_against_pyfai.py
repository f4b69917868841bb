"""The engine beside the installed pyFAI: the same coefficients, sums and intensities for random geometries.

Where pyFAI is off, the test says how: its first bin also collects the bin below the range, its edge bins what `bbox`
has outside, `full` makes pixels on the edge whole, its azimuthal variance depends on the order of pixels.
"""

import warnings

import numpy as np
import pytest
from pyFAI.multi_geometry import MultiGeometry

import azimuthal as az
import naive
import pyfai_reference as reference

NPT = 800
EDGE = slice(3, -3)
"""Bins that no pixel on the edge of the range reaches."""
DETECTORS = ["Eiger 1M", "Pilatus 300k"]
SPLITTINGS = ["no", "bbox", "full"]


def case(name, seed, unit, splitting, orientation=3, **keywords):
    """Return a geometry, a frame without zero counts, pyFAI's numbers for it, our bins and our rounded matrix."""
    geometry = reference.random_geometry(name, seed, orientation)
    asked, ours = reference.common_range(geometry, unit)
    frame = reference.random_frame(geometry, seed, least=1)
    theirs = reference.integrate(geometry, frame, NPT, unit, asked, splitting, **keywords)
    bins = az.RadialBins(unit, NPT, ours)
    return geometry, frame, theirs, bins, reference.rounded(geometry, unit, bins.edges, splitting)


@pytest.mark.parametrize("splitting", SPLITTINGS)
@pytest.mark.parametrize(
    ("name", "seed", "unit", "orientation"),
    [
        ("Eiger 1M", 1, "q_nm^-1", 3),
        ("Eiger 1M", 3, "q_A^-1", 2),
        ("Pilatus 300k", 4, "q_nm^-1", 3),
        ("Pilatus 300k", 5, "2th_deg", 4),
        ("Pilatus 300k", 6, "2th_rad", 1),
    ],
)
def test_coefficients_and_sums_are_those_of_pyfai_given_its_vertices(name, seed, unit, orientation, splitting):
    geometry, frame, theirs, bins, matrix = case(name, seed, unit, splitting, orientation)
    ours = reference.bin_order(matrix)
    off = reference.differences(ours, theirs.matrix)
    if splitting == "full":
        assert (off <= 1.2e-7 + reference.buffer_rounding(geometry, unit, bins.edges)).all()
    else:
        assert off.max() <= {"no": 0.0, "bbox": 2e-7}[splitting]
    result = theirs.result
    for used, tolerance, of_intensity in (
        (theirs.matrix, 2e-7, 2e-7),
        (ours, {"no": 2e-7, "bbox": 2e-6, "full": 6e-5}[splitting], 2e-7 if splitting != "full" else 3e-6),
    ):
        sums = reference.sums(used, frame, geometry)
        for what, values in sums.items():
            np.testing.assert_allclose(values[EDGE], getattr(result, what)[EDGE], rtol=tolerance, err_msg=what)
        intensity = sums["sum_signal"] / sums["sum_normalization"]
        np.testing.assert_allclose(intensity[EDGE], result.intensity[EDGE], rtol=of_intensity)

    # As a user gets them, from positions that are not rounded.
    pattern = az.Integrator(geometry, bins, splitting=splitting).integrate(frame).with_errors("poisson")
    exact = 3e-7 if splitting == "no" else 3e-5
    np.testing.assert_allclose(pattern.intensity[EDGE], result.intensity[EDGE], rtol=exact)
    np.testing.assert_allclose(pattern.sem[EDGE], result.sem[EDGE], rtol=exact if splitting == "no" else 3e-4)
    np.testing.assert_allclose(pattern.radial, result.radial, rtol=3e-7)
    if splitting == "no":
        np.testing.assert_array_equal(pattern.count[1:], result.count[1:])
        np.testing.assert_allclose(pattern.sum_signal[1:], result.sum_signal[1:], rtol=1e-14)


@pytest.mark.parametrize(("name", "seed", "unit"), [("Eiger 1M", 3, "q_A^-1"), ("Pilatus 300k", 4, "q_nm^-1")])
def test_coefficients_where_pyfai_is_farthest_are_those_of_exact_polygons(name, seed, unit):
    """pyFAI adds up areas in float32; given the same vertices, the polygons themselves tell who is right."""
    geometry, _, theirs, bins, matrix = case(name, seed, unit, "full")
    ours = reference.bin_order(matrix)
    off = reference.differences(ours, theirs.matrix)
    worst = np.argsort(off)[-20:]
    internal = reference.INTERNAL[unit]
    rounded = [reference.four_corners(a.astype(np.float32).astype(float)) for a in geometry.vertices(internal)]
    edges = bins.edges * (az.radial_unit(internal).scale / az.radial_unit(unit).scale)
    exact = naive.shares_full(rounded[0][worst], rounded[1][worst], np.zeros(worst.size, bool), edges).T
    assert np.abs(ours[:, worst].toarray() - exact).max() < 1e-7
    assert np.abs(theirs.matrix[:, worst].toarray() - exact).max() > 3e-5


def test_first_bin_of_pyfai_collects_the_bin_below_the_range_and_ours_does_not():
    geometry, _, theirs, bins, _ = case("Pilatus 300k", 4, "q_nm^-1", "no")
    radial = geometry.radial("q_nm^-1")[~geometry.detector.mask]
    low, width = bins.range[0], (bins.range[1] - bins.range[0]) / NPT
    in_first = ((radial >= low) & (radial < bins.edges[1])).sum()
    below = ((radial > low - width) & (radial < low)).sum()
    ours = az.Integrator(geometry, bins, splitting="no").integrate(np.ones(geometry.shape))
    assert ours.count[0] == in_first
    assert below > 0
    assert theirs.result.count[0] == in_first + below


def test_edge_bins_of_pyfai_collect_what_bbox_has_outside_and_ours_do_not():
    _, _, theirs, _, matrix = case("Pilatus 300k", 4, "q_nm^-1", "bbox")
    ours = reference.bin_order(matrix)
    outside = ~reference.inside(ours) & (np.asarray(ours.sum(axis=0)).ravel() > 0)
    assert np.asarray(ours[:, outside].sum(axis=0)).max() < 1.0
    np.testing.assert_allclose(np.asarray(theirs.matrix[:, outside].sum(axis=0)), 1.0, rtol=1e-6)
    for end in (0, -1):
        assert theirs.matrix[[end]][:, outside].sum() > 1.2 * ours[[end]][:, outside].sum()


def test_pixels_on_the_edge_are_made_whole_by_pyfai_and_cut_by_us():
    _, _, theirs, _, matrix = case("Pilatus 300k", 4, "q_nm^-1", "full")
    ours = reference.bin_order(matrix)
    share = np.asarray(ours.sum(axis=0)).ravel()
    cut = np.flatnonzero((share > 1e-3) & (share < 0.999))
    assert cut.size > 100
    np.testing.assert_allclose(np.asarray(theirs.matrix[:, cut].sum(axis=0)).ravel(), 1.0, rtol=1e-6)
    scaled = theirs.matrix[:, cut] * share[None, cut]
    assert abs(scaled - ours[:, cut]).max() < 2e-4, "but for that they agree"


@pytest.mark.parametrize(("splitting", "least", "most"), [("no", 1e-5, 2e-2), ("full", 1e-3, 0.5)])
def test_azimuthal_variance_of_pyfai_is_off_where_weights_differ(splitting, least, most):
    """pyFAI takes pixels one by one and is exact for equal weights only; ours is the two-pass sum."""
    geometry, frame, theirs, bins, _ = case("Pilatus 300k", 7, "2th_deg", splitting, error_model="azimuthal")
    pattern = az.Integrator(geometry, bins, splitting=splitting).integrate(frame)
    some = np.flatnonzero(pattern.count > 5)[3:-3]
    off = np.abs(theirs.result.sum_variance[some] / pattern.sum_variance[some] - 1)
    assert least < off.max() < most


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("splitting", SPLITTINGS)
def test_spottiness_in_pyfai_form_is_calc_spottiness_given_the_same_variance(splitting, weighted):
    geometry = reference.random_geometry("Pilatus 300k", 8)
    texture = np.random.default_rng(9).gamma(0.5, 30, geometry.shape)
    frame = np.random.default_rng(8).poisson(texture).astype(np.uint32)
    asked = (0.0, 60.0)
    theirs = reference.integrate(geometry, frame, NPT, "2th_deg", asked, splitting, error_model="azimuthal").result
    bins = az.RadialBins("2th_deg", NPT, (0.0, 60.0 * reference.EPS32))
    pattern = az.Integrator(geometry, bins, splitting=splitting).integrate(frame)
    same = reference.with_their_sums(pattern, theirs)
    assert same.spottiness(weighted=weighted, pyfai=True) == pytest.approx(theirs.calc_spottiness(weighted), rel=1e-6)


def test_spottiness_of_equal_weights_needs_no_help():
    """There pyFAI's variance is the two-pass one."""
    geometry = reference.random_geometry("Pilatus 300k", 8)
    frame = reference.random_frame(geometry, 3)
    keywords = {"correctSolidAngle": False, "polarization_factor": None, "error_model": "azimuthal"}
    theirs = reference.integrate(geometry, frame, NPT, "2th_deg", (0.0, 60.0), "no", **keywords).result
    bins = az.RadialBins("2th_deg", NPT, (0.0, 60.0 * reference.EPS32))
    pattern = az.Integrator(geometry, bins, splitting="no", solid_angle=None, polarization=None).integrate(frame)
    for weighted in (False, True):
        ours = pattern.spottiness(weighted=weighted, pyfai=True)
        assert ours == pytest.approx(theirs.calc_spottiness(weighted), rel=1e-6)


@pytest.mark.parametrize("splitting", ["no", "full"])
def test_merge_of_geometries_is_that_of_pyfai(splitting):
    """Absolute solid angles, monitors and masks; pyFAI merges by the same sums of signal and normalization."""
    geometries = [reference.random_geometry("Pilatus 300k", seed) for seed in (11, 12, 13)]
    frames = [reference.random_frame(g, k, least=1) for k, g in enumerate(geometries)]
    monitors = [1.0, 2.5, 0.4]
    masks = [np.random.default_rng(k).random(g.shape) < 0.02 for k, g in enumerate(geometries)]
    asked = (5.0, 50.0)
    theirs = MultiGeometry([reference.pyfai_of(g) for g in geometries], unit="2th_deg", radial_range=asked)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = theirs.integrate1d(
            frames,
            NPT,
            error_model="poisson",
            polarization_factor=0.9,
            normalization_factor=monitors,
            lst_mask=[m | g.detector.mask for m, g in zip(masks, geometries, strict=True)],
            method=(splitting, "csr", "cython"),
        )
    merger = az.MultiGeometry(
        az.RadialBins("2th_deg", NPT, (asked[0], asked[1] * reference.EPS32)), splitting=splitting, polarization=0.9
    )
    for geometry, frame, monitor, mask in zip(geometries, frames, monitors, masks, strict=True):
        merger.add(geometry, frame, monitor=monitor, mask=mask)
    pattern = merger.pattern.with_errors("poisson")
    some = np.flatnonzero(pattern.count > 20)[3:-3]
    assert some.size > 500
    exact = splitting == "no"
    for name, tolerance in (
        ("count", 1e-12 if exact else 1e-3),
        ("sum_signal", 1e-12 if exact else 1e-3),
        ("sum_normalization", 3e-7 if exact else 1e-3),
        ("intensity", 3e-7 if exact else 1e-4),
        ("sem", 3e-7 if exact else 1e-3),
    ):
        ours, other = getattr(pattern, name)[some], getattr(result, name)[some]
        np.testing.assert_allclose(ours, other, rtol=tolerance, err_msg=name)


@pytest.mark.parametrize(
    ("splitting", "of_count", "of_intensity"), [("no", 0, 2e-7), ("bbox", 0.01, 1e-5), ("full", 0.3, 5e-3)]
)
@pytest.mark.parametrize("seed", [4, 7])
def test_cake_is_that_of_pyfai_but_for_its_edges(seed, splitting, of_count, of_intensity):
    """pyFAI pours the area of `full` into columns, which is not the area of polygons; the other ways agree."""
    geometry = reference.random_geometry("Pilatus 300k", seed)
    asked, ours = reference.common_range(geometry, "q_nm^-1")
    frame, low, high = reference.random_frame(geometry, seed), -170.0, 150.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = reference.pyfai_of(geometry).integrate2d(
            frame,
            200,
            36,
            unit="q_nm^-1",
            radial_range=asked,
            azimuth_range=(low, high),
            method=(splitting, "csr", "cython"),
            polarization_factor=0.99,
        )
    bins, azimuth = az.RadialBins("q_nm^-1", 200, ours), az.AzimuthalBins(36, (low, high * reference.EPS32))
    integrator = az.Integrator(geometry, bins, azimuth, splitting)
    cake = integrator.integrate(frame)
    some = cake.count > 5
    some[[0, -1]] = some[:, [0, -1]] = False
    if splitting == "full":
        # The first pixel's coefficients come from memory that pyFAI does not initialise.
        first = np.flatnonzero(integrator.used_pixels)[0]
        cells = np.unravel_index(
            np.flatnonzero(reference.bin_order(integrator.matrix)[:, [first]].toarray()), cake.shape
        )
        for a, r in zip(*cells, strict=True):
            some[max(a - 1, 0) : a + 2, max(r - 1, 0) : r + 2] = False
    np.testing.assert_allclose(cake.count[some], theirs.count[some], atol=of_count)
    np.testing.assert_allclose(cake.intensity[some], theirs.intensity[some], rtol=of_intensity)
    np.testing.assert_allclose(cake.azimuthal, theirs.azimuthal, atol=1e-9)
