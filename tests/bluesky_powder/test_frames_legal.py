"""What documents must have: good ones pass as they are, bad ones are refused with what is wrong with them."""

import numpy as np
import pytest

from bluesky_powder.frames.legal import KNOWN, MOST_SEQ_NUMS, DocumentError, checked, shown
from bluesky_powder.replay import replay
from raw_runs import (
    SHAPE,
    Derived,
    assert_same_bits,
    datum_run,
    images,
    inline_run,
    recipe_in,
    reference_run,
    stream_run,
    write_hdf5,
)

EVENT = {"uid": "e", "descriptor": "d", "seq_num": 1, "time": 1.0, "data": {}, "timestamps": {}}
PAGE = {"uid": ["e"], "descriptor": "d", "seq_num": [1], "time": [1.0], "data": {"x": [5]}, "timestamps": {"x": [1.0]}}
DESCRIPTOR = {"uid": "d", "run_start": "r", "time": 1.0, "name": "primary", "data_keys": {"x": {"shape": [4]}}}
SPANS = {"indices": {"start": 0, "stop": 2}, "seq_nums": {"start": 1, "stop": 3}}
STREAM_DATUM = {"uid": "s/0", "stream_resource": "s", "descriptor": "d", **SPANS}
STREAM_RESOURCE = {
    "uid": "s",
    "data_key": "x",
    "mimetype": "a/b",
    "uri": "file://x",
    "parameters": {},
    "run_start": "r",
}
RESOURCE = {"uid": "r", "spec": "S", "root": "/", "resource_path": "x", "resource_kwargs": {}}
OLDER = {
    "uid": "r",
    "data_key": "det",
    "spec": "AD_HDF5_SWMR_SLICE",
    "root": "/data",
    "resource_path": "a b/x.h5",
    "resource_kwargs": {"multiplier": 3},
    "path_semantics": "posix",
    "run_start": "s",
}
DATUM = {"datum_id": "r/0", "resource": "r", "datum_kwargs": {"n": 1}}
DATUM_PAGE = {"datum_id": ["r/0", "r/1"], "resource": "r", "datum_kwargs": {"n": [1, 2]}}
START, STOP = {"uid": "r", "time": 1.0}, {"uid": "z", "run_start": "r", "time": 1.0, "exit_status": "success"}


def test_legal_documents_of_real_runs_pass_untouched(tmp_path, shared_reference):
    folder = shared_reference / "documents"
    runs = [reference_run(shared_reference, path.stem) for path in sorted(folder.glob("*.json"))]
    runs += [
        inline_run(images(2), [0, 1], [5, 6]),
        inline_run(images(2), pages=True),
        datum_run(tmp_path, images(2), pages=True),
        stream_run("file://localhost/x.h5", 2),
    ]
    seen = set()
    for run in runs:
        for name, document in run:
            legal = checked(name, document)
            assert legal.document == document or name == "event_page"
            assert legal.complaints == ()
            seen.add(name)
    assert seen == KNOWN


@pytest.mark.parametrize(
    ("name", "document", "says"),
    [
        (["event"], EVENT, "its name is ['event'], not a text"),
        ("event", None, "it is None, not a mapping"),
        ("nonsense", [1], "it is [1], not a mapping"),
        ("start", {"time": 1.0}, "it has no uid"),
        ("start", START | {"uid": ""}, "its uid is empty"),
        ("stop", STOP | {"run_start": 7}, "its run_start is 7, not a text"),
        ("descriptor", DESCRIPTOR | {"data_keys": ["x"]}, "its data_keys is ['x'], not a mapping"),
        ("descriptor", DESCRIPTOR | {"name": None}, "its name is None, not a text"),
        ("descriptor", DESCRIPTOR | {"time": float("nan")}, "its time is nan, not a number"),
        ("event", EVENT | {"descriptor": {}}, "its descriptor is {}, not a text"),
        ("event", EVENT | {"seq_num": 1.0}, "its seq_num is 1.0, not a whole number"),
        ("event", EVENT | {"seq_num": True}, "its seq_num is True, not a whole number"),
        ("event", EVENT | {"seq_num": -1}, "its seq_num is -1; it must be from 0 to 9223372036854775807"),
        ("event", EVENT | {"seq_num": 2**63}, "it must be from 0"),
        ("event", EVENT | {"time": "noon"}, "its time is 'noon', not a number"),
        ("event", EVENT | {"time": float("inf")}, "its time is inf, not a number"),
        ("event", EVENT | {"data": None}, "its data is None, not a mapping"),
        ("event_page", PAGE | {"seq_num": [1, 2]}, "it has 2 seq_nums, but its time has 1 rows"),
        ("event_page", PAGE | {"data": {"x": [5, 6]}}, "it has 1 seq_nums, but its data of 'x' has 2 rows"),
        ("event_page", PAGE | {"data": {"x": 5}}, "its x is 5, not a column"),
        ("event_page", PAGE | {"time": "a"}, "its time is 'a', not a column"),
        ("event_page", PAGE | {"seq_num": [None]}, "its seq_num is None, not a whole number"),
        ("event_page", PAGE | {"timestamps": [1]}, "its timestamps are [1], not a mapping"),
        ("resource", RESOURCE | {"spec": 5}, "its spec is 5, not a text"),
        ("resource", RESOURCE | {"root": 5}, "its root is 5, not a text"),
        ("resource", RESOURCE | {"resource_kwargs": [1]}, "its resource_kwargs is [1], not a mapping"),
        ("datum", DATUM | {"datum_kwargs": None}, "its datum_kwargs is None, not a mapping"),
        ("datum_page", DATUM_PAGE | {"datum_kwargs": {"n": [1]}}, "it has 2 datum_ids, but 1 values of 'n'"),
        ("datum_page", DATUM_PAGE | {"datum_id": ["a", 2]}, "its datum_id is 2, not a text"),
        ("stream_resource", STREAM_RESOURCE | {"uri": None}, "its uri is None, not a text"),
        ("stream_resource", STREAM_RESOURCE | {"parameters": "x"}, "its parameters is 'x', not a mapping"),
        ("stream_resource", OLDER | {"spec": "X"}, "it has no mimetype, and its spec 'X' is none of AD_HDF5, "),
        ("stream_resource", OLDER | {"spec": ["X"]}, "its spec is ['X'], not a text"),
        ("stream_resource", OLDER | {"resource_path": 5}, "its resource_path is 5, not a text"),
        ("stream_datum", STREAM_DATUM | {"indices": None}, "its indices is None, not a mapping"),
        ("stream_datum", STREAM_DATUM | {"indices": {"start": 1}}, "of its indices: it has no stop"),
        ("stream_datum", STREAM_DATUM | {"seq_nums": {"start": 3, "stop": 1}}, "end at 1, before they begin at 3"),
        (
            "stream_datum",
            STREAM_DATUM | {"seq_nums": {"start": 0, "stop": MOST_SEQ_NUMS + 1}},
            "its seq_nums are 10000001 events; more than 10000000 are not believed",
        ),
    ],
)
def test_legal_refuses_what_cannot_be_used(name, document, says):
    with pytest.raises(DocumentError) as refused:
        checked(name, document)
    assert says in str(refused.value)


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_legal_refuses_empty_documents(name):
    with pytest.raises(DocumentError, match="it has no"):
        checked(name, {})


