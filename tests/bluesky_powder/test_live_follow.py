"""Following runs as they grow, over real websockets and connections that break."""

import importlib
import logging
import queue
import time
from functools import partial

import numpy as np
import pytest
from tiled.client import from_uri

from bluesky_powder.errors import DerivedRunError
from bluesky_powder.live import follow, pushed, rows
from bluesky_powder.live.follow import Silence
from bluesky_powder.live.pushed import PushedSums
from bluesky_powder.publish import TiledPublisher
from bluesky_powder.publish.delivery import remove_partial
from bluesky_powder.server import PowderServer
from pattern_runs import documents_of, pattern
from served_runs import reduced
from tcp_proxy import Proxy

PATIENCE = 60
patterns_of = partial(documents_of, streams=())  # followers look at `axes` and `primary`
follow_module = importlib.import_module("bluesky_powder.live.follow")  # the function has its name


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with PowderServer(tmp_path_factory.mktemp("served")) as server:
        yield server


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return reduced(tmp_path_factory.mktemp("recipe"), frames=6)


class Telling:
    """Publishes a run piece by piece: all up to an event of `primary`."""

    def __init__(self, publisher, documents):
        self._publisher, self._left = publisher, list(documents)
        self._primary = {d["uid"] for name, d in self._left if name == "descriptor" and d["name"] == "primary"}
        self.uid = self._left[0][1]["uid"]

    def up_to(self, seq_num, *, wait=True):
        while self._left:
            name, document = self._left.pop(0)
            self._publisher(name, document)
            if name == "event" and document["descriptor"] in self._primary and document["seq_num"] == seq_num:
                break
        assert not wait or self._publisher.wait(PATIENCE)


def assert_all_were_told(updates, run):
    sums, spottiness = run.latest("primary", "sums"), run.latest("primary", "spottiness")
    assert [update.seq_num for update in updates] == sorted(sums)
    for update in updates:
        assert update.pattern.sums.tobytes() == sums[update.seq_num].tobytes()
        assert update.values["spottiness"] == spottiness[update.seq_num]
        assert update.pattern.spottiness() == spottiness[update.seq_num]


def assert_patterns(updates, seq_nums):
    assert [update.seq_num for update in updates] == list(seq_nums)
    for update in updates:
        made = pattern(update.seq_num)
        assert update.pattern.sums.tobytes() == made.sums.tobytes()
        assert update.values["spottiness"] == made.spottiness()
        assert update.values["monitor"] == 2.0


