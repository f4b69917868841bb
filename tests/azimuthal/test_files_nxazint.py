"""NXazint files as GSAS-II, silx and pyFAI read them, and as the NeXus definition asks for them."""

import h5py
import numpy as np
import pytest

import azimuthal as az
import gsasii
from azimuthal.errors import FileFormatError
from azimuthal.files import two_theta_degrees
from azimuthal.pattern import Conditions, Pattern

NPT = 50


def pattern_of(unit="2th_deg", span=(2.0, 14.0), *, seed=5, wavelength=0.1653e-10, empty=(), lone=(), **conditions):
    """Return a pattern of random counts; `empty` bins hold no pixel and `lone` ones a single one."""
    rng = np.random.default_rng(seed)
    sums = np.zeros((7, NPT))
    for k in range(NPT):
        n = 0 if k in empty else 1 if k in lone else 30
        norm, signal = rng.uniform(0.5, 1.0, n), rng.poisson(200.0, n)
        value = signal / norm
        terms = (np.ones(n), signal, norm, norm**2, norm**2 * value, norm**2 * value**2, signal)
        sums[:, k] = [np.sum(term) for term in terms]
    kind = {"splitting": "no", "solid_angle": "relative", "polarization": (0.99, 0.0)} | conditions
    return Pattern(unit, np.linspace(*span, NPT + 1), sums, Conditions(**kind), wavelength=wavelength)


def series(n=4, **kwargs):
    return [pattern_of(seed=seed, **kwargs) for seed in range(n)]


def test_gsasii_reads_a_series_exactly(tmp_path):
    patterns = series()
    az.write_nxazint(tmp_path / "a.h5", patterns, sample="LaB6", instrument="ID11", source="ESRF")
    read = gsasii.read_nxazint(tmp_path / "a.h5")
    assert len(read) == 4
    for histogram, pattern in zip(read, patterns, strict=True):
        np.testing.assert_array_equal(histogram.x, pattern.radial)
        np.testing.assert_array_equal(histogram.y, pattern.intensity)
        np.testing.assert_array_equal(histogram.w, 1 / pattern.sem**2)
        assert histogram.wavelength == pytest.approx(0.1653, rel=1e-15)


def test_gsasii_reads_a_single_pattern(tmp_path):
    pattern = pattern_of()
    az.write_nxazint(tmp_path / "a.hdf", pattern)
    (read,) = gsasii.read_nxazint(tmp_path / "a.hdf")
    np.testing.assert_array_equal(read.y, pattern.intensity)


def test_gsasii_attaches_parameters_to_each_image(tmp_path):
    temperature, time = np.linspace(300, 450, 4), np.arange(4)
    parameters = {"temperature": temperature, "time": time, "phi": [0.0, 0.5, 1.0, 1.5], "x": [1.5] * 4}
    az.write_nxazint(tmp_path / "a.h5", series(), parameters=parameters, units={"temperature": "K", "time": "s"})
    read = gsasii.read_nxazint(tmp_path / "a.h5")
    assert [histogram.sample["Temperature"] for histogram in read] == temperature.tolist()
    assert [histogram.sample["Time"] for histogram in read] == time.tolist()
    assert [histogram.sample["Phi"] for histogram in read] == parameters["phi"]
    assert read[0].comments.count("x=1.5") == 1
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["entry/sample/temperature"].attrs["units"] == "K"
        assert "units" not in file["entry/sample/x"].attrs


def test_empty_and_lone_bins_have_no_weight_and_nothing_is_nan(tmp_path):
    pattern = pattern_of(empty=(0, 10, 49), lone=(20,))
    az.write_nxazint(tmp_path / "a.h5", pattern)
    (read,) = gsasii.read_nxazint(tmp_path / "a.h5")
    assert np.isfinite(read.y).all()
    assert np.flatnonzero(read.w == 0).tolist() == [0, 10, 20, 49]
    assert read.y[20] == pattern.intensity[20]
    with h5py.File(tmp_path / "a.h5") as file:
        np.testing.assert_array_equal(file["entry/data/norm"], pattern.count)
        assert np.flatnonzero(file["entry/data/norm"][()] == 0).tolist() == [0, 10, 49]


