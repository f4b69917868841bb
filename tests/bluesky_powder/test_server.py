"""The embedded server: its folder, its key, its end."""

import asyncio
import gc
import json
import logging
import re
import socket
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from types import SimpleNamespace

import event_model
import httpx
import numpy as np
import pyarrow
import pytest
from tiled.server.streaming import StreamingCache

from bluesky_powder.errors import ServerError
from bluesky_powder.publish import TiledPublisher
from bluesky_powder.server import PowderServer, streaming
from bluesky_powder.server.catalog import in_folder
from bluesky_powder.server.databases import Databases
from bluesky_powder.server.folder import Folder
from bluesky_powder.server.growing import with_slice
from bluesky_powder.server.tables import OneAtATime, check_serialised, serialise
from derived_runs import derived_run
from served_runs import publish, reduced
from users import PATIENCE

get = partial(httpx.get, timeout=PATIENCE)
post = partial(httpx.post, timeout=PATIENCE)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    with PowderServer(folder, api_key="sesame", readable=[folder.parent / "elsewhere"]) as server:
        yield server


@pytest.fixture
def client(served):
    return served.client()


def status(server, **keywords):
    return get(f"{server.uri}/api/v1/metadata/", **keywords).status_code


def test_server_listens_on_this_machine_only_and_wants_its_key(served):
    assert served.uri.startswith("http://127.0.0.1:")
    assert status(served) == 401
    assert status(served, headers={"Authorization": "Apikey wrong"}) == 401
    assert status(served, headers={"Authorization": "Apikey sesame"}) == 200


def test_catalog_is_made_as_tiled_makes_it(tmp_path):
    def made(catalog):
        with closing(sqlite3.connect(catalog)) as connection:
            statements = sorted(connection.iterdump())  # indices are made in any order
        return [re.sub(r"'\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[.\d]*'", "'now'", each) for each in statements]

    subprocess.run([sys.executable, "-m", "tiled", "catalog", "init", str(tmp_path / "tiled.db")], check=True)
    ours = Databases("embedded", str(tmp_path / "ours.db"), "")
    assert not ours.are_initialised()
    ours.initialise()
    assert ours.are_initialised()
    assert made(tmp_path / "ours.db") == made(tmp_path / "tiled.db")


def test_catalog_whose_making_was_cut_short_is_made_anew(tmp_path):
    with PowderServer(tmp_path):
        pass
    catalog = Folder.at(tmp_path).catalog
    catalog.with_name(f"{catalog.name}.new").write_bytes(catalog.read_bytes())
    catalog.unlink()
    with PowderServer(tmp_path, api_key="sesame") as server:
        assert status(server, headers={"Authorization": "Apikey sesame"}) == 200


def test_generated_keys_differ_and_stay_out_of_log_and_repr(tmp_path):
    with PowderServer(tmp_path / "a") as one, PowderServer(tmp_path / "b") as other:
        assert one.api_key != other.api_key
        assert len(one.api_key) >= 32
        assert one.api_key not in repr(one) + one.uri
        get(f"{one.uri}/api/v1/metadata/?api_key={one.api_key}")
        logging.getLogger("tiled.server").error("a mistake that shows the key %s", one.api_key)
    text = (tmp_path / "a" / "server.log").read_text()
    assert "a mistake that shows the key <api key>" in text
    assert one.api_key not in text


def test_servers_in_one_process_keep_their_keys_and_access(served, tmp_path):
    with PowderServer(tmp_path, access="public") as public:
        assert status(public) == 200
        assert status(served) == 401
        assert status(served, headers={"Authorization": "Apikey sesame"}) == 200
        assert post(f"{public.uri}/api/v1/metadata/", json={}).status_code in (401, 403)


def test_folder_is_there_again_after_a_restart(tmp_path):
    with PowderServer(tmp_path) as server:
        client = server.client()
        client.write_array(np.arange(5.0), key="a")
        table = client.create_appendable_table(pyarrow.schema([("x", pyarrow.float64())]), key="t")
        table.append_partition(0, pyarrow.table({"x": [1.0, float("nan")]}))
    with PowderServer(tmp_path) as server:
        client = server.client()
        np.testing.assert_array_equal(client["a"].read(), np.arange(5.0))
        client["t"].append_partition(0, pyarrow.table({"x": [2.0]}))
        np.testing.assert_array_equal(client["t"].read()["x"], [1.0, np.nan, 2.0])


def test_folder_is_served_by_one_only(served):
    with pytest.raises(ServerError, match=rf"is served already, at {served.uri}"):
        PowderServer(served.directory).start()
    with pytest.raises(ServerError, match=rf"is served already, at {served.uri}"):
        in_folder(str(served.directory))
    assert served.running


def test_folders_that_may_be_read_are_remembered(served, tmp_path):
    assert json.loads((served.directory / "readable.json").read_text()) == [str(served.directory.parent / "elsewhere")]
    server = PowderServer(tmp_path, readable=[tmp_path / "x"])
    (tmp_path / "readable.json").write_text("{")
    with pytest.raises(ServerError, match=r"readable\.json is damaged"):
        server.start()
    assert not server.running


