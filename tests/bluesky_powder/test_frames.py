"""Documents to frames: names of files, joining, waiting, and where further files begin."""

import threading
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile

from bluesky_powder.errors import FrameSkipped, FramesUnavailable
from bluesky_powder.frames import Frame, Patience, RunFrames, Skipped, Wanted
from bluesky_powder.frames.files.hdf5 import Hdf5Files
from bluesky_powder.frames.frame import as_images, images_per_event
from bluesky_powder.frames.images.inline import InlineImages
from bluesky_powder.frames.images.numbered import file_name, files_per_event
from bluesky_powder.frames.images.reach import local_path
from bluesky_powder.frames.joining.join import Announced, EventNote, Join, Recent
from raw_runs import SHAPE, datum_run, images, inline_run, stream_run, tiff_run, write_hdf5

ARM = Wanted("det", None, {"pos": "two_theta"}, None)
BARE = Wanted("det", None, {}, None)


def taken(documents, wanted=BARE, finish=True, timeout=0.0, **options):
    """Return what comes out of a run's documents, and the RunFrames."""
    frames = RunFrames(wanted, documents[0][1]["uid"], Patience(timeout), **options)
    out = [item for name, document in documents for item in frames.take(name, document)]
    return (out + list(frames.finish()) if finish else out), frames


@pytest.mark.parametrize(
    ("template", "filename", "number", "name"),
    [
        ("{:06d}.tif", "", 7, "000007.tif"),
        ("_{:d}.tif", "", 12, "_12.tif"),
        ("%s%s_%06d.tif", "scan", 3, "scan_000003.tif"),
        ("%s_%d.npy", "a", 3, "a_3.npy"),
        ("%s/%6.6d.tif", "x", 3, "x/000003.tif"),
        ("/{:05d}.tif", "", 1, "/00001.tif"),
    ],
)
def test_file_name_fills_templates_old_and_new(template, filename, number, name):
    assert file_name(template, filename, number) == name


def test_file_name_agrees_with_tiled_plugins():
    from bluesky_tiled_plugins.utils import compile_template

    for template in ("%s%s_%06d.tif", "%s_%d.npy", "{:06d}.tif", "%s_%5.5d.tif", "a%03db.tif"):
        for number in (0, 1, 123456):
            assert file_name(template, "name", number) == compile_template(template, "name").format(number)


def test_file_name_that_cannot_be_filled_says_so():
    with pytest.raises(FrameSkipped, match=r"'\{a\}\.tif' cannot be filled in"):
        file_name("{a}.tif", "", 1)


@pytest.mark.parametrize(
    ("count", "parameters", "files"),
    [
        (1, {}, 1),
        (4, {}, 1),
        (4, {"chunk_shape": (1, 40, 50)}, 4),
        (4, {"chunk_shape": [2, 40, 50]}, 2),
        (4, {"multiplier": 4}, 4),
        (4, {"files_per_datum": 2}, 2),
        (4, {"join_method": "concat", "chunk_shape": (1,)}, 4),
    ],
)
def test_files_per_event_follows_tiled_plugins(count, parameters, files):
    from bluesky_tiled_plugins.writing.consolidators import TIFFConsolidator

    assert files_per_event((count, 40, 50), parameters) == files
    key = {"dtype": "array", "shape": [count, 40, 50], "dtype_numpy": "<i4", "source": ""}
    resource = {"mimetype": "multipart/related;type=image/tiff", "uri": "file://localhost/a", "data_key": "det"}
    resource["parameters"] = {"template": "{:d}.tif", **parameters}
    if parameters.get("join_method") != "concat":  # which the plugins warn of
        assert TIFFConsolidator(resource, {"data_keys": {"det": key}}).files_per_datum == files


def test_images_per_event_reads_shape_or_multiplier():
    assert images_per_event({"shape": [4, 40, 50]}, {}) == 4
    assert images_per_event({"shape": [1, 40, 50]}, {}) == 1
    assert images_per_event({"shape": [40, 50]}, {}) == 1
    assert images_per_event({"shape": [40, 50]}, {"multiplier": 3}) == 3
    assert images_per_event({}, {}) == 1


@pytest.mark.parametrize("shape", [(40, 50), (1, 40, 50), (3, 40, 50), (1, 3, 40, 50), (1, 1, 40, 50)])
def test_as_images_takes_every_legal_shape(shape):
    assert as_images(np.zeros(shape)).shape == (shape[-3] if len(shape) > 2 else 1, 40, 50)


