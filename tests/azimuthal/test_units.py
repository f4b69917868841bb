import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import naive_geometry as naive
from azimuthal.errors import UnitError
from azimuthal.units import RadialUnit, radial_unit, radial_unit_names

NAMES = radial_unit_names()
metres = st.floats(-2.0, 2.0, allow_nan=False)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=40, deadline=None)
@given(y=metres, x=metres, z=metres, wavelength=st.floats(1e-12, 1e-9))
def test_unit_matches_naive(name, y, x, z, wavelength):
    if math.hypot(x, y) < 1e-3:
        y += 0.01
    value = radial_unit(name).from_lab(y, x, z, wavelength)
    assert float(value) == pytest.approx(naive.radial(name, y, x, z, wavelength), rel=1e-12, abs=1e-14)


def test_unit_table_is_pyfais():
    from pyFAI.units import to_unit

    for name in NAMES:
        theirs, ours = to_unit(name), radial_unit(name)
        assert ours.nonnegative == theirs.positive, name
        if ours.symbol != "":
            assert ours.scale == pytest.approx(theirs.scale, rel=1e-15), name


def test_unit_q_keeps_its_digits_beside_the_beam():
    x = np.array([1e-12, 1e-10, 1e-8, 1e-6])
    q = radial_unit("q_nm^-1").from_lab(0.0, x, 1.0, 1e-10)
    # sin(atan(x)/2) = x/2 (1 - 3/8 x² ...)
    assert q == pytest.approx(4e-9 * math.pi / 1e-10 * x / 2 * (1 - 0.375 * x**2), rel=1e-15)


def test_unit_backscattering_and_the_sample_itself():
    q = radial_unit("q_nm^-1")
    assert float(q.from_lab(0.0, 0.0, -1.0, 1e-10)) == pytest.approx(4e-9 * math.pi / 1e-10, rel=1e-15)
    assert float(q.from_lab(0.0, 1.0, 0.0, 1e-10)) == pytest.approx(4e-9 * math.pi / 1e-10 * math.sqrt(0.5), rel=1e-15)
    assert float(q.from_lab(0.0, 0.0, 1.0, 1e-10)) == 0.0
    assert float(q.from_lab(0.0, 0.0, 0.0, 1e-10)) == 0.0


def test_unit_azimuth_is_in_the_half_open_turn():
    chi = radial_unit("chi_rad").from_lab([0.0, -0.0, -1e-300, 1.0, -1.0], [-1.0, -1.0, -1.0, 0.0, 0.0], 1.0)
    assert chi.tolist() == [math.pi, math.pi, math.pi, math.pi / 2, -math.pi / 2]


def test_unit_angles_are_exact_to_their_last_digits():
    """Against the processor's 80 bits, where it has them; beside the angles where the formula changes, above all."""
    rng = np.random.default_rng(0)
    places = np.concatenate([np.arange(-8, 9) * math.pi / 8, rng.uniform(-math.pi, math.pi, 200)])
    angle = (places[:, None] + rng.normal(0.0, 1e-5, (places.size, 500))).ravel()
    radius = 10.0 ** rng.uniform(-9, 1, angle.size)
    y, x = radius * np.sin(angle), radius * np.cos(angle)
    exact = np.arctan2(y.astype(np.longdouble), x.astype(np.longdouble))
    for name, expected, points in (("chi_rad", exact, (y, x, 1.0)), ("2th_rad", abs(exact), (0.0, y, x))):
        error = np.abs(radial_unit(name).from_lab(*points) - expected)
        assert (error / np.spacing(np.abs(expected.astype(np.float64)))).max() < 3.0
        assert error.max() < 4.5e-16


@pytest.mark.parametrize("name", NAMES)
def test_unit_gives_a_point_the_same_bits_wherever_it_stands(name):
    points = np.random.default_rng(1).normal(0.0, 1.0, (3, 100))
    unit, together = radial_unit(name), radial_unit(name).from_lab(*points, 1e-10)
    assert [float(unit.from_lab(*point, 1e-10)) for point in points.T] == together.tolist()


def test_unit_broadcasts_and_takes_any_layout():
    y, x = np.arange(3.0)[:, None], np.arange(8.0)[::2]
    out = radial_unit("r_mm").from_lab(y, x, 1, None)
    assert out.shape == (3, 4)
    np.testing.assert_allclose(out, 1000 * np.hypot(y, x), rtol=1e-15)


def test_unit_logarithm_at_the_beam_is_minus_infinity():
    assert float(radial_unit("log(q.nm)_None").from_lab(0, 0, 1, 1e-10)) == -math.inf
    assert float(radial_unit("log10(q.m)_None").from_lab(0, 0, 1, 1e-10)) == -math.inf


def test_unit_name_unknown_lists_what_exists():
    with pytest.raises(UnitError, match=r"did you mean 'q_A\^-1'.*2th_deg.*q_nm"):
        radial_unit("q_A-1")
    for name in ("2theta", "2Theta", "tth"):
        with pytest.raises(UnitError, match="did you mean '2th_deg'"):
            radial_unit(name)
    with pytest.raises(UnitError, match="unknown radial unit None"):
        radial_unit(None)
    with pytest.raises(ValueError, match="unknown radial unit"):
        radial_unit("d_A")


def test_unit_without_wavelength_says_how_to_give_one():
    with pytest.raises(UnitError, match=r"q_A\^-1 needs a wavelength.*Wavelength.*PONI.*replace"):
        radial_unit("q_A^-1").from_lab(0, 1, 1)
    radial_unit("2th_deg").from_lab(0, 1, 1)


def test_unit_says_its_name_and_label():
    unit = radial_unit("q_A^-1")
    assert str(unit) == unit.name == "q_A^-1"
    assert unit.label == "q (Å⁻¹)"
    assert radial_unit("2th_deg").label == "2θ (°)"
    assert radial_unit("arcsinh(q.A)").label == "arcsinh(q·Å)"
    assert radial_unit(unit) is unit
    assert isinstance(unit, RadialUnit)
    assert len({radial_unit(name) for name in NAMES}) == len(NAMES)
