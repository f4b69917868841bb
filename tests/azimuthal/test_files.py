"""Text files as TOPAS, GSAS, GSAS-II and Fit2D read them."""

import stat

import numpy as np
import pytest

import azimuthal as az
import gsasii
from azimuthal.errors import FileFormatError
from azimuthal.files import two_theta_degrees, write_xye_columns
from azimuthal.files.whole import replacing
from azimuthal.pattern import Conditions, Pattern

WAVELENGTH = 0.1653e-10
NASTY = [
    "sample: quartz, β-SiO₂ (ρ = 2.65)",
    "q 0.5 is no wavelength",
    "raw run 6f1e2c, T/°C, Λ/Å, Poincaré €\nsecond line",
    "",
]


def pattern_of(unit="2th_deg", edges=None, *, seed=5, pixels=40, wavelength=WAVELENGTH, empty=(), lone=()):
    """Return a pattern of random counts; `empty` bins hold no pixel and `lone` ones a single one."""
    edges = np.linspace(2.0, 14.0, 61) if edges is None else edges
    rng = np.random.default_rng(seed)
    sums = np.zeros((7, edges.size - 1))
    for k in range(edges.size - 1):
        n = 0 if k in empty else 1 if k in lone else pixels
        norm, signal = rng.uniform(0.5, 1.0, n), rng.poisson(200.0, n)
        value = signal / norm
        terms = (np.ones(n), signal, norm, norm**2, norm**2 * value, norm**2 * value**2, signal)
        sums[:, k] = [np.sum(term) for term in terms]
    return Pattern(unit, edges, sums, Conditions("no", "relative", (0.99, 0.0)), wavelength=wavelength)


def q_pattern(**kwargs):
    return pattern_of("q_A^-1", np.linspace(0.5, 12.0, 61), **kwargs)


def weights(pattern, keep=slice(None)):
    return 1 / pattern.sem[keep] ** 2


# ---- .xye


def test_xye_is_read_by_gsasii_to_the_last_digit_written(tmp_path):
    pattern = pattern_of()
    az.write_xye(tmp_path / "a.xye", pattern, ["LaB6", "temperature = 295.5"])
    read = gsasii.read_xye(tmp_path / "a.xye")
    np.testing.assert_allclose(read.x, pattern.radial, rtol=0, atol=5.1e-9)
    np.testing.assert_allclose(read.y, pattern.intensity, rtol=5.1e-9)
    np.testing.assert_allclose(read.w, weights(pattern), rtol=2e-8)
    assert read.sample == {"Temperature": 295.5}


def test_xye_is_read_by_topas(tmp_path):
    pattern = pattern_of(empty=(0, 7), lone=(9,))
    az.write_xye(tmp_path / "a.xye", pattern, NASTY)
    lines = (tmp_path / "a.xye").read_bytes().decode("ascii").splitlines()
    rows = np.array([[float(word) for word in line.split()] for line in lines if not line.startswith("'")])
    assert rows.shape == (57, 3)
    assert (np.diff(rows[:, 0]) > 0).all()
    assert (rows[:, 2] > 0).all()


def test_xye_comments_never_look_like_a_q_axis(tmp_path):
    pattern = pattern_of()
    az.write_xye(tmp_path / "a.xye", pattern, NASTY)
    read = gsasii.read_xye(tmp_path / "a.xye")
    np.testing.assert_allclose(read.x, pattern.radial, atol=5.1e-9)
    head = "\n".join(read.comments)
    assert "' sample: Quartz, beta-SiO2 (rho = 2.65)\n" in head
    assert "' raw run 6f1e2c, T/ degC, Lambda/A, Poincare ?\n' second line\n" in head
    assert "no splitting, relative solid angle, polarization 0.99, azimuthal errors" in head
    assert "wavelength 0.1653 A (75.0056 keV)" in head


def test_xye_takes_one_comment_that_is_no_list(tmp_path):
    az.write_xye(tmp_path / "a.xye", pattern_of(), "LaB6")
    assert gsasii.read_xye(tmp_path / "a.xye").comments[0] == "' LaB6"