@pytest.mark.parametrize("array", [np.zeros(4), np.zeros((2, 2, 4, 5)), np.zeros((0, 4, 5)), np.zeros((4, 5), "U1")])
def test_as_images_refuses_what_is_none(array):
    with pytest.raises(FrameSkipped, match="the frame"):
        as_images(array)


def test_local_path_reads_file_uris_only():
    assert local_path("file://localhost/data/a%20b.h5") == "/data/a b.h5"
    assert local_path("file:///data/run/") == "/data/run/"
    for name in ("LaB6 #3.h5", "why?.h5"):  # as ophyd-async writes them, and as they should be written
        assert local_path(f"file://localhost/data/{name}") == f"/data/{name}"
        assert local_path(Path("/data", name).as_uri()) == f"/data/{name}"
    for uri in ("http://localhost/a", "file://storage/a", "/a/b"):
        with pytest.raises(FramesUnavailable, match="this machine|only file"):
            local_path(uri)


def test_frames_carry_what_their_event_says():
    documents = inline_run(images(2), [1.5, 2.5], [10, 20])
    wanted = Wanted("det", None, {"pos": "two_theta", "fixed": 3.0}, "i0")
    frames, _ = taken(documents, wanted)
    assert [(f.seq_num, f.positions, f.monitor, f.count) for f in frames] == [
        (1, {"pos": 1.5, "fixed": 3.0}, 10.0, 1),
        (2, {"pos": 2.5, "fixed": 3.0}, 20.0, 1),
    ]
    assert frames[0].run == documents[0][1]["uid"]
    assert frames[0].stream == "primary"
    assert frames[0].event_uid == documents[2][1]["uid"]
    assert frames[0].time == documents[2][1]["time"]
    with pytest.raises(AttributeError):
        frames[0].seq_num = 3


@pytest.mark.parametrize("way", ["inline", "datum", "stream", "tiff"])
def test_frames_hold_no_images_but_inline_ones(tmp_path, way):
    shot = images(2)
    documents = {
        "inline": lambda: inline_run(shot),
        "datum": lambda: datum_run(tmp_path, shot),
        "stream": lambda: stream_run(write_hdf5(tmp_path, shot), 2),
        "tiff": lambda: tiff_run(tmp_path, shot),
    }[way]()
    frames, run = taken(documents)
    assert [frame.images.nbytes_held for frame in frames] == ([shot[0].nbytes] * 2 if way == "inline" else [0, 0])
    for frame, expected in zip(frames, shot, strict=True):
        assert np.array_equal(frame.images.read(), expected[np.newaxis])
    run.close()


def test_frames_of_a_step_scan_come_with_their_events(tmp_path):
    documents = stream_run(write_hdf5(tmp_path, images(3)), 3, [1.0, 2.0, 3.0])
    ready = []
    frames = RunFrames(ARM, "run", Patience(0.0))
    for name, document in documents[:-1]:
        ready.append((name, len(list(frames.take(name, document)))))
    assert [n for name, n in ready if name == "event"] == [1, 1, 1]
    assert sum(n for name, n in ready if name != "event") == 0


def test_frames_that_need_no_event_wait_for_the_next_one_only(tmp_path):
    documents = stream_run(write_hdf5(tmp_path, images(3)), 3)
    without = [pair for pair in documents if pair[0] != "event"]
    out, _ = taken(without, finish=False)
    assert [frame.seq_num for frame in out] == [1, 2]
    assert {frame.event_uid for frame in out} == {""}
    out, _ = taken(without)
    assert [frame.seq_num for frame in out] == [1, 2, 3]


def test_frames_of_a_flight_come_at_once(tmp_path):
    documents = stream_run(write_hdf5(tmp_path, images(5)), 5, order="fly")
    assert len(taken(documents, finish=False)[0]) == 5


def test_frames_of_several_files_begin_where_each_file_does(tmp_path):
    """Indices that start at 0 again, as ophyd-async has it, and indices that go on from file to file."""
    shot = images(4)
    one = stream_run(write_hdf5(tmp_path, shot[:2], "one.h5"), 2)
    other = stream_run(write_hdf5(tmp_path, shot[2:], "two.h5"), 2)
    descriptor = one[1][1]["uid"]
    for first in (0, 2):
        further = []
        for name, document in other[2:-1]:
            document = dict(document)
            if name == "stream_datum":
                start = document["indices"]["start"]
                document["descriptor"] = descriptor
                document["indices"] = {"start": first + start, "stop": first + start + 1}
                document["seq_nums"] = {"start": 3 + start, "stop": 4 + start}
            elif name == "event":
                document |= {"descriptor": descriptor, "seq_num": document["seq_num"] + 2}
            further.append((name, document))
        out, run = taken([*one[:-1], *further, one[-1]])
        assert [frame.seq_num for frame in out] == [1, 2, 3, 4]
        assert np.array_equal(np.concatenate([frame.images.read() for frame in out]), shot)
        run.close()