def test_folder_may_be_moved_with_all_that_is_in_it(tmp_path):
    documents = list(derived_run(2, npt=20))
    uid = documents[0][1]["uid"]
    with PowderServer(tmp_path / "a folder") as server:
        publish(server, documents, batch_size=None)
    for place in ("elsewhere", "further"):
        (tmp_path / "a folder").rename(tmp_path / place)
        if place == "further":
            (tmp_path / place / "place").unlink()  # as if made before places were noted
        with PowderServer(tmp_path / place) as server:
            primary = server.client()[uid, "primary"].read()
            np.testing.assert_array_equal(primary["masked_pixels"], [1, 2])
            np.testing.assert_array_equal(primary["intensity"][:, 0], [1.0, 2.0])
        (tmp_path / place).rename(tmp_path / "a folder")


def test_secrets_are_hidden_in_whatever_is_logged(served):
    logger = logging.getLogger("tiled.server")
    logger.info('"GET /api/v1/metadata/?fields=x&api_key=another1&slice=1 HTTP/1.1" 401')
    logger.info("?api%5Fkey=another2 and Authorization: Apikey another3")
    try:
        raise OSError("postgresql://me:another4@host/name does not answer, nor redis://:another5@host")
    except OSError:
        logger.exception("failed")
    text = (served.directory / "server.log").read_text()
    assert "?fields=x&api_key=<hidden>&slice=1" in text
    assert "postgresql://<hidden>@host/name" in text
    assert "redis://<hidden>@host" in text
    assert "another" not in text


def test_databases_and_redis_that_do_not_do_are_told_without_passwords(tmp_path):
    for keywords, told in (
        ({"database": "mysql://me:secret@host/x"}, r"mysql://<hidden>@host/x: a database is given as postgresql://"),
        ({"database": "postgresql://me:secret@host"}, "names no database"),
        (
            {"database": "postgresql://me:secret@127.0.0.1:1/x"},
            "the database at .* cannot be used: .*onnection refused",
        ),
        ({"streaming": "http://me:secret@host"}, "streaming goes to redis://"),
        ({"streaming": "redis://me:secret@127.0.0.1:1"}, "Redis at redis://<hidden>@127.0.0.1:1 does not answer"),
    ):
        with pytest.raises(ServerError, match=told) as caught:
            PowderServer(tmp_path, **keywords).start()
        assert "secret" not in str(caught.value)
        assert caught.value.__cause__ is None


def test_port_that_is_taken_is_told(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServerError, match=rf"cannot listen at 127\.0\.0\.1 port {port}: Address already in use"):
            PowderServer(tmp_path, port=port).start()


def test_folder_that_is_a_file_or_not_ours_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ServerError, match="file cannot be a server's folder"):
        PowderServer(tmp_path / "file")
    (tmp_path / "catalog.db").write_text("not a database")
    (tmp_path / "data").mkdir()
    with pytest.raises(ServerError, match="cannot be opened as a Tiled catalog"):
        PowderServer(tmp_path).start()


def test_key_of_other_than_letters_and_digits_is_refused(tmp_path):
    with pytest.raises(ServerError, match="letters and digits"):
        PowderServer(tmp_path, api_key="a b")
    with pytest.raises(ServerError, match="not been started"):
        _ = PowderServer(tmp_path).uri


def test_answers_are_sent_without_delay(served):
    with socket.create_connection(("127.0.0.1", int(served.uri.rpartition(":")[2]))) as asking:
        asking.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert asking.recv(1000).startswith(b"HTTP/1.1 200")
        ends = [each for each in gc.get_objects() if type(each) is socket.socket and each.fileno() >= 0]
        (other,) = [end for end in ends if _peer(end) == asking.getsockname()]
        assert other.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def _peer(end):
    try:
        return end.getpeername()
    except OSError:
        return None


def test_close_ends_all_threads_and_the_port(tmp_path):
    before = {thread.name for thread in threading.enumerate()}
    server = PowderServer(tmp_path).start()
    assert server.start() is server
    uri = server.uri
    server.close()
    server.close()
    assert not server.running
    assert "bluesky-powder-server" not in {thread.name for thread in threading.enumerate()} - before
    with pytest.raises(httpx.ConnectError):
        get(uri)


def test_run_can_be_asked_for_as_documents(client, tmp_path):
    documents = list(derived_run(3, npt=20))
    with TiledPublisher(client, spool=tmp_path) as publisher:
        for name, document in documents:
            publisher(name, document)
    back = list(client[documents[0][1]["uid"]].documents())
    assert [name for name, _ in back].count("event") == 8
    assert back[0][0] == "start"
    assert back[-1][1]["num_events"] == {"axes": 1, "primary": 3, "cumulative": 3, "merged": 1}