def test_xye_leaves_out_bins_without_an_error_and_says_so(tmp_path):
    pattern = pattern_of(empty=(3,), lone=(0, 30))
    assert (pattern.sem[[0, 30]] < 1e-6).all()  # rounding would give these bins weights of 1e13
    az.write_xye(tmp_path / "a.xye", pattern)
    read = gsasii.read_xye(tmp_path / "a.xye")
    assert read.x.size == 57  # the importer did not stop at an error of 0
    assert read.w.max() < 10 * np.median(read.w)
    assert "' 2 bins without a standard error are left out" in read.comments
    az.write_xye(tmp_path / "a.xye", pattern.with_errors("poisson"))
    assert gsasii.read_xye(tmp_path / "a.xye").x.size == 59


def test_xye_keeps_intensities_below_zero(tmp_path):
    pattern = pattern_of()
    sums = np.array(pattern.sums)
    sums[[1, 4], 5] *= -1  # a dark that was brighter than the frame
    az.write_xye(tmp_path / "a.xye", pattern.with_sums(sums))
    rows = np.loadtxt(tmp_path / "a.xye", comments="'")
    assert rows[5, 1] < 0
    read = gsasii.read_xye(tmp_path / "a.xye")
    assert (read.y[5], read.w[5]) == (0, 0)
    assert read.x.size == 60


def test_columns_without_error_or_intensity_are_left_out(tmp_path):
    path = tmp_path / "a.xye"
    write_xye_columns(path, [1, 2, 3, 4], [5, np.nan, 7, 8], [0.1, 0.1, 0.0, np.inf], ["quartz"])
    assert path.read_text() == "' Quartz\n' 2theta (degrees)  intensity  standard error\n1.00000000 5 0.1\n"
    with pytest.raises(FileFormatError, match="no bin with an intensity and a standard error"):
        write_xye_columns(path, [1], [2], [0])


# ---- units


@pytest.mark.parametrize("scale", ["q_A^-1", "q_nm^-1"])
def test_q_becomes_two_theta_by_braggs_law(tmp_path, scale):
    factor = 1.0 if scale == "q_A^-1" else 10.0
    pattern = pattern_of(scale, np.linspace(0.5, 12.0, 61) * factor)
    az.write_xye(tmp_path / "a.xye", pattern)
    read = gsasii.read_xye(tmp_path / "a.xye")
    d = 2 * np.pi / (pattern.radial / factor)
    np.testing.assert_allclose(2 * d * np.sin(np.radians(read.x / 2)), 0.1653, rtol=1e-8)


def test_two_theta_in_radians_is_written_in_degrees(tmp_path):
    pattern = pattern_of("2th_rad", np.radians(np.linspace(2.0, 14.0, 61)))
    az.write_xye(tmp_path / "a.xye", pattern)
    np.testing.assert_allclose(gsasii.read_xye(tmp_path / "a.xye").x, np.linspace(2.1, 13.9, 60), atol=5.1e-9)


WRITERS = [az.write_xye, az.write_chi, az.write_fxye]


@pytest.mark.parametrize("write", WRITERS)
def test_units_without_an_angle_are_refused(tmp_path, write):
    with pytest.raises(FileFormatError, match="r_mm has neither 2theta nor q to write; integrate in 2th_deg"):
        write(tmp_path / "a.chi", pattern_of("r_mm"))
    assert list(tmp_path.iterdir()) == []


def test_q_without_one_wavelength_is_refused(tmp_path):
    two = az.union([q_pattern(), q_pattern(wavelength=0.2e-10)])
    with pytest.raises(FileFormatError, match="needs one wavelength to be written against 2theta"):
        az.write_xye(tmp_path / "a.xye", two)
    with pytest.raises(FileFormatError, match="against q"):
        az.write_chi(tmp_path / "a.chi", pattern_of(wavelength=None), axis="q")