def test_q_is_converted_by_default_and_kept_when_asked(tmp_path):
    pattern = pattern_of("q_nm^-1", (5.0, 120.0))
    az.write_nxazint(tmp_path / "a.h5", pattern)
    (read,) = gsasii.read_nxazint(tmp_path / "a.h5")
    np.testing.assert_array_equal(read.x, two_theta_degrees(pattern))
    az.write_nxazint(tmp_path / "q.h5", pattern, axis="q")
    with h5py.File(tmp_path / "q.h5") as file:
        axis, edges = file["entry/data/radial_axis"], file["entry/data/radial_axis_edges"]
        np.testing.assert_allclose(axis, pattern.radial / 10, rtol=1e-15)
        np.testing.assert_allclose(edges, pattern.edges / 10, rtol=1e-15)
        assert (axis.attrs["units"], axis.attrs["long_name"]) == ("1/angstrom", "q")
        assert edges.attrs["long_name"] == "q bin edges"
    with pytest.raises(gsasii.RefusedError, match="2theta units, not q"):
        gsasii.read_nxazint(tmp_path / "q.h5")


def test_wavelength_can_be_given(tmp_path):
    pattern = pattern_of("q_A^-1", (0.5, 12.0), wavelength=None)
    with pytest.raises(FileFormatError, match="needs one wavelength.*give wavelength="):
        az.write_nxazint(tmp_path / "a.h5", pattern)
    az.write_nxazint(tmp_path / "a.h5", pattern, wavelength=0.5e-10)
    (read,) = gsasii.read_nxazint(tmp_path / "a.h5")
    assert read.wavelength == pytest.approx(0.5)
    np.testing.assert_allclose(4 * np.pi / 0.5 * np.sin(np.radians(read.x / 2)), pattern.radial, rtol=1e-12)


def test_corrections_are_told_as_they_are(tmp_path):
    bare = pattern_of(solid_angle=None, polarization=None)
    az.write_nxazint(tmp_path / "a.h5", bare)
    with h5py.File(tmp_path / "a.h5") as file:
        entry = file["entry"]
        assert not entry["solid_angle_applied"][()]
        assert not entry["polarization_applied"][()]
        assert entry["normalization_applied"][()]
        assert "monitor_applied" not in entry
    az.write_nxazint(tmp_path / "a.h5", series(3), monitor=[1.0, 1.1, 0.9], poni="Distance: 1\n", comments=["raw 6f"])
    with h5py.File(tmp_path / "a.h5") as file:
        entry = file["entry"]
        assert entry["solid_angle_applied"][()]
        assert entry["polarization_applied"][()]
        assert entry["monitor_applied"][()]
        assert entry["monitor/data"][()].tolist() == [1.0, 1.1, 0.9]
        given = entry["reduction/input"]
        assert given["polarization_factor"][()] == 0.99
        assert given["poni"].asstr()[()] == "Distance: 1\n"
        assert given["radial_bins"][()] == NPT
        assert given["azimuth_bins"][()] == 1
        assert entry["reduction/note"].asstr()[()].endswith("\nraw 6f")


# What nexusformat/definitions asks of NXazint1d: path -> attributes with their values.
DEFINITION = {
    "": {"NX_class": "NXentry"},
    "definition": {},
    "solid_angle_applied": {},
    "polarization_applied": {},
    "normalization_applied": {},
    "instrument": {"NX_class": "NXinstrument"},
    "instrument/name": {},
    "instrument/monochromator": {"NX_class": "NXmonochromator"},
    "instrument/monochromator/wavelength": {"units": "angstrom"},
    "instrument/monochromator/energy": {"units": "keV"},
    "instrument/source": {"NX_class": "NXsource"},
    "instrument/source/name": {},
    "instrument/source/type": {},
    "instrument/source/probe": {},
    "reduction": {"NX_class": "NXprocess"},
    "reduction/program": {},
    "reduction/version": {},
    "reduction/date": {},
    "reduction/reference": {},
    "reduction/input": {"NX_class": "NXparameters"},
    "data": {"NX_class": "NXdata", "signal": "I"},
    "data/I": {"long_name": "intensity", "units": "arbitrary units"},
    "data/I_errors": {"long_name": "estimated intensity error", "units": "arbitrary units"},
    "data/radial_axis": {"long_name": "2theta", "units": "degrees"},
    "data/radial_axis_edges": {"long_name": "2theta bin edges", "units": "degrees"},
    "data/norm": {
        "long_name": "effective number of pixels contributing to the corresponding bin",
        "units": "arbitrary units",
    },
}


