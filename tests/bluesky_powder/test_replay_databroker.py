"""Runs in databroker's catalogs, of version 1 and 2, replayed from there."""

import functools
import re
import warnings

import pytest
from bluesky import RunEngine
from ophyd.sim import NumpySeqHandler

from bluesky_powder import replay
from bluesky_powder.errors import ReplayError
from bluesky_powder.replay import documents_of
from bluesky_powder.replay.catalog import expected_events, find_run
from raw_runs import Derived, assert_same_bits, copied, datum_run, images, inline_run, recipe_in
from stored_runs import SCANS, renamed, take

pytest.importorskip("mongomock", reason="databroker's own catalogs need its extras server and back-compat")
CLASSIC = [name for name in SCANS if name.startswith(("arrays", "Resource"))]


@pytest.fixture(scope="module")
def broker():
    """Return a v2 catalog on an in-process MongoDB of databroker's own."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Using `httpx` with `starlette.testclient`")  # Tiled's, in process
        from databroker import v2

        catalog = v2.temp()
    yield catalog
    catalog.context.close()


@pytest.fixture(scope="module")
def taken(tmp_path_factory):
    """Return a function that takes a scan by its name, once."""
    data, RE = tmp_path_factory.mktemp("data"), RunEngine(context_managers=[])
    return functools.cache(lambda name: take(RE, data / re.sub(r"\W+", "_", name), SCANS[name]))


def insert(broker, documents):
    """Put documents into the catalog, as a RunEngine does; return the uid."""
    for name, document in copied(documents):
        broker.v1.insert(name, document)
    return documents[0][1]["uid"]


def replayed(given, recipe, **options):
    derived = Derived()
    (uid,) = replay(given, recipe, derived, **options)
    assert derived.start["uid"] == uid
    assert derived.stop["exit_status"] == "success", derived.stop
    assert derived.stop["frames_skipped"] == 0, derived.stop
    return derived


@pytest.mark.parametrize("name", CLASSIC)
def test_scan_in_databroker_is_replayed_bit_for_bit(broker, taken, name):
    scan = taken(name)
    uid = insert(broker, scan.documents)
    for given in (broker[uid], broker.v1[uid], broker[uid].documents(fill=False), broker.v1[uid].documents()):
        derived = replayed(given, scan.recipe)
        assert_same_bits(derived, scan.derived)
        assert derived.start["raw_uid"] == uid


def test_broker_by_its_name_is_replayed_from(taken):
    """``Broker.named`` of version 1, which is what old scripts have."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Using `httpx` with `starlette.testclient`")
        from databroker import Broker

        broker = Broker.named("temp")
    scan = taken("Resource, AD_HDF5")
    for name, document in copied(scan.documents):
        broker.insert(name, document)
    assert_same_bits(replayed(broker[-1], scan.recipe), scan.derived)
    assert_same_bits(replayed(find_run(broker, scan.uid[:8]), scan.recipe), scan.derived)
    broker.v2.context.close()


def test_stream_resources_are_lost_in_databroker_and_that_is_said(broker, taken, tmp_path):
    scan = taken("HDF5")
    uid = insert(broker, renamed(scan.documents))
    for given in (broker[uid], broker.v1[uid]):
        derived = Derived()
        with pytest.raises(
            ReplayError, match="StreamResource documents, which databroker's MongoDB catalogs do not keep"
        ):
            replay(given, recipe_in(tmp_path), derived)


def test_a_run_that_has_not_ended_says_so(broker, tmp_path):
    """Its events are not there either: databroker keeps them back."""
    documents = inline_run(images(2))
    derived = Derived()
    replay(broker[insert(broker, documents[:-1])], recipe_in(tmp_path), derived)
    assert derived.stop["exit_status"] == "abort"
    assert "there is no stop document" in derived.stop["reason"]


def test_a_handler_of_the_users_own_is_used(broker, tmp_path):
    folder = tmp_path / "files"
    folder.mkdir()
    documents = datum_run(folder, images(2))
    uid = insert(broker, documents)
    seen = []

    class Handler(NumpySeqHandler):
        specs = {"NPY_SEQ"}

        def __call__(self, *arguments, **keywords):
            seen.append(keywords)
            return super().__call__(*arguments, **keywords)

    expected, derived = Derived(), Derived()
    replay(documents, recipe_in(tmp_path), expected)
    replay(broker[uid], recipe_in(tmp_path), derived, handlers={"NPY_SEQ": Handler})
    assert seen
    assert_same_bits(derived, expected)


@pytest.mark.parametrize("version", [1, 2])
def test_runs_are_found_by_uid_and_scan_id(broker, version):
    # Not `broker.v2`: asking a catalog for that changes what every client of the process gives for a run.
    catalog = broker.v1 if version == 1 else broker
    runs = [inline_run(images(1), scan_id=4711), inline_run(images(1), scan_id=4711)]
    for number, documents in enumerate(runs):
        documents[0][1]["time"] += number
        insert(broker, documents)
    uid = runs[0][0][1]["uid"]
    for text in (uid, uid[:8]):
        found = find_run(catalog, text)
        assert found.metadata["start"]["uid"] == uid
        assert expected_events(found.metadata["stop"], None) == 1
    assert find_run(catalog, "4711").metadata["start"]["uid"] == runs[1][0][1]["uid"]
    for text, says in (
        ("zzzzzz", f"no run has a uid that is, or begins with, zzzzzz; the latest are {runs[1][0][1]['uid']}"),
        ("zz", "too short"),
        ("", "'' is no uid"),
    ):
        with pytest.raises(ReplayError, match=re.escape(says)):
            find_run(catalog, text)


def test_documents_are_those_that_were_put_in(broker):
    documents = inline_run(images(2))
    told = list(documents_of(broker[insert(broker, documents)]))
    assert [name for name, _ in told] == ["start", "descriptor", "event_page", "stop"]
    assert told[0][1]["uid"] == documents[0][1]["uid"]


@pytest.fixture
def served(monkeypatch):
    """Return a client of a server with databroker's MongoDB adapter, over HTTP."""
    import socket
    import threading

    import uvicorn
    from databroker.mongo_normalized import MongoAdapter
    from tiled.client import from_uri
    from tiled.config import Authentication
    from tiled.server.app import build_app
    from tiled.server.settings import get_settings

    # One set of settings serves all apps of a process: the key of others has to come back.
    monkeypatch.setattr(get_settings(), "single_user_api_key", "sesame12")
    app = build_app(MongoAdapter.from_mongomock(), authentication=Authentication(single_user_api_key="sesame12"))
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical"))
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        while not server.started:
            thread.join(0.05)
        client = from_uri(f"http://127.0.0.1:{listening.getsockname()[1]}", api_key="sesame12")
        yield client
        client.context.close()
        server.should_exit = True
        thread.join(30)


def test_databroker_is_replayed_from_over_http_too(served, taken):
    for name in ("arrays", "Resource, AD_TIFF"):
        scan = taken(name)
        uid = insert(served, renamed(scan.documents))
        assert_same_bits(replayed(find_run(served, uid[:8]), scan.recipe), scan.derived)
    uid = insert(served, renamed(taken("HDF5").documents))
    derived = Derived()
    with pytest.raises(ReplayError, match="which databroker's MongoDB catalogs do not keep"):
        replay(served[uid], scan.recipe, derived)
    assert derived.stop["exit_status"] == "fail"