def test_q_beyond_backscattering_is_refused_unless_the_bins_are_empty(tmp_path):
    edges = np.linspace(70.0, 80.0, 61)  # q ends at 4 pi / wavelength = 76.02
    beyond = range(np.flatnonzero(edges[1:] > 76.0)[0], 60)
    with pytest.raises(FileFormatError, match="24 bins lie beyond 2theta = 180"):
        az.write_xye(tmp_path / "a.xye", pattern_of("q_A^-1", edges))
    az.write_xye(tmp_path / "a.xye", pattern_of("q_A^-1", edges, empty=beyond))
    assert gsasii.read_xye(tmp_path / "a.xye").x.max() < 180
    with pytest.raises(FileFormatError, match="narrower range"):
        two_theta_degrees(pattern_of("q_A^-1", edges, empty=beyond))


# ---- .chi


def test_chi_has_the_head_of_fit2d(tmp_path):
    pattern = pattern_of(empty=(4,))
    az.write_chi(tmp_path / "a.chi", pattern, NASTY, columns=2)
    lines = (tmp_path / "a.chi").read_text().splitlines()
    assert lines[0].startswith("sample: quartz")
    assert lines[0].endswith(": 2-theta Scan")
    assert lines[1:4] == ["2-Theta Angle (Degrees)", "Intensity", "          59"]
    rows = np.loadtxt(tmp_path / "a.chi", skiprows=4)
    assert rows.shape == (59, 2)
    np.testing.assert_allclose(rows[:, 0], pattern.radial[pattern.filled], rtol=5.1e-10)
    np.testing.assert_allclose(rows[:, 1], pattern.intensity[pattern.filled], rtol=5.1e-10)


@pytest.mark.parametrize("comments", [(), NASTY, ["q 1.5"]])
def test_chi_is_read_by_gsasii_with_its_errors(tmp_path, comments):
    pattern = pattern_of(lone=(0,))
    az.write_chi(tmp_path / "a.chi", pattern, comments)
    read = gsasii.read_chi(tmp_path / "a.chi")
    np.testing.assert_allclose(read.x, pattern.radial[1:], rtol=5.1e-10)
    np.testing.assert_allclose(read.y, pattern.intensity[1:], rtol=5.1e-10)
    np.testing.assert_allclose(read.w, weights(pattern, slice(1, None)), rtol=2e-9)


@pytest.mark.parametrize("comments", [(), NASTY, ["a 2-Theta scan; chi_2theta"]])
def test_chi_over_q_carries_the_wavelength_where_gsasii_looks_for_it(tmp_path, comments):
    pattern = q_pattern()
    az.write_chi(tmp_path / "a.chi", pattern, comments)
    lines = (tmp_path / "a.chi").read_text().splitlines()
    assert lines[0].endswith(": Q-Space Scan")
    assert lines[1] == "Q (Inverse Angstroms)"
    np.testing.assert_allclose(np.loadtxt(tmp_path / "a.chi", skiprows=4)[:, 0], pattern.radial, rtol=5.1e-10)
    read = gsasii.read_chi(tmp_path / "a.chi")
    np.testing.assert_allclose(read.x, two_theta_degrees(pattern), rtol=1e-8)
    np.testing.assert_allclose(read.y * np.sqrt(read.w), pattern.intensity / pattern.sem, rtol=1e-8)


def test_chi_in_inverse_nanometres_is_fit2ds_own_and_refused_by_gsasii(tmp_path):
    pattern = pattern_of("q_nm^-1", np.linspace(5.0, 120.0, 61))
    az.write_chi(tmp_path / "a.chi", pattern)
    assert (tmp_path / "a.chi").read_text().splitlines()[1] == "Q (Inverse Nanometres)"
    np.testing.assert_allclose(np.loadtxt(tmp_path / "a.chi", skiprows=4)[:, 0], pattern.radial, rtol=5.1e-10)
    with pytest.raises(gsasii.RefusedError, match="no wavelength"):
        gsasii.read_chi(tmp_path / "a.chi")


