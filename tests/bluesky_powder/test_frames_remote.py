"""Frames whose files only the server sees: read over HTTP from a real Tiled server, decided once, bounded."""

import copy
import os
import socket
import threading
import time
import warnings

import h5py
import numpy as np
import pytest
import tifffile

from bluesky_powder import replay
from bluesky_powder.errors import FrameSkipped, FramesUnavailable
from bluesky_powder.frames import Patience, RunFrames, Wanted
from bluesky_powder.frames.images import remote
from bluesky_powder.frames.images.remote import TiledFrames
from dark_runs import filed_run
from image_files import JPEG, written
from raw_runs import (
    SHAPE,
    Derived,
    assert_same_bits,
    datum_run,
    images,
    recipe_in,
    stream_run,
    write_hdf5,
)

WANTED = Wanted("det", None, {}, None)
STORED = [
    "tiff a frame",
    "tiff, two files an event",
    "tiff an event",
    "jpeg, two files an event",
    "npy",
    "hdf5",
    "hdf5, two images an event",
    "hdf5 of four axes",
    "hdf5, one of two thresholds",
    "hdf5, numbered, two images",
]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Return a server of our own with a folder that it may read, and a client."""
    from bluesky_powder.server import PowderServer

    data = tmp_path_factory.mktemp("data")
    with PowderServer(tmp_path_factory.mktemp("catalog"), readable=[data]) as server:
        yield server, server.client(), data


@pytest.fixture
def store(server, request):
    """Return what writes documents into the server, and the folder for their files."""
    from bluesky_tiled_plugins import TiledWriter

    _, client, data = server
    folder = data / "".join(letter if letter.isalnum() else "_" for letter in request.node.name)
    folder.mkdir()

    def write(documents):
        writer = TiledWriter(client)
        for name, document in copy.deepcopy(documents):
            writer(name, document)
        return client

    return write, folder


def elsewhere(documents, change):
    """Return documents as another machine gets them, which does not have the files: "host" or "path" tells so."""
    told = copy.deepcopy(documents)
    for name, document in told:
        if name == "stream_resource" and change == "host":
            document["uri"] = document["uri"].replace("file://localhost", "file://storage.example.org")
        elif name == "stream_resource":
            document["uri"] = document["uri"].replace("file://localhost", "file://localhost/not/mounted")
        elif name == "resource":
            document["root"] = "/not/mounted"
    return told


def taken(documents, timeout=0.0, **options):
    run = RunFrames(WANTED, documents[0][1]["uid"], Patience(timeout), **options)
    return [frame for name, document in documents for frame in run.take(name, document)] + list(run.finish()), run


def read(documents, timeout=0.0, **options):
    frames, run = taken(documents, timeout, **options)
    assert not [frame.reason for frame in frames if hasattr(frame, "reason")]
    found = [frame.images.read() for frame in frames]
    run.close()
    return np.stack(found)


class Asked:
    """Notes what a client asks the server for."""

    def __init__(self, client):
        self.requests = []
        self._hooks = client.context.http_client.event_hooks["request"]

    def __enter__(self):
        self._hooks.append(self.requests.append)
        return self

    def __exit__(self, *_):
        self._hooks.remove(self.requests.append)

    def arrays(self):
        return [request.url.params["slice"] for request in self.requests if "/array/full/" in request.url.path]


@pytest.mark.parametrize("way", STORED)
def test_frames_come_from_the_server_as_from_the_file(store, way):
    write, folder = store
    documents = written(folder, way, images(4))
    client = write(documents)
    here = read(documents)
    for change in ("host", "path"):
        there = read(elsewhere(documents, change), remote=TiledFrames(client))
        assert there.dtype == here.dtype
        assert np.array_equal(there, here)


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("spec", ["NPY_SEQ", "AD_HDF5"])
def test_frames_of_classic_devices_come_from_the_server(store, spec, k):
    write, folder = store
    shot = images(2 * k).reshape(2, k, *SHAPE)
    documents = datum_run(folder, shot)
    if spec == "AD_HDF5":
        write_hdf5(folder, shot.reshape(-1, *SHAPE), "ad.h5")
        for name, document in documents:
            if name == "resource":
                kwargs = {"frame_per_point": k, "chunk_shape": [1, *SHAPE]}
                document |= {"spec": spec, "resource_path": "ad.h5", "resource_kwargs": kwargs}
            elif name == "datum":
                document["datum_kwargs"] = {"point_number": document["datum_kwargs"]["index"]}
    client = write(documents)
    assert np.array_equal(read(elsewhere(documents, "path"), remote=TiledFrames(client)), shot)


def test_frames_of_a_spec_without_handler_come_from_the_server(store):
    write, folder = store
    shot = images(2)
    documents = datum_run(folder, shot)
    client = write(documents)
    for name, document in documents:
        if name == "resource":
            document["spec"] = "UNKNOWN"
    assert np.array_equal(read(documents, remote=TiledFrames(client))[:, 0], shot)


def test_frames_of_several_files_are_the_rows_that_tiled_counts_on(store):
    """Indices of ophyd-async begin at 0 again with each file; Tiled's array goes on."""
    write, folder = store
    shot = images(5)
    one = stream_run(write_hdf5(folder, shot[:3], "one.h5"), 3)
    other = stream_run(write_hdf5(folder, shot[3:], "two.h5"), 2)
    documents = one[:-1]
    for name, document in other[2:-1]:
        document = dict(document) | ({"run_start": one[0][1]["uid"]} if name == "stream_resource" else {})
        if name == "stream_datum":
            document["descriptor"] = one[1][1]["uid"]
            document["seq_nums"] = {
                "start": document["seq_nums"]["start"] + 3,
                "stop": document["seq_nums"]["stop"] + 3,
            }
        elif name == "event":
            document |= {"descriptor": one[1][1]["uid"], "seq_num": document["seq_num"] + 3}
        documents.append((name, document))
    documents.append(one[-1])
    client = write(documents)
    assert np.array_equal(read(documents)[:, 0], shot)
    assert np.array_equal(read(elsewhere(documents, "host"), remote=TiledFrames(client))[:, 0], shot)


