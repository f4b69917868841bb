"""Over many frames: is the reported error the scatter that is really there, and what does splitting do to it?"""

import warnings
from functools import cache

import numpy as np
import pytest

import azimuthal as az

SHAPE = (64, 64)
FRAMES = 1500
RATE = 40.0
BINS = az.RadialBins("r_mm", 36, (30.0, 66.0))  # a bin is a pixel wide


@cache
def patterns(splitting):
    """Return the patterns of frames of one smooth powder, with flat field, solid angle and polarization."""
    detector = az.Detector.from_name("detector", shape=SHAPE, pixel1=1e-3, pixel2=1e-3)
    geometry = az.Geometry(detector, 0.1, -0.0153, -0.0127, wavelength=1e-10)
    rng = np.random.default_rng(17)
    flat = rng.uniform(0.8, 1.2, SHAPE)
    integrator = az.Integrator(geometry, BINS, splitting=splitting, flat=flat)
    frames = rng.poisson(RATE * integrator.normalization, (FRAMES, *SHAPE)).astype(np.uint16)
    return integrator.integrate(frames)


def pulls(some):
    """Return (intensity - truth) / sem of each pattern and ring, (frames, rings)."""
    return np.array([(pattern.intensity - RATE) / pattern.sem for pattern in some])


def expected_chi_square(pattern):
    """Return the mean square of a pull: n / (n - 3) where n pixels tell of their own scatter (Student's t)."""
    if pattern.error_model == "poisson":
        return np.ones(pattern.npt)
    return 1.0 / (1.0 - 3.0 * pattern.sum_normalization2 / pattern.sum_normalization**2)


@pytest.mark.parametrize("error_model", ["azimuthal", "poisson"])
@pytest.mark.parametrize("splitting", ["no", "bbox", "full"])
def test_sem_is_the_scatter_of_repeated_frames(splitting, error_model):
    """Ring by ring this holds with splitting too: the variance of a sum of shares is the sum of squared shares."""
    some = [pattern.with_errors(error_model) for pattern in patterns(splitting)]
    chi_square = (pulls(some) ** 2).mean(axis=0) / expected_chi_square(some[0])
    assert chi_square.mean() == pytest.approx(1.0, abs=0.03)
    assert (np.abs(chi_square - 1.0) < 6 * np.sqrt(2 / FRAMES)).all()
    assert np.mean(pulls(some)) == pytest.approx(0.0, abs=0.05)


@pytest.mark.parametrize("error_model", ["azimuthal", "poisson"])
def test_std_is_the_spread_of_one_pixel(error_model):
    some = patterns("no")
    spread = np.sqrt(np.mean([pattern.with_errors(error_model).std ** 2 for pattern in some], axis=0))
    W, Q = some[0].sum_normalization, some[0].sum_normalization2
    freedom = 1.0 - Q / W**2 if error_model == "azimuthal" else 1.0  # the mean is the ring's own
    np.testing.assert_allclose(spread, np.sqrt(RATE * W / Q * freedom), rtol=0.02)


@pytest.mark.parametrize("error_model", ["azimuthal", "poisson"])
@pytest.mark.parametrize(("splitting", "low", "high"), [("bbox", 0.70, 0.85), ("full", 0.80, 0.90)])
def test_splitting_lowers_sem_because_neighbours_share_pixels(splitting, low, high, error_model):
    """With bins a pixel wide `full` is 12 to 15 % below `no`, and neighbouring bins go up and down together."""
    plain, split = (
        np.mean([pattern.with_errors(error_model).sem for pattern in patterns(name)], axis=0)
        for name in ("no", splitting)
    )
    assert low < np.median(split / plain) < high
    together = {name: neighbours(name) for name in ("no", splitting)}
    assert abs(together["no"]) < 0.02
    assert together[splitting] > 0.15


def neighbours(splitting):
    """Return the mean correlation of neighbouring rings over the frames."""
    z = pulls(patterns(splitting))
    z = (z - z.mean(axis=0)) / z.std(axis=0)
    return (z[:, 1:] * z[:, :-1]).mean()


@pytest.mark.parametrize(("splitting", "chi_square"), [("no", 1.0), ("full", 1.4)])
def test_errors_of_bins_put_together_are_right_without_splitting_only(splitting, chi_square):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        some = [pattern.with_errors("poisson").rebin(6) for pattern in patterns(splitting)]
    assert (pulls(some) ** 2).mean() == pytest.approx(chi_square, rel=0.1)