def test_chi_converts_between_two_theta_and_q(tmp_path):
    pattern, over_q = pattern_of(), q_pattern()
    az.write_chi(tmp_path / "a.chi", pattern, axis="q")
    q = np.loadtxt(tmp_path / "a.chi", skiprows=4)[:, 0]
    np.testing.assert_allclose(q, 4 * np.pi / 0.1653 * np.sin(np.radians(pattern.radial / 2)), rtol=1e-9)
    az.write_chi(tmp_path / "b.chi", over_q, axis="2theta")
    np.testing.assert_allclose(gsasii.read_chi(tmp_path / "b.chi").x, two_theta_degrees(over_q), rtol=1e-9)


# ---- .fxye


def test_fxye_records_have_eighty_columns_and_end_with_crlf(tmp_path):
    az.write_fxye(tmp_path / "a.fxye", pattern_of(), [*NASTY, "x" * 300], title="a title " * 20)
    content = (tmp_path / "a.fxye").read_bytes()
    assert len(content) % 82 == 0
    records = [content[k : k + 82] for k in range(0, len(content), 82)]
    assert all(record.endswith(b"\r\n") and b"\n" not in record[:80] and b"\r" not in record[:80] for record in records)
    assert records[0].startswith(b"a title a title")
    at = next(k for k, record in enumerate(records) if record.startswith(b"BANK"))
    assert all(record.startswith(b"#") for record in records[1:at])
    assert len(records) - at - 1 == 60


def test_fxye_is_read_by_gsasii_to_the_last_digit_written(tmp_path):
    pattern = pattern_of()
    az.write_fxye(tmp_path / "a.fxye", pattern, ["LaB6", "Temperature = 295.5"], bank=3)
    read, bank = gsasii.read_fxye(tmp_path / "a.fxye")
    assert bank == ["BANK", "3", "60", "60", "CONS", "210.000000", "20.000000", "0", "0", "FXYE"]
    np.testing.assert_allclose(read.x, pattern.radial, rtol=0, atol=5.1e-9)
    np.testing.assert_allclose(read.y, pattern.intensity, rtol=5.1e-10)
    np.testing.assert_allclose(read.w, weights(pattern), rtol=2e-9)
    assert read.comments[0].strip() == "LaB6"
    assert read.sample == {"Temperature": 295.5}


def test_fxye_keeps_its_steps_over_empty_bins_and_gives_them_no_weight(tmp_path):
    pattern = pattern_of(empty=(0, 1, 20, 59), lone=(30,))
    az.write_fxye(tmp_path / "a.fxye", pattern)
    read, bank = gsasii.read_fxye(tmp_path / "a.fxye")
    assert bank[2:7] == ["57", "57", "CONS", "250.000000", "20.000000"]
    np.testing.assert_allclose(read.x, pattern.radial[2:59], atol=5.1e-9)
    assert (read.y[18], read.w[18]) == (0, 0)
    assert read.w[28] == 0
    lone = (tmp_path / "a.fxye").read_text().splitlines()[-57 + 28].split()
    assert float(lone[1]) == pytest.approx(pattern.intensity[30], rel=1e-9)
    assert float(lone[2]) == 0
    assert np.count_nonzero(read.w) == 55
    assert "nan" not in (tmp_path / "a.fxye").read_text().lower()


def test_fxye_refuses_steps_that_are_not_equal(tmp_path):
    with pytest.raises(FileFormatError, match="no constant step in 2theta.*integrate in 2th_deg, or use write_xye"):
        az.write_fxye(tmp_path / "a.fxye", q_pattern())
    with pytest.raises(FileFormatError, match="constant step; rebin"):
        az.write_fxye(tmp_path / "a.fxye", pattern_of(edges=np.geomspace(1.0, 10.0, 61)))
    assert list(tmp_path.iterdir()) == []


def test_fxye_of_radians_has_centidegrees(tmp_path):
    az.write_fxye(tmp_path / "a.fxye", pattern_of("2th_rad", np.radians(np.linspace(2.0, 14.0, 61))))
    read, bank = gsasii.read_fxye(tmp_path / "a.fxye")
    assert bank[5:7] == ["210.000000", "20.000000"]
    np.testing.assert_allclose(read.x, np.linspace(2.1, 13.9, 60), atol=5.1e-9)


