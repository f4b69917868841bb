"""Bad input: each ends in one clear reason that names the culprit, nothing is raised, and what was reduced is kept."""

import threading

import h5py
import numpy as np
import pytest

from bluesky_powder import PowderReduction
from bluesky_powder.replay import replay
from raw_runs import (
    SHAPE,
    Derived,
    assert_same_bits,
    datum_run,
    images,
    inline_run,
    recipe_in,
    stream_run,
    tiff_run,
    write_hdf5,
)


def reduced(documents, recipe, **options):
    derived = Derived()
    replay(documents, recipe, derived, **options)
    return derived


def only_reason(derived):
    (reason,) = derived.reasons()
    return reason


def counts(derived):
    return tuple(derived.stop[f"frames_{what}"] for what in ("seen", "reduced", "skipped"))


def changed(documents, at, **data):
    """Return the documents with other data in one event; None removes a key."""
    documents = list(documents)
    event = dict(documents[at][1])
    event["data"] = {key: value for key, value in (event["data"] | data).items() if value is not None}
    documents[at] = ("event", event)
    return documents


def test_trouble_frame_key_that_the_run_lacks_ends_in_a_failed_derived_run(tmp_path, caplog):
    recipe = recipe_in(tmp_path, frames="eiger")
    derived = reduced(inline_run(images(2)), recipe)
    assert derived.stop["exit_status"] == "fail"
    assert "no data key 'eiger'; set `frames` in the recipe to one of: det" in derived.stop["reason"]
    assert not derived.events
    assert "no data key 'eiger'" in caplog.text


def test_trouble_run_of_another_kind_passes_by_without_noise(tmp_path, caplog):
    recipe = recipe_in(tmp_path)
    documents = inline_run(images(2))
    documents = [documents[0], *documents[1:1], documents[-1]]
    derived = reduced(documents, recipe)
    assert not derived.documents
    motor = {"dtype": "number", "shape": [], "source": "m"}
    keys = {"motor": motor, "mca": {"dtype": "array", "shape": [2048], "source": "m"}}
    descriptor = {"uid": "d", "run_start": documents[0][1]["uid"], "time": 1.0, "name": "primary", "data_keys": keys}
    data = {"motor": 1.0, "mca": [0] * 2048}
    event = {"uid": "e", "descriptor": "d", "seq_num": 1, "time": 1.0, "data": data, "timestamps": {}}
    derived = reduced([documents[0], ("descriptor", descriptor), ("event", event), documents[-1]], recipe)
    assert not derived.documents
    assert not caplog.records


def test_trouble_derived_runs_are_not_reduced_again(tmp_path):
    recipe = recipe_in(tmp_path)
    assert not reduced(inline_run(images(2), analysis_stage="powder"), recipe).documents
    assert reduced(inline_run(images(2), analysis_stage="raw"), recipe).documents


def test_trouble_empty_run_says_so(tmp_path):
    documents = inline_run(images(2))
    derived = reduced([*documents[:2], documents[-1]], recipe_in(tmp_path))
    assert derived.stop["exit_status"] == "fail"
    assert derived.stop["reason"] == "the run has no frames"
    assert counts(derived) == (0, 0, 0)


def test_trouble_run_whose_events_hold_no_image_says_so(tmp_path):
    documents = inline_run(np.zeros((2, 0, *SHAPE)))
    derived = reduced(documents, recipe_in(tmp_path))
    assert derived.stop["exit_status"] == "fail"
    assert derived.stop["reason"].startswith("2 events were skipped: the frame has shape (0, 40, 50); need")
    assert counts(derived) == (0, 0, 0)
    partly = reduced(changed(inline_run(images(2)), 2, det=np.zeros((0, *SHAPE))), recipe_in(tmp_path))
    assert partly.stop["reason"].startswith("1 event was skipped: the frame has shape (0, 40, 50); need")


MASKED = "; the detector covers 0 to 27.89, so all pixels there are masked or have no data"


@pytest.mark.parametrize(
    ("frames", "bins", "corrections", "says"),
    [
        (images(2), {"range": [100, 140]}, {}, "no bin of 100 to 140 2th_deg saw a pixel; the detector covers 0 to"),
        (images(2), {"range": [1, 20]}, {"mask": "mask.npy"}, f"no bin of 1 to 20 2th_deg saw a pixel{MASKED}"),
        (np.full((2, *SHAPE), np.nan), {}, {}, "no bin of 0 to 27.89 2th_deg saw a pixel; the detector covers 0 to"),
    ],
)
def test_trouble_run_that_saw_nothing_says_why(tmp_path, caplog, frames, bins, corrections, says):
    np.save(tmp_path / "mask.npy", np.ones(SHAPE, bool))
    recipe = recipe_in(tmp_path, bins={"unit": "2th_deg", "npt": 30} | bins, corrections=corrections)
    derived = reduced(inline_run(frames), recipe)
    assert derived.stop["exit_status"] == "success"
    assert derived.stop["reason"].startswith(says)
    assert counts(derived) == (2, 2, 0)
    assert caplog.text.count(says) == 1


