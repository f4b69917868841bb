"""Detector files as raw runs."""

import h5py
import numpy as np
import pytest
import tifffile
from event_model import DocumentNames, schema_validators

from azimuthal import Integrator, RadialBins
from bluesky_powder.errors import IngestError
from bluesky_powder.ingest import columns_for, mask_negative, open_series, parse_numbers, raw_documents
from bluesky_powder.publish import TiledPublisher
from bluesky_powder.reduction import PowderReduction
from bluesky_powder.server import PowderServer
from raw_runs import SHAPE, images, recipe_in


@pytest.fixture
def frames():
    return images(5, dtype=np.int32)


@pytest.fixture
def tiffs(tmp_path, frames):
    """Files in two folders, whose numbers neither begin at 0 nor follow each other."""
    paths = [tmp_path / place / f"LaB6_scan12_{n:03d}.tif" for place, n in zip("aabbb", (1, 2, 3, 7, 20), strict=True)]
    for path, frame in zip(paths, frames, strict=True):
        path.parent.mkdir(exist_ok=True)
        tifffile.imwrite(path, frame)
    return [str(path) for path in paths]


@pytest.fixture
def hdf5s(tmp_path, frames):
    """Two files, one after the other."""
    paths = [tmp_path / "one.h5", tmp_path / "two.h5"]
    for path, part in zip(paths, (frames[:3], frames[3:]), strict=True):
        with h5py.File(path, "w") as file:
            file["entry/data/data"] = part
    return [str(path) for path in paths]


@pytest.fixture(params=["tiffs", "hdf5s"])
def files(request):
    return request.getfixturevalue(request.param)


def reduced(recipe, documents):
    """Return the primary events' data, and the stop document."""
    derived = []
    with PowderReduction(recipe, pace="replay") as reduction:
        reduction.subscribe(lambda *pair: derived.append(pair))
        for name, document in documents:
            reduction(name, document)
    patterns = [doc["data"] for name, doc in derived if name == "event" and "raw_event_uid" in doc["data"]]
    return patterns, derived[-1][1]


def test_series_gives_the_frames_in_the_order_of_the_files(files, frames):
    series = open_series(files)
    assert (series.frames, series.shape, series.dtype) == (5, SHAPE, np.dtype(np.int32))
    np.testing.assert_array_equal(list(series.read()), frames)


def test_documents_are_valid_and_reduce_to_the_files_frames(files, frames, tmp_path):
    recipe = recipe_in(tmp_path, moving=True, corrections={"monitor": "i0"})
    columns = columns_for(recipe, 5, ["pos=1,2,3,4,5"], "2")
    documents = list(raw_documents(open_series(files), "det", columns, {"sample": "LaB6"}))
    for name, document in documents:
        schema_validators[DocumentNames[name]].validate(document)
    patterns, stop = reduced(recipe, documents)
    assert (stop["frames_reduced"], stop["exit_status"], stop.get("reason", "")) == (5, "success", "")
    assert [pattern["pos"] for pattern in patterns] == [1, 2, 3, 4, 5]
    for pattern, frame, position in zip(patterns, frames, (1, 2, 3, 4, 5), strict=True):
        geometry = recipe.geometry.at({"pos": position}, SHAPE)
        integrator = Integrator(geometry, RadialBins("2th_deg", 60, (1, 60)), splitting="bbox", solid_angle="absolute")
        np.testing.assert_array_equal(pattern["intensity"], integrator.integrate(frame, monitor=2.0).intensity)


def test_raw_run_in_tiled_gives_the_frames_without_a_copy(tiffs, hdf5s, frames, tmp_path):
    with PowderServer(tmp_path / "served", readable=[tmp_path]) as server:
        client = server.client()
        for files in (tiffs, hdf5s):
            series = open_series(files)
            documents = list(raw_documents(series, "det", {"pos": [1.0] * 5}, {}))
            with TiledPublisher(client, spool=server.spool, batch_size=100) as publisher:
                for name, document in documents:
                    publisher(name, document)
            assert publisher.failures == ()
            data = client[documents[0][1]["uid"]]["primary"].read()
            np.testing.assert_array_equal(data["det"], frames)
            assert data["det"].dtype == np.int32
            assert data["file"].values.tolist() == [file.name for file in series.files for _ in range(file.frames)]
    assert (
        sum(file.stat().st_size for file in (tmp_path / "served" / "data").rglob("*") if file.is_file()) < frames.nbytes
    )


def test_negative_in_one_frame_is_masked_in_all(tmp_path, tiffs, frames):
    frames[0, 3, 4] = frames[4, 5, 6] = -1
    for path, frame in zip(tiffs, frames, strict=True):
        tifffile.imwrite(path, frame)
    own = np.zeros(SHAPE, np.uint8)
    own[0, 0] = 1
    np.save(tmp_path / "own.npy", own)
    recipe = recipe_in(tmp_path, corrections={"mask": "own.npy"})
    masked, path = mask_negative(recipe, open_series(tiffs), tmp_path / "masks")
    assert np.argwhere(np.load(path)).tolist() == [[0, 0], [3, 4], [5, 6]]
    patterns, _ = reduced(masked, raw_documents(open_series(tiffs), "det", {}, {}))
    assert {pattern["masked_pixels"] for pattern in patterns} == {3}
    assert masked.stored()["corrections"]["mask"]["file"] == str(path)


