"""Publishing into a real server that is read meanwhile, away, or of another opinion."""

import gc
import json
import logging
import math
import pickle
import subprocess
import sys
import threading
import time
from functools import partial

import numpy as np
import pytest
import tiled.client.utils

import plain_reader
import tight_reader
from bluesky_powder.errors import PublishError
from bluesky_powder.publish import TiledPublisher, read_journal
from bluesky_powder.publish.encoding import decode, encode
from bluesky_powder.publish.journal import Journal
from bluesky_powder.publish.side_by_side import side_by_side
from bluesky_powder.server import PowderServer
from derived_runs import cumulative_values, derived_run, primary_values, raw_run

FRAMES = 10


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with PowderServer(tmp_path_factory.mktemp("served")) as server:
        yield server


@pytest.fixture
def client(server):
    return server.client()


@pytest.fixture
def publisher(client, tmp_path):
    with TiledPublisher(client, spool=tmp_path / "spool") as publisher:
        yield publisher


def publish(publisher, documents):
    documents = list(documents)
    for name, document in documents:
        publisher(name, document)
    return documents[0][1]["uid"]


def rows(client, uid, stream):
    return client[uid][stream].base["internal"].read()["seq_num"].tolist()


def test_run_at_full_speed_survives_a_reader_in_a_tight_loop(tmp_path):
    documents = list(derived_run(FRAMES))
    uid = documents[0][1]["uid"]
    with PowderServer(tmp_path / "served") as server:
        client = server.client()
        command = [sys.executable, tight_reader.__file__, server.uri, server.api_key, uid]
        with (
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader,
            TiledPublisher(client, spool=tmp_path / "spool", storage="events", batch_size=1) as publisher,
        ):
            assert reader.stdout.readline() == "reading\n"
            publish(publisher, documents)
            assert publisher.wait(280)
            met = json.loads(reader.communicate()[0])
        assert publisher.failures == ()
        assert server.running
        # 404 while the stream is not there; nothing else but success.
        assert set(met) <= {"table 200", "table 404", "stream not there yet", "stream empty", "stream read"}, met
        assert met["table 200"] > 10, met
        assert met["stream read"] > 3, met
        assert "retry" not in str(client[uid].metadata.get("notes"))
        for stream in ("primary", "cumulative"):
            assert rows(client, uid, stream) == list(range(1, FRAMES + 1))
            assert client[uid][stream].read()["intensity"].shape == (FRAMES, 300)
    assert not server.running


def test_every_number_reads_back_as_a_number_in_another_process(server, publisher):
    uids = {npt: publish(publisher, derived_run(12, npt=npt)) for npt in (1, 17)}
    assert publisher.wait(120)
    assert publisher.failures == ()
    command = [sys.executable, plain_reader.__file__, server.uri, server.api_key, *uids.values()]
    read = pickle.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    for npt, uid in uids.items():
        assert_numbers(read[uid], npt)


def assert_numbers(read, npt):
    for stream, make in (("primary", primary_values), ("cumulative", cumulative_values)):
        expected = [make(number, npt) for number in range(1, 13)]
        for key in expected[0]:
            values = read[stream][key]
            if key == "raw_event_uid":
                assert values.tolist() == [row[key] for row in expected]
                continue
            assert values.dtype.kind == ("i" if key in ("masked_pixels", "frames") else "f"), (key, values.dtype)
            np.testing.assert_array_equal(values, np.array([row[key] for row in expected], values.dtype))
    assert read["axes"]["radial_edges"].shape == (1, npt + 1)
    assert read["merged"]["geometries"].tolist() == [3]


