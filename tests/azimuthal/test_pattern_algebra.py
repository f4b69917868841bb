"""What patterns allow besides merging: wider bins, backgrounds, files."""

import math
import warnings

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import azimuthal as az
import naive
from azimuthal.errors import FileFormatError, MergeError, PatternError
from azimuthal.pattern import Conditions

EDGES = np.linspace(0.3, 12.3, 13)


def random_pattern(seed, *, splitting="no", pixels=400, **fields):
    """Return a pattern with its dense shares, signal and norm; one bin is empty."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform(0, 13, pixels)
    centres[(centres > 5.1) & (centres < 6.5)] = 2.0
    nothing = np.zeros(pixels, bool)
    if splitting == "no":
        shares = naive.shares_no(centres, nothing, EDGES)
    else:
        shares = naive.shares_bbox(centres, rng.uniform(0.1, 0.4, pixels), nothing, EDGES)
    signal, norm = rng.poisson(30.0, pixels).astype(float), rng.uniform(0.5, 2.0, pixels)
    kind = {"unit": "q_A^-1", "edges": EDGES, "conditions": Conditions(splitting, "relative", (0.99, 0.0))} | fields
    return az.Pattern(sums=naive.sums(shares, signal, norm, signal, nothing), **kind), (shares, signal, norm)


def random_cake(seed, **fields):
    sums = np.abs(np.random.default_rng(seed).normal(5, 1, (7, 3, 12)))
    kind = {"unit": "2th_deg", "edges": EDGES, "conditions": Conditions("no", outliers="sigma_clip 5")} | fields
    return az.Cake(sums=sums, azimuthal_edges=np.array([170.0, 180.0, 190.0, 200.0]), **kind)


# ------------------------------------------------------------------------------------------------- wider bins


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([1, 2, 3, 4, 6, 12]))
def test_rebin_without_splitting_is_the_pattern_of_wider_bins(seed, factor):
    pattern, (shares, signal, norm) = random_pattern(seed)
    wide = shares.reshape(len(shares), -1, factor).sum(axis=2)
    truth = naive.sums(wide, signal, norm, signal, np.zeros(signal.size, bool))
    rebinned = pattern.rebin(factor)
    np.testing.assert_allclose(rebinned.sums, truth, rtol=1e-12)
    variance = naive.two_pass_variance(wide, signal, norm, np.zeros(signal.size, bool))
    np.testing.assert_allclose(rebinned.sum_variance, variance, rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(rebinned.edges, EDGES[::factor])
    by_edges = pattern.rebin(np.linspace(0.3, 12.3, 12 // factor + 1))
    np.testing.assert_array_equal(by_edges.sums, rebinned.sums)
    np.testing.assert_array_equal(by_edges.edges, rebinned.edges)


def test_rebin_of_split_pixels_keeps_intensities_and_warns_of_errors():
    pattern, (shares, signal, norm) = random_pattern(1, splitting="bbox")
    with pytest.warns(UserWarning, match="rebin: with splitting 'bbox' .* errors come out low"):
        rebinned = pattern.rebin(4)
    wide = shares.reshape(len(shares), -1, 4).sum(axis=2)
    truth = naive.sums(wide, signal, norm, signal, np.zeros(signal.size, bool))
    np.testing.assert_allclose(rebinned.sums[:3], truth[:3], rtol=1e-12)
    assert (rebinned.sum_poisson <= truth[6] * (1 + 1e-12)).all()
    assert pattern.rebin(1).npt == pattern.npt  # nothing put together, nothing to warn of


def test_rebin_to_edges_drops_what_lies_outside_and_takes_uneven_bins():
    pattern, _ = random_pattern(2)
    part = pattern.rebin([1.3, 4.3, 5.3, 9.3])
    np.testing.assert_allclose(part.count, [pattern.count[1:4].sum(), pattern.count[4], pattern.count[5:9].sum()])
    np.testing.assert_array_equal(part.edges, EDGES[[1, 4, 5, 9]])


def test_rebin_of_a_cake_goes_along_the_radius():
    cake = random_cake(3)
    wide = cake.rebin(3)
    assert wide.shape == (3, 4)
    np.testing.assert_allclose(wide.sums, cake.sums.reshape(7, 3, 4, 3).sum(axis=-1), rtol=1e-14)
    np.testing.assert_array_equal(wide.azimuthal_edges, cake.azimuthal_edges)


def test_rebinned_pattern_merges_with_one_integrated_in_wide_bins():
    fine, _ = random_pattern(4)
    coarse, _ = random_pattern(5)
    wide = np.linspace(0.3, 12.3, 5)
    direct = az.Pattern(fine.unit, wide, coarse.rebin(3).sums, fine.conditions)
    assert (direct | fine.rebin(3)).npt == 4


@pytest.mark.parametrize(
    ("factor", "said"),
    [
        (5, "5 does not divide 12 bins; what does: 1, 2, 3, 4, 6, 12"),
        (0, "0 does not divide"),
        (-2, "-2 does not divide"),
        (2.5, "2.5 does not divide"),
        (True, "True does not divide"),
        (math.nan, "nan does not divide"),
        ("two", "'two' does not divide"),
        ([0.3, 1.4], r"edge 1\.4 is none of the pattern's; the nearest is 1\.3"),
        ([0.3, 14.3], r"edge 14\.3 is none"),
        ([0.3, math.nan], "edges must ascend"),
        ([2.3, 1.3], "edges must ascend"),
        ([2.3], "edges must ascend"),
        ([[1.3, 2.3]], "edges must ascend"),
        (["a", "b"], "are no edges"),
    ],
)
def test_rebin_that_does_not_fit_is_refused(factor, said):
    pattern, _ = random_pattern(6)
    with pytest.raises(ValueError, match=said):
        pattern.rebin(factor)


def test_edges_that_differ_are_told_as_plain_numbers():
    pattern, _ = random_pattern(6)
    edges = pattern.edges.copy()
    edges[1] = 1.5
    with pytest.raises(ValueError, match=r"edges differ \(edge 1 is 1\.3 and 1\.5\)"):
        pattern | az.Pattern(pattern.unit, edges, pattern.sums, pattern.conditions)


# ------------------------------------------------------------------------------------------------- backgrounds


@pytest.mark.parametrize("error_model", ["azimuthal", "poisson"])
def test_difference_subtracts_intensities_and_adds_errors_in_squares(error_model):
    sample, background = (random_pattern(seed)[0].with_errors(error_model) for seed in (7, 8))
    difference = sample.subtract(background, scale=0.7)
    np.testing.assert_allclose(difference.intensity, sample.intensity - 0.7 * background.intensity)
    np.testing.assert_allclose(difference.sem**2, sample.sem**2 + 0.49 * background.sem**2)
    np.testing.assert_allclose(difference.std**2, sample.std**2 + 0.49 * background.std**2)
    assert np.isnan(difference.intensity[5]), "empty in both"
    assert not difference.filled[5]
    plain = sample - background
    np.testing.assert_allclose(plain.intensity, sample.intensity - background.intensity)
    assert (plain.unit, plain.error_model, plain.conditions) == (sample.unit, error_model, sample.conditions)
    np.testing.assert_array_equal(plain.radial, sample.radial)
    np.testing.assert_array_equal(
        plain.with_errors("poisson").sem, (sample.with_errors("poisson") - background.with_errors("poisson")).sem
    )


def test_difference_has_the_scatter_of_repeated_measurements():
    rng = np.random.default_rng(9)
    frames, pixels = 2000, 200
    edges = np.array([0.0, 1.0])

    def patterns(mean):
        counts = rng.poisson(mean, (frames, pixels)).astype(float)
        for s in counts:
            sums = [pixels, s.sum(), pixels, pixels, s.sum(), (s**2).sum(), s.sum()]
            yield az.Pattern("2th_deg", edges, np.array(sums)[:, None], Conditions("no"))

    differences = [a.subtract(b, 0.5) for a, b in zip(patterns(20.0), patterns(9.0), strict=True)]
    values = np.array([d.intensity[0] for d in differences])
    chi_square = np.mean(((values - (20.0 - 4.5)) / np.array([d.sem[0] for d in differences])) ** 2)
    assert chi_square == pytest.approx(1.0, abs=5 * math.sqrt(2 / frames))


def test_difference_is_not_merged_but_says_what_to_do():
    sample, background = random_pattern(10)[0], random_pattern(11)[0]
    difference = sample - background
    for merge in (lambda: difference | difference, lambda: difference | sample, lambda: sample | difference):
        with pytest.raises(MergeError, match="merge the samples, merge the backgrounds, and subtract then"):
            merge()
    assert ((sample | sample) - background).intensity == pytest.approx(difference.intensity, nan_ok=True)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"unit": "q_nm^-1"}, "unit differs"),
        ({"edges": EDGES + 0.1}, "edges differ"),
        ({"conditions": Conditions("no", "absolute", (0.99, 0.0))}, "solid_angle differs"),
        ({"conditions": Conditions("no", "relative", None)}, "polarization differs"),
        ({"conditions": Conditions("no", "relative", (0.99, 0.0), parallax=True)}, "parallax differs"),
    ],
)
def test_difference_of_what_does_not_fit_is_refused(fields, said):
    with pytest.raises(MergeError, match=f"the background does not fit the sample: {said}"):
        random_pattern(12)[0] - random_pattern(13, **fields)[0]


def test_difference_takes_a_background_of_other_splitting_and_outlier_treatment():
    clipped = Conditions("bbox", "relative", (0.99, 0.0), outliers="median")
    assert isinstance(random_pattern(14)[0] - random_pattern(15, conditions=clipped)[0], az.Difference)


def test_difference_of_cakes_and_of_strangers():
    cakes = random_cake(1) - random_cake(2)
    assert cakes.intensity.shape == (3, 12)
    np.testing.assert_array_equal(cakes.azimuthal, [175, 185, 195])
    with pytest.raises(MergeError, match="kind differs"):
        random_cake(1).subtract(random_pattern(1)[0])
    with pytest.raises(AttributeError, match="a pattern has no azimuthal"):
        _ = (random_pattern(1)[0] - random_pattern(2)[0]).azimuthal
    with pytest.raises(PatternError, match="scale nan is not finite"):
        random_cake(1).subtract(random_cake(2), math.nan)
    with pytest.raises(TypeError):
        random_cake(1) - 3.0


def test_difference_in_wider_bins_is_that_of_both():
    sample, background = random_pattern(16)[0], random_pattern(17)[0]
    rebinned = (sample - background).rebin(4)
    np.testing.assert_array_equal(rebinned.sem, (sample.rebin(4) - background.rebin(4)).sem)


# ------------------------------------------------------------------------------------------------- files


def same(one, two):
    assert type(one) is type(two)
    if isinstance(one, az.Difference):
        assert one.scale == two.scale
        same(one.sample, two.sample)
        same(one.background, two.background)
        return
    for name, value in vars(one).items():
        other = getattr(two, name)
        if isinstance(value, np.ndarray):
            assert value.tobytes() == other.tobytes(), name
            assert value.shape == other.shape
        else:
            assert (value, type(value)) == (other, type(other)), name


@pytest.mark.parametrize(
    "pattern",
    [
        random_pattern(20)[0],
        random_pattern(21, error_model="poisson", gain=0.1, masked_pixels=12, wavelength=1.23e-11)[0],
        random_pattern(22, conditions=Conditions("full", None, (0.9, 0.1), True, "quantile 0.1 0.9"))[0],
        random_pattern(23, conditions=Conditions("no"))[0],
        random_cake(24, wavelength=1e-10),
        random_pattern(25)[0].subtract(random_pattern(26)[0], 0.1),
        random_cake(27) - random_cake(28),
    ],
    ids=["plain", "fields", "conditions", "few", "cake", "difference", "cakes"],
)
def test_saved_pattern_comes_back_whole(pattern, tmp_path):
    path = tmp_path / "one.h5"
    pattern.save(path)
    back = az.load_pattern(path)
    same(pattern, back)
    if not isinstance(pattern, az.Difference):
        same(pattern | back, back | pattern)
    assert [p.name for p in tmp_path.iterdir()] == ["one.h5"]


def test_saving_replaces_a_file_whole_or_leaves_it(tmp_path):
    path = tmp_path / "one.h5"
    first, second = random_pattern(30)[0], random_pattern(31)[0]
    first.save(str(path))
    second.save(path)
    same(az.load_pattern(str(path)), second)
    with pytest.raises(OSError, match="nowhere"):
        first.save(tmp_path / "nowhere" / "one.h5")
    same(az.load_pattern(path), second)


def test_file_that_is_not_there_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        az.load_pattern(tmp_path / "none.h5")
    with pytest.raises(IsADirectoryError):
        az.load_pattern(tmp_path)


def test_file_that_is_not_ours_is_told(tmp_path):
    path = tmp_path / "other.h5"
    for content in (b"", b"2theta intensity\n", b"\x89HDF\r\n\x1a\n" + b"rubbish" * 100):
        path.write_bytes(content)
        with pytest.raises(FileFormatError, match=r"other.h5: (no HDF5 file|damaged or truncated)"):
            az.load_pattern(path)
    with h5py.File(path, "w") as file:
        file["entry/data"] = np.zeros(3)
    with pytest.raises(FileFormatError, match=r"other.h5: an HDF5 file, but none that pattern.save wrote"):
        az.load_pattern(path)


def test_truncated_or_damaged_file_is_told(tmp_path):
    whole, cut = tmp_path / "whole.h5", tmp_path / "cut.h5"
    random_cake(32).save(whole)
    content = whole.read_bytes()
    for n in range(8, len(content), max(1, len(content) // 40)):
        cut.write_bytes(content[:n])
        with pytest.raises(FileFormatError, match="damaged or truncated"):
            az.load_pattern(cut)


@pytest.mark.parametrize("lost", ["sums/sum_poisson", "edges", "azimuthal_edges"])
def test_file_that_lacks_something_is_told(lost, tmp_path):
    path = tmp_path / "one.h5"
    random_cake(33).save(path)
    with h5py.File(path, "a") as file:
        del file[lost]
    with pytest.raises(FileFormatError, match="damaged or truncated"):
        az.load_pattern(path)


def test_file_of_a_later_version_is_told(tmp_path):
    path = tmp_path / "one.h5"
    random_cake(34).save(path)
    with h5py.File(path, "a") as file:
        file.attrs["version"] = 2
    with pytest.raises(FileFormatError, match="layout version 2 is newer"):
        az.load_pattern(path)


def test_saved_pattern_of_an_integration_reads_the_same(tmp_path):
    detector = az.Detector.from_name("detector", shape=(20, 20), pixel1=1e-3, pixel2=1e-3)
    integrator = az.Integrator(az.Geometry(detector, 0.1, 0.01, 0.01), az.RadialBins("2th_deg", 30))
    pattern = integrator.integrate(np.random.default_rng(0).poisson(9.0, (20, 20)))
    pattern.save(tmp_path / "p.h5")
    back = az.load_pattern(tmp_path / "p.h5")
    assert back.spottiness() == pattern.spottiness()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (back | integrator.integrate(np.ones((20, 20)))).npt == 30