@pytest.mark.parametrize("streams", ["dppdpp", "pdppdp"])
@pytest.mark.parametrize("kind", ["hdf5", "tiff", "npy"])
def test_frames_that_share_their_resource_with_darks_come_from_the_server(store, tmp_path, kind, streams):
    """Tiled keeps them all with the stream that named the StreamResource first."""
    write, folder = store
    shot = images(6).astype(np.uint16)
    documents = filed_run(write_hdf5(folder, shot), ["dark" if letter == "d" else "primary" for letter in streams])
    for n, image in enumerate(shot):
        np.save(folder / f"shot_{n}.npy", image)
        tifffile.imwrite(folder / f"shot_{n}.tif", image)
    if kind != "hdf5":
        (resource,) = (document for name, document in documents if name == "stream_resource")
        about = {"tiff": ("image/tiff", "shot_", {"template": "{:d}.tif"}), "npy": ("application/x-npy", "shot", {})}
        image_type, begins, template = about[kind]
        resource["uri"] = f"file://localhost{folder}/{begins}"
        resource["mimetype"] = f"multipart/related;type={image_type}"
        resource["parameters"] = {"chunk_shape": [1, *SHAPE], "join_method": "stack"} | template
    client = write(documents)
    recipe = recipe_in(tmp_path, corrections={"dark": "stream", "missing_dark": "unsubtracted"})
    here = Derived()
    replay(documents, recipe, here)
    assert here.stop["frames_reduced"] == 4
    for change in ("host", "path"):
        there = Derived()
        replay(elsewhere(documents, change), recipe, there, remote=TiledFrames(client))
        assert_same_bits(there, here)


def test_files_on_this_machine_are_never_asked_for(store):
    write, folder = store
    documents = written(folder, "hdf5", images(3))
    client = write(documents)
    with Asked(client) as asked:
        read(documents, remote=TiledFrames(client))
    assert not asked.requests