def test_run_begun_before_tiled_went_away_is_whole_when_it_is_back(tmp_path, monkeypatch):
    # Tiled's client would try each request for 45 s before it gives in.
    monkeypatch.setattr(tiled.client.utils, "TILED_RETRY_ATTEMPTS", 1)
    documents = list(derived_run(6))
    uid, half = documents[0][1]["uid"], len(documents) // 2
    server = PowderServer(tmp_path / "served", api_key="secret").start()
    port = int(server.uri.rpartition(":")[2])
    with TiledPublisher(server.uri, api_key="secret", spool=tmp_path / "spool") as publisher:
        for name, document in documents[:half]:
            publisher(name, document)
        assert publisher.wait(120)
        server.close()
        for name, document in documents[half:]:
            publisher(name, document)
        assert not publisher.wait(1.0)
        assert publisher.pending > 0
        with PowderServer(tmp_path / "served", api_key="secret", port=port) as server:
            client = server.client()
            assert publisher.wait(120)
            assert publisher.failures == ()
            for stream in ("primary", "cumulative"):
                assert rows(client, uid, stream) == [1, 2, 3, 4, 5, 6]
            assert client[uid].metadata["stop"]["exit_status"] == "success"
    assert list((tmp_path / "spool").iterdir()) == []


def test_documents_that_come_twice_are_published_once(client, publisher, caplog):
    documents = list(derived_run(2))
    uid = publish(publisher, [document for document in documents for _ in range(2)])
    assert publisher.wait(120)
    assert publisher.failures == ()
    assert rows(client, uid, "primary") == [1, 2]
    assert client[uid].metadata["stop"]["exit_status"] == "success"
    assert caplog.text.count("subscribed twice?") == 1
    assert "is not published" not in caplog.text


def test_run_that_is_there_already_is_refused_and_left_alone(client, publisher):
    documents = list(raw_run([1.0, 2.0]))
    uid = publish(publisher, documents)
    assert publisher.wait(120)
    publish(publisher, documents)
    assert publisher.wait(120)
    (failure,) = publisher.failures
    assert failure.run == uid
    assert "already" in failure.reason
    assert rows(client, uid, "primary") == [1, 2]
    assert [name for name, _ in read_journal(failure.documents)] == [name for name, _ in documents]


def test_key_that_is_refused_is_told_with_the_way_out_which_the_next_publisher_goes(server, client, tmp_path, recwarn):
    documents = list(raw_run([1.0, 2.0]))
    with TiledPublisher(server.uri, api_key="wrong", spool=tmp_path / "spool") as refused:
        uid = publish(refused, documents)
        assert refused.wait(120)
        (failure,) = refused.failures
    assert "401" in failure.reason
    assert failure.reason.endswith("; give an api_key that may do this")
    assert str(failure).endswith(
        f"its documents are in {failure.documents}; the next publisher with the same spool publishes them"
    )
    del refused
    gc.collect()
    assert [each for each in recwarn if issubclass(each.category, ResourceWarning)] == []  # no connection is left open
    with TiledPublisher(server.uri, api_key=server.api_key, spool=tmp_path / "spool") as allowed:
        assert allowed.wait(120)
        assert allowed.failures == ()
    assert rows(client, uid, "primary") == [1, 2]


def test_run_that_fails_leaves_the_next_one_alone(client, publisher, caplog):
    bad, good = list(raw_run([1.0, object()])), list(raw_run([1.0, 2.0]))
    for pair in zip(bad, good, strict=True):
        for name, document in pair:
            publisher(name, document)
    assert publisher.wait(120)
    (failure,) = publisher.failures
    assert failure.run == bad[0][1]["uid"]
    assert "cannot hold a object" in failure.reason
    assert failure.documents is None
    assert failure.reason in caplog.text
    assert rows(client, good[0][1]["uid"], "primary") == [1, 2]


def test_numbers_follow_their_declaration_rather_than_the_first_row(client, publisher):
    uid = publish(publisher, raw_run([0, np.float32(0.5), None, np.int64(2)]))
    assert publisher.wait(120)
    assert publisher.failures == ()
    np.testing.assert_array_equal(client[uid]["primary"].read()["x"], [0.0, 0.5, np.nan, 2.0])


def test_document_may_be_changed_once_it_was_handed_over(client, publisher):
    documents = list(raw_run([1.0]))
    uid = documents[0][1]["uid"]
    for name, document in documents:
        publisher(name, document)
        document.get("data", {}).clear()
        document.clear()
    assert publisher.wait(120)
    assert client[uid]["primary"].read()["x"].values.tolist() == [1.0]