def test_tiff_pages_are_read_one_by_one(tmp_path):
    shot = images(3)
    tifffile.imwrite(tmp_path / "all.tif", shot, photometric="minisblack")
    resource = {"mimetype": "multipart/related;type=image/tiff", "parameters": {}}
    out, _ = taken(stream_run(f"file://localhost{tmp_path}/all.tif", 4, **resource))
    assert np.array_equal(np.concatenate([frame.images.read() for frame in out[:3]]), shot)
    with pytest.raises(FramesUnavailable, match="has 3 pages, number 3 is not there"):
        out[3].images.read()


def test_tiff_files_that_share_an_event_are_joined(tmp_path):
    shot = images(4)
    documents = tiff_run(tmp_path, shot)
    key = documents[1][1]["data_keys"]["det"]
    key["shape"] = [2, *SHAPE]
    half = [p for p in documents if not (p[0] in ("event", "stream_datum") and p[1].get("seq_num", 0) > 2)]
    half = [p for p in half if not (p[0] == "stream_datum" and p[1]["seq_nums"]["start"] > 2)]
    out, _ = taken(half)
    assert [frame.count for frame in out] == [2, 2]
    assert np.array_equal(np.concatenate([frame.images.read() for frame in out]), shot)


def test_datum_handlers_can_be_given(tmp_path):
    class Handler:
        specs = ("MAGIC",)

        def __init__(self, path, *, scale):
            self.path, self.scale = path, scale

        def __call__(self, index):
            return np.full(SHAPE, self.scale * index)

    documents = datum_run(tmp_path, images(2))
    documents = [
        (n, d | {"spec": "MAGIC", "resource_kwargs": {"scale": 3}} if n == "resource" else d) for n, d in documents
    ]
    out, run = taken(documents, handlers={"MAGIC": Handler})
    assert out[1].images.read().max() == 3
    run.close()


@pytest.mark.parametrize("last", ["datum", "resource"])
def test_events_that_name_one_datum_all_have_its_images(tmp_path, last):
    documents = datum_run(tmp_path, images(2))
    events = [document for name, document in documents if name == "event"]
    events[1]["data"]["det"] = events[0]["data"]["det"]
    late = [pair for pair in documents if pair[0] == last]
    out, _ = taken([*(pair for pair in documents if pair[0] != last), *late])
    assert [frame.seq_num for frame in out] == [1, 2]
    assert np.array_equal(out[0].images.read(), out[1].images.read())
    without, _ = taken([pair for pair in documents if pair[0] != last])
    assert [skipped.reason for skipped in without] == [f"its {last.title()} document never came"] * 2


def test_resource_may_come_after_any_number_of_events(tmp_path):
    documents = datum_run(tmp_path, np.zeros((1, 2, 2), np.uint8))
    event, datum = (dict(next(d for name, d in documents if name == kind)) for kind in ("event", "datum"))
    many = []
    for n in range(5000):
        many.append(("datum", datum | {"datum_id": f"d/{n}"}))
        many.append(("event", event | {"seq_num": n + 1, "data": {"det": f"d/{n}"}}))
    late = [pair for pair in documents if pair[0] == "resource"]
    out, _ = taken([*documents[:2], *many, *late])
    assert [frame.seq_num for frame in out] == list(range(1, 5001))
    assert not any(isinstance(frame, Skipped) for frame in out)


def test_resource_paths_may_be_whole_though_there_is_a_root(tmp_path):
    documents = datum_run(tmp_path, images(2))
    (resource,) = (document for name, document in documents if name == "resource")
    expected = [frame.images.read() for frame in taken(documents)[0]]
    for path in ("/frames", str(tmp_path / "frames")):
        resource["resource_path"] = path
        assert np.array_equal([frame.images.read() for frame in taken(documents)[0]], expected)


def test_area_detector_handlers_are_found(tmp_path):
    pytest.importorskip("area_detector_handlers")
    shot = images(2)
    write_hdf5(tmp_path, shot, "ad.h5")
    documents = [
        (n, d | {"spec": "AD_HDF5", "resource_path": "ad.h5"} if n == "resource" else d)
        for n, d in datum_run(tmp_path, shot)
    ]
    documents = [
        (n, d | {"datum_kwargs": {"point_number": d["datum_kwargs"]["index"]}} if n == "datum" else d)
        for n, d in documents
    ]
    out, run = taken(documents)
    assert np.array_equal(np.concatenate([frame.images.read() for frame in out]), shot)
    run.close()


