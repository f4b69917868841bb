"""Publishing into a real server, that is read meanwhile, away, or of another opinion."""

import contextlib
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import event_model
import numpy as np
import pytest
from derived_runs import derived_run

import tight_reader
from bluesky_powder.publish import TiledPublisher
from bluesky_powder.server import PowderServer


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with PowderServer(tmp_path_factory.mktemp("served")) as server:
        yield server


@pytest.fixture
def client(server):
    client = server.client()
    yield client
    client.context.close()


@pytest.fixture
def publisher(client, tmp_path):
    with TiledPublisher(client, spool=tmp_path / "spool") as publisher:
        yield publisher


def publish(publisher, documents):
    documents = list(documents)
    for name, document in documents:
        publisher(name, document)
    return documents[0][1]["uid"]


def test_publisher_and_server_survive_a_reader_in_a_tight_loop(tmp_path):
    events = 150
    with PowderServer(tmp_path / "served") as server:
        documents = list(derived_run(events))
        uid = documents[0][1]["uid"]
        client = server.client()
        reader = subprocess.Popen(
            [sys.executable, tight_reader.__file__, server.uri, server.api_key, uid],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with reader, TiledPublisher(client, spool=tmp_path / "spool") as publisher:
            for name, document in documents:
                publisher(name, document)
            assert publisher.wait(280)
            assert publisher.failures == ()
            met = json.loads(reader.communicate()[0])
        print(met)
        assert server.running
        assert set(met) <= {"table 200", "table 404", "stream not there yet", "stream empty", "stream read"}, met
        assert met["table 200"] > 50
        assert met["stream read"] > 10
        run = client[uid]
        assert "retry" not in str(run.metadata.get("notes"))
        for stream in ("primary", "cumulative"):
            assert run[stream].base["internal"].read()["seq_num"].tolist() == list(range(1, events + 1))
            assert run[stream].read()["intensity"].shape == (events, 300)
        client.context.close()
    assert not server.running