def test_queue_that_overflows_says_so_in_log_failures_and_stop(client, tmp_path, monkeypatch, caplog):
    stalled = threading.Event()
    append = Journal.append

    def slowly(self, *entry):
        stalled.wait(30)
        append(self, *entry)

    monkeypatch.setattr(Journal, "append", slowly)
    documents = list(raw_run([1.0, 2.0, 3.0, 4.0]))
    uid = documents[0][1]["uid"]
    with TiledPublisher(client, spool=tmp_path, most_documents=4) as publisher:
        publish(publisher, documents[:-1])
        stalled.set()
        assert publisher.wait(120)
        publish(publisher, documents[-1:])
        assert publisher.wait(120)
        (failure,) = publisher.failures
    assert "2 of its documents were lost" in failure.reason
    assert "some are lost" in caplog.text
    stop = client[uid].metadata["stop"]
    assert (stop["exit_status"], stop["reason"]) == ("fail", "2 documents were lost before Tiled")
    assert rows(client, uid, "primary") == [1, 2]


def test_publisher_closed_while_tiled_is_away_leaves_the_documents_on_disk(tmp_path, caplog):
    documents = list(raw_run([1.0, 2.0]))
    publisher = TiledPublisher("http://127.0.0.1:1", spool=tmp_path)
    publish(publisher, documents)
    while publisher.state.queued:
        time.sleep(0.01)
    publisher.close(timeout=0.5)
    (failure,) = publisher.failures
    assert str(failure.documents) in caplog.text
    left = list(read_journal(failure.documents))
    assert left == [(name, dict(document)) for name, document in documents]


def test_publisher_takes_anything_without_raising(publisher, caplog):
    publisher("event", {})
    publisher("event", {"descriptor": "unheard of", "data": {}})
    publisher("nonsense", {"a": 1})
    with caplog.at_level(logging.WARNING):
        assert publisher.wait(10)
    assert "start of its run was not seen" in caplog.text


def test_journal_that_is_none_is_told(tmp_path):
    (tmp_path / "x.journal").write_bytes(b"something else, long enough")
    with pytest.raises(PublishError, match=r"x\.journal is no journal"):
        list(read_journal(tmp_path / "x.journal"))


def test_encoding_keeps_arrays_nan_and_nesting():
    table = np.zeros(2, dtype=[("a", "<f8"), ("b", "<i2")])
    document = {
        "a": np.arange(6.0).reshape(2, 3),
        "b": {"c": [1, None, "µ"]},
        "t": table,
        "e": np.empty((0, 3)),
        3: True,
    }
    name, back = decode(encode("event", document))
    assert name == "event"
    for key in ("a", "t", "e"):
        np.testing.assert_array_equal(back[key], document[key])
        assert back[key].dtype == document[key].dtype
    assert (back["b"], back[3]) == (document["b"], True)
    assert math.isnan(decode(encode("event", {"x": np.float32("nan")}))[1]["x"])


def test_calls_side_by_side_all_end_before_an_error_of_one_is_raised():
    both, ended = threading.Barrier(2, timeout=30), []

    def meet(name):
        both.wait()
        ended.append(name)

    def fail():
        raise OSError("no route")

    side_by_side([])
    side_by_side([partial(meet, "a"), partial(meet, "b")])
    assert sorted(ended) == ["a", "b"]
    with pytest.raises(OSError, match="no route"):
        side_by_side([fail, partial(meet, "c"), partial(meet, "d")])
    assert sorted(ended) == ["a", "b", "c", "d"]


def test_program_that_forgets_to_close_still_stores_everything(tmp_path):
    program = f"""
import sys
sys.path[:0] = {sys.path!r}
from derived_runs import raw_run
from bluesky_powder import PowderServer, TiledPublisher
server = PowderServer({str(tmp_path)!r}).start()
publisher = TiledPublisher(server.uri, api_key=server.api_key, spool=server.spool)
for name, document in raw_run([1.0, 2.0]):
    publisher(name, document)
    if name == "start":
        print(document["uid"])
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stderr == ""
    with PowderServer(tmp_path) as server:
        assert rows(server.client(), result.stdout.strip(), "primary") == [1, 2]