def check_definition(entry, definition, interpretation, axes):
    for path, attributes in DEFINITION.items():
        item = entry[path] if path else entry
        for name, value in attributes.items():
            assert item.attrs[name] == value, f"{path}@{name}"
    assert entry["definition"].asstr()[()] == definition
    assert entry["data"].attrs["interpretation"] == interpretation
    assert entry["data"].attrs["axes"].tolist() == axes
    energy = entry["instrument/monochromator/energy"][()]
    assert energy * entry["instrument/monochromator/wavelength"][()] == pytest.approx(12.398419843)
    np.datetime64(entry["reduction/date"].asstr()[()].removesuffix("+00:00"))


def test_layout_is_the_nexus_definition(tmp_path):
    patterns = [*series(2), pattern_of(lone=(5,))]
    az.write_nxazint(tmp_path / "a.h5", patterns)
    with h5py.File(tmp_path / "a.h5") as file:
        check_definition(file["entry"], "NXazint1d", "spectrum", [".", "radial_axis"])
        assert file["entry/data/I"].shape == file["entry/data/I_errors"].shape == (3, NPT)
        assert file["entry/data/radial_axis"].shape == (NPT,)
        np.testing.assert_allclose(file["entry/data/norm"], np.mean([p.count for p in patterns], axis=0))


def test_silx_finds_the_default_plot(tmp_path):
    nxdata = pytest.importorskip("silx.io.nxdata")
    patterns = series(3)
    az.write_nxazint(tmp_path / "a.h5", patterns)
    with h5py.File(tmp_path / "a.h5") as file:
        plot = nxdata.get_default(file)
        assert plot.is_valid
        assert plot.signal.shape == (3, NPT)
        assert plot.interpretation == "spectrum"
        np.testing.assert_array_equal(plot.axes[-1], patterns[0].radial)
        np.testing.assert_array_equal(plot.errors[1], patterns[1].sem)


def test_pyfai_adds_its_patterns_to_ours(tmp_path):
    nexus = pytest.importorskip("pyFAI.io.nexus")
    from pyFAI.detectors import Detector
    from pyFAI.integrator.azimuthal import AzimuthalIntegrator

    shape = (60, 70)
    frame = np.random.default_rng(1).poisson(100, shape).astype(np.int32)
    geometry = az.Geometry(
        az.Detector.from_name("detector", shape=shape, pixel1=2e-4, pixel2=2e-4), 0.1, 0.006, 0.007, wavelength=1e-10
    )
    bins = az.RadialBins("2th_deg", NPT, (0.5, 5.0))
    pattern = az.Integrator(geometry, bins, splitting="no", polarization=None).integrate(frame)
    az.write_nxazint(tmp_path / "a.h5", pattern)
    ai = AzimuthalIntegrator(0.1, 0.006, 0.007, detector=Detector(2e-4, 2e-4, max_shape=shape), wavelength=1e-10)
    theirs = ai.integrate1d(
        frame, NPT, unit="2th_deg", radial_range=(0.5, 5.0), error_model="poisson", method=("no", "csr", "cython")
    )
    nexus.save_NXazint1d(tmp_path / "a.h5", theirs, mode="a")
    ours, added = gsasii.read_nxazint(tmp_path / "a.h5")
    np.testing.assert_array_equal(ours.y, pattern.intensity)
    np.testing.assert_allclose(added.y[1:], ours.y[1:], rtol=1e-4)  # the first bin of pyFAI takes what lies before it
    np.testing.assert_allclose(added.x, theirs.radial, atol=1e-5)


