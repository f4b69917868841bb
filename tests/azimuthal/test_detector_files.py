import dataclasses
import pickle

import h5py
import numpy as np
import pytest

from azimuthal.detector import Detector, Sensor
from azimuthal.errors import DetectorError, GeometryError
from azimuthal.geometry import Geometry

PLACE = (0.2, 0.003, 0.004, 0.1, -0.2, 0.3)


def tilted_modules(rows=24, columns=20, seed=3):
    """Return float32 corners (z, y, x) of a detector of two modules, one of them tilted, with a gap between them."""
    rng = np.random.default_rng(seed)
    one, two = np.arange(rows + 1) * 2e-4, np.arange(columns + 1) * 3e-4
    grid = np.stack(np.broadcast_arrays(0.0, one[:, None], two[None, :]), axis=-1)
    corners = np.stack([grid[:-1, :-1], grid[1:, :-1], grid[1:, 1:], grid[:-1, 1:]], axis=2)
    half = columns // 2
    corners[:, half:, :, 0] += 0.1 * (corners[:, half:, :, 2] - half * 3e-4) + 1e-4
    corners[:, half:, :, 2] += 1e-3 + rng.uniform(0.0, 1e-5)
    return corners.astype(np.float32)


def saved(detector, path):
    detector.save(str(path))
    return path


def from_corners(corners, orientation=3, **attributes):
    from pyFAI.detectors import Detector as Reference

    detector = Reference(2e-4, 3e-4, max_shape=corners.shape[:2], orientation=orientation)
    detector.aliases = ("two modules",)
    detector.set_pixel_corners(corners)
    for key, value in attributes.items():
        setattr(detector, key, value)
    return detector


def fresh(path):
    from pyFAI.detectors import NexusDetector
    from pyFAI.integrator.azimuthal import AzimuthalIntegrator

    return AzimuthalIntegrator(*PLACE, detector=NexusDetector(str(path)), wavelength=1e-10)


@pytest.mark.parametrize("name", ["Eiger2CdTe_500k", "Pilatus300k", "Detector", "RayonixMx225"])
def test_detector_file_of_a_plain_detector_is_that_detector(tmp_path, name):
    from pyFAI.detectors import detector_factory

    config = {"pixel1": 1e-4, "pixel2": 2e-4, "max_shape": (30, 40)} if name == "Detector" else {}
    theirs = detector_factory(name, config | {"orientation": 2})
    ours = Detector.from_file(saved(theirs, tmp_path / "detector.h5"))
    expected = Detector.from_name(name, orientation=2, **config)
    for key in ("shape", "pixel1", "pixel2", "orientation", "binning", "dummy", "delta_dummy"):
        assert getattr(ours, key) == getattr(expected, key), key
    np.testing.assert_array_equal(ours.mask, expected.mask)
    assert ours.contiguous
    assert ours.uniform
    np.testing.assert_array_equal(ours.edges()[0], expected.edges()[0])


@pytest.mark.parametrize("name", ["ImXPadS140", "Jungfrau", "Xpad_flat"])
def test_detector_file_of_uneven_pixels_has_their_positions(tmp_path, name):
    from pyFAI.detectors import detector_factory

    ours = Detector.from_file(saved(detector_factory(name), tmp_path / "detector.h5"))
    expected = Detector.from_name(name)
    assert not ours.uniform
    assert not ours.contiguous
    assert ours.flat
    np.testing.assert_array_equal(ours.mask, expected.mask)
    one, two = (Geometry(detector, *PLACE, wavelength=1e-10) for detector in (ours, expected))
    np.testing.assert_allclose(one.two_theta(), two.two_theta(), atol=1e-7)
    np.testing.assert_allclose(one.solid_angle(), two.solid_angle(), rtol=1e-3)


def test_detector_file_of_tilted_modules_is_pyfais(tmp_path):
    path = saved(from_corners(tilted_modules()), tmp_path / "detector.h5")
    detector = Detector.from_file(path)
    assert (detector.name, detector.shape, detector.flat) == ("two modules", (24, 20), False)
    assert detector.source == str(path)
    geometry = Geometry(detector, *PLACE, wavelength=1e-10)
    for unit in ("2th_rad", "q_nm^-1"):
        expected = fresh(path).center_array(unit=unit)
        np.testing.assert_allclose(geometry.radial(unit), expected, rtol=1e-6)
    radial, chi = geometry.corners("2th_rad")
    theirs = fresh(path).corner_array(unit="2th_rad", scale=False)
    np.testing.assert_allclose(radial, theirs[..., 0], rtol=1e-6)
    np.testing.assert_allclose(chi, theirs[..., 1], rtol=1e-5)