def test_numbers_are_for_all_frames_or_one_each(tmp_path):
    (tmp_path / "numbers.txt").write_text("1\n2.5\n\n3e0\n")
    assert parse_numbers("4", 3) == [4, 4, 4]
    assert parse_numbers("4,5,6", 3) == [4, 5, 6]
    assert parse_numbers(f"@{tmp_path}/numbers.txt", 3) == [1, 2.5, 3]
    for text, told in (
        ("1,2", "2 numbers for 3 frames"),
        ("1,x,3", "could not convert"),
        ("@nowhere", "cannot read"),
        ("nan", "finite"),
    ):
        with pytest.raises(IngestError, match=told):
            parse_numbers(text, 3)


def test_columns_that_the_recipe_needs_are_asked_for(tmp_path):
    moving = recipe_in(tmp_path, moving=True, corrections={"monitor": "i0"})
    assert columns_for(moving, 2, ["two_theta=1,2", "temperature=300"], "5") == {
        "two_theta": [1, 2],
        "temperature": [300, 300],
        "i0": [5, 5],
    }
    for positions, monitor, told in (
        ([], "1", "needs the position 'pos': give --position pos=NUMBERS"),
        (["pos=1"], None, "normalizes to the monitor 'i0'"),
        (["pos:1"], "1", "'pos:1' is no position"),
        (["pos=1", "det=1"], "1", "data key of the frames"),
    ):
        with pytest.raises(IngestError, match=told):
            columns_for(moving, 2, positions, monitor)
    with pytest.raises(IngestError, match="uses no monitor"):
        columns_for(recipe_in(tmp_path), 2, [], "1")


def test_dataset_is_found_or_asked_for(tmp_path, frames):
    path = tmp_path / "many.h5"
    with h5py.File(path, "w") as file:
        file["a/frames"] = frames
        file["a/spectrum"] = np.zeros(1000)
        file["a/thumbnails"] = np.zeros((5, 4, 4))
    assert open_series([str(path)]).files[0].dataset == "/a/frames"
    with h5py.File(path, "a") as file:
        file["b/frames"] = frames
    with pytest.raises(
        IngestError, match=r"several datasets of frames: /a/frames, /b/frames; name one, as in many\.h5::/a"
    ):
        open_series([str(path)])
    assert open_series([f"{path}::/b/frames"]).files[0].dataset == "/b/frames"
    with pytest.raises(IngestError, match=r"has no dataset /c; it has: /a/frames, /b/frames"):
        open_series([f"{path}::/c"])
    with pytest.raises(IngestError, match=r"/a/spectrum is float64 of shape \(1000,\)"):
        open_series([f"{path}::/a/spectrum"])
    with h5py.File(path, "a") as file:
        file["entry/data/data"] = h5py.SoftLink("/b/frames")
    assert open_series([str(path)]).files[0].dataset == "/entry/data/data"


def test_file_that_cannot_be_taken_is_told(tmp_path, tiffs, hdf5s, frames):
    text = tmp_path / "notes.tif"
    text.write_text("no frames in here")
    cut = tmp_path / "cut.tif"
    tifffile.imwrite(tmp_path / "whole.tif", np.zeros((500, 500), np.int32))
    cut.write_bytes((tmp_path / "whole.tif").read_bytes()[:100_000])
    broken = tmp_path / "broken.h5"
    broken.write_bytes((tmp_path / "one.h5").read_bytes()[:1000])
    pages = tmp_path / "pages.tif"
    tifffile.imwrite(pages, np.zeros((3, 40, 50), np.int32), photometric="minisblack")
    empty = tmp_path / "empty.h5"
    with h5py.File(empty, "w"):
        pass
    other = tmp_path / "other.tif"
    tifffile.imwrite(other, frames[0].astype(np.uint16))
    for names, told in (
        ([], "no files are given"),
        ([tmp_path / "missing.tif"], "there is no file"),
        ([tmp_path], "is a folder; give its files"),
        ([text], "is neither a TIFF nor an HDF5 file"),
        ([cut], "is cut off"),
        ([broken], "is no readable HDF5 file"),
        ([pages], "has 3 pages"),
        ([empty], "has no dataset of frames"),
        ([f"{tiffs[0]}::/data"], "in which there is no dataset"),
        ([*tiffs, hdf5s[0]], "ingest them separately"),
        ([*tiffs, other], "uint16 frames, .* int32; ingest them separately"),
    ):
        with pytest.raises(IngestError, match=told):
            open_series([str(name) for name in names])


def test_file_name_that_tiled_would_misread_is_told(tmp_path, frames):
    path = tmp_path / "50%d.tif"
    tifffile.imwrite(path, frames[0])
    with pytest.raises(IngestError, match="rename the file"):
        list(raw_documents(open_series([str(path)]), "det", {}, {}))


def test_mask_that_leaves_nothing_is_told(tmp_path):
    path = tmp_path / "dark.tif"
    tifffile.imwrite(path, np.full(SHAPE, -1, np.int32))
    with pytest.raises(IngestError, match="nothing is left"):
        mask_negative(recipe_in(tmp_path), open_series([str(path)]), tmp_path)


def test_exposure_times_go_with_the_frames_where_the_recipe_divides_by_them(tmp_path):
    recipe = recipe_in(tmp_path, corrections={"exposure": {"key": "seconds", "unit": "ms", "to_unit": "s"}})
    assert columns_for(recipe, 3, [], exposure="1,2,3") == {"seconds": [1.0, 2.0, 3.0]}
    with pytest.raises(IngestError, match="exposure 'seconds': give --exposure"):
        columns_for(recipe, 3, [])