def test_legal_turns_numbers_of_numpy_into_those_of_python():
    event = checked("event", EVENT | {"seq_num": np.int64(5), "time": np.float32(2)}).document
    assert type(event["seq_num"]) is int
    datum = checked("stream_datum", STREAM_DATUM | {"indices": {"start": np.uint8(0), "stop": np.int32(2)}}).document
    assert [type(n) for n in datum["indices"].values()] == [int, int]
    page = checked("event_page", PAGE | {"seq_num": np.array([1])}).document
    assert [type(n) for n in page["seq_num"]] == [int]


def test_legal_older_stream_resources_become_those_of_today():
    told = {"uid": "r", "data_key": "det", "run_start": "s", "mimetype": "application/x-hdf5"}
    uri, parameters = "file://localhost/data/a%20b/x.h5", {"multiplier": 3, "dataset": "/entry/data/data"}
    given = dict(OLDER)
    assert checked("stream_resource", given).document == told | {"uri": uri, "parameters": parameters}
    assert given == OLDER
    column = OLDER | {"spec": "PANDA", "root": "", "resource_path": "/p.h5", "resource_kwargs": {"path": "/c"}}
    uri, parameters = "file://localhost/p.h5", {"path": "/c"}
    assert checked("stream_resource", column).document == told | {"uri": uri, "parameters": parameters}


def test_older_stream_resources_are_reduced_as_those_of_today(tmp_path):
    recipe = recipe_in(tmp_path)
    told = stream_run(write_hdf5(tmp_path, images(4).reshape(2, 2, *SHAPE)), 2, per_event=2)
    older = {"spec": "AD_HDF5_SWMR_SLICE", "root": str(tmp_path), "resource_path": "frames.h5"}
    older |= {"resource_kwargs": {"path": "/entry/data/data", "multiplier": 2}}
    stay = ("uid", "data_key", "run_start")
    before = [
        (name, {key: document[key] for key in stay} | older if name == "stream_resource" else document)
        for name, document in told
    ]
    derived, expected = Derived(), Derived()
    replay(before, recipe, derived)
    replay(told, recipe, expected)
    assert derived.stop["frames_reduced"] == 4
    assert_same_bits(derived, expected)


def test_legal_leaves_out_what_can_be_done_without_and_says_so():
    keys = {"x": {"shape": [4]}, "y": None, "z": {"shape": "4x5"}, "w": {"shape": [-1]}, 5: {}}
    configuration = {"a": {"data": {"p": 1}}, "b": None, "c": {"data": 5}, "d": {"data_keys": {"q": 1}}}
    given = DESCRIPTOR | {"data_keys": keys, "configuration": configuration}
    legal = checked("descriptor", given)
    assert legal.document["data_keys"] == {"x": {"shape": [4]}}
    assert legal.document["configuration"] == {"a": {"data": {"p": 1}}}
    assert given["data_keys"] is keys
    assert len(legal.complaints) == 7
    assert "its data key 'z' is left out: its shape is '4x5'" in legal.complaints
    assert "its configuration of 'b' is left out: it makes no sense" in legal.complaints
    stop = checked("stop", STOP | {"exit_status": 5, "reason": ["a"]})
    assert (stop.document["exit_status"], stop.document["reason"]) == ("fail", "['a']")
    assert len(stop.complaints) == 2


def test_legal_shows_anything_shortly():
    class Odd:
        def __repr__(self):
            raise RuntimeError

    cycle = []
    cycle.append(cycle)
    nested = []
    for _ in range(10**5):
        nested = [nested]
    assert shown(Odd()) == "<Odd>"
    assert shown(nested) == "<list>"
    assert shown(cycle) == "[[...]]"
    assert len(shown("x" * 10**6)) == 60