# ---- all


@pytest.mark.parametrize("write", WRITERS)
def test_patterns_with_nothing_to_write_are_refused(tmp_path, write):
    with pytest.raises(FileFormatError, match="no filled bin"):
        write(tmp_path / "a.chi", pattern_of(empty=range(60)))
    with pytest.raises(FileFormatError, match=r'no bin has a standard error.*with_errors\("poisson"\)'):
        write(tmp_path / "a.chi", pattern_of(lone=range(60)))


@pytest.mark.parametrize("write", WRITERS)
def test_folders_that_do_not_exist_are_named(tmp_path, write):
    with pytest.raises(FileNotFoundError, match="no such folder.*nowhere"):
        write(tmp_path / "nowhere" / "a.chi", pattern_of())


def test_files_appear_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.xye"
    az.write_xye(path, pattern_of())
    before = path.read_bytes()

    def fail_halfway():
        with replacing(path) as scratch:
            scratch.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_halfway()
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_files_follow_links_and_the_usual_permissions(tmp_path):
    target, link, plain = tmp_path / "a.xye", tmp_path / "b.xye", tmp_path / "plain"
    plain.touch()
    link.symlink_to(target)
    az.write_xye(link, pattern_of())
    assert link.is_symlink()
    assert stat.S_IMODE(target.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def small_geometry():
    detector = az.Detector.from_name("detector", shape=(80, 90), pixel1=2e-4, pixel2=2e-4)
    return az.Geometry(detector, 0.1, 0.008, 0.009, wavelength=1e-10)


def test_writers_take_integrated_patterns(tmp_path):
    integrator = az.Integrator(small_geometry(), az.RadialBins("2th_deg", 40), splitting="full")
    pattern = integrator.integrate(np.random.default_rng(1).poisson(50, (80, 90)))
    az.write_xye(tmp_path / "a.xye", pattern)
    az.write_fxye(tmp_path / "a.fxye", pattern)
    kept = gsasii.read_fxye(tmp_path / "a.fxye")[0]
    np.testing.assert_allclose(gsasii.read_xye(tmp_path / "a.xye").y, kept.y[kept.w > 0], rtol=1e-8)


@pytest.mark.parametrize("write", WRITERS)
def test_cakes_are_no_single_pattern(tmp_path, write):
    integrator = az.Integrator(small_geometry(), az.RadialBins("2th_deg", 40), azimuth=az.AzimuthalBins(4))
    cake = integrator.integrate(np.ones((80, 90), np.int32))
    with pytest.raises(FileFormatError, match=r"a cake is no single pattern; write cake\.sector\(lo, hi\)"):
        write(tmp_path / "a.chi", cake)


def test_patterns_less_a_background_are_written_with_both_errors(tmp_path):
    sample, background = pattern_of(seed=1, lone=(4,), empty=(9,)), pattern_of(seed=2, lone=(5,))
    difference = sample - background
    assert (difference.intensity < 0).any()
    az.write_xye(tmp_path / "a.xye", difference)
    rows = np.loadtxt(tmp_path / "a.xye", comments="'")
    kept = np.setdiff1d(np.arange(60), [4, 5, 9])
    np.testing.assert_allclose(rows[:, 0], sample.radial[kept], atol=5.1e-9)
    np.testing.assert_allclose(rows[:, 1], (sample.intensity - background.intensity)[kept], rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(rows[:, 2], np.hypot(sample.sem, background.sem)[kept], rtol=1e-8)
    assert "1 times a background subtracted" in (tmp_path / "a.xye").read_text()
    az.write_fxye(tmp_path / "a.fxye", difference)
    assert np.flatnonzero(gsasii.read_fxye(tmp_path / "a.fxye")[0].y).size < 57  # GSAS-II drops what is below zero
    az.write_chi(tmp_path / "a.chi", difference)
    np.testing.assert_allclose(np.loadtxt(tmp_path / "a.chi", skiprows=4), rows, rtol=1e-7, atol=1e-7)
