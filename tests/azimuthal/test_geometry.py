import copy
import dataclasses
import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import naive_geometry as naive
from azimuthal.detector import Detector, FrozenArray, Sensor
from azimuthal.errors import DetectorError, GeometryError, UnitError
from azimuthal.geometry import Geometry
from azimuthal.geometry.parallax import parallax_table
from azimuthal.units import radial_unit, radial_unit_names

SMALL = Detector.from_name("Detector", shape=(5, 7), pixel1=1e-2, pixel2=2e-2)
# Neither azimuth, which jumps, nor logarithms, which are infinite at the beam.
REGULAR = [name for name in radial_unit_names() if radial_unit(name).nonnegative]
PLACES = {
    "distance": st.floats(0.02, 2.0),
    "poni1": st.floats(-0.2, 0.2),
    "poni2": st.floats(-0.2, 0.2),
    "rot1": st.floats(-3.1, 3.1),
    "rot2": st.floats(-3.1, 3.1),
    "rot3": st.floats(-3.1, 3.1),
}
geometries = st.builds(
    Geometry,
    detector=st.sampled_from([dataclasses.replace(SMALL, orientation=k) for k in (1, 2, 3, 4)]),
    wavelength=st.floats(1e-11, 3e-10),
    **PLACES,
)


def assert_same_azimuth(chi, expected, radius):
    """Compare angles modulo a whole turn, but for points (radius in metres) so near the beam that they have none."""
    difference = np.abs((chi - expected + np.pi) % (2.0 * np.pi) - np.pi)
    assert np.all(difference[radius > 1e-4] < 1e-11)


@settings(max_examples=60, deadline=None)
@given(geometry=geometries, name=st.sampled_from(REGULAR))
def test_geometry_centres_and_corners_match_naive(geometry, name):
    expected, chi = naive.centres(geometry, name)
    np.testing.assert_allclose(geometry.radial(name), expected, rtol=1e-11, atol=1e-12)
    assert_same_azimuth(geometry.azimuth(), chi, geometry.radial("r_m"))
    radial, azimuth = geometry.corners(name)
    expected, chi = naive.corners(geometry, name)
    np.testing.assert_allclose(radial, expected, rtol=1e-11, atol=1e-12)
    assert_same_azimuth(azimuth, chi, geometry.corners("r_m")[0])


@settings(max_examples=40, deadline=None)
@given(geometry=geometries, factor=st.floats(-1.0, 1.0), offset=st.floats(-4.0, 4.0))
def test_geometry_corrections_match_naive(geometry, factor, offset):
    np.testing.assert_allclose(geometry.solid_angle("relative"), naive.solid_angle(geometry), rtol=1e-12)
    np.testing.assert_allclose(
        geometry.polarization(factor, offset), naive.polarization(geometry, factor, offset), atol=1e-12
    )


def test_geometry_vertices_are_the_corners():
    geometry = Geometry(Detector.from_name("ImXPadS140", orientation=4), 0.1, 0.02, 0.03, 0.2, -0.3, 0.1)
    assert geometry.contiguous
    vertices, corners = geometry.vertices("2th_deg"), geometry.corners("2th_deg")
    for grid, four in zip(vertices, corners, strict=True):
        assert grid.shape == (241, 561)
        assert four.shape == (240, 560, 4)
        np.testing.assert_array_equal(four[..., 0], grid[:-1, :-1])
        np.testing.assert_array_equal(four[..., 1], grid[1:, :-1])
        np.testing.assert_array_equal(four[..., 2], grid[1:, 1:])
        np.testing.assert_array_equal(four[..., 3], grid[:-1, 1:])


def test_geometry_of_separate_modules_has_corners_but_no_vertices():
    geometry = Geometry(Detector.from_name("Xpad_flat"), 0.2, 0.05, 0.04, 0.1, 0.2, 0.3)
    assert not geometry.contiguous
    with pytest.raises(DetectorError, match="not contiguous"):
        geometry.vertices("2th_deg")
    radial, chi = geometry.corners("2th_deg")
    for corner, (a, b) in enumerate(((0, 0), (1, 0), (1, 1), (0, 1))):
        one, two = geometry.detector.spans()
        y, x, z = naive.to_lab(geometry, one[700, a], two[300, b])
        assert radial[700, 300, corner] == pytest.approx(naive.radial("2th_deg", y, x, z, None), rel=1e-12)
        assert chi[700, 300, corner] == pytest.approx(math.atan2(y, x), rel=1e-12)


