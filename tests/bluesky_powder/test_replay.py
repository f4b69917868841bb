"""Replay: stored runs, from Tiled with and without its exporter, give the arrays of the live reduction."""

import copy
import subprocess
import sys

import h5py
import numpy as np
import pytest

from bluesky_powder import replay
from bluesky_powder.errors import RecipeError, ReplayError
from bluesky_powder.replay import documents_of
from raw_runs import (
    SHAPE,
    Derived,
    assert_same_bits,
    images,
    inline_run,
    recipe_in,
    stream_run,
    tiff_run,
    write_hdf5,
)

POSITIONS = [0.0, 0.0, 5.0, 5.0]
MONITORS = [100.0, 110.0, 90.0, 100.0]


def reduced(documents, recipe, **options):
    derived = Derived()
    uids = replay(documents, recipe, derived, **options)
    assert uids == [start["uid"] for start in derived.starts]
    return derived


def stored(client, documents):
    """Write documents into Tiled, as TiledWriter does while they come, and return the run."""
    from bluesky_tiled_plugins import TiledWriter

    writer = TiledWriter(client, batch_size=1)
    for name, document in copy.deepcopy(documents):
        writer(name, document)
    return client[documents[0][1]["uid"]]


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    """Return a client of our own server, which has the exporter of documents, and the folder it may read."""
    from bluesky_powder.server import PowderServer

    data = tmp_path_factory.mktemp("data")
    with PowderServer(tmp_path_factory.mktemp("catalog"), readable=[data]) as server:
        client = server.client()
        yield client, data
        client.context.close()


PLAIN_SERVER = """
import sys
from tiled.server import SimpleTiledServer

with SimpleTiledServer(directory=sys.argv[1], readable_storage=[sys.argv[2]]) as server:
    print(server.uri, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def plain_catalog(tmp_path_factory):
    """Return a client of an ordinary Tiled server, which answers 406 to the question for documents."""
    from tiled.client import from_uri

    data, folder = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("catalog")
    command = [sys.executable, "-c", PLAIN_SERVER, str(folder), str(data)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        client = from_uri(server.stdout.readline().strip())
        yield client, data
        client.context.close()
        server.stdin.close()
        server.wait(30)


RUNS = {
    "inline": lambda _, frames: inline_run(frames, POSITIONS, MONITORS),
    "step scan": lambda folder, frames: stream_run(write_hdf5(folder, frames), 4, POSITIONS, MONITORS),
    "two images an event": lambda folder, frames: stream_run(
        write_hdf5(folder, np.repeat(frames, 2, axis=0)), 4, POSITIONS, MONITORS, per_event=2
    ),
    "tiff": lambda folder, frames: tiff_run(folder, frames.astype(np.int32), POSITIONS),
}


@pytest.mark.parametrize("way", RUNS)
@pytest.mark.parametrize("server", ["catalog", "plain_catalog"])
def test_replay_from_tiled_equals_the_live_reduction(request, tmp_path, server, way):
    client, data = request.getfixturevalue(server)
    folder = data / way.replace(" ", "_")
    folder.mkdir()
    documents = RUNS[way](folder, images(4))
    corrections = {} if way == "tiff" else {"corrections": {"monitor": "i0"}}
    recipe = recipe_in(tmp_path, moving=True, **corrections)
    expected = reduced(documents, recipe)
    assert expected.stop["exit_status"] == "success", expected.stop
    run = stored(client, documents)
    if server == "plain_catalog":
        with pytest.raises(Exception, match="406"):
            list(run.documents())
    derived = reduced(run, recipe)
    assert derived.stop["exit_status"] == "success", derived.stop
    assert_same_bits(derived, expected)
    assert derived.start["raw_uid"] == documents[0][1]["uid"]


def test_replay_of_a_run_that_is_still_open(catalog, tmp_path):
    client, data = catalog
    (data / "open").mkdir()
    documents = stream_run(write_hdf5(data / "open", images(3)), 3)
    run = stored(client, documents[:-1])
    derived = reduced(run, recipe_in(tmp_path))
    assert derived.stop["exit_status"] == "abort"
    assert derived.stop["frames_reduced"] == 3


def test_replay_takes_pairs_mappings_and_generators(tmp_path):
    recipe, documents = recipe_in(tmp_path), inline_run(images(2))
    expected = reduced(documents, recipe)
    assert_same_bits(reduced(iter(documents), recipe), expected)
    assert_same_bits(reduced([list(pair) for pair in documents], recipe), expected)
    assert_same_bits(reduced([{"name": n, "doc": d} for n, d in documents], recipe), expected)


def test_replay_is_the_function_however_it_is_imported(tmp_path):
    import bluesky_powder
    import bluesky_powder.replay as room
    from bluesky_powder.replay import replay as function

    recipe, documents = recipe_in(tmp_path), inline_run(images(1))
    for callable_ in (bluesky_powder.replay, room, function, replay):
        assert len(callable_(documents, recipe)) == 1


def test_replay_takes_a_recipe_file_or_a_stored_recipe(tmp_path):
    recipe, documents = recipe_in(tmp_path), inline_run(images(2))
    expected = reduced(documents, recipe)
    assert_same_bits(reduced(documents, tmp_path / "recipe.yaml"), expected)
    assert_same_bits(reduced(documents, expected.start["recipe"]), expected)


def test_replay_tells_of_its_progress(tmp_path):
    documents, seen = inline_run(images(2)), []
    replay(documents, recipe_in(tmp_path), progress=lambda name, _: seen.append(name))
    assert seen == [name for name, _ in documents]


@pytest.mark.parametrize(
    ("given", "says"), [(7, "7 has no documents"), ("uid", "'uid' has no documents"), ([3], "3 is no")]
)
def test_replay_of_what_is_no_run_says_so(tmp_path, given, says):
    with pytest.raises(ReplayError, match=says):
        replay(given, recipe_in(tmp_path))


def test_replay_with_a_wrong_recipe_says_so():
    with pytest.raises(RecipeError):
        replay([], {"frames": "det"})


def test_replay_leaves_out_the_empty_stop_document():
    assert list(documents_of([("start", {"uid": "a"}), ("stop", {})])) == [("start", {"uid": "a"})]


def test_replay_of_a_server_that_fails_says_so(tmp_path):
    class Gone:
        def documents(self):
            raise ConnectionError("no route to host")

    with pytest.raises(ReplayError, match="no route to host"):
        replay(Gone(), recipe_in(tmp_path))


def test_replay_reads_each_file_only_once_a_frame(tmp_path):
    uri = write_hdf5(tmp_path, images(3))
    documents = stream_run(uri, 3)
    derived = reduced(documents, recipe_in(tmp_path))
    with h5py.File(tmp_path / "frames.h5", "a") as file:  # nobody holds it open any more
        assert file["entry/data/data"].shape == (3, *SHAPE)
    assert derived.stop["frames_reduced"] == 3
