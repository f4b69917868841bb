"""Images of every kind of file and document: what Tiled's consolidators can store is read, and reasons where not."""

import re
import socket
import threading
import time
import warnings
from importlib.util import find_spec

import dask.array
import h5py
import numpy as np
import pytest
import tifffile
from PIL import Image

from bluesky_powder.errors import FrameSkipped, FramesUnavailable
from bluesky_powder.frames import Patience, RunFrames, Wanted
from bluesky_powder.frames.frame import event_shape
from bluesky_powder.frames.images import legacy
from bluesky_powder.frames.images.numbered import files_per_event
from bluesky_powder.frames.images.reach import Reach
from bluesky_powder.frames.images.region import expanded, region_of
from image_files import HDF5, JPEG, NPY, SHAPE, TIFF, WAYS, written
from raw_runs import datum_run, images, inline_run, stream_run, write_hdf5

WANTED = Wanted("det", None, {}, None)


def taken(documents, timeout=0.0, **options):
    """Return the frames of a run's documents; a reason instead of a frame is an error here."""
    run = RunFrames(WANTED, documents[0][1]["uid"], Patience(timeout), **options)
    frames = [frame for name, document in documents for frame in run.take(name, document)] + list(run.finish())
    assert not [frame.reason for frame in frames if hasattr(frame, "reason")]
    return frames, run


def read(documents, timeout=0.0, **options):
    """Return the images of a run, (events, images, rows, columns)."""
    frames, run = taken(documents, timeout, **options)
    found = [frame.images.read() for frame in frames]
    run.close()
    assert [len(each) for each in found] == [frame.count for frame in frames]
    return np.stack(found)


def reason(documents, timeout=0.0, **options):
    """Return why the first frame of a run cannot be had."""
    run = RunFrames(WANTED, documents[0][1]["uid"], Patience(timeout), **options)
    first = [frame for name, document in documents for frame in run.take(name, document)][0]
    if hasattr(first, "reason"):
        return first.reason
    with pytest.raises(FrameSkipped) as caught:
        first.images.read()
    run.close()
    return str(caught.value)


def consolidated(documents):
    """Return the images as Tiled has them: through the consolidator of the StreamResource, and Tiled's own adapter."""
    from bluesky_tiled_plugins.writing.consolidators import consolidator_factory

    told = {name: document for name, document in documents if name != "stream_datum"}
    resource = told["stream_resource"] | {"parameters": dict(told["stream_resource"]["parameters"])}
    if "path" in resource["parameters"]:  # as TiledWriter renames it
        resource["parameters"]["dataset"] = resource["parameters"].pop("path")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        consolidator = consolidator_factory(resource, told["descriptor"])
        for name, document in documents:
            if name == "stream_datum":
                consolidator.consume_stream_datum(document)
        array = consolidator.init_adapter().read()
    return np.asarray(array)


@pytest.mark.parametrize("way", WAYS)
def test_images_are_read_as_tiled_reads_them(tmp_path, way):
    shot = images(12)
    documents = written(tmp_path / "data", way, shot)
    found, expected = read(documents), WAYS[way].frames(shot)
    if WAYS[way].mimetype == JPEG:  # which is lossy, but the same for both
        assert np.abs(found.astype(float) - expected).mean() < 5
    else:
        assert found.dtype == expected.dtype
        assert np.array_equal(found, expected)
    if way in ("tiff stack", "tiff stack, two an event", "npy stack", "hdf5, cut"):
        return  # Tiled's adapters give these another shape, or compare no dtype; the frames above are what was written
    assert np.array_equal(consolidated(documents).reshape(found.shape), found)