def announced(seq_num, index=0):
    return Announced(seq_num, 1, InlineImages(np.full((1, 1), index)), "d", 0.0)


def indices(joined):
    return [(int(frame.images.array[0, 0]), note.uid if note else None) for frame, note, _ in joined]


def note(uid):
    return EventNote(uid, 0.0, "d", {})


def test_join_does_not_pair_a_new_frame_with_an_old_event():
    join = Join(needs_event=True)
    assert not list(join.announce([announced(1, 0)], alone=True))
    assert indices(join.event(1, note("first"))) == [(0, "first")]
    assert not list(join.announce([announced(1, 1)], alone=True))
    assert indices(join.event(1, note("second"))) == [(1, "second")]


def test_join_pairs_passes_whichever_documents_come_first():
    """After a pause seq_nums are told again; the second frame of a seq_num goes with its second event."""
    for events_first in (True, False):
        join = Join(needs_event=True)
        events = [(seq_num, note(f"e{at}")) for at, seq_num in enumerate([1, 2, 1, 2, 3])]
        frames = [announced(seq_num, at) for at, seq_num in enumerate([1, 2, 1, 2, 3])]
        told = [
            lambda join=join, events=events: [pair for event in events for pair in join.event(*event)],
            lambda join=join, frames=frames: [pair for frame in frames for pair in join.announce([frame], alone=True)],
        ]
        out = [pair for step in (told if events_first else reversed(told)) for pair in step()]
        assert sorted(indices(out)) == [(at, f"e{at}") for at in range(5)]
        assert not list(join.leftovers())
        assert join.events_without_frame() == ([], 0)


def test_join_makes_do_with_an_old_event_in_the_end():
    join = Join(needs_event=True)
    list(join.event(1, note("first")))
    assert indices(join.announce([announced(1, 0)], alone=True)) == [(0, "first")]
    assert not list(join.announce([announced(1, 1)], alone=True))
    assert indices(join.leftovers()) == [(1, "first")]


def test_join_makes_do_with_an_event_of_another_pass_in_the_end():
    """The events of the first pass were lost, so that those of the second look like a first pass."""
    join = Join(needs_event=True)
    list(join.announce([announced(1, 0), announced(2, 1)], alone=False))
    list(join.announce([announced(2, 2)], alone=True))
    assert indices(join.event(2, note("new"))) == [(1, "new")]
    assert indices(join.leftovers()) == [(0, None), (2, "new")]


def test_join_tells_of_events_without_frames_only():
    join = Join(needs_event=False)
    for seq_num in (1, 2, 3):
        list(join.announce([announced(seq_num)], alone=True))
    for seq_num in (1, 2, 3, 4):
        list(join.event(seq_num, note("late")))
    assert len(list(join.leftovers())) == 0
    assert join.events_without_frame() == ([4], 0)


def test_join_waits_for_the_rows_of_columns():
    join = Join(needs_event=False, columns=["x", "y"])
    assert not list(join.announce([announced(1, 0), announced(2, 1)], alone=False))
    assert not list(join.row("x", 1, "x1"))
    ((frame, _, rows),) = join.row("y", 1, "y1")
    assert (frame.seq_num, rows) == (1, {"x": "x1", "y": "y1"})
    assert not list(join.row("y", 2, "y2"))
    ((frame, _, rows),) = join.leftovers()
    assert (frame.seq_num, rows) == (2, {"x": None, "y": "y2"})


def test_join_keeps_few_bytes_of_images(monkeypatch):
    monkeypatch.setattr("bluesky_powder.frames.joining.join.MOST_BYTES", 20)
    join = Join(needs_event=False, columns=["x"])
    frames = [Announced(n, 1, InlineImages(np.zeros(1)), "d", 0.0) for n in (1, 2, 3)]
    out = [joined for frame in frames for joined in join.with_event(frame, note("e"))]
    assert [(frame.seq_num, rows) for frame, _, rows in out] == [(1, {"x": None})]


def test_recent_forgets_the_oldest():
    recent = Recent(2)
    for number in range(3):
        recent[number] = number
    assert (recent.get(0), recent.get(1), recent.get(2)) == (None, 1, 2)


def test_patience_waits_until_there_is_something():
    patience, calls = Patience(30.0), []

    def attempt():
        calls.append(1)
        if len(calls) < 3:
            raise FramesUnavailable("not yet")
        return "there"

    assert patience.until_read("a", attempt) == "there"
    assert len(calls) == 3