def until(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


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
        telling = Telling(publisher, run.documents)
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


@pytest.mark.parametrize("storage", ["events", "file"])
def test_fast_run_is_told_whole_and_in_order(server, storage):
    updates = []
    with TiledPublisher(server.uri, api_key=server.api_key, spool=server.spool, storage=storage) as publisher:
        telling = Telling(publisher, patterns_of(range(1, 61)))
        telling.up_to(3)
        client = server.client()
        where = client[telling.uid, "primary"].base["sums"].include_data_sources().data_sources()[0].mimetype
        assert (where == "application/x-hdf5") == (storage == "file")
        with follow(client[telling.uid], updates.append) as following:
            until(lambda: len(updates) == 3)
            telling.up_to(50, wait=False)
            until(lambda: len(updates) == 50)
            telling.up_to(None)
            assert following.wait(PATIENCE)
    assert_patterns(updates, range(1, 61))


@pytest.mark.parametrize("storage", ["events", "file"])
def test_following_goes_on_when_the_server_was_started_again(tmp_path, storage):
    updates = []
    with PowderServer(tmp_path) as first:
        port, key = int(first.uri.rpartition(":")[2]), first.api_key
        with TiledPublisher(first.uri, api_key=key, spool=tmp_path / "journals", storage=storage) as publisher:
            telling = Telling(publisher, patterns_of(range(1, 13)))
            telling.up_to(4)
            catalog = from_uri(first.uri, api_key=key, trust_env=False)
            with follow(catalog[telling.uid], updates.append) as following:
                until(lambda: len(updates) == 4)
                first.close()
                telling.up_to(8, wait=False)  # the publisher keeps these
                with PowderServer(tmp_path, api_key=key, port=port):
                    until(lambda: len(updates) == 8)
                    assert not following.ended
                    telling.up_to(None)
                    assert following.wait(PATIENCE)
            catalog.context.close()
    assert_patterns(updates, range(1, 13))


def test_patterns_are_taken_from_what_is_pushed(server, monkeypatch):
    monkeypatch.setattr(rows, "ON_THE_WAY", PATIENCE)  # however busy the machine is
    updates, fetched = [], []
    with TiledPublisher(server.uri, api_key=server.api_key, spool=server.spool) as publisher:
        telling = Telling(publisher, patterns_of(range(1, 9)))
        telling.up_to(2)
        client = server.client()
        with follow(client[telling.uid], updates.append) as following:
            until(lambda: len(updates) == 2)
            client.context.http_client.event_hooks["request"].append(lambda request: fetched.append(request.url.path))
            for number in range(3, 8):
                telling.up_to(number)
                until(lambda number=number: len(updates) == number)
            assert not [path for path in fetched if "/metadata/" not in path]
            telling.up_to(None)
            assert following.wait(PATIENCE)
            assert fetched  # the hook sees what is asked, such as for the run's end
    assert_patterns(updates, range(1, 9))


def test_rows_that_do_not_come_next_are_looked_for(server):
    updates, seq_nums = [], [1, 2, 4, 5, 5, 6]
    with TiledPublisher(server.uri, api_key=server.api_key, spool=server.spool) as publisher:
        telling = Telling(publisher, patterns_of(seq_nums))
        telling.up_to(2)
        client = server.client()
        for known, number in ((2, 4), (3, 5), (4, 5)):
            # Each the first that a connection pushes: after a gap, in order, and again after a pause.
            updates.clear()
            with follow(client[telling.uid], updates.append):
                until(lambda known=known: len(updates) == known)
                telling.up_to(number)
                until(lambda known=known: len(updates) == known + 1)
            assert_patterns(updates, seq_nums[: known + 1])
        telling.up_to(None)


def test_run_that_is_written_again_is_followed_on(server, tmp_path, monkeypatch):
    monkeypatch.setattr(follow_module, "TICK", 0.1)
    monkeypatch.setattr(follow_module, "IDLE", 0.3)
    updates, documents = [], list(patterns_of(range(1, 8)))
    client = server.client()
    with TiledPublisher(server.uri, api_key=server.api_key, spool=tmp_path / "first") as publisher:
        telling = Telling(publisher, documents)
        telling.up_to(3)
        with follow(client[telling.uid], updates.append) as following:
            until(lambda: len(updates) == 3)
            # As publishers do after an outage: the connections stand, and tell of nothing any more.
            remove_partial(client, telling.uid)
            with TiledPublisher(server.uri, api_key=server.api_key, spool=tmp_path / "second") as again:
                telling = Telling(again, documents)
                telling.up_to(5)
                until(lambda: len(updates) == 5)
                telling.up_to(None)
                assert following.wait(PATIENCE)
        publisher.close(0)
    assert_patterns(updates, range(1, 8))


def test_silence_is_looked_into_ever_more_seldom_and_what_is_on_its_way_is_waited_for(monkeypatch):
    monkeypatch.setattr(follow_module, "TICK", 0.5)
    monkeypatch.setattr(follow_module, "IDLE", 2.0)
    monkeypatch.setattr(follow_module, "LONGEST_IDLE", 5.0)
    silence = Silence()
    looked = [step for step in range(1, 60) if silence.is_to_be_looked_into(0.5)]
    assert np.diff([0, *looked]).tolist() == [4, 8, 10, 10, 10, 10]
    silence = Silence()
    assert not silence.hides(more=True)
    assert [silence.is_to_be_looked_into(0.5) for _ in range(2)] == [False, True]
    assert not silence.hides(more=False)
    assert not silence.hides(more=True)
    assert silence.hides(more=True)


def test_what_followers_wait_for_is_written_first(server):
    written, client = [], server.client()
    client.context.http_client.event_hooks["request"].append(
        lambda request: request.method == "PATCH" and written.append("/".join(request.url.path.split("/")[-2:]))
    )
    with TiledPublisher(client, spool=server.spool, storage="events") as publisher:
        telling = Telling(publisher, patterns_of(range(1, 5)))
        telling.up_to(3)
        written.clear()
        telling.up_to(4)
        first, second, *rest = [path for path in written if path.startswith("primary/")]
        assert (first, second) == ("primary/sums", "primary/internal")
        assert sorted(rest) == ["primary/intensity", "primary/sem"]
        telling.up_to(None)
    read = client[telling.uid, "primary"].read()
    for row, number in enumerate(range(1, 5)):
        np.testing.assert_array_equal(read["intensity"][row], pattern(number).intensity)
        np.testing.assert_array_equal(read["sem"][row], pattern(number).sem)


def test_sums_that_nobody_takes_do_not_pile_up(server, monkeypatch):
    monkeypatch.setattr(pushed, "MOST_KEPT", 2)
    with TiledPublisher(server.uri, api_key=server.api_key, spool=server.spool) as publisher:
        telling = Telling(publisher, patterns_of(range(1, 8)))
        telling.up_to(2)
        with PushedSums(server.client().context, f"{telling.uid}/primary/sums", (7, 200)) as sums:
            telling.up_to(3)
            telling.up_to(None)
            assert (sums.count(7, PATIENCE), sums.count(8, 0)) == (7, 7)
            assert sums.take(6, PATIENCE).tobytes() == pattern(7).sums.tobytes()
            assert sums.take(6, 0) is None
            assert sums.take(3, 0) is None


def test_run_without_a_pattern_yet_is_waited_for_and_an_empty_one_ends(server):
    updates = []
    with TiledPublisher(server.uri, api_key=server.api_key, spool=server.spool) as publisher:
        documents = list(patterns_of(range(1, 4)))
        publisher(*documents[0])
        uid = documents[0][1]["uid"]
        assert publisher.wait(PATIENCE)
        with follow(server.client()[uid], updates.append) as following:
            for name, document in documents[1:]:
                publisher(name, document)
            assert following.wait(PATIENCE)
        assert_patterns(updates, range(1, 4))
        empty = [each for each in patterns_of([]) if each[0] in ("start", "stop")]
        for name, document in empty:
            publisher(name, document)
        assert publisher.wait(PATIENCE)
    with follow(server.client()[empty[0][1]["uid"]], updates.append) as following:
        assert following.wait(PATIENCE)
    assert len(updates) == 3