@pytest.mark.parametrize(("status", "expected"), [("abort", "abort"), ("fail", "fail")])
def test_trouble_aborted_run_keeps_what_was_reduced(tmp_path, status, expected):
    documents = inline_run(images(3))
    stop = documents[-1][1] | {"exit_status": status, "reason": "someone pressed the button"}
    derived = reduced([*documents[:4], ("stop", stop)], recipe_in(tmp_path))
    assert derived.stop["exit_status"] == expected
    assert "someone pressed the button" in derived.stop["reason"]
    assert len(derived.events["primary"]) == 2
    assert len(derived.events["merged"]) == 1


def test_trouble_run_without_a_stop_document_ends_as_aborted(tmp_path):
    derived = Derived()
    with PowderReduction(recipe_in(tmp_path), pace="replay") as reduction:
        reduction.subscribe(derived)
        for name, document in inline_run(images(2))[:-1]:
            reduction(name, document)
    assert derived.stop["exit_status"] == "abort"
    assert "closed before the raw run ended" in derived.stop["reason"]
    assert counts(derived) == (2, 2, 0)


def test_trouble_open_run_of_tiled_has_an_empty_stop_document(tmp_path):
    derived = reduced([*inline_run(images(2))[:-1], ("stop", {})], recipe_in(tmp_path))
    assert derived.stop["exit_status"] == "abort"


def test_trouble_position_missing_from_one_event_skips_that_one(tmp_path):
    recipe = recipe_in(tmp_path, moving=True)
    documents = changed(inline_run(images(3), [0, 1, 2]), 3, two_theta=None)
    derived = reduced(documents, recipe)
    assert only_reason(derived) == "position 'pos' needs 'two_theta', which is missing from the event"
    assert derived.stop["skip_reasons"][0]["seq_nums"] == [2]
    assert counts(derived) == (3, 2, 1)
    assert derived.stop["exit_status"] == "success"
    assert "1 of 3 frames were skipped: position 'pos' needs 'two_theta'" in derived.stop["reason"]


@pytest.mark.parametrize(
    ("value", "shown"), [(float("nan"), "nan"), ("moving", "'moving'"), ("0.0", "'0.0'"), ([1, 2], "[1, 2]")]
)
def test_trouble_position_that_is_no_number_skips(tmp_path, value, shown):
    documents = changed(inline_run(images(2), [0, 1]), 2, two_theta=value)
    derived = reduced(documents, recipe_in(tmp_path, moving=True))
    assert f"position 'pos': 'two_theta' is {shown}, not a number" in only_reason(derived)


def test_trouble_position_that_is_nowhere_says_what_there_is(tmp_path, caplog):
    derived = reduced(inline_run(images(2), monitors=[1, 1]), recipe_in(tmp_path, moving=True))
    assert only_reason(derived) == (
        "position 'pos' needs 'two_theta', which is in neither event (which has det, i0), configuration nor baseline; "
        "add the device to the plan, or correct the recipe"
    )
    assert derived.stop["exit_status"] == "fail"
    assert counts(derived) == (2, 0, 2)
    assert "two_theta" in caplog.text


def test_trouble_frames_without_their_events_wait_to_the_end(tmp_path):
    recipe = recipe_in(tmp_path, moving=True)
    documents = stream_run(write_hdf5(tmp_path, images(3)), 3, [0, 1, 2])
    missing = [(name, doc) for name, doc in documents if not (name == "event" and doc["seq_num"] == 2)]
    derived = reduced(missing, recipe)
    assert counts(derived) == (3, 2, 1)
    assert "which its event should bring, but no event of this seq_num came" in only_reason(derived)


def test_trouble_events_without_their_frames_are_told(tmp_path):
    documents = stream_run(write_hdf5(tmp_path, images(3)), 3)
    missing = [(n, d) for n, d in documents if not (n == "stream_datum" and d["seq_nums"]["start"] == 2)]
    derived = reduced(missing, recipe_in(tmp_path))
    assert counts(derived) == (3, 2, 1)
    assert "no document says where its frame is" in only_reason(derived)


