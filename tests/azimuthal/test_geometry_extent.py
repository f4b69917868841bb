"""What bins without a range cover: found on few pixels, and the same bits as from all of them."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import azimuthal as az
from azimuthal.bins import poles_of
from azimuthal.detector import AxisLayout, Detector, FrozenArray, Sensor
from azimuthal.geometry.extent import around_beam
from azimuthal.splitting import Corners, kernels
from azimuthal.units import radial_unit, radial_unit_names

PLAIN = Detector.from_name("Detector", shape=(6, 9), pixel1=1e-2, pixel2=2e-2, sensor=Sensor("Si", 1e-3))
GAPS = (AxisLayout(4, 1.0, 3e-3), AxisLayout(3, 2.5, 7e-3))
DETECTORS = [
    PLAIN,
    dataclasses.replace(PLAIN, orientation=2),
    dataclasses.replace(PLAIN, layout=GAPS),
    dataclasses.replace(PLAIN, layout=GAPS, orientation=4),
    Detector.from_name("Detector", shape=(1, 1), pixel1=1e-2, pixel2=1e-2),
]
UNITS = [name for name in radial_unit_names() if radial_unit(name).kind != "chi"]
TURNS = st.one_of(st.floats(-3.2, 3.2), st.sampled_from([0.0, 0.5 * math.pi, math.pi, -0.5 * math.pi]))
PLACES = {
    "distance": st.sampled_from([0.1, 0.03, 1.0]),
    # In a pixel, on a border, on a vertex, or beside the detector.
    "poni1": st.one_of(st.floats(-0.1, 0.16), st.sampled_from([0.0, 0.02, 0.025])),
    "poni2": st.one_of(st.floats(-0.1, 0.28), st.sampled_from([0.0, 0.04, 0.05])),
    "rot1": TURNS,
    "rot2": TURNS,
    "rot3": TURNS,
}


def span_of_all(geometry, unit):
    """Return the range from all pixels, one by one, by the kernel that splitting uses."""
    radial, chi = geometry.corners(unit)
    where, poles = Corners.from_corners(radial, chi), poles_of(geometry, unit)
    if not radial_unit(unit).nonnegative:
        poles = dataclasses.replace(poles, front=math.nan)
    low, high = np.empty(radial[..., 0].size), np.empty(radial[..., 0].size)
    kernels.radial_spans(
        0, low.size, radial.shape[1], where.radial, where.azimuth, *where.layout, poles.array, low, high
    )
    return float(low.min()), float(high.max())


@settings(max_examples=300, deadline=None)
@given(
    detector=st.sampled_from(DETECTORS),
    parallax=st.booleans(),
    unit=st.sampled_from(UNITS),
    **PLACES,
)
def test_range_is_that_of_all_corners_bit_for_bit(detector, parallax, unit, **place):
    geometry = az.Geometry(detector, wavelength=1e-10, **place, parallax=parallax and detector.sensor is not None)
    expected = span_of_all(geometry, unit)
    if not all(map(math.isfinite, expected)):
        with pytest.raises(ValueError, match="diverges on the detector"):
            az.RadialBins(unit, 10).resolved(geometry)
    else:
        assert az.RadialBins(unit, 10).resolved(geometry).range == expected


@pytest.mark.parametrize("name", ["Eiger2_500k", "Jungfrau 500k", "Pilatus 100k"])
@pytest.mark.parametrize("unit", ["2th_deg", "q_A^-1", "r_mm"])
def test_range_of_a_real_detector_is_that_of_its_vertices(name, unit):
    """Seen obliquely, with the nearest corner inside, at the rim, and beyond 90 degrees."""
    for rot1, poni2 in ((0.3, 0.04), (0.9, -0.03), (1.8, 0.02), (-0.6, -0.1)):
        geometry = az.Geometry(Detector.from_name(name), 0.15, 0.03, poni2, rot1, 0.2, 0.1, wavelength=1e-10)
        radial, _ = geometry.corners(unit)
        low, high = az.RadialBins(unit, 10).resolved(geometry).range
        assert high == radial.max()
        assert low == radial.min() if around_beam(geometry.pixels) is None else low in (0.0, radial.min())


def test_pixels_around_the_beam_hold_the_one_that_parallax_brings_there():
    detector = Detector.from_name("Detector", shape=(300, 300), pixel1=1e-4, pixel2=1e-4, sensor=Sensor("Si", 3e-3))
    geometry = az.Geometry(detector, 0.05, 0.001, 0.002, -0.3, 0.35, wavelength=0.3e-10, parallax=True)
    rows, columns = around_beam(geometry.pixels)
    i, j = np.unravel_index(geometry.radial("r_m").argmin(), geometry.shape)
    assert rows.start <= i < rows.stop
    assert columns.start <= j < columns.stop
    assert (rows.stop - rows.start) * (columns.stop - columns.start) < 5000
    assert az.RadialBins("2th_deg", 10).resolved(geometry).range[0] == 0.0


def free_detector():
    """Return the plain detector, given by its corners."""
    one, two = PLAIN.edges()
    grid = np.stack(np.broadcast_arrays(0.0, one[:, None], two[None, :]), axis=-1)
    corners = FrozenArray(np.stack([grid[:-1, :-1], grid[1:, :-1], grid[1:, 1:], grid[:-1, 1:]], axis=2))
    return dataclasses.replace(PLAIN, corners=corners)


def test_range_of_free_pixels_is_that_of_their_corners():
    free = az.Geometry(free_detector(), 0.1, 0.025, 0.07, 0.1, 0.2, 0.3, wavelength=1e-10)
    flat = dataclasses.replace(free, detector=PLAIN)
    for unit in ("2th_deg", "q_A^-1", "r_mm", "chi_deg"):
        ours, expected = (az.RadialBins(unit, 10).resolved(g).range for g in (free, flat))
        np.testing.assert_allclose(ours, expected, rtol=1e-14)
        assert unit == "chi_deg" or ours[0] == 0.0


def test_some_pixels_are_where_they_are_among_all():
    for detector in (*DETECTORS[:4], free_detector()):
        geometry = az.Geometry(detector, 0.1, 0.03, 0.02, 0.4, 0.1, 0.2, wavelength=1e-10)
        some = geometry.corners("q_A^-1", slice(2, 5), slice(1, 8))
        for part, whole in zip(some, geometry.corners("q_A^-1"), strict=True):
            np.testing.assert_array_equal(part, whole[2:5, 1:8])
