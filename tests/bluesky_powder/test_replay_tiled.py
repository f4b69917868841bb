"""Scans that were reduced live, stored in Tiled by Bluesky's writer, and replayed from there: the same bits."""

import functools
import json
import re
import subprocess
import sys

import event_model
import pytest
import tiled.client.utils
from bluesky import RunEngine

from bluesky_powder import TiledPublisher, replay
from bluesky_powder.client.find import earlier_runs, find
from bluesky_powder.errors import ReplayError
from bluesky_powder.replay import documents_of, nodes
from bluesky_powder.replay.choose import runs_of
from raw_runs import (
    Derived,
    assert_same_bits,
    copied,
    images,
    inline_run,
    recipe_in,
    stream_run,
    write_hdf5,
)
from stored_runs import EVENTS, SCANS, renamed, store, take

PLAIN_SERVER = """
import sys
from tiled.server import SimpleTiledServer

with SimpleTiledServer(directory=sys.argv[1], readable_storage=[sys.argv[2]]) as server:
    print(server.uri, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def taken(data):
    """Return a function that takes a scan by its name, once."""
    RE = RunEngine(context_managers=[])
    return functools.cache(lambda name: take(RE, data / re.sub(r"\W+", "_", name), SCANS[name]))


@pytest.fixture(scope="module")
def ours(data, tmp_path_factory):
    """Return a client of our own server, which has Bluesky's exporter of documents."""
    from bluesky_powder.server import PowderServer

    with PowderServer(tmp_path_factory.mktemp("catalog"), readable=[data]) as server:
        client = server.client()
        yield client
        client.context.close()


