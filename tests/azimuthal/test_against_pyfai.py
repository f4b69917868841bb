"""The engine beside the installed pyFAI: the same coefficients, sums and intensities for random geometries.

pyFAI stores pixel corners as float32, so `bbox` is compared given pyFAI's half widths; bin 0 is left out of
range-limited comparisons (pyFAI's first bin also collects the bin below the range), and so are the edge bins of `bbox`
(pyFAI puts what lies outside the range there). Every case has a pyFAI integrator of its own: its state depends on
history.
"""

import warnings

import numpy as np
import pytest
from pyFAI.detectors import detector_factory
from pyFAI.integrator.azimuthal import AzimuthalIntegrator

import azimuthal as az
from azimuthal.splitting import share_bbox

EPS32 = 1.0 + 2.0**-23
NPT = 800
DETECTORS = ["Eiger 1M", "Pilatus 300k"]


def random_geometry(name, seed):
    rng = np.random.default_rng(seed)
    detector = az.Detector.from_name(name)
    return az.Geometry(
        detector,
        distance=rng.uniform(0.1, 0.5),
        poni1=rng.uniform(-0.02, 0.1),
        poni2=rng.uniform(-0.02, 0.1),
        rot1=rng.uniform(-0.6, 0.6),
        rot2=rng.uniform(-0.6, 0.6),
        rot3=rng.uniform(-3, 3),
        wavelength=rng.uniform(0.3e-10, 1.5e-10),
    )


def pyfai_of(geometry):
    g = geometry
    rotations = {"rot1": g.rot1, "rot2": g.rot2, "rot3": g.rot3}
    ai = AzimuthalIntegrator(
        g.distance, g.poni1, g.poni2, **rotations, detector=detector_factory(g.detector.name), wavelength=g.wavelength
    )
    ai.empty = 0.0
    return ai


def common_range(geometry, unit):
    """Return a range inside the detector, its upper bound as pyFAI widens it."""
    radial = geometry.radial(unit)
    low, high = np.percentile(radial, [2, 98])
    return (low, high), (low, high * EPS32)


def random_frame(geometry, seed):
    return np.random.default_rng(seed).poisson(50.0, geometry.shape).astype(np.uint32)