@pytest.mark.parametrize("shape", [[*SHAPE], [1, *SHAPE], [2, *SHAPE], [6, *SHAPE]])
@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"multiplier": 2},
        {"multiplier": 6},
        {"files_per_datum": 2},
        {"chunk_shape": [1, *SHAPE]},
        {"chunk_shape": [2, *SHAPE]},
        {"chunk_shape": [3, *SHAPE]},
        {"chunk_shape": [1, 1, *SHAPE]},
        {"chunk_shape": [1, *SHAPE], "multiplier": 6},
        {"chunk_shape": [1], "join_method": "stack"},
        {"chunk_shape": [2], "join_method": "concat"},
    ],
)
def test_files_per_event_are_those_of_the_consolidator(shape, parameters):
    from bluesky_tiled_plugins.writing.consolidators import NPYConsolidator, TIFFConsolidator

    if len(shape) == 2 and parameters.get("join_method") == "concat":
        return  # there, each row of the image would be a file
    key = {"dtype": "array", "shape": shape, "dtype_numpy": "<i4", "source": ""}
    for mimetype, consolidator in ((TIFF, TIFFConsolidator), (NPY, NPYConsolidator)):
        resource = {"mimetype": mimetype, "uri": "file://localhost/a", "data_key": "det"}
        resource["parameters"] = {"template": "{:d}.tif", **parameters}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the deprecated concat
            expected = consolidator(resource, {"data_keys": {"det": key}})
        whole = event_shape(key, parameters)
        given = parameters | ({"chunk_shape": (1, *shape)} if mimetype == NPY else {})
        assert whole == expected.datum_shape
        assert files_per_event(whole, given) == expected.files_per_datum