def test_open_empty_and_aborted_runs_give_what_they_have(served, tmp_path):
    def aborted(documents):
        *rest, (_, stop) = documents
        return [*rest, ("stop", {**stop, "exit_status": "abort", "reason": "shutter stuck"})]

    def export(run, **query):
        address = f"{served.uri}/api/v1/container/full/{run.start['uid']}"
        return get(address, params={"format": "xye", **query}, headers={"Authorization": "Apikey sesame"})

    whole = reduced(tmp_path, frames=2)
    still_open, without_frames, ended = (
        reduced(tmp_path, frames=2),
        reduced(tmp_path, frames=0),
        reduced(tmp_path, frames=2, change=aborted),
    )
    still_open.documents.pop()
    publish(served, whole.documents, still_open.documents, without_frames.documents, ended.documents, batch_size=None)
    client = served.client()
    stops = [client[run.start["uid"]].metadata.get("stop") for run in (whole, still_open, without_frames, ended)]
    assert stops[0]["exit_status"] == "success"
    assert not stops[1]
    assert (stops[3]["exit_status"], "shutter stuck" in stops[3]["reason"]) == ("abort", True)
    assert [export(run).status_code for run in (whole, still_open, without_frames, ended)] == [200, 200, 404, 200]
    assert export(still_open, which="frame", frame=2).status_code == 200
    assert export(without_frames).json()["detail"]
    missing = export(still_open, which="frame", frame=9)
    assert (missing.status_code, "9" in missing.json()["detail"]) == (404, True)


def test_tables_take_many_writers_and_readers_at_once(client):
    """What ends Tiled's own simple server: two runs that begin at once, and grow, and are read."""
    schema = pyarrow.schema([("seq_num", pyarrow.int64()), ("x", pyarrow.float64())])
    parent = client.create_container("many")
    done = threading.Event()
    failed = []

    def read():
        while not done.is_set():
            for key in list(parent):
                numbers = parent[key].read()["seq_num"].tolist()
                if numbers != list(range(len(numbers))):
                    failed.append(numbers)

    def write(key):
        table = parent.create_appendable_table(schema, key=key)
        for number in range(8):
            table.append_partition(0, pyarrow.table({"seq_num": [number], "x": [float(number)]}))

    with ThreadPoolExecutor(6) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        for writer in [pool.submit(write, f"table{k}") for k in range(4)]:
            writer.result(120)
        done.set()
        for reader in readers:
            reader.result(60)
    assert failed == []
    for key in parent:
        assert parent[key].read()["seq_num"].tolist() == list(range(8))


def test_array_that_has_grown_gives_what_its_reader_knows_of(client):
    array = client.write_array(np.zeros((2, 3)), key="growing")
    known = client["growing"]
    array.patch(np.ones((1, 3)), offset=(2,), extend=True)
    assert known.shape == (2, 3)
    np.testing.assert_array_equal(known.read(), np.zeros((2, 3)))
    assert client["growing"].read().shape == (3, 3)


def test_slice_is_added_only_where_the_whole_is_asked_for():
    assert with_slice("expected_shape=5,200&format=x") == "expected_shape=5%2C200&format=x&slice=%3A5%2C%3A200"
    for query in ("", "expected_shape=scalar", "expected_shape=5&slice=%3A5", "slice=1"):
        assert with_slice(query) == query


def test_live_messages_are_kept_within_bytes_whatever_their_size(tmp_path, monkeypatch):
    monkeypatch.setattr(streaming, "BYTES", 1_000_000)

    async def kept(*sizes):
        cache = StreamingCache({**streaming.settings_of(None), "datastore": "memory"})
        streaming.bound(cache.client)
        for number, size in enumerate(sizes):
            await cache.set("node", number, {"shape": [1]}, b"x" * size)
        held = [await cache.client.get(f"data:node:{number}", "payload") for number in range(len(sizes))]
        return [number for number, payload in enumerate(held) if payload != [None]]

    assert asyncio.run(kept(*[100] * 60)) == list(range(60))
    assert asyncio.run(kept(*[300_000] * 9)) == [6, 7, 8]
    # One that is larger than all the room is no error: it is there, and nothing else.
    assert asyncio.run(kept(100, 2_000_000)) == [1]

    stores = []
    monkeypatch.setattr(streaming, "bound", stores.append)
    with PowderServer(tmp_path):
        assert len(stores) == 1


def test_streaming_cache_of_another_make_is_refused():
    with pytest.raises(ServerError, match=r"install tiled 0\.2\.20"):
        streaming.bound(SimpleNamespace(_data_cache={}))


def test_storage_that_is_not_as_known_is_refused():
    class Storage:
        connect = None

    with pytest.raises(ServerError, match=r"tiled \d.* not known here"):
        serialise(Storage())
    with pytest.raises(ServerError, match="opens its tables anew"):
        check_serialised(Storage())


def test_turn_ends_whatever_happens():
    class Connection:
        def close(self):
            raise OSError("gone")

    def failing():
        raise OSError("no connection")

    for connect in (Connection, failing):
        turn = OneAtATime(connect)
        for _ in range(2):
            with pytest.raises(OSError, match="gone|no connection"):
                turn().close()
    held = OneAtATime(lambda: event_model)()
    assert held.compose_run is event_model.compose_run