def test_geometry_lab_centres_are_metres_in_the_laboratory():
    geometry = Geometry(SMALL, 0.5, 0.025, 0.07)
    y, x, z = geometry.lab_centres()
    np.testing.assert_allclose(y, np.broadcast_to((np.arange(5)[:, None] - 2) * 1e-2, (5, 7)), atol=1e-16)
    np.testing.assert_allclose(x, np.broadcast_to((np.arange(7) - 3) * 2e-2, (5, 7)), atol=1e-16)
    np.testing.assert_array_equal(z, 0.5)
    assert geometry.q.__self__.shape == (5, 7)


def test_geometry_solid_angles_add_up_to_the_detectors():
    # Solid angle of an a x b rectangle seen centrally from d: 4 atan(a b / (2 d sqrt(4 d² + a² + b²))).
    detector = Detector.from_name("Detector", shape=(400, 300), pixel1=5e-4, pixel2=5e-4)
    geometry = Geometry(detector, 0.1, 0.1, 0.075, 0.4, 0.5, 0.6)
    a, b, d = 0.2, 0.15, 0.1
    total = 4 * math.atan(a * b / (2 * d * math.sqrt(4 * d * d + a * a + b * b)))
    assert geometry.solid_angle("absolute").sum() == pytest.approx(total, rel=1e-5)
    assert geometry.solid_angle(None) is None


def test_geometry_wide_pixels_have_their_larger_solid_angle():
    detector = Detector.from_name("Jungfrau 500k")
    centre = [0.5 * edges[-1] for edges in detector.edges()]
    geometry = Geometry(detector, 0.05, *centre)
    a, b, d = 2 * centre[0], 2 * centre[1], 0.05
    total = 4 * math.atan(a * b / (2 * d * math.sqrt(4 * d * d + a * a + b * b)))
    assert geometry.solid_angle("absolute").sum() == pytest.approx(total, rel=1e-5)


def test_geometry_wraps_nothing_at_the_beam():
    detector = Detector.from_name("Detector", shape=(10, 10), pixel1=1e-4, pixel2=1e-4)
    geometry = Geometry(detector, 1.0, 5e-4, 5e-4, wavelength=1e-10)
    radial, _ = geometry.vertices("q_nm^-1")
    assert radial[5, 5] == 0.0
    assert radial[5, 6] == pytest.approx(2e-9 * math.pi / 1e-10 * 1e-4 * (1 - 0.375e-8), rel=1e-14)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"distance": 0.0}, "distance must be positive"),
        ({"distance": -1.0}, "distance must be positive"),
        ({"distance": math.inf}, "distance must be a finite number"),
        ({"poni1": math.nan}, "poni1 must be a finite number"),
        ({"poni2": "here"}, "poni2 must be a finite number, not 'here'"),
        ({"rot1": None}, "rot1 must be a finite number, not None"),
        ({"rot3": math.inf}, "rot3 must be a finite number"),
        ({"wavelength": 0}, "wavelength must be positive"),
        ({"wavelength": math.nan}, "wavelength must be a finite number"),
        ({"detector": "Eiger"}, "detector must be an azimuthal Detector, not str"),
    ],
)
def test_geometry_that_cannot_be_names_the_field(wrong, told):
    good = {"detector": SMALL, "distance": 0.1, "poni1": 0.0, "poni2": 0.0}
    with pytest.raises(GeometryError, match=told):
        Geometry(**good | wrong)


