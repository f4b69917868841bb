"""Runs in files of documents, as others write them, replayed from there."""

import gzip
import itertools
import json
import tracemalloc

import event_model
import msgpack
import numpy as np
import pytest
from bluesky.callbacks.json_writer import JSONLinesWriter, JSONWriter

from bluesky_powder import replay
from bluesky_powder.errors import ReplayError
from bluesky_powder.publish.journal import Journal
from bluesky_powder.replay import documents_of
from bluesky_powder.replay.choose import contents, matching, runs_of
from bluesky_powder.replay.files import documents_in
from raw_runs import Derived, assert_same_bits, copied, datum_run, images, inline_run, recipe_in, stream_run, write_hdf5

POSITIONS, MONITORS = [0.0, 5.0, 5.0], [100.0, 110.0, 90.0]


def plain(documents):
    return [(name, event_model.sanitize_doc(document)) for name, document in copied(documents)]


def with_suitcase(module):
    def write(folder, documents):
        suitcase = pytest.importorskip(module)
        (path,) = suitcase.export(copied(documents), folder)["all"]
        return path

    return write


def with_writer(make):
    def write(folder, documents):
        writer = make(str(folder), "run")
        for name, document in plain(documents):
            writer(name, document)
        return folder / "run"

    return write


def gzipped(write):
    def write_gzipped(folder, documents):
        path = write(folder, documents)
        packed = folder / "packed"
        packed.write_bytes(gzip.compress(path.read_bytes()))
        return packed

    return write_gzipped


def json_seq(folder, documents):
    """Write what Tiled's exporter gives."""
    records = ("\x1e" + json.dumps({"name": name, "doc": document}) + "\n" for name, document in plain(documents))
    path = folder / "run.json-seq"
    path.write_text("".join(records))
    return path


def indented_array(folder, documents):
    path = folder / "run.json"
    path.write_text(json.dumps([{"name": n, "doc": d, "_probe": {}} for n, d in plain(documents)], indent=1))
    return path


def array_of_pairs(folder, documents):
    path = folder / "pairs.json"
    path.write_text(json.dumps(plain(documents)))
    return path


def journal(folder, documents):
    journal = Journal.new(folder, "run")
    for name, document in documents:
        journal.append(name, document)
    journal.close()
    return journal.path


WRITERS = {
    "suitcase-msgpack": with_suitcase("suitcase.msgpack"),
    "suitcase-jsonl": with_suitcase("suitcase.jsonl"),
    "suitcase-jsonl, gzipped": gzipped(with_suitcase("suitcase.jsonl")),
    "suitcase-msgpack, gzipped": gzipped(with_suitcase("suitcase.msgpack")),
    "JSONLinesWriter": with_writer(JSONLinesWriter),
    "JSONWriter": with_writer(JSONWriter),
    "Tiled's json-seq": json_seq,
    "indented JSON": indented_array,
    "JSON pairs": array_of_pairs,
    "a publisher's journal": journal,
}
RUNS = {
    "inline": lambda _: inline_run(images(3), POSITIONS, MONITORS),
    "datums": lambda folder: datum_run(folder, images(3), POSITIONS, MONITORS),
    "stream": lambda folder: stream_run(write_hdf5(folder, images(3)), 3, POSITIONS, MONITORS),
}


def reduced(given, recipe, **options):
    derived = Derived()
    uids = replay(given, recipe, derived, **options)
    assert uids == [start["uid"] for start in derived.starts]
    return derived


# suitcase-msgpack does not write StreamResource documents down.
BOTH = [(writer, run) for writer in WRITERS for run in RUNS if not ("suitcase-msgpack" in writer and run == "stream")]


@pytest.mark.parametrize(("writer", "run"), BOTH)
def test_run_in_a_file_gives_the_same_bits(tmp_path, writer, run):
    recipe = recipe_in(tmp_path, moving=True, corrections={"monitor": "i0"})
    documents = RUNS[run](tmp_path)
    expected = reduced(documents, recipe)
    assert expected.stop["exit_status"] == "success", expected.stop
    path = WRITERS[writer](tmp_path, documents)
    assert_same_bits(reduced(path, recipe), expected)
    assert_same_bits(reduced(str(path), recipe), expected)


def test_run_without_its_stream_documents_says_so(tmp_path):
    documents = stream_run(write_hdf5(tmp_path, images(3)), 3)
    path = WRITERS["suitcase-msgpack"](tmp_path, documents)
    derived = reduced(path, recipe_in(tmp_path))
    assert derived.stop["exit_status"] == "fail"
    assert "no document says where its frame is" in derived.stop["reason"]