def test_detector_file_flat_module_has_the_solid_angle_of_a_grid(tmp_path):
    # The stored corners are float32: their rounding must not become noise of the solid angle.
    corners = tilted_modules()[:, :10]
    geometry = Geometry(Detector.from_file(saved(from_corners(corners), tmp_path / "detector.h5")), *PLACE)
    grid = Geometry(Detector.from_name("Detector", shape=(24, 10), pixel1=2e-4, pixel2=3e-4), *PLACE)
    np.testing.assert_allclose(geometry.solid_angle(), grid.solid_angle(), rtol=1e-7)


def test_detector_file_tilted_module_sees_its_true_solid_angle(tmp_path):
    path = saved(from_corners(tilted_modules()), tmp_path / "detector.h5")
    geometry = Geometry(Detector.from_file(path), *PLACE)
    a, b, c, d = np.moveaxis(geometry.detector.corner_positions.astype(np.float64), 2, 0)
    centre = 0.25 * (a + b + c + d) - [-PLACE[0], PLACE[1], PLACE[2]]
    distance = np.linalg.norm(centre, axis=-1)
    normal = 0.5 * np.cross(c - a, d - b)
    expected = np.abs((normal * centre).sum(axis=-1)) / distance**3
    np.testing.assert_allclose(geometry.solid_angle("absolute"), expected, rtol=2e-4)


def test_detector_file_positions_that_are_nowhere_are_masked(tmp_path):
    corners = tilted_modules()
    corners[3, 4, 2, 1] = np.nan
    corners[5, 6, 0, 0] = np.inf
    detector = Detector.from_file(saved(from_corners(corners), tmp_path / "detector.h5"))
    assert sorted(map(tuple, np.argwhere(detector.mask))) == [(3, 4), (5, 6)]
    geometry = Geometry(detector, *PLACE, wavelength=1e-10)
    assert np.isfinite(geometry.q()).all()
    assert np.isfinite(geometry.corners("q_A^-1")[0]).all()
    assert np.isfinite(geometry.solid_angle()).all()


def test_detector_file_orientation_reindexes_positions_and_corners(tmp_path):
    path = saved(from_corners(tilted_modules()), tmp_path / "detector.h5")
    native = Detector.from_file(path)
    text = f'Detector: NexusDetector\nDetector_config: {{"filename": "{path.name}", "orientation": 2}}\n'
    text += "poni_version: 2.1\nDistance: 0.2\nPoni1: 0\nPoni2: 0\nRot1: 0\nRot2: 0\nRot3: 0\n"
    (tmp_path / "detector.poni").write_text(text)
    turned = Geometry.from_poni(tmp_path / "detector.poni")
    assert turned.detector == dataclasses.replace(native, orientation=2)
    plain = dataclasses.replace(turned, detector=native)
    np.testing.assert_array_equal(turned.two_theta(), plain.two_theta()[::-1])
    np.testing.assert_array_equal(turned.corners("2th_deg")[0][:, :, 0], plain.corners("2th_deg")[0][::-1, :, 1])
    for orientation in (1, 2, 3, 4):
        again = dataclasses.replace(native, orientation=orientation)
        assert np.ptp(again.corner_positions[..., [0, 1], 1], axis=-1).max() < 2.1e-4
        sign = {1: (1, 1), 2: (1, -1), 3: (-1, -1), 4: (-1, 1)}[orientation]
        difference = again.corner_positions[0, 0, 0] - again.corner_positions[-1, -1, 2]
        assert tuple(np.sign(difference[1:])) == sign


def test_detector_file_written_with_another_orientation_keeps_the_arrays_order(tmp_path):
    corners = tilted_modules()
    detector = Detector.from_file(saved(from_corners(corners, orientation=4), tmp_path / "detector.h5"))
    assert detector.orientation == 4
    np.testing.assert_array_equal(detector.corner_positions, corners)


def test_detector_file_detector_is_hashable_by_content(tmp_path):
    corners = tilted_modules()
    path = saved(from_corners(corners), tmp_path / "detector.h5")
    one, two = Detector.from_file(path), Detector.from_file(path)
    assert one == two
    assert hash(one) == hash(two)
    assert pickle.loads(pickle.dumps(one)) == one
    corners[0, 0, 0, 0] += 1e-5
    other = Detector.from_file(saved(from_corners(corners), tmp_path / "other.h5"))
    assert dataclasses.replace(other, source=one.source) != one