def test_patience_runs_out_once_a_file_and_comes_back():
    patience, calls = Patience(0.5), []

    def never():
        calls.append(1)
        raise FramesUnavailable("a: not yet")

    with pytest.raises(FramesUnavailable, match=r"a: not yet \(waited 0\.5 s"):
        patience.until_read("a", never)
    assert len(calls) > 1
    calls.clear()
    with pytest.raises(FramesUnavailable):
        patience.until_read("a", never)
    assert len(calls) == 1
    patience.until_read("a", lambda: "there")
    calls.clear()
    with pytest.raises(FramesUnavailable):
        patience.until_read("a", never)
    assert len(calls) > 1


def test_patience_remembers_few_files(monkeypatch):
    monkeypatch.setattr("bluesky_powder.frames.patience.MOST_GIVEN_UP", 2)
    patience, calls = Patience(0.3), []

    def never():
        calls.append(1)
        raise FramesUnavailable("not yet")

    def tries(file):
        calls.clear()
        with pytest.raises(FramesUnavailable):
            patience.until_read(file, never)
        return len(calls)

    assert [tries(file) > 1 for file in ("a", "b", "c", "c", "b", "a")] == [True, True, True, False, False, True]


def test_patience_can_be_hurried():
    patience = Patience(600.0)

    def never():
        raise FramesUnavailable("not yet")

    threading.Timer(0.05, patience.hurry).start()
    with pytest.raises(FramesUnavailable, match="^not yet$"):
        patience.until_read("a", never)


def test_hdf5_files_keep_few_open_and_close_all(tmp_path, monkeypatch):
    from bluesky_powder.frames.files import hdf5

    monkeypatch.setattr(hdf5, "MOST_OPEN_FILES", 2)
    files = Hdf5Files(Patience(0.0))
    for number in range(4):
        write_hdf5(tmp_path, images(1), f"{number}.h5")
        files.read(tmp_path / f"{number}.h5", "/entry/data/data", 0, 1)
    for number in (0, 1):  # closed already
        with h5py.File(tmp_path / f"{number}.h5", "a") as file:
            file.attrs["written"] = 1
    files.close()
    for number in (2, 3):
        with h5py.File(tmp_path / f"{number}.h5", "a") as file:
            file.attrs["written"] = 1


def test_hdf5_single_image_is_read(tmp_path):
    with h5py.File(tmp_path / "one.h5", "w") as file:
        file["data"] = np.ones(SHAPE)
    files = Hdf5Files(Patience(0.0))
    assert files.read(tmp_path / "one.h5", "data", 0, 1).shape == (1, *SHAPE)
    files.close()


def test_hdf5_compressed_frames_are_read(tmp_path):
    hdf5plugin = pytest.importorskip("hdf5plugin")
    shot = images(3)
    with h5py.File(tmp_path / "c.h5", "w", libver="latest") as file:
        file.create_dataset("data", data=shot, chunks=(1, *SHAPE), **hdf5plugin.Bitshuffle())
    files = Hdf5Files(Patience(0.0))
    assert np.array_equal(files.read(tmp_path / "c.h5", "data", 2, 1)[0], shot[2])
    files.close()


def test_run_frames_stay_small_over_many_events():
    """What is kept of an event that was used is bounded, whatever the length of the run."""
    documents = inline_run(np.zeros((1, *SHAPE), np.uint8))
    frames = RunFrames(ARM, "run", Patience(0.0))
    descriptor = documents[1][1]
    key = descriptor["data_keys"]
    key["det"]["external"] = "STREAM:"
    key["two_theta"] = {"dtype": "number", "shape": [], "source": ""}
    list(frames.take("descriptor", descriptor))
    resource = {
        "uid": "r",
        "data_key": "det",
        "mimetype": "application/x-hdf5",
        "uri": "file:///a",
        "parameters": {"dataset": "d"},
    }
    list(frames.take("stream_resource", resource))
    for number in range(1, 10_001):
        span = {"start": number - 1, "stop": number}
        seq = {"start": number, "stop": number + 1}
        datum = {"uid": "u", "stream_resource": "r", "descriptor": descriptor["uid"], "indices": span, "seq_nums": seq}
        event = {
            "uid": "e",
            "descriptor": descriptor["uid"],
            "seq_num": number,
            "time": 1.0,
            "data": {"two_theta": 1.0},
        }
        assert not list(frames.take("stream_datum", datum))
        (frame,) = frames.take("event", event)
        assert isinstance(frame, Frame)
    kept = frames._join  # noqa: SLF001 - how much it keeps is the point
    assert not kept._events.fresh  # noqa: SLF001
    assert not kept._waiting  # noqa: SLF001
    assert len(kept._events.used._entries) == 4096  # noqa: SLF001
    assert not [item for item in frames.finish() if isinstance(item, Skipped)]