def test_where_to_read_is_decided_once(store, monkeypatch):
    write, folder = store
    documents = written(folder, "tiff a frame", images(3))
    client = write(documents)
    looked_for, isdir = [], os.path.isdir
    monkeypatch.setattr("os.path.isdir", lambda path: looked_for.append(str(path)) or isdir(path))
    told, reader = elsewhere(documents, "path"), TiledFrames(client)
    run = RunFrames(WANTED, told[0][1]["uid"], Patience(0.0), remote=reader)
    found = []
    for name, document in told:
        found += [frame.images.read() for frame in run.take(name, document)]
    found += [frame.images.read() for frame in run.finish()]
    assert len(found) == 3
    assert len([path for path in looked_for if path.startswith("/not/mounted")]) == 1
    run.close()


def test_a_file_that_is_late_on_this_machine_is_waited_for_before_the_server_is_asked(store, tmp_path):
    write, folder = store
    shot = images(2)
    documents = written(folder, "hdf5", shot)
    client = write(documents)
    told = copy.deepcopy(documents)
    for name, document in told:
        if name == "stream_resource":
            document["uri"] = f"file://localhost{tmp_path}/late.h5"
    frames, run = taken(told, timeout=30.0, remote=TiledFrames(client))
    threading.Timer(0.3, lambda: write_hdf5(tmp_path, shot + 1, "late.h5")).start()
    with Asked(client) as asked:
        assert np.array_equal(frames[0].images.read()[0], shot[0] + 1)
    assert not asked.requests
    run.close()
    assert np.array_equal(read(told[:-1], remote=TiledFrames(client))[:, 0], shot + 1)
    (tmp_path / "late.h5").unlink()
    assert np.array_equal(read(told, timeout=0.1, remote=TiledFrames(client))[:, 0], shot)


def test_frames_read_in_order_are_asked_for_several_at_a_time(store, monkeypatch):
    write, folder = store
    shot = images(12)
    documents = written(folder, "hdf5", shot)
    client = write(documents)
    monkeypatch.setattr(remote, "READ_AHEAD", 5 * shot[0].nbytes)
    reader, uid = TiledFrames(client), documents[0][1]["uid"]
    with Asked(client) as asked:
        for number in range(12):
            assert np.array_equal(reader.read(uid, "primary", "det", number, 1)[0], shot[number])
        assert asked.arrays() == ["0:1", "1:6", "6:11", "11:12"]
        for number in (7, 3, 4, 5):  # not in order
            assert np.array_equal(reader.read(uid, "primary", "det", number, 1)[0], shot[number])
        assert asked.arrays()[4:] == ["7:8", "3:4", "4:9"]


def test_frames_too_large_to_read_ahead_come_one_by_one(store, monkeypatch):
    write, folder = store
    documents = written(folder, "hdf5, two images an event", images(6))
    client = write(documents)
    monkeypatch.setattr(remote, "READ_AHEAD", 1)
    reader, uid = TiledFrames(client), documents[0][1]["uid"]
    with Asked(client) as asked:
        for number in range(3):
            assert reader.read(uid, "primary", "det", number, 2).shape == (2, *SHAPE)
    assert asked.arrays() == ["0:1", "1:2", "2:3"]


def test_arrays_kept_are_few(store, monkeypatch):
    monkeypatch.setattr(remote, "MOST_NODES", 2)
    write, folder = store
    client = None
    uids = []
    for number in range(3):
        (folder / str(number)).mkdir()
        documents = written(folder / str(number), "hdf5", images(1, seed=number))
        client = write(documents)
        uids.append(documents[0][1]["uid"])
    reader = TiledFrames(client)
    for number, uid in enumerate(uids):
        assert np.array_equal(reader.read(uid, "primary", "det", 0, 1), images(1, seed=number))
    assert len(reader._nodes) == 2  # noqa: SLF001 - how much it keeps is the point