def test_detector_file_sensor_and_dummies_are_read(tmp_path):
    path = saved(from_corners(tilted_modules(), dummy=-7, delta_dummy=0.5), tmp_path / "detector.h5")
    with h5py.File(path, "r+") as file:
        group = Detector.from_file(path).name.replace(" ", "_")
        found = []
        file.visititems(lambda name, item: found.append(item) if name.endswith(group) else None)
        found[0]["sensor_material"] = np.bytes_("Si")
        found[0]["sensor_thickness"] = 4.5e-4
    detector = Detector.from_file(path)
    assert (detector.dummy, detector.delta_dummy) == (-7.0, 0.5)
    assert detector.sensor == Sensor("Si", 4.5e-4)


@pytest.mark.parametrize("parallax", [False, True])
def test_detector_file_geometry_survives_poni_in_our_and_pyfais_hands(tmp_path, parallax):
    from pyFAI.integrator.azimuthal import AzimuthalIntegrator

    corners = tilted_modules()[:, :10]  # the flat one
    path = saved(from_corners(corners), tmp_path / "detector.h5")
    detector = dataclasses.replace(Detector.from_file(path), sensor=Sensor("Si", 4.5e-4) if parallax else None)
    geometry = Geometry(detector, *PLACE, wavelength=1e-10, parallax=parallax)
    geometry.to_poni(tmp_path / "detector.poni")
    assert Geometry.from_poni(tmp_path / "detector.poni") == geometry
    assert Geometry.from_poni(tmp_path / "detector.poni", shape=(24, 10)) == geometry
    with pytest.raises(
        DetectorError, match=r"detector\.h5: the detector has frames of \(24, 10\) pixels, not \(10, 24\)"
    ):
        Geometry.from_poni(tmp_path / "detector.poni", shape=(10, 24))
    ai = AzimuthalIntegrator()
    ai.load(str(tmp_path / "detector.poni"))
    np.testing.assert_allclose(geometry.two_theta(), ai.center_array(unit="2th_rad"), rtol=1e-6)


def test_parallax_of_a_detector_that_is_not_flat_is_refused(tmp_path):
    # pyFAI takes the pixels' normals for their centres and the PONI's for their corners.
    path = saved(from_corners(tilted_modules()), tmp_path / "detector.h5")
    detector = dataclasses.replace(Detector.from_file(path), sensor=Sensor("Si"))
    with pytest.raises(GeometryError, match="'two modules' is not flat"):
        Geometry(detector, *PLACE, wavelength=1e-10, parallax=True)


def test_detector_file_may_be_named_directly(tmp_path):
    path = saved(from_corners(tilted_modules()), tmp_path / "detector.h5")
    text = f"Detector: {path}\nDistance: 0.2\nPoni1: 0\nPoni2: 0\nRot1: 0\nRot2: 0\nRot3: 0\n"
    (tmp_path / "old.poni").write_text(text)
    assert Geometry.from_poni(tmp_path / "old.poni").detector == Detector.from_file(path)


def test_detector_file_that_is_none_is_refused(tmp_path):
    with pytest.raises(DetectorError, match=r"none\.h5: cannot be read as a NeXus detector file"):
        Detector.from_file(tmp_path / "none.h5")
    (tmp_path / "text.h5").write_text("no HDF5")
    with pytest.raises(DetectorError, match=r"text\.h5: cannot be read"):
        Detector.from_file(tmp_path / "text.h5")
    with h5py.File(tmp_path / "empty.h5", "w") as file:
        file.create_group("entry")
    with pytest.raises(DetectorError, match="no group of class NXdetector"):
        Detector.from_file(tmp_path / "empty.h5")


@pytest.mark.parametrize(
    ("datasets", "told"),
    [
        ({"CORNERS": 6}, "pixels have 6 corners; only quadrilaterals"),
        ({"pixel_size": None}, "pixel_size is missing"),
        ({"shape": None}, "has no shape, max_shape, mask or pixel_corners"),
        ({"mask": np.zeros((3, 4), np.int8)}, r"the mask has shape \(3, 4\), frames have \(5, 6\)"),
        ({"pixel_corners": np.zeros((5, 6, 3, 3), np.float32)}, r"pixel_corners has shape \(5, 6, 3, 3\)"),
        ({"orientation": 6}, "orientation must be 1, 2, 3 or 4"),
        ({"pixel_size": [0.0, 1e-4]}, "pixel1 must be a positive length"),
    ],
)
def test_detector_file_that_contradicts_itself_is_refused(tmp_path, datasets, told):
    good = {"pixel_size": [1e-4, 1e-4], "shape": [5, 6]}
    with h5py.File(tmp_path / "bad.h5", "w") as file:
        group = file.create_group("entry/detector")
        group.attrs["NX_class"] = "NXdetector"
        for key, value in (good | datasets).items():
            if value is not None:
                group[key] = value
    with pytest.raises(DetectorError, match=told):
        Detector.from_file(tmp_path / "bad.h5")
