"""The normalization of pixels, and what tells given arrays apart."""

import dataclasses
import math

import numpy as np
import pytest

import azimuthal as az
from azimuthal.detector import AxisLayout, FrozenArray, Sensor
from azimuthal.errors import FrameError
from azimuthal.integrator.corrections import digest_of, normalization
from azimuthal.pattern import Conditions

SHAPE = (37, 1100)
PLAIN = az.Detector.from_name("Detector", shape=SHAPE, pixel1=1e-3, pixel2=1e-4, sensor=Sensor("Si", 4.5e-4))
WIDE = dataclasses.replace(PLAIN, layout=(AxisLayout(9, 2.0), AxisLayout(256, 1.5, 1e-4)))
NOTHING = np.zeros(SHAPE, bool)


def geometry(detector=PLAIN, **changes):
    place = {"distance": 0.05, "poni1": 0.01, "poni2": 0.03, "rot1": 0.3, "rot2": -0.2, "rot3": 0.4}
    return az.Geometry(detector, wavelength=0.5e-10, **(place | changes))


def free():
    """Return the plain detector, given by its corners."""
    one, two = PLAIN.edges()
    grid = np.stack(np.broadcast_arrays(0.0, one[:, None], two[None, :]), axis=-1)
    corners = np.stack([grid[:-1, :-1], grid[1:, :-1], grid[1:, 1:], grid[:-1, 1:]], axis=2)
    return dataclasses.replace(PLAIN, corners=FrozenArray(corners))


def conditions(solid_angle, polarization):
    return Conditions("no", solid_angle, polarization, False)


@pytest.mark.parametrize("place", [geometry(), geometry(WIDE), geometry(parallax=True), geometry(free())])
@pytest.mark.parametrize("solid_angle", ["relative", "absolute", None])
@pytest.mark.parametrize("polarization", [(0.99, 0.0), (-0.4, 0.7), None])
def test_normalization_is_the_product_of_its_factors(place, solid_angle, polarization):
    rng = np.random.default_rng(0)
    flat, absorption = rng.uniform(0.5, 1.5, SHAPE), rng.uniform(0.8, 1.0, SHAPE)
    norm, unused = normalization(place, conditions(solid_angle, polarization), flat, absorption, NOTHING)
    expected = flat * absorption
    if solid_angle:
        expected *= place.solid_angle(solid_angle)
    if polarization:
        two_theta, chi = place.two_theta(), place.azimuth()
        plane = polarization[0] * np.cos(2 * (chi + polarization[1])) * np.sin(two_theta) ** 2
        expected *= 0.5 * (1 + np.cos(two_theta) ** 2 - plane)
    np.testing.assert_allclose(norm, expected, rtol=1e-13)
    assert not unused.any()


@pytest.mark.parametrize("place", [geometry(), geometry(free())])
def test_pixels_without_a_use_are_skipped_zero_or_not_finite(place):
    rng = np.random.default_rng(1)
    skipped = rng.random(SHAPE) < 0.2
    flat, absorption = np.ones(SHAPE), np.ones(SHAPE)
    flat[3, 5], flat[4, 6], flat[36, 1099], absorption[7, 8] = 0.0, math.nan, math.inf, -math.inf
    flat[0, 0], skipped[[0, 7], [0, 8]] = -1.0, True
    norm, unused = normalization(place, conditions("relative", None), flat, absorption, skipped)
    lost = skipped.copy()
    lost[[3, 4, 36], [5, 6, 1099]] = True
    np.testing.assert_array_equal(unused, lost)
    assert np.isfinite(norm).all()
    assert (norm[[3, 4, 36, 7], [5, 6, 1099, 8]] == 0.0).all()
    np.testing.assert_array_equal(norm[~lost], place.solid_angle()[~lost])


def test_factors_below_zero_are_counted_where_they_matter():
    flat, skipped = np.ones(SHAPE), NOTHING.copy()
    flat[2, [1, 600, 1099]] = -0.5
    skipped[2, 600] = True
    with pytest.raises(FrameError, match="flat: 2 pixels are negative; mask them or set them to 0"):
        normalization(geometry(), conditions(None, None), flat, None, skipped)
    with pytest.raises(FrameError, match="absorption: 2 pixels are negative"):
        normalization(geometry(), conditions(None, None), None, flat, skipped)


def test_factors_of_any_kind_count_as_their_values():
    values = np.arange(np.prod(SHAPE)).reshape(SHAPE) % 7 + 1
    frozen = values.astype(np.float64)
    frozen.setflags(write=False)
    expected, _ = normalization(geometry(), conditions("relative", (0.9, 0.1)), values, None, NOTHING)
    for flat in (frozen, np.asfortranarray(values), values.astype(">f4"), np.repeat(values, 2, axis=0)[::2]):
        norm, _ = normalization(geometry(), conditions("relative", (0.9, 0.1)), flat, None, NOTHING)
        np.testing.assert_array_equal(norm, expected)
    norm, _ = normalization(geometry(), conditions(None, None), 0.25, None, NOTHING)
    assert (norm == 0.25).all()


def test_normalization_is_the_same_from_any_number_of_threads(monkeypatch):
    tall = az.Geometry(az.Detector.from_name("Eiger2_500k"), 0.1, 0.02, 0.03, 0.2)
    skipped = np.array(tall.detector.mask)
    wanted = conditions("relative", (0.99, 0.0))
    many = normalization(tall, wanted, None, None, skipped)
    monkeypatch.setenv("AZIMUTHAL_THREADS", "1")
    for one, other in zip(normalization(tall, wanted, None, None, skipped), many, strict=True):
        np.testing.assert_array_equal(one, other)


def test_digest_tells_arrays_apart_by_what_they_are():
    zeros = np.zeros((300, 1000))
    masks = [np.zeros((300, 1000), bool) for _ in range(3)]
    masks[1][299, 999] = masks[2][0, 0] = True
    several = [
        (zeros, None),
        (None, zeros),
        (zeros.reshape(1000, 300), None),
        (zeros.view(np.int64), None),
        (zeros.astype(np.float32), None),
        *((mask, None) for mask in masks),
        (masks[0].view(np.uint8), None),
        (np.zeros(()), None),
        ((), None),
    ]
    assert len({digest_of(*pair) for pair in several}) == len(several)
    assert digest_of(None, None) is None
    assert digest_of(masks[1].copy(order="F")) == digest_of(masks[1].tolist())
    assert len(digest_of(zeros)) == 32