def test_frames_that_the_server_gets_late_are_waited_for(store):
    """Live: the file grows, the writer tells Tiled, and the frames follow."""
    from bluesky_tiled_plugins import TiledWriter

    write, folder = store
    shot = images(4)
    uri = write_hdf5(folder, shot[:1])
    documents = stream_run(uri, 4)
    client = write([])
    frames, run = taken(elsewhere(documents, "host"), timeout=60.0, remote=TiledFrames(client))

    def acquire():
        writer = TiledWriter(client, batch_size=1)
        for name, document in copy.deepcopy(documents):
            if name == "stream_datum" and document["indices"]["start"]:
                time.sleep(0.1)
                with h5py.File(uri.removeprefix("file://localhost"), "a") as file:
                    file["entry/data/data"].resize(document["indices"]["stop"], axis=0)
                    file["entry/data/data"][-1] = shot[document["indices"]["start"]]
            writer(name, document)

    acquisition = threading.Thread(target=acquire)
    acquisition.start()
    assert np.array_equal(np.concatenate([frame.images.read() for frame in frames]), shot)
    acquisition.join()
    run.close()


def test_a_run_that_validation_has_reshaped_is_read(store):
    """Bluesky's validator rewrites (n, 1, rows, columns) to the shape of the file, also after frames were read."""
    write, folder = store
    shot = images(6)
    documents = written(folder, "hdf5", shot)
    client = write(documents)
    reader, uid = TiledFrames(client), documents[0][1]["uid"]
    assert np.array_equal(reader.read(uid, "primary", "det", 0, 1)[0], shot[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # which tell of what it has changed
        client[uid].validate()
    assert client[uid]["primary"].base["det"].shape == (6, *SHAPE)
    for number in (3, 4, 1):
        try:
            found = reader.read(uid, "primary", "det", number, 1)
        except FramesUnavailable:  # asked for in the old shape
            found = reader.read(uid, "primary", "det", number, 1)
        assert np.array_equal(found[0], shot[number])


def test_what_the_server_does_not_have_is_a_reason_with_the_path(store):
    write, folder = store
    documents = written(folder, "tiff a frame", images(2))
    last = [name for name, _ in documents].index("stream_datum", 4)
    client = write([*documents[:last], documents[-1]])
    reader = TiledFrames(client)
    frames, run = taken(elsewhere(documents, "path"), remote=reader)
    frames[0].images.read()
    with pytest.raises(FramesUnavailable, match=r"Tiled has 1 frames, number 1 is not there"):
        frames[1].images.read()
    run.close()
    with pytest.raises(FramesUnavailable, match=r"primary/other of run .* does not have it \(yet\)"):
        reader.read(documents[0][1]["uid"], "primary", "other", 0, 1)
    frames, run = taken(elsewhere(stream_run("file://localhost/x/y.h5", 1), "path"), remote=reader)
    with pytest.raises(FramesUnavailable, match=r"/not/mounted/x/y\.h5 is not on this machine, and primary/det of run"):
        frames[0].images.read()


def test_what_is_no_array_of_images_is_a_reason(store):
    write, folder = store
    documents = written(folder, "hdf5", images(2))
    uid = documents[0][1]["uid"]
    client = write(documents)
    with pytest.raises(FramesUnavailable, match="does not have it"):
        TiledFrames(client).read(uid, "primary", "internal", 0, 1)
    stream = client[uid]["primary"].base
    stream.write_array(np.arange(5.0), key="spectrum")
    stream.write_array(np.arange(6.0).reshape(2, 3), key="one_image")
    with pytest.raises(FrameSkipped, match=r"has shape \(5,\) in Tiled; these are no frames"):
        TiledFrames(client).read(uid, "primary", "spectrum", 0, 1)
    assert np.array_equal(TiledFrames(client).read(uid, "primary", "one_image", 0, 1), [[[0, 1, 2], [3, 4, 5]]])
    with pytest.raises(FramesUnavailable, match="has 1 frames, number 1"):
        TiledFrames(client).read(uid, "primary", "one_image", 1, 1)


def test_a_file_that_the_server_has_lost_is_a_reason(store):
    write, folder = store
    documents = written(folder, "hdf5", images(2))
    client = write(documents)
    (folder / "flat.h5").unlink()
    with pytest.raises(FramesUnavailable, match=r"primary/det of run .*: Tiled answers \d+"):
        TiledFrames(client).read(documents[0][1]["uid"], "primary", "det", 0, 1)


def test_a_server_that_is_gone_costs_the_patience_and_no_more(server):
    with socket.socket() as deaf:  # it does not listen, but nobody else can have its port
        deaf.bind(("127.0.0.1", 0))

        class Gone:
            context = server[1].context
            uri = f"http://127.0.0.1:{deaf.getsockname()[1]}/api/v1/metadata/"

        frames, run = taken(stream_run("file://storage.example.org/x.h5", 2), timeout=0.5, remote=TiledFrames(Gone()))
        begin = time.monotonic()
        with pytest.raises(FramesUnavailable, match=r"Tiled does not answer: ConnectError.*waited 0\.5 s"):
            frames[0].images.read()
        assert time.monotonic() - begin < 20  # Tiled's own client would have insisted for 45
        with pytest.raises(FramesUnavailable, match="Tiled does not answer"):
            frames[1].images.read()
        run.close()


def test_a_client_without_rights_is_told_so_at_once(server, store):
    from tiled.client import from_uri

    write, folder = store
    documents = written(folder, "hdf5", images(1))
    client = write(documents)
    other = from_uri(server[0].uri, api_key=server[0].api_key, trust_env=False)
    other.context.http_client.headers["Authorization"] = "Apikey 00"
    with pytest.raises(FrameSkipped, match=r"Tiled refuses \(40[13]\)") as caught:
        TiledFrames(other).read(documents[0][1]["uid"], "primary", "det", 0, 1)
    assert not isinstance(caught.value, FramesUnavailable)  # waiting would not help
    other.context.close()
    assert client is not None


def test_a_client_that_was_closed_is_a_reason(server):
    from tiled.client import from_uri

    closed = from_uri(server[0].uri, api_key=server[0].api_key, trust_env=False)
    closed.context.close()
    with pytest.raises(FramesUnavailable, match="Tiled does not answer: RuntimeError"):
        TiledFrames(closed).read("run", "primary", "det", 0, 1)


def test_what_is_no_tiled_is_a_reason(server):
    class Other:
        context = server[1].context
        uri = f"{server[0].uri}/ui"  # answers everything with a page

    with pytest.raises(FramesUnavailable, match="does not answer as Tiled does"):
        TiledFrames(Other()).read("run", "primary", "det", 0, 1)


@pytest.mark.parametrize("way", ["hdf5, two images an event", "tiff a frame"])
def test_patterns_from_the_server_are_those_from_the_files(store, tmp_path, way):
    write, folder = store
    documents = written(folder, way, images(4))
    client, recipe = write(documents), recipe_in(tmp_path)
    here, there, mapped, lost = Derived(), Derived(), Derived(), Derived()
    replay(documents, recipe, here)
    replay(elsewhere(documents, "host"), recipe, there, remote=TiledFrames(client))
    replay(elsewhere(documents, "path"), recipe, mapped, root_map={"/not/mounted": "/"})
    replay(elsewhere(documents, "path"), recipe, lost)
    assert here.stop["exit_status"] == "success"
    assert_same_bits(there, here)
    assert_same_bits(mapped, here)
    assert lost.stop["frames_skipped"] == 4
    assert all("remote=TiledFrames" in reason for reason in lost.reasons())


def test_two_threads_share_one_reader(store):
    write, folder = store
    shot = images(12)
    documents = written(folder, "hdf5", shot)
    client = write(documents)
    reader, uid, wrong = TiledFrames(client), documents[0][1]["uid"], []

    def run(numbers):
        for number in numbers:
            if not np.array_equal(reader.read(uid, "primary", "det", number, 1)[0], shot[number]):
                wrong.append(number)

    threads = [threading.Thread(target=run, args=(numbers,)) for numbers in (range(12), range(11, -1, -1))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_jpeg_frames_come_from_the_server_as_bytes(store):
    write, folder = store
    documents = written(folder, "jpeg a frame", images(2))
    assert documents[2][1]["mimetype"] == JPEG
    client = write(documents)
    assert read(elsewhere(documents, "host"), remote=TiledFrames(client)).dtype == np.uint8
