"""Scans that were reduced live, stored in Tiled by Bluesky's writer, and replayed from there: the same bits."""

import functools
import os
import subprocess
import sys

import numpy as np
import pytest
from bluesky import RunEngine

from bluesky_powder import replay
from bluesky_powder.errors import ReplayError
from bluesky_powder.replay import documents_of
from raw_runs import Derived, assert_same_bits
from stored_runs import EVENTS, SCANS, store, take

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
    return functools.cache(lambda name: take(RE, data / name.replace(" ", "_"), SCANS[name]))


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


def replayed(given, recipe, **options):
    derived = Derived()
    uids = replay(given, recipe, derived, **options)
    assert uids == [start["uid"] for start in derived.starts]
    assert derived.stop["exit_status"] == "success", derived.stop
    assert derived.stop["frames_skipped"] == 0, derived.stop
    return derived


@pytest.mark.parametrize("server", ["ours", "plain"])
@pytest.mark.parametrize("name", SCANS)
def test_scan_stored_in_tiled_is_replayed_bit_for_bit(request, taken, server, name):
    scan, client = taken(name), request.getfixturevalue(server)
    batch = {"ours": 1, "plain": 10_000}[server]
    run = store(client, scan.documents, batch_size=batch)
    if server == "plain":
        with pytest.raises(Exception, match="406"):
            list(run.documents())
    derived = replayed(run, scan.recipe)
    assert_same_bits(derived, scan.derived)
    assert derived.start["raw_uid"] == scan.uid