def coefficients(matrix):
    """Return pyFAI-like (data, indices, indptr) of one of our matrices."""
    csr = matrix.csr
    return csr.shares, csr.pixels, csr.indptr


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize("unit", ["q_nm^-1", "2th_deg"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_no_splitting_is_exactly_that_of_pyfai(name, unit, seed):
    geometry = random_geometry(name, seed)
    asked, ours = common_range(geometry, unit)
    ai = pyfai_of(geometry)
    frame = random_frame(geometry, seed)
    theirs = ai.integrate1d(
        frame,
        NPT,
        unit=unit,
        radial_range=asked,
        method=("no", "csr", "cython"),
        polarization_factor=0.99,
        error_model="poisson",
    )
    integrator = az.Integrator(geometry, az.RadialBins(unit, NPT, ours), splitting="no")
    pattern = integrator.integrate(frame)
    engine = next(e.engine for e in ai.engines.values() if "csr" in str(type(e.engine)).lower())
    data, indices, indptr = (np.asarray(x) for x in (engine.data, engine.indices, engine.indptr))
    shares, pixels, rows = coefficients(integrator.matrix)
    for r in range(1, NPT):
        np.testing.assert_array_equal(pixels[rows[r] : rows[r + 1]], indices[indptr[r] : indptr[r + 1]])
    assert (data[indptr[1] :] == 1).all()
    assert (shares == 1).all()

    inner = slice(1, None)
    np.testing.assert_array_equal(pattern.count[inner], theirs.count[inner])
    np.testing.assert_allclose(pattern.sum_signal[inner], theirs.sum_signal[inner], rtol=1e-12)
    np.testing.assert_allclose(pattern.sum_normalization[inner], theirs.sum_normalization[inner], rtol=2e-7)
    np.testing.assert_allclose(pattern.sum_normalization2[inner], theirs.sum_normalization2[inner], rtol=4e-7)
    filled = pattern.filled & (np.arange(NPT) > 0)
    np.testing.assert_allclose(pattern.intensity[filled], theirs.intensity[filled], rtol=3e-7)
    np.testing.assert_allclose(pattern.radial, theirs.radial, rtol=3e-7)


def test_first_bin_of_pyfai_collects_the_bin_below_the_range_and_ours_does_not():
    geometry = random_geometry("Pilatus 300k", 4)
    asked, ours = common_range(geometry, "q_nm^-1")
    frame = random_frame(geometry, 4)
    theirs = pyfai_of(geometry).integrate1d(
        frame, NPT, unit="q_nm^-1", radial_range=asked, method=("no", "csr", "cython")
    )
    pattern = az.Integrator(geometry, az.RadialBins("q_nm^-1", NPT, ours), splitting="no").integrate(frame)
    radial = geometry.radial("q_nm^-1")[~geometry.detector.mask]
    width = (ours[1] - ours[0]) / NPT
    in_first = ((radial >= ours[0]) & (radial < ours[0] + width)).sum()
    below = ((radial > ours[0] - width) & (radial < ours[0])).sum()
    assert pattern.count[0] == in_first
    assert below > 0
    assert theirs.count[0] == in_first + below


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize("seed", [5, 6])
def test_bbox_is_that_of_pyfai_given_its_half_widths(name, seed):
    geometry = random_geometry(name, seed)
    asked, ours = common_range(geometry, "q_nm^-1")
    ai = pyfai_of(geometry)
    frame = random_frame(geometry, seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = ai.integrate1d(
            frame,
            NPT,
            unit="q_nm^-1",
            radial_range=asked,
            method=("bbox", "csr", "cython"),
            polarization_factor=0.99,
        )
    engine = next(e.engine for e in ai.engines.values() if "csr" in str(type(e.engine)).lower())
    data, indices, indptr = (np.asarray(x) for x in (engine.data, engine.indices, engine.indptr))
    edges = np.linspace(*ours, NPT + 1)
    centres = geometry.radial("q_nm^-1")
    half = ai.delta_array(unit="q_nm^-1")
    matrix = share_bbox(centres, half, geometry.detector.mask, edges)
    shares, pixels, rows = coefficients(matrix)
    norm = (geometry.solid_angle("relative") * geometry.polarization(0.99)).ravel()
    for r in range(2, NPT - 2, 7):
        mine = dict(zip(pixels[rows[r] : rows[r + 1]].tolist(), shares[rows[r] : rows[r + 1]].tolist(), strict=True))
        other = dict(
            zip(indices[indptr[r] : indptr[r + 1]].tolist(), data[indptr[r] : indptr[r + 1]].tolist(), strict=True)
        )
        for pixel in mine.keys() | other.keys():
            assert abs(mine.get(pixel, 0.0) - other.get(pixel, 0.0)) < 1e-6
        c = shares[rows[r] : rows[r + 1]].astype(float)
        at = pixels[rows[r] : rows[r + 1]]
        np.testing.assert_allclose(c.sum(), theirs.count[r], rtol=1e-6)
        np.testing.assert_allclose((c * frame.ravel()[at]).sum(), theirs.sum_signal[r], rtol=1e-6)
        np.testing.assert_allclose((c * norm[at]).sum(), theirs.sum_normalization[r], rtol=1e-6)

    # As a user gets them, with exact corners in place of rounded ones, intensities agree far below their errors.
    pattern = az.Integrator(geometry, az.RadialBins("q_nm^-1", NPT, ours), splitting="bbox").integrate(frame)
    inner = slice(2, NPT - 2)
    np.testing.assert_allclose(pattern.intensity[inner], theirs.intensity[inner], rtol=1e-5)


@pytest.mark.parametrize("weighted", [False, True])
def test_spottiness_in_pyfai_form_is_calc_spottiness_where_its_variance_is_exact(weighted):
    """With equal weights pyFAI's streaming variance is the two-pass one, so that the formulas can be compared."""
    geometry = random_geometry("Pilatus 300k", 8)
    ai = pyfai_of(geometry)
    frame = np.random.default_rng(8).poisson(np.random.default_rng(9).gamma(0.5, 30, geometry.shape)).astype(np.uint32)
    unit, no_correction = "2th_deg", {"correctSolidAngle": False}
    theirs = ai.integrate1d(
        frame,
        NPT,
        unit=unit,
        radial_range=(0.0, 60.0),
        method=("no", "csr", "cython"),
        error_model="azimuthal",
        **no_correction,
    )
    bins = az.RadialBins(unit, NPT, (0.0, 60.0 * EPS32))
    pattern = az.Integrator(geometry, bins, splitting="no", solid_angle=None, polarization=None).integrate(frame)
    assert pattern.spottiness(weighted=weighted, pyfai=True) == pytest.approx(
        theirs.calc_spottiness(weighted), rel=1e-6
    )