def test_trouble_frame_of_the_wrong_shape_names_both(tmp_path):
    documents = inline_run(images(3))
    documents = changed(documents, 3, det=images(1)[0].T)
    derived = reduced(documents, recipe_in(tmp_path))
    assert only_reason(derived).startswith(
        "the frame has 50×40 pixels, the detector Detector of the recipe's geometry 40×50"
    )
    assert "swapped" in only_reason(derived)
    assert counts(derived) == (3, 2, 1)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (np.zeros(40), "the frame has shape (40,); need"),
        (np.zeros(SHAPE, complex), "dtype complex128 is not a real number"),
        ([["a", "b"]], "is no array of numbers"),
        ([[1, 2], [3]], "is no array of numbers"),
        (None, "the event has no 'det'"),
        (np.zeros((0, *SHAPE)), "the frame has shape (0, 40, 50); need"),
        (3.5, "the frame has shape (); need"),
    ],
)
def test_trouble_frame_that_is_none_says_so(tmp_path, value, says):
    derived = reduced(changed(inline_run(images(2)), 2, det=value), recipe_in(tmp_path))
    assert says in only_reason(derived)
    assert derived.stop["frames_reduced"] == 1


@pytest.mark.parametrize("monitor", [0.0, -1.0, float("nan"), float("inf"), None])
def test_trouble_bad_monitor_follows_the_recipe(tmp_path, monitor):
    documents = changed(inline_run(images(2), monitors=[100.0, 100.0]), 2, i0=monitor)
    skipping = reduced(documents, recipe_in(tmp_path, corrections={"monitor": "i0"}))
    assert counts(skipping) == (2, 1, 1)
    assert "'i0'" in only_reason(skipping)
    assert "bad_monitor: unnormalised" in only_reason(skipping)
    keeping = reduced(documents, recipe_in(tmp_path, corrections={"monitor": "i0", "bad_monitor": "unnormalised"}))
    assert counts(keeping) == (2, 2, 0)
    assert keeping.latest("primary", "monitor") == {1: 1.0, 2: 100.0}


def test_trouble_file_that_is_not_there_is_waited_for_once(tmp_path):
    documents = stream_run(f"file://localhost{tmp_path}/nothere.h5", 4)
    derived = reduced(documents, recipe_in(tmp_path), file_timeout=0.2)
    assert only_reason(derived) == (
        f"{tmp_path}/nothere.h5: there is no such file (waited 0.2 s for this file; replay the run when it is readable)"
    )
    assert counts(derived) == (4, 0, 4)
    assert derived.stop["exit_status"] == "fail"


def test_trouble_truncated_file_names_it(tmp_path):
    write_hdf5(tmp_path, images(4))
    path = tmp_path / "frames.h5"
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2])
    derived = reduced(stream_run(f"file://localhost{path}", 4), recipe_in(tmp_path))
    assert derived.stop["frames_skipped"] >= 1
    assert all(str(path) in reason for reason in derived.reasons())


def test_trouble_file_of_another_kind_names_it(tmp_path):
    (tmp_path / "frames.h5").write_text("not at all")
    derived = reduced(stream_run(f"file://localhost{tmp_path}/frames.h5", 2), recipe_in(tmp_path))
    assert f"{tmp_path}/frames.h5 is no readable HDF5 file" in only_reason(derived)


def test_trouble_dataset_that_is_missing_or_short_names_it(tmp_path):
    uri = write_hdf5(tmp_path, images(2))
    short = reduced(stream_run(uri, 3), recipe_in(tmp_path))
    assert only_reason(short) == f"{tmp_path}/frames.h5: /entry/data/data has 2 frames, number 2 is not there"
    assert counts(short) == (3, 2, 1)
    other = stream_run(uri, 2, parameters={"dataset": "/entry/other", "chunk_shape": [1, *SHAPE]})
    assert "has no dataset /entry/other (yet)" in only_reason(reduced(other, recipe_in(tmp_path)))


@pytest.mark.parametrize(
    ("resource", "says"),
    [
        ({"uri": "http://somewhere/frames.h5"}, "only file:// URIs are read here"),
        ({"uri": "file://storage/frames.h5"}, "this file is on storage, not on this machine"),
        ({"mimetype": "image/x-magic"}, "frames of type image/x-magic are not read here"),
        ({"parameters": {}}, "names no dataset"),
    ],
)
def test_trouble_resource_that_cannot_be_read_says_why(tmp_path, resource, says):
    uri = resource.pop("uri", write_hdf5(tmp_path, images(2)))
    derived = reduced(stream_run(uri, 2, **resource), recipe_in(tmp_path))
    assert says in only_reason(derived)
    assert counts(derived) == (2, 0, 2)