@pytest.mark.parametrize("dtype", ["<u4", ">i2", "<f4", "?", "<c8"])
def test_arrays_of_msgpack_numpy_come_back_as_they_were(tmp_path, dtype):
    suitcase = pytest.importorskip("suitcase.msgpack")
    value = np.arange(6).reshape(2, 3).astype(dtype)
    documents = inline_run(images(1))
    documents[2][1]["data"]["more"] = {"array": value, "scalar": value[1, 1], "complex": 1 + 2j}
    (path,) = suitcase.export(documents, tmp_path)["all"]
    (page,) = [document for name, document in documents_in(path) if name == "event_page"]
    (back,) = page["data"]["more"]
    assert back["array"].dtype == value.dtype
    assert back["array"].flags.writeable
    assert np.array_equal(back["array"], value)
    assert back["scalar"] == value[1, 1]
    assert back["complex"] == 1 + 2j


def test_structured_array_of_msgpack_numpy_comes_back(tmp_path):
    encode = pytest.importorskip("msgpack_numpy").encode
    value = np.array([(1, [2.0, 3.0])], [("a", "<i4"), ("b", "<f8", (2,))])
    path = tmp_path / "run"
    path.write_bytes(msgpack.packb(["event", {"value": value}], default=encode))
    ((_, document),) = documents_in(path)
    assert document["value"].dtype == value.dtype
    assert document["value"].tobytes() == value.tobytes()


def test_pickled_array_is_refused(tmp_path):
    encode = pytest.importorskip("msgpack_numpy").encode
    path = tmp_path / "run"
    path.write_bytes(msgpack.packb(["event", {"value": np.array([{}], object)}], default=encode))
    with pytest.raises(ReplayError, match="record 1: an array of Python objects is pickled"):
        list(documents_in(path))


# --- several runs in one file


def several(folder, **options):
    runs = [inline_run(images(2, seed=seed), **options) for seed in range(3)]
    interleaved = [pair for pairs in itertools.zip_longest(*runs) for pair in pairs if pair]
    return runs, WRITERS["JSON pairs"](folder, interleaved)


def test_several_runs_in_one_file(tmp_path):
    runs, path = several(tmp_path)
    recipe = recipe_in(tmp_path)
    derived = Derived()
    uids = replay(path, recipe, derived)
    assert len(uids) == 3
    assert [start["raw_uid"] for start in derived.starts] == [run[0][1]["uid"] for run in runs]
    for run in runs:
        chosen = runs_of(documents_of(path), {run[0][1]["uid"]})
        assert_same_bits(reduced(chosen, recipe), reduced(run, recipe))


def test_runs_of_a_file_are_found_by_the_beginning_of_their_uid(tmp_path):
    runs, path = several(tmp_path)
    stops = contents(documents_in(path))
    assert list(stops) == [run[0][1]["uid"] for run in runs]
    assert [stop["num_events"] for stop in stops.values()] == [{"primary": 2}] * 3
    uid = runs[1][0][1]["uid"]
    assert matching(uid, stops) == matching(uid[:13], stops) == uid
    with pytest.raises(ReplayError, match=f"begins with, xyz; there are {runs[0][0][1]['uid']}"):
        matching("xyz", stops)
    with pytest.raises(ReplayError, match="ab fits 2 runs: abc, abd; give more of it"):
        matching("ab", ["abc", "abd", "x"])
    with pytest.raises(ReplayError, match="no documents of run xyz"):
        list(runs_of(documents_in(path), {"xyz"}))


# --- files that are not as they should be

BROKEN = ["suitcase-msgpack", "suitcase-jsonl", "JSONWriter", "indented JSON", "a publisher's journal"]


@pytest.mark.parametrize("writer", [*BROKEN, "suitcase-jsonl, gzipped", "suitcase-msgpack, gzipped"])
def test_file_that_breaks_off_is_reduced_as_far_as_it_goes(tmp_path, writer):
    documents = datum_run(tmp_path, images(3))
    recipe, whole = recipe_in(tmp_path), WRITERS[writer](tmp_path, documents)
    path = tmp_path / "broken"
    path.write_bytes(whole.read_bytes()[:-40])
    derived = reduced(path, recipe)
    assert derived.stop["exit_status"] == "abort"
    assert f"{path} ends in the middle of" in derived.stop["reason"]
    everything = reduced(documents, recipe).arrays()
    arrays = derived.arrays()
    assert {key[1] for key in arrays if key[0] == "primary"} >= {1, 2}
    for key, value in arrays.items():
        if key[0] in ("axes", "primary"):
            assert np.asarray(value).tobytes() == np.asarray(everything[key]).tobytes()


def taken_from(path):
    """Return the documents of a file, and whether it broke off."""
    found = []
    try:
        found.extend(documents_in(path))
    except ReplayError:
        return found, True
    return found, False


@pytest.mark.parametrize("writer", BROKEN)
def test_file_that_breaks_off_anywhere_gives_the_documents_before(tmp_path, writer):
    path = tmp_path / "broken"
    path.write_bytes(b"")
    whole = WRITERS[writer](tmp_path, plain(inline_run(images(2)[:, :3, :3])))
    everything, content = list(documents_in(whole)), whole.read_bytes()
    sizes = range(1, len(content) - 2, 29)
    broken = 0
    for size in sizes:
        path.write_bytes(content[:size])
        found, said = taken_from(path)
        assert found == everything[: len(found)]
        broken += said
    assert broken > len(sizes) - len(everything)  # a file may end between two records