@pytest.fixture(scope="module")
def plain(data, tmp_path_factory):
    """Return a client of an ordinary Tiled server, which answers 406 to the question for documents."""
    from tiled.client import from_uri

    command = [sys.executable, "-c", PLAIN_SERVER, str(tmp_path_factory.mktemp("catalog")), str(data)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        client = from_uri(server.stdout.readline().strip())
        yield client
        client.context.close()
        server.stdin.close()
        server.wait(30)


@pytest.fixture(scope="module")
def stored(ours, taken):
    """Return a function that stores a scan by its name, once, all events and files together, and returns the run."""
    return functools.cache(lambda name: store(ours, renamed(taken(name).documents), batch_size=10_000))


def reduced(given, recipe, *, of=None, **options):
    """Return what a replay derives; of several runs, that of one raw run."""
    derived, chosen = Derived(), Derived()
    uids = replay(given, recipe, derived, **options)
    assert uids == [start["uid"] for start in derived.starts]
    if of is None:
        return derived
    for name, document in runs_of(derived.documents, {s["uid"] for s in derived.starts if s["raw_uid"] == of}):
        chosen(name, document)
    return chosen


def replayed(given, recipe, **options):
    derived = reduced(given, recipe, **options)
    assert derived.stop["exit_status"] == "success", derived.stop
    assert derived.stop["frames_skipped"] == 0, derived.stop
    return derived


ON_A_PLAIN_SERVER = ("HDF5", "HDF5, paused", "TIFF", "arrays")
STORED = [*((name, "ours") for name in SCANS), *((name, "plain") for name in ON_A_PLAIN_SERVER)]


@pytest.mark.parametrize(("name", "server"), STORED)
def test_scan_stored_in_tiled_is_replayed_bit_for_bit(request, taken, stored, name, server):
    scan = taken(name)
    if name in ON_A_PLAIN_SERVER:
        run = store(request.getfixturevalue(server), renamed(scan.documents), batch_size=1)
    else:
        run = stored(name)
    if server == "plain":
        with pytest.raises(Exception, match="406"):
            list(run.documents())
    derived = replayed(run, scan.recipe)
    assert_same_bits(derived, scan.derived)
    assert derived.start["raw_uid"] == run.metadata["start"]["uid"]


def test_exported_documents_of_a_server_that_has_the_exporter_are_taken_too(stored, taken):
    """Files after all events, one StreamDatum for all: what `documents()` gives of a run without repeated events."""
    for name in ("HDF5", "HDF5, two frames an event", "HDF5, flown", "arrays"):
        scan = taken(name)
        assert_same_bits(replayed(stored(name).documents(), scan.recipe), scan.derived)


@pytest.mark.parametrize("name", ["HDF5", "HDF5, two frames an event", "TIFF"])
def test_files_of_another_machine_are_read_through_the_server(ours, taken, name):
    scan = taken(name)
    documents = renamed(scan.documents)
    for kind, document in documents:
        if kind == "stream_resource":
            document["uri"] = document["uri"].replace("file://localhost", "file://storage.example.org")
    assert_same_bits(replayed(store(ours, documents), scan.recipe), scan.derived)


def test_several_files_of_one_data_key_are_told_apart(ours, tmp_path, data):
    """A detector that is prepared anew begins another file; Tiled keeps one array, and not where which begins."""
    (data / "several").mkdir()
    frames = images(5)
    recipe = recipe_in(tmp_path)
    whole = stream_run(write_hdf5(data / "several", frames, "whole.h5"), 5)
    expected = reduced(whole, recipe)
    first = write_hdf5(data / "several", frames[:2], "first.h5")
    second = write_hdf5(data / "several", frames[2:], "second.h5")
    for host in ("localhost", "storage.example.org"):
        parts = in_two_files(stream_run(first, 5), second, 2)
        for kind, document in parts:
            if kind == "stream_resource":
                document["uri"] = document["uri"].replace("localhost", host)
        run = store(ours, parts)
        assert_same_bits(reduced(parts if host == "localhost" else run, recipe), expected)
        assert_same_bits(reduced(run, recipe), expected)


def in_two_files(documents, second, begin):
    """Return a run that goes on in another file from some index on."""
    (at,) = [at for at, (name, _) in enumerate(documents) if name == "stream_resource"]
    resource = {**documents[at][1], "uid": "second", "uri": second}
    told = []
    for name, document in copied(documents):
        if name == "stream_datum" and document["indices"]["start"] == begin:
            told.append(("stream_resource", resource))
        if name == "stream_datum" and document["indices"]["start"] >= begin:
            document["stream_resource"] = "second"
        told.append((name, document))
    return told


def test_wide_table_is_put_together_from_its_parts(ours, tmp_path, monkeypatch):
    """Tiled's writer splits tables of very many columns; the exporter gives up on them."""
    from bluesky_tiled_plugins.writing import tiled_writer

    monkeypatch.setattr(tiled_writer, "MAX_TABLE_COLUMNS", 4)
    documents = inline_run(images(3), [0.0, 5.0, 5.0], [100.0, 110.0, 90.0])
    recipe = recipe_in(tmp_path, moving=True, corrections={"monitor": "i0"})
    run = store(ours, documents, batch_size=100)
    assert len([part for part in run["primary"].base if part.startswith("internal")]) > 1
    assert_same_bits(reduced(run, recipe), reduced(documents, recipe))


def test_documents_come_in_the_order_in_which_they_came_live(stored, taken):
    for name in ("HDF5", "HDF5, with darks", "arrays, with darks", "HDF5, paused"):
        assert gist(list(documents_of(stored(name)))) == gist(taken(name).documents)


def gist(documents):
    """Return stream and number of descriptors, events and indices, in order."""
    streams = {document["uid"]: document["name"] for name, document in documents if name == "descriptor"}
    return [
        (
            name,
            streams.get(document.get("descriptor", document["uid"])),
            document.get("seq_num"),
            document.get("indices"),
        )
        for name, document in documents
        if name in ("start", "descriptor", "event", "stream_datum")
    ]


def test_events_of_an_array_are_fetched_in_blocks(ours, tmp_path, monkeypatch):
    monkeypatch.setattr(nodes, "_BLOCK", 2 * images(1).nbytes)
    documents = inline_run(images(5))
    recipe = recipe_in(tmp_path)
    assert_same_bits(reduced(store(ours, documents, batch_size=100), recipe), reduced(documents, recipe))


def test_run_that_is_still_open_ends_in_its_reason(ours, taken):
    for name in ("HDF5", "arrays"):
        scan = taken(name)
        documents = renamed(scan.documents)
        run = store(ours, documents[:-1])
        derived = reduced(run, scan.recipe)
        assert derived.stop["exit_status"] == "abort"
        assert "there is no stop document" in derived.stop["reason"]
        assert derived.stop["frames_reduced"] == EVENTS
        first = {key: value for key, value in scan.derived.arrays().items() if key[0] != "merged"}
        assert_same_bits({key: value for key, value in derived.arrays().items() if key[0] != "merged"}, first)


def test_run_that_has_ended_since_it_was_looked_up_is_whole(ours, taken):
    from bluesky_tiled_plugins import TiledWriter

    scan = taken("arrays")
    documents = renamed(scan.documents)
    writer = TiledWriter(ours, batch_size=1)
    for pair in documents[:-2]:
        writer(*pair)
    run = ours[documents[0][1]["uid"]]
    for pair in documents[-2:]:
        writer(*pair)
    assert_same_bits(replayed(run, scan.recipe), scan.derived)


# --- what else a catalog gives


def only_beginning_and_end(publisher):
    """Return what has derived runs published without patterns, for which nobody asks who looks for earlier runs."""

    def take(name, document):
        if name in ("start", "stop"):
            publisher(name, document)

    return take


def test_new_recipe_names_the_runs_that_it_supersedes(ours, taken):
    scan = taken("HDF5")
    run = store(ours, renamed(scan.documents), batch_size=100)
    uid = run.metadata["start"]["uid"]
    with TiledPublisher(ours, batch_size=100) as publisher:
        beginning_and_end = only_beginning_and_end(publisher)
        (first,) = replay(run, scan.recipe, beginning_and_end, catalog=ours)
        assert publisher.wait(120)
        (second,) = replay(run, scan.recipe, beginning_and_end, catalog=ours)
        assert publisher.wait(120)
        assert not publisher.failures
    assert "supersedes" not in ours[first].metadata["start"]
    assert ours[second].metadata["start"]["supersedes"] == [first]
    assert earlier_runs(ours, uid) == [first, second]
    assert earlier_runs(ours, uid, "another detector") == []
    assert find(ours, uid).metadata["start"]["uid"] == second
    derived = replayed(run, scan.recipe, catalog=ours)
    assert derived.start["supersedes"] == [first, second]
    assert_same_bits(derived, scan.derived)


def test_several_detectors_supersede_their_own(ours, taken):
    scan = taken("HDF5")
    run = store(ours, renamed(scan.documents), batch_size=100)
    recipes = [scan.recipe.model_copy(update={"detector": name}) for name in ("near", "far")]
    with TiledPublisher(ours, batch_size=100) as publisher:
        beginning_and_end = only_beginning_and_end(publisher)
        uids = replay(run, recipes, beginning_and_end, catalog=ours)
        assert publisher.wait(120)
        again = replay(run, recipes, beginning_and_end, catalog=ours)
        assert publisher.wait(120)
    assert len(uids) == len(again) == 2
    by_detector = {ours[uid].metadata["start"]["detector"]: uid for uid in uids}
    for uid in again:
        start = ours[uid].metadata["start"]
        assert start["supersedes"] == [by_detector[start["detector"]]]


def test_catalog_that_is_away_does_not_stop_a_replay(ours, taken):
    from tiled.client import from_uri

    gone = from_uri(str(ours.context.api_uri), api_key=ours.context.api_key)
    gone.context.close()
    scan = taken("arrays")
    derived = replayed(scan.documents, scan.recipe, catalog=gone)
    assert "supersedes" not in derived.start
    assert_same_bits(derived, scan.derived)


def test_dark_run_is_looked_up_beside_the_run(ours, tmp_path):
    frames, darks = images(2), images(1, seed=5) // 8
    dark = inline_run(darks)
    recipe = recipe_in(tmp_path, corrections={"dark": {"run": "sc_dk_field_uid"}})
    light = inline_run(frames, sc_dk_field_uid=dark[0][1]["uid"])
    expected = reduced([*dark, *light], recipe, of=light[0][1]["uid"])
    store(ours, dark)
    derived = reduced(store(ours, light, batch_size=100), recipe)
    assert derived.stop["exit_status"] == "success", derived.stop
    assert_same_bits(derived, expected)
    path = tmp_path / "runs.json"
    path.write_text(json.dumps([(name, event_model.sanitize_doc(doc)) for name, doc in [*light, *dark]]))
    assert_same_bits(reduced(path, recipe, of=light[0][1]["uid"]), expected)


def test_access_tags_of_the_raw_run_come_back_with_its_start_document(stored):
    run = stored("arrays")
    name, start = next(documents_of(run))
    assert name == "start"
    assert start.get("tiled_access_tags", []) == list(run.item["attributes"].get("access_tags") or [])


# --- runs and servers that do not do what they should


def test_arrays_that_do_not_fit_the_table_are_refused(ours, tmp_path):
    run = store(ours, inline_run(images(3)), batch_size=100)
    array = run["primary"].base["det"]
    array.patch(images(1), offset=(3,), extend=True)
    derived = Derived()
    with pytest.raises(ReplayError, match="has 3 events but 4 entries of 'det'"):
        replay(run, recipe_in(tmp_path), derived)


def test_server_that_goes_away_in_the_middle_is_a_reason(data, tmp_path_factory, tmp_path, monkeypatch):
    from bluesky_powder.server import PowderServer

    monkeypatch.setattr(nodes, "_BLOCK", images(1).nbytes)
    # Tiled's client would try each request for 45 s before it gives in.
    monkeypatch.setattr(tiled.client.utils, "TILED_RETRY_ATTEMPTS", 1)
    recipe, derived = recipe_in(tmp_path), Derived()
    with PowderServer(tmp_path_factory.mktemp("catalog"), readable=[data]) as server:
        client = server.client()
        run = store(client, inline_run(images(4)), batch_size=100)

        def leave(name, _):
            if name == "event" and derived.events["primary"]:
                server.close()

        with pytest.raises(ReplayError, match="Tiled does not give the documents"):
            replay(run, recipe, derived, progress=leave)
        client.context.close()
    assert derived.stop["exit_status"] == "fail"
    assert derived.stop["frames_reduced"] == 1
    assert "Tiled does not give the documents" in derived.stop["reason"]


def test_container_that_is_no_run_says_so(ours, tmp_path):
    container = ours.create_container("no-run")
    with pytest.raises(ReplayError, match="has no documents"):
        replay(container, recipe_in(tmp_path))