def test_trouble_tiff_that_is_missing_or_broken_names_it(tmp_path):
    documents = tiff_run(tmp_path, images(3))
    (tmp_path / "scan12_000001.tif").unlink()
    (tmp_path / "scan12_000002.tif").write_text("not at all")
    derived = reduced(documents, recipe_in(tmp_path))
    assert counts(derived) == (3, 1, 2)
    missing, broken = sorted(derived.reasons())
    assert missing == f"{tmp_path}/scan12_000001.tif: there is no such file"
    assert broken.startswith(f"{tmp_path}/scan12_000002.tif is no readable TIFF file")


def test_trouble_datum_without_handler_says_what_to_install(tmp_path):
    documents = [(n, d | {"spec": "MAGIC"} if n == "resource" else d) for n, d in datum_run(tmp_path, images(2))]
    derived = reduced(documents, recipe_in(tmp_path))
    assert "no handler for MAGIC files is installed; pip install" in only_reason(derived)


def test_trouble_datum_whose_file_is_missing_names_it(tmp_path):
    documents = datum_run(tmp_path, images(2))
    (tmp_path / "frames_1.npy").unlink()
    derived = reduced(documents, recipe_in(tmp_path))
    assert counts(derived) == (2, 1, 1)
    assert "(NPY_SEQ) cannot be read" in only_reason(derived)


def test_trouble_documents_that_never_come_are_named(tmp_path):
    documents = datum_run(tmp_path, images(2))
    without = [(n, d) for n, d in documents if not (n == "datum" and d["datum_kwargs"]["index"] == 1)]
    assert only_reason(reduced(without, recipe_in(tmp_path))) == "its Datum document never came"
    documents = stream_run(write_hdf5(tmp_path, images(2)), 2)
    without = [(n, d) for n, d in documents if n != "stream_resource"]
    assert "its StreamResource document never came" in reduced(without, recipe_in(tmp_path)).reasons()


def test_trouble_late_documents_are_joined(tmp_path):
    recipe = recipe_in(tmp_path)
    documents = datum_run(tmp_path, images(2))
    late = [d for d in documents if d[0] not in ("resource", "datum")]
    late[-1:-1] = [d for d in documents if d[0] == "datum"] + [d for d in documents if d[0] == "resource"]
    assert counts(reduced(late, recipe)) == (2, 2, 0)
    documents = stream_run(write_hdf5(tmp_path, images(2)), 2)
    late = [d for d in documents if d[0] != "stream_resource"]
    late[-1:-1] = [d for d in documents if d[0] == "stream_resource"]
    assert counts(reduced(late, recipe)) == (2, 2, 0)


@pytest.mark.parametrize("name", ["descriptor", "event", "stream_datum", "stream_resource"])
def test_trouble_malformed_document_is_told_and_survived(tmp_path, name):
    documents = stream_run(write_hdf5(tmp_path, images(2)), 2)
    at = next(n for n, (kind, _) in enumerate(documents) if kind == name)
    hostile = {key: documents[at][1][key] for key in ("uid", "descriptor", "run_start") if key in documents[at][1]}
    derived = reduced([*documents[: at + 1], (name, hostile), *documents[at + 1 :]], recipe_in(tmp_path))
    assert derived.stop["frames_reduced"] == 2
    assert f" {name} document was not understood (" in derived.stop["reason"]


def test_trouble_with_stream_datum_ranges_is_told(tmp_path):
    documents = stream_run(write_hdf5(tmp_path, images(4)), 4, order="fly")
    at = max(n for n, (kind, _) in enumerate(documents) if kind == "stream_datum")
    documents[at][1]["seq_nums"] = {"start": 0, "stop": 0}
    derived = reduced(documents, recipe_in(tmp_path))
    assert counts(derived) == (4, 2, 2)
    assert only_reason(derived) == "its StreamDatum pairs 0 seq_nums with 2 indices"


def test_trouble_geometry_that_does_not_exist_at_a_position_skips(tmp_path):
    recipe = recipe_in(tmp_path, moving=True)
    text = (tmp_path / "arm.json").read_text().replace('"dist_expr": "dist"', '"dist_expr": "dist / pos"')
    (tmp_path / "arm.json").write_text(text)
    from bluesky_powder.recipe import Recipe

    recipe = Recipe.load(tmp_path / "recipe.yaml")
    derived = reduced(inline_run(images(3), [1, 0, 1]), recipe)
    assert counts(derived) == (3, 2, 1)
    assert "dist" in only_reason(derived)


