"""Every radial unit in every splitting, above all where units have no azimuth or diverge: at the beam."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import azimuthal as az
import naive
from azimuthal.units import radial_unit, radial_unit_names

SHAPE = (8, 9)
UNITS = [name for name in radial_unit_names() if radial_unit(name).kind != "chi"]
DIVERGING = [name for name in UNITS if not radial_unit(name).nonnegative]


def geometry(**changes):
    detector = az.Detector.from_name("detector", shape=SHAPE, pixel1=4e-3, pixel2=5e-3)
    parameters = {"distance": 0.1, "poni1": 0.0131, "poni2": 0.0216, "rot1": 0.05, "rot2": -0.03, "rot3": 0.3}
    return az.Geometry(detector, wavelength=1e-10, **(parameters | changes))


def dense(integrator):
    matrix, n = integrator.matrix, integrator.bins.npt
    out = np.zeros((matrix.n_pixels, n))
    for r in range(n):
        row = slice(matrix.csr.indptr[r], matrix.csr.indptr[r + 1])
        out[matrix.csr.pixels[row], r] = matrix.csr.shares[row]
    return out


def around_beam(chi):
    return np.array([abs(naive.unwrapped(list(pixel))[1]) > 0.5 for pixel in chi.reshape(-1, 4)])


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(UNITS),
    st.sampled_from(["no", "bbox", "full"]),
    st.floats(-0.05, 0.08),
    st.floats(-0.05, 0.08),
    st.floats(-3, 3),
    st.integers(1, 9),
)
def test_shares_over_any_unit_are_those_of_the_definition(unit, splitting, poni1, poni2, rot3, npt):
    g = geometry(poni1=poni1, poni2=poni2, rot3=rot3)
    centres, (corners, chi) = g.radial(unit), g.corners(unit)
    bins = az.RadialBins(unit, npt, (float(np.median(centres)) - 0.1, float(corners.max())))
    integrator = az.Integrator(g, bins, splitting=splitting)
    edges, nothing = integrator.bins.edges, np.zeros(SHAPE, bool)
    if splitting == "no":
        truth = naive.shares_no(centres, nothing, edges)
    elif splitting == "bbox":
        half = np.abs(corners - centres[..., None]).max(axis=-1)
        truth = naive.shares_bbox(centres, half, nothing, edges, 0.0 if radial_unit(unit).nonnegative else None)
    else:
        at_beam = around_beam(chi) if unit in DIVERGING else np.zeros(chi[..., 0].size, bool)
        truth = naive.shares_full(corners.reshape(-1, 4), chi.reshape(-1, 4), at_beam, edges)
    np.testing.assert_allclose(dense(integrator), truth, atol=1e-6)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("splitting", ["no", "bbox", "full"])
def test_range_of_none_holds_every_pixel(unit, splitting):
    """Logarithms diverge at the beam: there the pixel that holds it has no finite extent, and is in no bin."""
    g = geometry()
    bins = az.RadialBins(unit, 20).resolved(g)
    corners, chi = g.corners(unit)
    assert bins.range[1] == corners.max()
    assert bins.range[0] == (0.0 if radial_unit(unit).nonnegative else corners.min())
    shares = dense(az.Integrator(g, bins, splitting=splitting)).sum(axis=1)
    held = around_beam(chi)
    assert held.sum() == 1
    np.testing.assert_allclose(shares[~held], 1.0, atol=1e-6 if splitting != "bbox" else 1.0)
    if unit in DIVERGING and splitting == "full":
        assert shares[held] == 0.0
    elif unit not in DIVERGING and splitting != "bbox":
        assert shares[held] == 1.0


@pytest.mark.parametrize("unit", DIVERGING)
def test_logarithm_with_the_beam_on_a_vertex_or_a_centre(unit):
    pixel = 2.0**-8  # so that the beam is there exactly
    detector = az.Detector.from_name("detector", shape=SHAPE, pixel1=pixel, pixel2=pixel)
    on_vertex, on_centre = (az.Geometry(detector, 0.1, x * pixel, x * pixel, wavelength=1e-10) for x in (4.0, 4.5))
    with pytest.raises(ValueError, match=f"range: {unit.split('(')[0]}.* diverges on the detector .*give a range"):
        az.Integrator(on_vertex, az.RadialBins(unit, 10))
    for g, lost in ((on_vertex, {"no": 0, "bbox": 4, "full": 4}), (on_centre, {"no": 1, "bbox": 1, "full": 1})):
        finite = g.corners(unit)[0][np.isfinite(g.corners(unit)[0])]
        bins = az.RadialBins(unit, 10, (finite.min() - 5.0, finite.max() + 5.0))
        for splitting, expected in lost.items():
            integrator = az.Integrator(g, bins, splitting=splitting)
            assert np.isfinite(integrator.integrate(np.ones(SHAPE)).sums).all()
            shares = dense(integrator).sum(axis=1)
            assert (shares == 0).sum() == expected, (splitting, g is on_vertex)


@pytest.mark.parametrize("unit", ["q_A^-1", "2th_deg", "arcsinh(q.nm)_None", "log(1+q.A)_None", "d*2_A^-2", "r_mm"])
@pytest.mark.parametrize("splitting", ["bbox", "full"])
def test_beam_on_a_vertex_keeps_every_pixel_whole(unit, splitting):
    g = geometry(poni1=0.016, poni2=0.02, rot1=0.0, rot2=0.0)
    integrator = az.Integrator(g, az.RadialBins(unit, 15), splitting=splitting)
    assert integrator.bins.range[0] == 0.0
    expected = 1.0 if splitting == "full" else integrator.integrate(np.ones(SHAPE)).count.sum() / np.prod(SHAPE)
    np.testing.assert_allclose(dense(integrator).sum() / np.prod(SHAPE), expected, rtol=1e-6)
    cake = az.Integrator(g, integrator.bins, az.AzimuthalBins(5), splitting).integrate(np.ones(SHAPE))
    np.testing.assert_allclose(cake.count.sum(axis=0), integrator.integrate(np.ones(SHAPE)).count, atol=1e-5)


@pytest.mark.parametrize(("unit", "pole"), [("2th_deg", 180.0), ("2th_rad", math.pi), ("q_A^-1", 4 * math.pi)])
def test_pixel_around_the_beam_behind_the_sample_reaches_to_backscattering(unit, pole):
    """A detector behind the sample: the pixel that the incoming beam goes through ends at 180 degrees, not at 0."""
    g = geometry(rot1=math.pi, rot2=0.0, rot3=0.0)
    bins = az.RadialBins(unit, 40).resolved(g)
    corners, chi = g.corners(unit)
    held = around_beam(chi)
    assert held.sum() == 1
    assert bins.range[0] == corners.min() > 0
    assert bins.range[1] == pytest.approx(pole, rel=1e-12)
    shares = dense(az.Integrator(g, bins, splitting="full"))
    np.testing.assert_allclose(shares.sum(axis=1), 1.0, atol=1e-6)
    nearest = corners.reshape(-1, 4)[held].min()
    np.testing.assert_allclose(shares[held][0], naive.interval_shares(nearest, bins.range[1], bins.edges), atol=1e-6)
    cake = az.Integrator(g, bins, az.AzimuthalBins(6), "full").integrate(np.ones(SHAPE))
    np.testing.assert_allclose(cake.count.sum(axis=0), shares.sum(axis=0), atol=1e-5)


def test_unit_that_needs_a_wavelength_says_so():
    with pytest.raises(ValueError, match="needs a wavelength"):
        az.Integrator(geometry().__class__(geometry().detector, 0.1, 0.0, 0.0), az.RadialBins("q_A^-1", 10, (0, 5)))
    with pytest.raises(ValueError, match="unknown radial unit"):
        az.RadialBins("q", 10)


def test_values_outside_belong_to_no_bin_and_the_last_edge_to_the_last():
    """Half open bins, in every splitting: what a pixel has outside is dropped, not put into the edge bins."""
    g = geometry(rot1=0.0, rot2=0.0, rot3=0.0)
    centres = g.radial("r_mm")
    edges = np.sort(np.unique(centres.round(9)))[[10, 20, 30]]
    low, middle = float(edges[0]), float(edges[1])
    integrator = az.Integrator(g, az.RadialBins("r_mm", 2, (low, 2 * middle - low)), splitting="no")
    exact = integrator.bins.edges
    expected = [
        ((centres >= exact[0]) & (centres < exact[1])).sum(),
        ((centres >= exact[1]) & (centres <= exact[2])).sum(),
    ]
    assert integrator.integrate(np.ones(SHAPE)).count.tolist() == expected
    for splitting in ("bbox", "full"):
        shares = dense(az.Integrator(g, integrator.bins, splitting=splitting)).sum(axis=1)
        corners = g.corners("r_mm")[0].reshape(-1, 4)
        outside = (corners.max(axis=1) < exact[0]) | (corners.min(axis=1) > exact[2])
        if splitting == "full":
            assert (shares[outside] == 0).all()
            across = (corners.min(axis=1) < exact[0]) & (corners.max(axis=1) > exact[0])
            assert ((shares[across] > 0) & (shares[across] < 1)).any()
        assert shares.max() <= 1.0
