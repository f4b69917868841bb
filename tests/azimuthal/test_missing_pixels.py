"""Frames summed pixel by pixel that lack other pixels than those before them, often equally many."""

import numpy as np
import pytest

import azimuthal as az
import naive

SHAPE = (30, 24)
DUMMY = 7000
BINS = az.RadialBins("2th_deg", 80, (0.0, 40.0))
PIXELS = {"a": ([3, 3], [4, 5]), "b": ([8, 20], [8, 11]), "c": ([21, 3], [17, 5])}
"""Two each; the last one of c is also one of a."""
LACKING = {
    "others once": "a a a a a a a a a a a b a a a a a a a a",
    "others from there on": "a a a a a a a a a a a b b b b b b b b b",
    "more once": "a a a a a a a a a a a ab a a a a a a a a",
    "one in common": "a a a a a a a a a a a c a c a a a a a a",
    "in turns": "a b c a b c a b c a b c a b c a b c a b",
    "none before": "- - - - - - - - - b - - a - - b b - - -",
    "none once": "a a a a a a a a a a a - a a a a a a a a",
}


def engine_with(splitting):
    detector = az.Detector.from_name("detector", shape=SHAPE, pixel1=1e-3, pixel2=1e-3)
    place = az.Geometry(detector, 0.1, 0.011, 0.0122, wavelength=1e-10)
    return az.Integrator(place, BINS, splitting=splitting, dummy=DUMMY)


def stack_that_lacks(which, dtype):
    """Return 20 frames with their monitors."""
    rng = np.random.default_rng(21)
    frames = rng.poisson(30, (20, *SHAPE)).astype(dtype)
    for frame, names in zip(frames, LACKING[which].split(), strict=True):
        for name in names.strip("-"):
            frame[PIXELS[name]] = DUMMY
    return frames, rng.uniform(1.0, 2.0, 20)


def truth(engine, frames, monitors):
    """Return the seven sums of the frames' mean, pixel by pixel through a dense matrix."""
    csr, pixels = engine.matrix.csr, SHAPE[0] * SHAPE[1]
    dense = np.zeros((pixels, BINS.npt))
    dense[csr.pixels, np.repeat(np.arange(BINS.npt), np.diff(csr.indptr))] = csr.shares
    there = frames != DUMMY
    signal = np.where(there, frames, 0).sum(axis=0).ravel().astype(float)
    seen = (there * monitors[:, np.newaxis, np.newaxis]).sum(axis=0).ravel()
    return naive.sums(dense, signal, engine.normalization.ravel() * seen, signal, seen == 0)


@pytest.mark.parametrize("splitting", ["no", "full"])
@pytest.mark.parametrize("dtype", ["u2", "i4", "u4"])
@pytest.mark.parametrize("which", LACKING)
@pytest.mark.parametrize(("at_once", "follow"), [(1, False), (1, True), (20, False), (20, True)])
def test_sums_have_the_bits_of_frames_added_one_by_one(splitting, dtype, which, at_once, follow):
    engine = engine_with(splitting)
    frames, monitors = stack_that_lacks(which, dtype)
    sums, single = az.MeanFrames(), az.MeanFrames()
    patterns, means = [], []
    for k in range(0, len(frames), at_once):
        some = sums.integrate(engine, frames[k : k + at_once], monitors[k : k + at_once], follow=follow)
        patterns += some[0]
        means += some[1]
    assert len(means) == (20 if follow else 0)
    for k, frame in enumerate(frames):
        single.add(engine, frame, monitor=monitors[k])
        assert patterns[k].sums.tobytes() == engine.integrate(frame, monitor=monitors[k]).sums.tobytes()
        if follow:
            assert means[k].sums.tobytes() == single.pattern.sums.tobytes()
            assert means[k].masked_pixels == single.pattern.masked_pixels
    assert sums.pattern.sums.tobytes() == single.pattern.sums.tobytes()
    assert sums.pattern.masked_pixels == single.pattern.masked_pixels
    np.testing.assert_allclose(sums.pattern.sums, truth(engine, frames, monitors), rtol=1e-11, atol=1e-9)