def test_patterns_are_taken_one_by_one(tmp_path):
    alive = []

    def made():
        for seed in range(3):
            alive.append(seed)
            yield pattern_of(seed=seed)

    az.write_nxazint(tmp_path / "a.h5", made(), parameters={"time": [1.0, 2.0, 3.0]})
    assert alive == [0, 1, 2]
    assert len(gsasii.read_nxazint(tmp_path / "a.h5")) == 3


@pytest.mark.parametrize(
    ("other", "match"),
    [
        ({"span": (2.0, 15.0)}, "pattern 2 does not go with the first one: edges differ"),
        ({"splitting": "full"}, "splitting differs"),
        ({"wavelength": 1e-10}, "wavelength differs"),
    ],
)
def test_patterns_that_differ_are_refused(tmp_path, other, match):
    with pytest.raises(FileFormatError, match=match):
        az.write_nxazint(tmp_path / "a.h5", [pattern_of(), pattern_of(**other)])
    with pytest.raises(FileFormatError, match="error model differs"):
        az.write_nxazint(tmp_path / "a.h5", [pattern_of(), pattern_of().with_errors("poisson")])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("parameters", "match"),
    [
        ({"x": [1.0, 2.0]}, r"parameters: x: shape \(2,\), but there are 3 patterns"),
        ({"x": ["a", "b", "c"]}, "is no number"),
        ({"name": [1.0, 2.0, 3.0]}, "'name' cannot be a name here"),
        ({"a/b": [1.0, 2.0, 3.0]}, "'a/b' cannot be a name here"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(tmp_path, parameters, match):
    with pytest.raises(FileFormatError, match=match):
        az.write_nxazint(tmp_path / "a.h5", series(3), parameters=parameters)
    assert list(tmp_path.iterdir()) == []


def test_what_gsasii_would_not_open_is_refused(tmp_path):
    with pytest.raises(FileFormatError, match=r"a\.nxs: GSAS-II reads NXazint from \.h5 and \.hdf only"):
        az.write_nxazint(tmp_path / "a.nxs", pattern_of())
    with pytest.raises(FileFormatError, match="no patterns"):
        az.write_nxazint(tmp_path / "a.h5", [])
    with pytest.raises(FileFormatError, match="neither 2theta nor q"):
        az.write_nxazint(tmp_path / "a.h5", pattern_of("r_mm"))
    with pytest.raises(FileNotFoundError, match="no such folder"):
        az.write_nxazint(tmp_path / "nowhere" / "a.h5", pattern_of())
    with pytest.raises(FileFormatError, match="monitor: shape"):
        az.write_nxazint(tmp_path / "a.h5", series(3), monitor=1.0)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file(tmp_path):
    az.write_nxazint(tmp_path / "a.h5", pattern_of())
    before = (tmp_path / "a.h5").read_bytes()

    def breaks():
        yield pattern_of()
        raise OSError("disk gone")

    with pytest.raises(OSError, match="disk gone"):
        az.write_nxazint(tmp_path / "a.h5", breaks())
    assert (tmp_path / "a.h5").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]


# ---- cakes


def cakes(n=2, sectors=6, unit="2th_deg", npt=30):
    """Return cakes of random frames."""
    detector = az.Detector.from_name("detector", shape=(80, 90), pixel1=2e-4, pixel2=2e-4)
    geometry = az.Geometry(detector, 0.1, 0.008, 0.009, wavelength=1e-10)
    integrator = az.Integrator(
        geometry, az.RadialBins(unit, npt), azimuth=az.AzimuthalBins(sectors, (-180, 180)), splitting="no"
    )
    rng = np.random.default_rng(2)
    return [integrator.integrate(rng.poisson(80, (80, 90))) for _ in range(n)]


@pytest.mark.parametrize("unit", ["2th_deg", "q_A^-1"])
def test_gsasii_reads_every_sector_of_every_cake(tmp_path, unit):
    several = cakes(unit=unit)
    az.write_nxazint(tmp_path / "a.h5", several, parameters={"temperature": [300.0, 310.0]})
    read = gsasii.read_nxazint(tmp_path / "a.h5")
    assert len(read) == 12
    for number, histogram in enumerate(read):
        cake, k = several[number // 6], number % 6
        assert histogram.sample == {"Azimuth": cake.azimuthal[k], "Temperature": 300.0 + 10 * (number // 6)}
        filled = cake.filled[k]
        np.testing.assert_array_equal(histogram.x, two_theta_degrees(cake))
        np.testing.assert_array_equal(histogram.y[filled], cake.intensity[k][filled])
        assert (histogram.y[~filled] == 0).all()
        assert (histogram.w[~filled] == 0).all()
        trusted = filled & (cake.count[k] > 1)
        np.testing.assert_array_equal(histogram.w[trusted], 1 / cake.sem[k][trusted] ** 2)
        assert (histogram.w[filled & (cake.count[k] == 1)] == 0).all()


def test_one_cake_has_the_layout_of_the_nexus_definition(tmp_path):
    (cake,) = cakes(1)
    az.write_nxazint(tmp_path / "a.h5", cake)
    with h5py.File(tmp_path / "a.h5") as file:
        check_definition(file["entry"], "NXazint2d", "image", [".", "azimuthal_axis", "radial_axis"])
        data = file["entry/data"]
        assert data["I"].shape == data["I_errors"].shape == (1, 6, 30)
        np.testing.assert_array_equal(data["norm"], cake.count)
        np.testing.assert_array_equal(data["azimuthal_axis"], np.arange(-150, 180, 60))
        np.testing.assert_array_equal(data["azimuthal_axis_edges"], np.arange(-180, 181, 60))
        assert dict(data["azimuthal_axis"].attrs) == {"long_name": "azimuthal bin center", "units": "degrees"}
        assert dict(data["azimuthal_axis_edges"].attrs) == {"long_name": "azimuthal bin edges", "units": "degrees"}
        assert file["entry/reduction/input/azimuth_bins"][()] == 6


def test_silx_finds_the_default_plot_of_a_cake(tmp_path):
    nxdata = pytest.importorskip("silx.io.nxdata")
    several = cakes(3)
    az.write_nxazint(tmp_path / "a.h5", several)
    with h5py.File(tmp_path / "a.h5") as file:
        plot = nxdata.get_default(file)
        assert plot.is_valid
        assert plot.signal.shape == (3, 6, 30)
        assert plot.interpretation == "image"
        assert plot.axes_dataset_names == [None, "azimuthal_axis", "radial_axis"]


def test_cakes_and_patterns_do_not_mix(tmp_path):
    (cake,) = cakes(1)
    with pytest.raises(FileFormatError, match="kind differs"):
        az.write_nxazint(tmp_path / "a.h5", [cake, cake.sector(-180, 180)])


# ---- less a background


def test_patterns_less_a_background_are_written_with_both_errors(tmp_path):
    background = pattern_of(seed=9, lone=(3,))
    differences = [pattern.subtract(background, 0.5) for pattern in series(2, lone=(7,))]
    az.write_nxazint(tmp_path / "a.h5", differences)
    for histogram, difference in zip(gsasii.read_nxazint(tmp_path / "a.h5"), differences, strict=True):
        np.testing.assert_array_equal(histogram.y, difference.intensity)
        assert np.flatnonzero(histogram.w == 0).tolist() == [3, 7]
        keep = histogram.w > 0
        np.testing.assert_allclose(histogram.w[keep], 1 / difference.sem[keep] ** 2, rtol=1e-12)
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["entry/reduction/input/background_scale"][()] == 0.5
    with pytest.raises(FileFormatError, match=r"scale of the background differs \(0.5 and 1\)"):
        az.write_nxazint(tmp_path / "a.h5", [differences[0], pattern_of() - background])
    with pytest.raises(FileFormatError, match="kind differs"):
        az.write_nxazint(tmp_path / "a.h5", [differences[0], background])