def test_file_that_breaks_off_after_its_run_is_said_in_the_log(tmp_path, caplog):
    path = WRITERS["suitcase-jsonl"](tmp_path, inline_run(images(1)))
    path.write_bytes(path.read_bytes() + b'["sta')
    derived = reduced(path, recipe_in(tmp_path))
    assert derived.stop["exit_status"] == "success"
    assert "ends in the middle of line" in caplog.text


@pytest.mark.parametrize("writer", ["suitcase-jsonl", "JSONWriter"])
def test_bad_record_in_the_middle_fails_the_run_but_keeps_what_came_before(tmp_path, writer):
    path = WRITERS[writer](tmp_path, inline_run(images(2)))
    lines = path.read_bytes().split(b"\n")
    lines[-3] = b'{"name": oops},'
    path.write_bytes(b"\n".join(lines))
    derived = Derived()
    with pytest.raises(ReplayError, match="is not JSON"):
        replay(path, recipe_in(tmp_path), derived)
    assert derived.stop["exit_status"] == "fail"
    assert "is not JSON" in derived.stop["reason"]
    assert derived.stop["frames_reduced"] >= 1


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"  \n ", "is empty"),
        (b"hello", "record 1 is no Bluesky document"),
        (b"\xc1\xc1\xc1\xc1", "is neither JSON nor msgpack"),
        (b"\x00\x00\x00\x00nonsense", "holds no documents"),
        (b'{"uid": 1}\n', "record 1 is no Bluesky document"),
        (b'["start", 3]\n', "record 1 is no Bluesky document"),
        (b'[{"name": "start", "doc": 3}]', "record 1 is no Bluesky document"),
        (b'[{"name": "start", "doc": {"uid": "\xff"}}]', "is not UTF-8"),
        (b'{"a":' * 100_000, "line 1 is nested too deeply"),
        (b"[" * 100_000, "element 1 is nested too deeply"),
        (b"\x92\xa5start" + b"\x91" * 100_000, "record 1: StackError"),
        (b"\x1f\x8b\x08\x00" + b"\xff" * 50, "is a damaged gzip file"),
        (gzip.compress(b'["start", {}]\n', mtime=0)[:-6], "ends in the middle"),
    ],
)
def test_file_without_documents_says_so(tmp_path, content, says):
    path = tmp_path / "run"
    path.write_bytes(content)
    with pytest.raises(ReplayError, match=says) as raised:
        list(documents_in(path))
    assert str(path) in str(raised.value)


def test_file_that_begins_with_a_mark_of_its_encoding_is_read(tmp_path):
    path = tmp_path / "run.jsonl"
    path.write_text('["start", {"uid": "a"}]\n', encoding="utf-8-sig")
    assert list(documents_in(path)) == [("start", {"uid": "a"})]


def test_file_that_is_not_there_says_so(tmp_path):
    with pytest.raises(ReplayError, match=r"nowhere\.jsonl cannot be read: No such file"):
        replay(tmp_path / "nowhere.jsonl", recipe_in(tmp_path))
    with pytest.raises(ReplayError, match=r"nowhere\.jsonl' has no documents: there is no file of this name; give"):
        replay(f"{tmp_path}/nowhere.jsonl", recipe_in(tmp_path))
    for folder in (tmp_path, str(tmp_path)):
        with pytest.raises(ReplayError, match="cannot be read: Is a directory"):
            replay(folder, recipe_in(tmp_path))


@pytest.mark.parametrize(("writer", "events"), [("JSON pairs", 30), ("suitcase-jsonl", 30), ("suitcase-msgpack", 70)])
def test_file_is_read_a_document_at_a_time(tmp_path, writer, events):
    documents = copied(inline_run(np.full((1, 100, 200), 2**32 - 1, np.uint32)))
    path = WRITERS[writer](tmp_path, [documents[0], documents[1], *[documents[2]] * events, documents[3]])
    size = path.stat().st_size
    assert size > 5_000_000
    tracemalloc.start()
    try:
        count = sum(name.startswith("event") for name, _ in documents_in(path))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == events
    assert most < size / 2 + 4_000_000


def test_element_of_an_array_may_be_longer_than_what_is_read_at_once(tmp_path):
    text = 'x\\u00e9\\"' * 2**18
    path = tmp_path / "run.json"
    path.write_text(f'[{{"name": "start", "doc": {{"uid": "{text}"}}}}, ["stop", {{"n": -Infinity}}]]')
    assert list(documents_in(path)) == [("start", {"uid": 'xé"' * 2**18}), ("stop", {"n": -np.inf})]


def test_recorded_documents_of_real_runs_are_read(shared_reference):
    for path in sorted((shared_reference / "documents").glob("*.json")):
        names = [name for name, _ in documents_in(path)]
        assert names[0] == "start"
        assert names[-1] == "stop"
        assert len(names) == len(json.loads(path.read_text()))
