"""Finding derived runs on a real server, and reading them as plain arrays."""

import math

import event_model
import numpy as np
import pytest

from bluesky_powder.client import columns, connect, find, merged, spottiness
from bluesky_powder.client.powder_run import PowderRun
from bluesky_powder.errors import DerivedRunError, ServerError
from bluesky_powder.publish import TiledPublisher
from bluesky_powder.server import PowderServer
from derived_runs import derived_run, primary_values

RAW = "aaaa1111-0000-4000-8000-000000000000"
OTHER_RAW = "aaaa2222-0000-4000-8000-000000000000"


def publish(publisher, documents):
    documents = list(documents)
    for name, document in documents:
        publisher(name, document)
    return documents[0][1]["uid"]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with PowderServer(tmp_path_factory.mktemp("served")) as server:
        yield server


@pytest.fixture(scope="module")
def client(server):
    with connect(server.uri, server.api_key) as client:
        yield client


@pytest.fixture(scope="module")
def uids(server, client):
    """Uids of an early, a late and another's derived run, of an open one, and of a raw run without one."""
    raw = event_model.compose_run()
    with TiledPublisher(client, spool=server.spool) as publisher:
        uids = {
            "early": publish(publisher, derived_run(2, npt=20, raw_uid=RAW, time=1000.0)),
            "late": publish(publisher, derived_run(4, npt=20, raw_uid=RAW, time=2000.0)),
            "other": publish(publisher, derived_run(2, npt=20, raw_uid=OTHER_RAW, time=1500.0)),
            "open": publish(publisher, list(derived_run(2, npt=20, raw_uid="bbbb"))[:6]),
            "raw": publish(publisher, [("start", raw.start_doc), ("stop", raw.compose_stop())]),
        }
        assert publisher.wait(120)
        assert publisher.failures == ()
    return uids


def test_run_is_found_by_its_uid_the_raw_uid_and_the_beginning_of_either(client, uids):
    assert find(client, uids["early"]).start["uid"] == uids["early"]
    assert find(client, f"  {uids['early'][:13]} ").start["uid"] == uids["early"]
    assert find(client, RAW).start["uid"] == uids["late"]
    assert find(client, RAW[:8]).start["uid"] == uids["late"]
    assert type(find(client, RAW)) is PowderRun


def test_run_without_patterns_does_not_hide_those_that_have_some(server, client):
    raw, barren = "cccc1111-0000-4000-8000-000000000000", "cccc2222-0000-4000-8000-000000000000"

    def failed(raw_uid, time):
        (start, *_, (_, stop)) = derived_run(1, npt=20, raw_uid=raw_uid, time=time)
        return [start, ("stop", {**stop, "exit_status": "fail", "frames_reduced": 0})]

    with TiledPublisher(client, spool=server.spool) as publisher:
        good = publish(publisher, derived_run(2, npt=20, raw_uid=raw, time=1000.0))
        publish(publisher, failed(raw, 2000.0))
        publish(publisher, failed(barren, 1000.0))
        latest = publish(publisher, failed(barren, 2000.0))
        assert publisher.wait(120)
    for text, uid in ((raw, good), (raw[:8], good), (barren, latest)):
        assert find(client, text).start["uid"] == uid


def test_run_that_cannot_be_found_is_told(client, uids):
    with pytest.raises(DerivedRunError, match=r"no powder run.* begins with 00000000"):
        find(client, "00000000")
    with pytest.raises(DerivedRunError, match=r"aaaa fits 2 powder runs: .*; give more of it"):
        find(client, "aaaa")
    with pytest.raises(DerivedRunError, match="is there, but no powder run was derived from it"):
        find(client, uids["raw"])
    for nonsense in ("", "%", "a/b", "a_b"):
        with pytest.raises(DerivedRunError, match="is no uid"):
            find(client, nonsense)


def test_spottiness_table_has_every_frame_once_with_its_positions(client, uids):
    table = spottiness(find(client, uids["late"]))
    assert table.seq_num.tolist() == [1, 2, 3, 4]
    assert len(table) == 4
    assert table.positions == ("pos",)
    expected = [primary_values(number, 20) for number in range(1, 5)]
    for name in ("spottiness", "spottiness_excess_error", "pos"):
        np.testing.assert_array_equal(table.columns[name], [row[name] for row in expected])
    assert math.isnan(table.columns["independent_frames"][-1])
    assert table.columns["union_spottiness"][-1] == 4 / 500
    assert not {"time", "seq_num", "intensity"} & set(table.columns)


def test_merged_pattern_is_the_last_with_axes_and_unit(client, uids):
    pattern = merged(find(client, uids["late"]))
    assert (pattern.radial.shape, pattern.edges.shape, pattern.count.shape) == ((20,), (21,), (20,))
    assert pattern.unit.name == "2th_deg"
    assert pattern.intensity[0] == 4
    assert math.isnan(pattern.sem[-1])
    np.testing.assert_allclose(pattern.radial, (pattern.edges[1:] + pattern.edges[:-1]) / 2)


def test_streams_read_as_datasets_with_units(client, uids):
    axes = find(client, uids["late"])["axes"].read()
    assert axes["radial"].dtype == np.float64
    assert axes["radial"].attrs == {"units": "deg"}
    primary = find(client, uids["late"])["primary"].read(["intensity", "pos"])
    assert set(primary.data_vars) == {"intensity", "pos"}
    assert primary["intensity"].dims[0] == "time"


def test_open_run_says_what_is_not_there_yet(client, uids):
    run = find(client, uids["open"])
    assert columns(run, "primary")["seq_num"].tolist() == [1]
    with pytest.raises(DerivedRunError, match="has no stream 'merged' yet"):
        merged(run)


def test_row_that_was_taken_again_replaces_the_first(server, client):
    documents = list(derived_run(3, npt=20))
    events = [document for name, document in documents if name == "event"]
    second = next(e for e in events if e["data"].get("raw_event_uid") == "event-2")
    again = {**second, "uid": "again", "data": {**second["data"], "spottiness": 42.0}}
    documents.insert(-3, ("event", again))
    with TiledPublisher(client, spool=server.spool) as publisher:
        uid = publish(publisher, documents)
    table = spottiness(find(client, uid))
    assert table.seq_num.tolist() == [1, 2, 3]
    assert table.columns["spottiness"].tolist() == [0.001, 42.0, 0.003]


def test_connection_that_fails_is_told_in_one_line(server):
    for uri, told in (("http://127.0.0.1:1", "no Tiled server answers"), ("ftp://x", "is no address")):
        with pytest.raises(ServerError, match=told), connect(uri):
            pass
    for key in ("wrong", None):
        with pytest.raises(ServerError, match="(?i)API key"), connect(server.uri, key):
            pass