@pytest.mark.parametrize("way", ["tiff a frame", "jpeg a frame", "npy", "hdf5, numbered"])
def test_files_that_come_late_are_waited_for(tmp_path, way):
    shot = images(2)
    documents = written(tmp_path / "data", way, shot)
    hidden = tmp_path / "hidden"
    (tmp_path / "data").rename(hidden)
    (tmp_path / "data").mkdir()

    def show():
        time.sleep(0.2)
        for file in sorted(hidden.iterdir()):
            if not way.startswith("hdf5"):  # which no writer leaves half done in such a manner
                whole = file.read_bytes()
                (tmp_path / "data" / file.name).write_bytes(whole[: len(whole) // 2])
            time.sleep(0.1)
            file.rename(tmp_path / "data" / file.name)

    writer = threading.Thread(target=show)
    frames, run = taken(documents, timeout=30.0)
    writer.start()
    found = np.stack([frame.images.read() for frame in frames])
    writer.join()
    run.close()
    assert np.array_equal(found, read(documents))


def test_pages_that_come_late_are_waited_for(tmp_path):
    shot = images(4)
    tifffile.imwrite(tmp_path / "0.tif", shot[0], metadata=None)
    documents = stream_run(
        f"file://localhost{tmp_path}/", 1, per_event=4, mimetype=TIFF, parameters={"template": "{:d}.tif"}
    )
    assert "0.tif has 1 images, 4 were announced" in reason(documents)

    def more():
        for frame in shot[1:]:
            time.sleep(0.1)
            tifffile.imwrite(tmp_path / "0.tif", frame, append=True, metadata=None)

    writer = threading.Thread(target=more)
    writer.start()
    assert np.array_equal(read(documents, timeout=30.0)[0], shot)
    writer.join()


@pytest.mark.parametrize("pillow_mode", ["RGB", "CMYK"])
def test_jpeg_in_colour_is_refused(tmp_path, pillow_mode):
    Image.new(pillow_mode, SHAPE[::-1]).save(tmp_path / "0.jpg")
    documents = stream_run(f"file://localhost{tmp_path}/", 1, mimetype=JPEG, parameters={"template": "{:d}.jpg"})
    assert f"0.jpg is a JPEG image in colour ({pillow_mode})" in reason(documents, timeout=60.0)  # without waiting


@pytest.mark.parametrize("kind", ["rgb", "palette"])
@pytest.mark.parametrize("mimetype", [TIFF, "image/tiff"])
def test_tiff_in_colour_is_refused(tmp_path, kind, mimetype):
    image = Image.new("RGB", SHAPE[::-1])
    (image if kind == "rgb" else image.convert("P")).save(tmp_path / "0.tif")
    many = mimetype == TIFF
    uri = f"file://localhost{tmp_path}/" + ("" if many else "0.tif")
    documents = stream_run(uri, 1, mimetype=mimetype, parameters={"template": "{:d}.tif"} if many else {})
    assert f"in colour ({kind.upper()})" in reason(documents, timeout=60.0)


@pytest.mark.parametrize("template", ["{:d}.tif", ""])
def test_tiff_that_needs_a_codec_is_read_or_says_what_to_install_at_once(tmp_path, template):
    shot = images(1).astype(np.uint16)
    Image.fromarray(shot[0]).save(tmp_path / "0.tif", compression="tiff_lzw")
    uri = f"file://localhost{tmp_path}/" + ("" if template else "0.tif")
    mimetype = "multipart/related;type=image/tiff" if template else "image/tiff"
    parameters = {"template": template} if template else {}
    documents = stream_run(uri, 1, mimetype=mimetype, parameters=parameters)
    if find_spec("imagecodecs"):
        assert np.array_equal(read(documents)[0], shot)
        return
    says = reason(documents, timeout=1000.0)
    assert "0.tif cannot be decompressed: <COMPRESSION.LZW: 5> requires the 'imagecodecs' package; pip install" in says


def test_a_file_of_another_kind_is_said_to_be_none(tmp_path):
    for name in ("0.jpg", "0.tif", "0.npy"):
        (tmp_path / name).write_text("no image")
        mimetype = {"jpg": JPEG, "tif": TIFF, "npy": NPY}[name[-3:]]
        kind = {"jpg": "JPEG", "tif": "TIFF", "npy": ".npy"}[name[-3:]]
        documents = stream_run(
            f"file://localhost{tmp_path}/", 1, mimetype=mimetype, parameters={"template": "{:d}." + name[-3:]}
        )
        assert f"{name} is no readable {kind} file" in reason(documents)


def test_python_objects_in_npy_files_are_never_loaded(tmp_path):
    np.save(tmp_path / "a_0.npy", np.array([{"a": 1}], object), allow_pickle=True)
    documents = stream_run(f"file://localhost{tmp_path}/a", 1, mimetype=NPY, parameters={})
    assert "a_0.npy is no readable .npy file: Object arrays cannot be loaded" in reason(documents)


@pytest.mark.parametrize("dtype", [">u2", ">i4", ">f4", ">f8", "?", "<f2", "<f4", "<f8", "<i8", "<u8", "|i1", "<c8"])
@pytest.mark.parametrize("way", ["inline", "lists", "npy", "hdf5", "tiff", "datum"])
def test_dtypes_stay_what_they_are(tmp_path, way, dtype):
    shot = (images(2) % 100).astype(dtype)
    if way == "tiff" and dtype in ("?", "<c8"):
        return  # TIFF has no such thing
    if way == "lists" and dtype == "<c8":
        return  # nor has JSON
    if way in ("inline", "lists"):
        documents = inline_run(shot, lists=way == "lists")
    elif way == "datum":
        documents = datum_run(tmp_path, shot)
    else:
        documents = WAYS["tiff a frame" if way == "tiff" else way].run(tmp_path, shot[:, np.newaxis])
    if dtype == "<c8":
        assert "complex64 is not a real number" in reason(documents)
        return
    found = read(documents)
    assert found.dtype.kind == np.dtype(dtype).kind
    assert found.dtype.itemsize == np.dtype(dtype).itemsize
    assert np.array_equal(found[:, 0], shot)


@pytest.mark.parametrize(
    "shape", [(4, *SHAPE), (4, 1, *SHAPE), (4, 3, *SHAPE), (1, 1, *SHAPE), (12, 1, *SHAPE)], ids=str
)
def test_datasets_of_every_shape_are_read(tmp_path, shape):
    """(n, rows, columns), (n, 1, rows, columns), (n, k, rows, columns)."""
    frames = np.arange(np.prod(shape), dtype=np.uint32).reshape(shape)
    with h5py.File(tmp_path / "frames.h5", "w") as file:
        file["entry/data/data"] = frames
    k = shape[1] if len(shape) == 4 else 1
    documents = stream_run(f"file://localhost{tmp_path}/frames.h5", shape[0], per_event=k)
    assert np.array_equal(read(documents), frames.reshape(shape[0], k, *SHAPE))


@pytest.mark.parametrize(
    ("text", "axes", "expected"),
    [
        (":,0", 4, (slice(None), 0, slice(None), slice(None))),
        ("(1:3, 4, 1:5:2, ...)", 4, (slice(1, 3), 4, slice(1, 5, 2), slice(None))),
        ("...,0,:,:", 4, (slice(None), 0, slice(None), slice(None))),
        ([":", "0", "::2"], 3, (slice(None), 0, slice(None, None, 2))),
        ("[:]", 2, (slice(None), slice(None))),
        ("-1,-3:", 2, (-1, slice(-3, None))),
    ],
)
def test_regions_are_read_as_tiled_reads_slices(text, axes, expected):
    from tiled.ndslice import NDSlice

    assert expanded(region_of(text), axes) == expected
    if isinstance(text, str):
        shape = (9,) * axes
        array = np.arange(9**axes).reshape(shape)
        assert np.array_equal(array[expected], array[NDSlice.from_numpy_str(text)])


@pytest.mark.parametrize(
    ("slice_", "says"),
    [
        ("x", "cannot be read at 'x'"),
        ("::0", "cannot be read at '::0'"),
        (":,0,0,0,0", "5 parts, the dataset 3 axes"),
        ("0,:,:", "leaves no frames"),
        (":,3", "leaves no frames"),
        ("-2:", "counts frames from the end"),
        ("::-1", "counts frames from the end"),
        (":0", "frame 0 is beyond the slice"),
        (7, "cannot be read|make no sense"),
    ],
)
def test_slices_that_leave_no_frames_say_so(tmp_path, slice_, says):
    parameters = {"dataset": "/entry/data/data", "slice": slice_}
    assert re.search(says, reason(stream_run(write_hdf5(tmp_path, images(2)), 2, parameters=parameters)))


@pytest.mark.parametrize(
    ("resource", "says"),
    [
        ({"mimetype": "text/csv;header=absent"}, "frames of type text/csv;header=absent are not read here; known are"),
        ({"mimetype": HDF5, "parameters": {}}, "names no dataset"),
        ({"mimetype": HDF5, "parameters": None}, "names no dataset"),
        ({"mimetype": HDF5, "parameters": [1]}, "names no dataset"),
        ({"mimetype": TIFF, "parameters": {"template": "{a}"}}, "cannot be filled in"),
        ({"mimetype": TIFF, "parameters": {"template": "{.x}"}}, "cannot be filled in"),
        ({"mimetype": TIFF, "parameters": {"template": "{:d}", "chunk_shape": [0, 40, 50]}}, "make no sense"),
        ({"mimetype": TIFF, "parameters": {"template": "{:d}", "chunk_shape": ["a"]}}, "make no sense"),
        ({"mimetype": TIFF, "parameters": {"template": "{:d}", "files_per_datum": "x"}}, "make no sense"),
        ({"mimetype": TIFF, "parameters": {"template": "{:d}", "files_per_datum": 10**9}}, "1000000000 files an event"),
        ({"uri": "s3://bucket/a"}, "only file:// URIs"),
        ({"uri": "file://elsewhere/a"}, "this file is on elsewhere, not on this machine; mount"),
    ],
)
def test_resources_that_cannot_be_read_say_why(tmp_path, resource, says):
    documents = stream_run(f"file://localhost{tmp_path}/x", 1)
    for name, document in documents:
        if name == "stream_resource":
            document |= {"data_key": "det", **resource}
        if name == "descriptor" and "chunk_shape" in str(resource):
            document["data_keys"]["det"]["shape"] = [2, *SHAPE]
    assert says in reason(documents)


def test_a_folder_that_is_not_mounted_is_named_with_the_way_out(tmp_path):
    uri = f"file://localhost{tmp_path}/away/frames.h5"
    text = reason(stream_run(uri, 1))
    assert "there is no such file" in text
    assert f"{tmp_path}/away is not on this machine" in text
    assert "root_map" in text
    assert "TiledFrames" in text


@pytest.mark.parametrize("way", ["hdf5", "tiff a frame", "npy", "datum"])
@pytest.mark.parametrize("host", ["localhost", "storage.example.org"])
def test_root_map_finds_files_in_a_folder_mounted_elsewhere(tmp_path, way, host):
    shot = images(2)
    here = tmp_path / "mnt"
    here.mkdir()
    if way == "datum":
        documents = datum_run(here, shot)
        for name, document in documents:
            if name == "resource":
                document |= {"root": "/detector/2026"}
    else:
        documents = written(here / "run7", way, shot)
        for name, document in documents:
            if name == "stream_resource":
                document["uri"] = document["uri"].replace(f"localhost{here}", f"{host}/detector/2026")
    other = {"/detector": str(tmp_path / "wrong"), "/detector/2026/": str(here), "/detector/20": "/no"}
    assert np.array_equal(read(documents, root_map=other)[:, 0], shot)


def test_root_map_knows_folders_by_whole_names():
    reach = Reach("run", Patience(0.0), {"/data": "/mnt", "/": "/all"})
    assert reach.mapped("/data") == "/mnt"
    assert reach.mapped("/data/a/b.h5") == "/mnt/a/b.h5"
    assert reach.mapped("/data/a/") == "/mnt/a/"
    assert reach.mapped("/database/a") == "/all/database/a"
    assert Reach("run", Patience(0.0), {"/data": "/mnt"}).mapped("/x") is None
    assert reach.path("file://far/data/a%20b.tif") == "/mnt/a b.tif"


# Resource and Datum


def as_spec(documents, spec, resource_kwargs, path, datum_kwargs):
    """Return the documents of a `datum_run` with another kind of Resource; `datum_kwargs` takes the point's number."""
    told = []
    for name, document in documents:
        if name == "resource":
            document |= {"spec": spec, "resource_path": path, "resource_kwargs": resource_kwargs}
        elif name == "datum":
            document |= {"datum_kwargs": datum_kwargs(document["datum_kwargs"]["index"])}
        told.append((name, document))
    return told


def point(number):
    return {"point_number": number}


def legacy_run(folder, spec, shot, k):
    """Write frames, (n * k, rows, columns), as a classic areaDetector does, and return the documents."""
    documents = datum_run(folder, shot[:: max(k, 1)])
    if spec.startswith("AD_HDF5"):
        write_hdf5(folder, shot, "ad.h5")
        return as_spec(documents, spec, {"frame_per_point": k}, "ad.h5", point)
    if spec == "AD_TIFF":
        (folder / "tiffs").mkdir()
        for number, frame in enumerate(shot):
            tifffile.imwrite(folder / "tiffs" / f"img_{number:06d}.tiff", frame)
        kwargs = {"template": "%s%s_%6.6d.tiff", "filename": "img", "frame_per_point": k}
        return as_spec(documents, spec, kwargs, "/tiffs", point)
    for number, stack in enumerate(shot.reshape(-1, k, *SHAPE)):
        np.save(folder / f"frames_{number}.npy", stack)
    return documents


@pytest.fixture
def bare_installation(monkeypatch):
    """Hide the packages with handlers, as where only bluesky-powder is installed."""

    def missing(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(legacy, "entry_points", lambda **_: ())
    monkeypatch.setattr(legacy, "import_module", missing)


@pytest.mark.parametrize("spec", ["AD_HDF5", "AD_HDF5_SWMR", "AD_TIFF", "NPY_SEQ"])
@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("handlers", ["installed", "our own", "not registered"])
def test_classic_files_are_read_by_the_installed_handlers_or_our_own(tmp_path, request, monkeypatch, spec, k, handlers):
    if handlers == "our own":
        request.getfixturevalue("bare_installation")
    elif handlers == "not registered":
        monkeypatch.setattr(legacy, "entry_points", lambda **_: ())
    shot = images(6)
    documents = legacy_run(tmp_path, spec, shot, k)
    frames, run = taken(documents)
    found = [frame.images.read() for frame in frames]
    used = type(next(iter(run._handlers._made.values()))).__module__  # noqa: SLF001 - whose handler it is is the point
    run.close()
    whose = {"our own": "bluesky_powder", "installed": "ophyd" if spec == "NPY_SEQ" else "area_detector_handlers"}
    if not (handlers == "not registered" and spec == "NPY_SEQ"):
        assert used.startswith(whose.get(handlers, "area_detector_handlers"))
    assert np.array_equal(np.stack(found), shot.reshape(-1, k, *SHAPE))


@pytest.mark.parametrize("handlers", ["installed", "our own"])
@pytest.mark.parametrize("spec", ["AD_HDF5", "AD_HDF5_SWMR"])
def test_classic_files_may_grow(tmp_path, request, handlers, spec):
    if handlers == "our own":
        request.getfixturevalue("bare_installation")
    shot = images(6)
    documents = legacy_run(tmp_path, spec, shot, 2)
    with h5py.File(tmp_path / "ad.h5", "a") as file:
        file["entry/data/data"].resize(3, axis=0)  # the second point is only half there
    frames, run = taken(documents)
    assert np.array_equal(frames[0].images.read(), shot[:2])
    with pytest.raises(FramesUnavailable, match="ad.h5"):
        frames[1].images.read()
    write_hdf5(tmp_path, shot, "ad.h5")
    for number in (1, 2, 0):
        assert np.array_equal(frames[number].images.read(), shot[2 * number : 2 * number + 2])
    run.close()


@pytest.mark.usefixtures("bare_installation")
def test_no_handler_says_what_to_install(tmp_path):
    documents = as_spec(datum_run(tmp_path, images(1)), "AD_SPE", {}, "x", point)
    text = reason(documents)
    assert "no handler for AD_SPE files is installed" in text
    assert "area-detector-handlers" in text


def test_a_handler_that_cannot_be_imported_is_named(tmp_path, monkeypatch):
    from importlib.metadata import EntryPoint

    broken = EntryPoint("MAGIC", "no_such_package:Handler", "databroker.handlers")
    monkeypatch.setattr(legacy, "entry_points", lambda **_: (broken,))
    documents = as_spec(datum_run(tmp_path, images(1)), "MAGIC", {}, "x", point)
    assert "no_such_package:Handler for MAGIC files cannot be imported" in reason(documents)


RETURNS = {
    "array": lambda stack: stack,
    "one image": lambda stack: stack[0],
    "four axes": lambda stack: stack[:, np.newaxis],
    "dask": lambda stack: dask.array.from_array(stack, chunks=(1, 20, 50)),
    "list": list,
    "list of stacks": lambda stack: [frame[np.newaxis] for frame in stack],
    "list of lists": lambda stack: stack.tolist(),
    "generator": lambda stack: (frame for frame in stack),
    "generator of dask": lambda stack: (dask.array.from_array(frame) for frame in stack),
}


@pytest.mark.parametrize("way", RETURNS)
def test_handlers_may_return_what_they_like(tmp_path, way):
    shot = images(6).reshape(2, 3, *SHAPE)

    class Handler:
        def __init__(self, path):
            pass

        def __call__(self, point_number):
            return RETURNS[way](shot[point_number])

    documents = as_spec(datum_run(tmp_path, shot[:, 0]), "MAGIC", {}, "x", point)
    frames, run = taken(documents, handlers={"MAGIC": Handler})
    for number, frame in enumerate(frames):
        assert np.array_equal(frame.images.read(), shot[number][: 1 if way == "one image" else 3])
    run.close()


@pytest.mark.parametrize("returned", [None, "text", 3.0, [], [np.zeros((3, 4)), np.zeros((5, 4))]])
def test_handlers_that_return_no_images_are_a_reason(tmp_path, returned):
    class Handler:
        def __init__(self, path):
            pass

        def __call__(self, **_):
            return returned

    documents = as_spec(datum_run(tmp_path, images(1)), "MAGIC", {}, "x", point)
    assert reason(documents, handlers={"MAGIC": Handler})


def test_handlers_kept_are_few_and_closed(monkeypatch):
    monkeypatch.setattr(legacy, "MOST_OPEN", 2)
    alive = set()

    class Handler:
        def __init__(self, path):
            self.path = path
            alive.add(path)

        def __call__(self, **_):
            return np.ones(SHAPE)

        def close(self):
            alive.remove(self.path)

    run = Reach("run", Patience(0.0))
    handlers = legacy.Handlers(run, {"MAGIC": Handler})
    for number in range(5):
        resource = {"uid": str(number), "spec": "MAGIC", "root": "", "resource_path": f"/{number}"}
        handlers.images(resource, {"index": 0}, "primary", "det", 1).read()
        assert len(alive) <= 2
    assert alive == {"/3", "/4"}
    handlers.close()
    assert not alive


def test_one_jpeg_image_has_no_second(tmp_path):
    Image.fromarray(images(1)[0].astype(np.uint8)).save(tmp_path / "one.jpg")
    documents = stream_run(f"file://localhost{tmp_path}/one.jpg", 2, mimetype="image/jpeg", parameters={})
    run = RunFrames(WANTED, "run", Patience(0.0))
    first, second = [item for name, document in documents for item in run.take(name, document)]
    assert first.images.read().shape == (1, *SHAPE)
    assert "one.jpg is one image, number 1 is not in it" in second.reason


@pytest.mark.parametrize("way", ["tiff, two files an event", "tiff of pages", "hdf5, numbered, two images"])
def test_images_of_one_event_that_differ_in_shape_are_a_reason(tmp_path, way):
    folder = tmp_path / "data"
    documents = written(folder, way, images(WAYS[way].per_event))
    if way == "tiff of pages":
        (folder / "0.tif").unlink()
        for shape in (SHAPE, (3, 4), SHAPE):
            tifffile.imwrite(folder / "0.tif", np.ones(shape, "u4"), append=True, metadata=None)
    elif way.startswith("tiff"):
        tifffile.imwrite(folder / "scan12_000001.tif", np.ones((3, 4), "u4"))
    else:
        for name, document in documents:
            if name == "stream_resource":
                document["parameters"]["chunk_shape"] = [1, *SHAPE]
        for number, shape in enumerate((SHAPE, (3, 4))):
            with h5py.File(folder / f"part_{number:03d}.h5", "w") as file:
                file["entry/data/data"] = np.ones((1, *shape), "u4")
    assert "differ in shape" in reason(documents)


def test_uris_may_name_this_machine(tmp_path):
    shot = images(2)
    documents = written(tmp_path / "data", "hdf5", shot)
    for name, document in documents:
        if name == "stream_resource":
            document["uri"] = document["uri"].replace("localhost", socket.gethostname())
    assert np.array_equal(read(documents)[:, 0], shot)


def test_frames_one_by_one_along_an_axis_more_are_counted_by_the_event(tmp_path):
    shot = images(6)
    np.save(tmp_path / "all.npy", shot[:, np.newaxis])
    documents = stream_run(
        f"file://localhost{tmp_path}/all.npy", 3, per_event=2, mimetype="application/x-npy", parameters={}
    )
    assert np.array_equal(read(documents), shot.reshape(3, 2, *SHAPE))