def test_geometry_is_frozen_hashable_and_takes_numpy_numbers():
    one = Geometry(SMALL, np.float32(0.5), np.int64(0), 0, wavelength=np.float64(1e-10))
    assert all(type(getattr(one, f)) is float for f in ("distance", "poni1", "poni2", "wavelength"))
    assert one == Geometry(SMALL, 0.5, 0.0, 0.0, wavelength=1e-10)
    assert hash(one) == hash(Geometry(SMALL, 0.5, 0.0, 0.0, wavelength=1e-10))
    assert dataclasses.replace(one, rot1=0.1) != one
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.distance = 1.0


def test_geometry_is_pickled_and_copied_without_what_was_worked_out():
    one = Geometry(SMALL, 0.5, 0.1, 0.0)
    before = len(pickle.dumps(one))
    hash(one), one.two_theta()
    again = pickle.loads(pickle.dumps(one))
    assert len(pickle.dumps(one)) == before
    assert again == one
    assert hash(again) == hash(one) == hash(copy.copy(one))
    assert (again.two_theta() == one.two_theta()).all()
    moved = dataclasses.replace(one, poni1=0.2)
    assert (moved.two_theta() == Geometry(SMALL, 0.5, 0.2, 0.0).two_theta()).all()


def test_geometry_without_wavelength_knows_angles_only():
    geometry = Geometry(SMALL, 0.1, 0.0, 0.0)
    assert geometry.two_theta().shape == (5, 7)
    with pytest.raises(UnitError, match="needs a wavelength"):
        geometry.q()


def test_geometry_corrections_refuse_nonsense():
    geometry = Geometry(SMALL, 0.1, 0.0, 0.0)
    with pytest.raises(GeometryError, match="'relative', 'absolute' or None, not 'full'"):
        geometry.solid_angle("full")
    with pytest.raises(GeometryError, match="between -1 and 1, not 1.5"):
        geometry.polarization(1.5)
    with pytest.raises(GeometryError, match="polarization must be a finite number"):
        geometry.polarization(math.nan)


@pytest.mark.parametrize("thickness", [4.5e-4, 2e-5, None])
def test_parallax_undoes_the_mean_displacement(thickness):
    sensor, wavelength, distance = Sensor("Si", thickness), 0.7e-10, 0.1
    mu = sensor.attenuation(wavelength)
    sines, shifts = parallax_table(sensor, wavelength, distance)
    assert shifts[0] == 0.0
    assert np.all(shifts[1:] < 0.0)
    for angle in (0.2, 0.7, 1.2):
        entry = distance * math.tan(angle)
        seen = entry + naive.parallax_displacement(angle, mu, thickness)
        back = seen + np.interp(math.sin(math.atan(seen / distance)), sines, shifts)
        # The table is interpolated between 1024 angles.
        assert back == pytest.approx(entry, abs=2e-3 * (seen - entry))


def test_parallax_moves_positions_towards_the_poni_and_leaves_the_solid_angle():
    detector = dataclasses.replace(SMALL, sensor=Sensor("Si", 4.5e-4))
    plain = Geometry(detector, 0.1, 0.025, 0.07, 0.1, wavelength=0.5e-10)
    corrected = dataclasses.replace(plain, parallax=True)
    before, after = (
        np.stack(g.lab_centres()).reshape(3, -1).T @ naive.rotation(0.1, 0.0, 0.0) for g in (plain, corrected)
    )
    np.testing.assert_allclose(after[:, 2], 0.1, atol=1e-15)
    radius = np.hypot(before[:, 0], before[:, 1])
    shift = np.hypot(after[:, 0], after[:, 1]) - radius
    table = parallax_table(detector.sensor, 0.5e-10, 0.1)
    np.testing.assert_allclose(shift, np.interp(np.sin(np.arctan(radius / 0.1)), *table), atol=1e-15)
    assert shift.min() < -1e-5
    np.testing.assert_array_equal(plain.solid_angle(), corrected.solid_angle())


