"""Following runs as they grow, over real websockets and connections that break."""

import logging
import queue

import pytest
from tiled.client import from_uri

from bluesky_powder.errors import DerivedRunError
from bluesky_powder.live import follow
from bluesky_powder.publish import TiledPublisher
from bluesky_powder.server import PowderServer
from served_runs import reduced
from tcp_proxy import Proxy

PATIENCE = 25


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with PowderServer(tmp_path_factory.mktemp("served")) as server:
        yield server


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return reduced(tmp_path_factory.mktemp("recipe"), frames=6)


class Telling:
    """Publishes a run piece by piece: all up to an event of `primary`."""

    def __init__(self, publisher, run):
        self._publisher, self._left = publisher, list(run.documents)
        self._primary = {d["uid"] for name, d in run.documents if name == "descriptor" and d["name"] == "primary"}

    def up_to(self, seq_num):
        while self._left:
            name, document = self._left.pop(0)
            self._publisher(name, document)
            if name == "event" and document["descriptor"] in self._primary and document["seq_num"] == seq_num:
                break
        assert self._publisher.wait(PATIENCE)


def assert_all_were_told(updates, run):
    sums, spottiness = run.latest("primary", "sums"), run.latest("primary", "spottiness")
    assert [update.seq_num for update in updates] == sorted(sums)
    for update in updates:
        assert update.pattern.sums.tobytes() == sums[update.seq_num].tobytes()
        assert update.values["spottiness"] == spottiness[update.seq_num]
        assert update.pattern.spottiness() == spottiness[update.seq_num]


def test_late_joiner_gets_all_once_through_broken_connections_and_failing_callbacks(server, run, caplog):
    told = queue.Queue()

    def callback(update):
        told.put(update)
        if update.seq_num == 3:
            raise RuntimeError("no ink")

    with (
        TiledPublisher(server.uri, api_key=server.api_key, spool=server.spool) as publisher,
        Proxy(int(server.uri.rpartition(":")[2])) as proxy,
        caplog.at_level(logging.INFO, "bluesky_powder.live"),
    ):
        telling = Telling(publisher, run)
        telling.up_to(2)
        catalog = from_uri(f"http://127.0.0.1:{proxy.port}", api_key=server.api_key, trust_env=False)
        with follow(catalog[run.start["uid"]], callback) as following:
            updates = [told.get(timeout=PATIENCE) for _ in range(2)]
            telling.up_to(3)
            updates.append(told.get(timeout=PATIENCE))
            assert proxy.cut() >= 1
            telling.up_to(5)
            updates += [told.get(timeout=PATIENCE) for _ in range(2)]
            assert not following.ended
            proxy.cut()
            telling.up_to(None)
            assert following.wait(PATIENCE)
        while not told.empty():
            updates.append(told.get())
        catalog.context.close()
    assert_all_were_told(updates, run)
    assert "the callback failed at frame 3" in caplog.text


def test_run_that_is_over_is_told_and_ends(server, run):
    updates = []
    client = server.client()
    with follow(client[run.start["uid"]], updates.append) as following:
        assert following.wait(PATIENCE)
    assert_all_were_told(updates, run)
    with pytest.raises(DerivedRunError, match="is no derived run"):
        follow(client, updates.append)