def test_trouble_frames_of_another_stream_are_left_out_unless_asked_for(tmp_path):
    documents = inline_run(images(2))
    dark = documents[1][1] | {"uid": "dark", "name": "dark"}
    event = documents[2][1] | {"uid": "e", "descriptor": "dark", "data": {"det": np.ones(SHAPE, np.uint32)}}
    documents[1:1] = [("descriptor", dark), ("event", event)]
    derived = reduced(documents, recipe_in(tmp_path))
    assert counts(derived) == (2, 2, 0)
    assert counts(reduced(documents, recipe_in(tmp_path, stream="dark"))) == (1, 1, 0)
    nowhere = reduced(documents, recipe_in(tmp_path, stream="fine"))
    assert nowhere.stop["exit_status"] == "fail"
    assert "'det' is in the stream dark, primary, which this recipe does not reduce" in nowhere.stop["reason"]


def test_trouble_interleaved_runs_do_not_mix(tmp_path):
    recipe = recipe_in(tmp_path)
    one, other = images(3, seed=1), images(3, seed=2)
    alone = [reduced(inline_run(frames), recipe) for frames in (one, other)]
    pairs = zip(inline_run(one), inline_run(other), strict=True)
    mixed = Derived()
    replay([document for pair in pairs for document in pair], recipe, mixed)
    for start, expected in zip(mixed.starts, alone, strict=True):
        mine = {
            uid for uid, d in mixed.descriptors.items() if d["run_start"] == start["uid"] and d["name"] == "primary"
        }
        curves = [e["data"]["intensity"] for e in mixed.events["primary"] if e["descriptor"] in mine]
        wanted = [e["data"]["intensity"] for e in expected.events["primary"]]
        assert np.array_equal(curves, wanted, equal_nan=True)
    assert [stop["exit_status"] for stop in mixed.stops] == ["success", "success"]


def test_trouble_reasons_are_bounded(tmp_path):
    frames = images(40)
    documents = inline_run(frames)
    for n in range(30):
        documents = changed(documents, n + 2, det=np.zeros((n + 1, 3)))
    derived = reduced(documents, recipe_in(tmp_path))
    assert counts(derived) == (40, 10, 30)
    assert len(derived.stop["skip_reasons"]) == 21
    assert sum(derived.reasons().values()) == 30


def _hdf5(path, rows):
    file, shape = h5py.File(path, "w", libver="latest"), (rows, *SHAPE)
    return file, file.create_dataset("entry/data/data", shape, np.uint32, maxshape=(None, *SHAPE), chunks=(1, *SHAPE))


def test_trouble_growing_file_is_waited_for(tmp_path):
    """The file appears, and grows, while the reduction waits for it."""
    frames = images(3)
    go = threading.Event()

    def write():
        go.wait()
        file, data = _hdf5(tmp_path / "live.h5", 0)
        with file:
            file.swmr_mode = True
            for n, frame in enumerate(frames):
                threading.Event().wait(0.1)
                data.resize(n + 1, axis=0)
                data[n] = frame
                data.flush()

    writer = threading.Thread(target=write)
    writer.start()
    documents = stream_run(f"file://localhost{tmp_path}/live.h5", 3, order="fly")
    derived = Derived()
    replay(documents, recipe_in(tmp_path), derived, lambda name, _: name == "start" and go.set(), file_timeout=10.0)
    writer.join()
    assert counts(derived) == (3, 3, 0)
    assert_same_bits(derived, reduced(inline_run(frames), recipe_in(tmp_path)))


def test_trouble_rows_announced_before_they_are_written_are_not_taken_for_zeros(tmp_path):
    file, data = _hdf5(tmp_path / "frames.h5", 3)
    with file:
        data[0] = images(1)[0]
        data[2] = 0
    derived = reduced(stream_run(f"file://localhost{tmp_path}/frames.h5", 3), recipe_in(tmp_path))
    assert only_reason(derived) == f"{tmp_path}/frames.h5: frame 1 of /entry/data/data was announced but is not written"
    assert derived.latest("primary", "total_counts").keys() == {1, 3}


def test_trouble_file_cut_short_while_it_was_written_is_not_taken_for_zeros(tmp_path):
    path = tmp_path / "frames.h5"
    file, data = _hdf5(path, 4)
    with file:
        file.swmr_mode = True
        for n, frame in enumerate(images(4)):
            data[n] = frame
            data.flush()
        raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) - SHAPE[0] * SHAPE[1] * 4])
    derived = reduced(stream_run(f"file://localhost{path}", 4), recipe_in(tmp_path))
    assert derived.stop["frames_skipped"] >= 1
    assert all(total > 0 for total in derived.latest("primary", "total_counts").values())