def test_parallax_needs_a_wavelength_and_a_sensor():
    with pytest.raises(GeometryError, match="parallax correction needs a wavelength"):
        Geometry(dataclasses.replace(SMALL, sensor=Sensor("Si")), 0.1, 0.0, 0.0, parallax=True)
    with pytest.raises(GeometryError, match='\'Detector\' does not: add "sensor": {"material": "Si"'):
        Geometry(SMALL, 0.1, 0.0, 0.0, wavelength=1e-10, parallax=True)
    with pytest.raises(DetectorError, match="attenuation is tabulated from"):
        Geometry(dataclasses.replace(SMALL, sensor=Sensor("CdTe")), 0.1, 0.0, 0.0, wavelength=1e-14, parallax=True)


def curved(rows=20, columns=30, radius=0.2, step=1e-3, height=1e-3):
    """Return a detector on a vertical cylinder about the sample, as corners (z, y, x) relative to its middle."""
    angle = (np.arange(columns + 1) - 0.5 * columns) * step / radius
    x, z = radius * np.sin(angle), radius * (np.cos(angle) - 1.0)
    y = (np.arange(rows + 1) - 0.5 * rows) * height
    grid = np.stack(np.broadcast_arrays(z[None, :], y[:, None], x[None, :]), axis=-1)
    corners = np.stack([grid[:-1, :-1], grid[1:, :-1], grid[1:, 1:], grid[:-1, 1:]], axis=2)
    return Detector("cylinder", (rows, columns), height, step, corners=FrozenArray(corners))


def test_geometry_of_a_cylinder_sees_equal_angles_and_equal_solid_angles():
    geometry = Geometry(curved(), 0.2, 0.0, 0.0, wavelength=1e-10)
    assert not geometry.detector.flat
    assert not geometry.contiguous
    radial, chi = geometry.corners("2th_rad")
    y, x, z = (a[10, 29] for a in geometry.lab_centres())
    corner = geometry.detector.corner_positions[10, 29, 1] + [0.2, 0.0, 0.0]
    assert radial[10, 29, 1] == pytest.approx(math.atan2(math.hypot(corner[1], corner[2]), corner[0]), rel=1e-12)
    assert chi[10, 29, 1] == pytest.approx(math.atan2(corner[1], corner[2]), rel=1e-12)
    assert math.hypot(x, z) == pytest.approx(0.2, rel=1e-5)
    # Every chord of the cylinder at one height covers the same solid angle, and all faces look at the axis.
    solid_angle = geometry.solid_angle("absolute")
    np.testing.assert_allclose(solid_angle, np.broadcast_to(solid_angle[:, :1], (20, 30)), rtol=1e-12)
    assert solid_angle[10, 0] == pytest.approx(1e-6 / 0.2**2, rel=1e-4)
    np.testing.assert_allclose(geometry.polarization(0.9).shape, (20, 30))


@settings(max_examples=20, deadline=None)
@given(geometry=geometries, name=st.sampled_from(["q_A^-1", "2th_deg", "r_mm"]))
def test_geometry_of_corners_equals_that_of_the_same_grid(geometry, name):
    native = dataclasses.replace(geometry.detector, orientation=3)
    (one, two), shape = native.edges(), native.shape
    grid = np.stack(np.broadcast_arrays(0.0, one[:, None], two[None, :]), axis=-1)
    corners = FrozenArray(np.stack([grid[:-1, :-1], grid[1:, :-1], grid[1:, 1:], grid[:-1, 1:]], axis=2))
    detector = Detector(
        "corners", shape, native.pixel1, native.pixel2, orientation=geometry.detector.orientation, corners=corners
    )
    other = dataclasses.replace(geometry, detector=detector)
    np.testing.assert_allclose(other.radial(name), geometry.radial(name), rtol=1e-11, atol=1e-13)
    assert_same_azimuth(other.azimuth(), geometry.azimuth(), geometry.radial("r_m"))
    (radial, chi), (expected, azimuth) = other.corners(name), geometry.corners(name)
    np.testing.assert_allclose(radial, expected, rtol=1e-11, atol=1e-12)
    assert_same_azimuth(chi, azimuth, geometry.corners("r_m")[0])
    np.testing.assert_allclose(other.solid_angle(), geometry.solid_angle(), rtol=1e-11)
    np.testing.assert_allclose(other.polarization(0.9), geometry.polarization(0.9), atol=1e-12)
