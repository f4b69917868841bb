"""The tutorial on a simulated file of the real one's layout: rings of spots, dummies at 65535, bitshuffle-LZ4."""

import importlib.util
import re
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest

import azimuthal as az
from bluesky_powder.sim import SILICON, Powder, Specimen
from bluesky_powder.sim.image import View

SHAPE = (280, 300)
FRAMES = 12
NPT = 400
DUMMY = 65535
PONI = """poni_version: 2.1
Detector: Detector
Detector_config: {"pixel1": 7.5e-05, "pixel2": 7.5e-05, "max_shape": [280, 300], "orientation": 3}
Distance: 0.05
Poni1: 0.0101
Poni2: 0.0109
Rot1: 0.02
Rot2: 0.01
Rot3: 0
Wavelength: 2.8457e-11
"""


@pytest.fixture(scope="module")
def tutorial():
    path = Path(__file__).resolve().parents[2] / "examples" / "spotty_tutorial.py"
    spec = importlib.util.spec_from_file_location("spotty_tutorial", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def simulate(folder):
    """Write PONI file and frames; half of the grains change from one frame to the next. Return the frames."""
    (folder / "detector.poni").write_text(PONI)
    geometry = az.Geometry.from_poni(folder / "detector.poni")
    powder = Powder(SILICON, crystallites=1500, acceptance=4e-3, smooth_share=0.05, ring_width=1.2e-3, spot_width=8e-4)
    specimen = Specimen(powder, geometry.wavelength, 0.45, beam_width=1.0, seed=7)
    view = View(geometry, specimen, 0.99)
    rng = np.random.default_rng(3)
    frames = np.stack([view.expose(specimen.at(0.5 * step), 1e5, rng) for step in range(FRAMES)])
    frames[:, 136:144] = DUMMY
    frames[:, rng.random(SHAPE) < 1e-3] = DUMMY
    frames[0, 20, 30:60] = DUMMY  # dead in one frame only
    with h5py.File(folder / "eiger_0000.h5", "w") as file:
        group = file.create_group("entry_0000/ESRF-ID11/eiger")
        group.create_dataset("data", data=frames, chunks=(1, *SHAPE), **hdf5plugin.Bitshuffle(cname="lz4"))
        file["entry_0000/measurement/diode"] = np.arange(FRAMES)
        file["entry_0000/measurement/flatfield"] = np.ones(SHAPE)
        file["entry_0000/measurement/two"] = np.ones((2, *SHAPE))
    return frames


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spotty")
    return folder, simulate(folder)


def spottiness(geometry, frames):
    """Return S of the sum of frames by the two-pass definition, dummies left out."""
    seen = (frames != DUMMY).sum(axis=0)
    signal = np.where(frames == DUMMY, 0, frames).sum(axis=0, dtype=float)[seen > 0]
    norm = (geometry.solid_angle("relative") * geometry.polarization(0.99) * seen)[seen > 0]
    edges = az.RadialBins("2th_deg", NPT).resolved(geometry).edges
    place = np.searchsorted(edges, np.degrees(geometry.two_theta())[seen > 0], "right") - 1
    weight, total = (np.bincount(place, part, NPT) for part in (norm, signal))
    mean = np.divide(total, weight, out=np.zeros(NPT), where=weight > 0)
    variance = np.bincount(place, (signal - norm * mean[place]) ** 2, NPT)
    rings = total > 0
    return np.sqrt((variance[rings] / total[rings] ** 2).mean())


def test_tutorial_prints_the_numbers_and_draws_the_picture(tutorial, measured, capsys):
    folder, frames = measured
    picture = folder / "out.png"
    tutorial.main(
        [str(folder / "eiger_0000.h5"), "--poni", str(folder / "detector.poni"), f"--npt={NPT}", f"--output={picture}"]
    )
    assert picture.read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    geometry = az.Geometry.from_poni(folder / "detector.poni")
    for row, seen in (("first frame", frames[:1]), ("averaged frame", frames)):
        number = float(re.search(rf"{row}\D*(0\.\d+)", printed)[1])
        assert number == pytest.approx(spottiness(geometry, seen), abs=6e-6)
    independent = float(re.search(r"count as (\S+) independent", printed)[1])
    assert 2 < independent < FRAMES


def test_frames_are_found_by_shape_and_reduced_one_by_one(tutorial, measured):
    folder, frames = measured
    geometry = az.Geometry.from_poni(folder / "detector.poni")
    integrator = az.Integrator(geometry, az.RadialBins("2th_deg", NPT), splitting="no", dummy=DUMMY)
    with h5py.File(folder / "eiger_0000.h5") as file:
        dataset = tutorial.find_frames(file, geometry.shape)
        assert dataset.name == "/entry_0000/ESRF-ID11/eiger/data"
        average, single, merged, mean_frame = tutorial.reduce_frames(dataset, 5, integrator, DUMMY)
    valid = frames[:5] != DUMMY
    truth = np.ma.masked_array(frames[:5], ~valid).mean(axis=0).filled(np.nan)
    np.testing.assert_allclose(average, truth, rtol=1e-14)
    assert [len(several) for several in (single, merged, mean_frame)] == [5, 5, 5]
    np.testing.assert_array_equal(single[3].sums, integrator.integrate(frames[3]).sums)
    np.testing.assert_array_equal(merged[-1].sums, az.union(single).sums)
    # Where no pixel was dead in some frames only, the mean frame is the average's plain pattern.
    whole = integrator.integrate(np.where(valid.all(axis=0), average, np.nan))
    same = mean_frame[-1].count == whole.count
    assert same.sum() > 0.8 * NPT
    filled = same & whole.filled
    np.testing.assert_allclose(mean_frame[-1].intensity[filled], whole.intensity[filled], rtol=1e-6)


def test_outliers_are_taken_out_of_the_rings(tutorial, measured):
    folder, _ = measured
    geometry = az.Geometry.from_poni(folder / "detector.poni")
    integrator = az.Integrator(geometry, az.RadialBins("2th_deg", NPT), splitting="no", dummy=DUMMY)
    with h5py.File(folder / "eiger_0000.h5") as file:
        dataset = tutorial.find_frames(file, geometry.shape)
        average, _, _, mean_frame = tutorial.reduce_frames(dataset, FRAMES, integrator, DUMMY)
    clipped, median = integrator.sigma_clip(average, threshold=3.0), integrator.median(average)
    ring = int(np.nanargmax(mean_frame[-1].intensity))
    assert median.intensity[ring] < clipped.intensity[ring] < mean_frame[-1].intensity[ring]
    # Between the rings there is nothing to take out.
    flat = (mean_frame[-1].radial > 6) & (mean_frame[-1].radial < 8)
    np.testing.assert_allclose(clipped.intensity[flat], mean_frame[-1].intensity[flat], rtol=0.01)
    np.testing.assert_allclose(median.intensity[flat], mean_frame[-1].intensity[flat], rtol=0.02)


def test_a_smooth_powder_has_no_number_of_independent_frames(tutorial, measured, tmp_path, capsys):
    folder, _ = measured
    with h5py.File(tmp_path / "smooth.h5", "w") as file:
        file["frames"] = np.random.default_rng(4).poisson(20.0, (3, *SHAPE)).astype(np.uint32)
    arguments = [str(tmp_path / "smooth.h5"), "--poni", str(folder / "detector.poni"), f"--npt={NPT}"]
    with pytest.warns(UserWarning, match="nothing to measure"):
        tutorial.main([*arguments, "--frames=2", f"--output={tmp_path / 'smooth.png'}"])
    printed = capsys.readouterr().out
    assert "independent" not in printed
    assert "smooth" in printed
    assert (tmp_path / "smooth.png").exists()


def test_files_without_frames_of_the_detector_are_refused(tutorial, measured, tmp_path):
    folder, _ = measured
    other = tmp_path / "other.poni"
    other.write_text(PONI.replace("[280, 300]", "[281, 300]"))
    with pytest.raises(SystemExit, match=r"eiger_0000\.h5: no frames of 281 x 300 pixels"):
        tutorial.main([str(folder / "eiger_0000.h5"), "--poni", str(other)])
