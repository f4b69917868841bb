"""Frames that are ready together are integrated together: the same documents, in the same order, with the same bits."""

import threading

import numpy as np
import pytest

import azimuthal as az
from azimuthal.errors import FrameError
from bluesky_powder import PowderReduction
from bluesky_powder.errors import FramesUnavailable
from bluesky_powder.frames import Patience
from bluesky_powder.frames.files.hdf5 import Hdf5Files, Hdf5Images
from bluesky_powder.frames.images.inline import InlineImages
from bluesky_powder.frames.images.together import EventReader
from bluesky_powder.reduction import patterns
from bluesky_powder.reduction.history import History
from bluesky_powder.reduction.stack import Stack
from bluesky_powder.replay import replay
from raw_runs import SHAPE, Derived, assert_same_bits, images, inline_run, recipe_in, stream_run, tiff_run, write_hdf5

FRAMES = images(7)
POSITIONS = [0.0, 0.0, 0.0, 5.0, 5.0, 0.0, 0.0]
MONITORS = [100.0, 110.0, 90.0, 100.0, 105.0, 95.0, 1.0]


@pytest.fixture
def stacks(monkeypatch):
    """Note how many images the engine gets at once, whether they are added to the mean frame on the way or not."""
    sizes, within = [], []
    for kind, images_at in ((az.Integrator, 0), (az.MeanFrames, 1)):

        def noting(self, *args, integrate=kind.integrate, images_at=images_at, **given):
            if not within:  # the mean frame calls the integrator
                sizes.append(len(args[images_at]))
            within.append(self)
            try:
                return integrate(self, *args, **given)
            finally:
                within.pop()

        monkeypatch.setattr(kind, "integrate", noting)
    return sizes


def reduced(documents, recipe, **options):
    derived = Derived()
    replay(documents, recipe, derived, **options)
    return derived


def names(derived):
    """Return the documents in their order: stream and seq_num of events."""
    return [
        (derived.descriptors[document["descriptor"]]["name"], document["seq_num"])
        for name, document in derived.documents
        if name == "event"
    ]


def test_stacks_hold_one_geometry_each_and_change_no_bit(tmp_path, monkeypatch, stacks):
    recipe = recipe_in(tmp_path, moving=True, corrections={"monitor": "i0"})
    documents = stream_run(write_hdf5(tmp_path, FRAMES), 7, POSITIONS, MONITORS, order="tiled")
    together = reduced(documents, recipe)
    assert stacks == [3, 2, 2]
    monkeypatch.setattr(patterns, "MOST_STACKED", 1)
    stacks.clear()
    alone = reduced(documents, recipe)
    assert stacks == [1] * 7
    assert_same_bits(together, alone)
    assert names(together) == names(alone)
    step = reduced(stream_run(write_hdf5(tmp_path, FRAMES), 7, POSITIONS, MONITORS), recipe)
    assert_same_bits(together, step)
    assert names(together) == names(step)


def test_stacks_of_a_flight(tmp_path, stacks):
    recipe = recipe_in(tmp_path)
    flown = reduced(stream_run(write_hdf5(tmp_path, FRAMES), 7, order="fly"), recipe)
    assert stacks == [4, 3]
    assert_same_bits(flown, reduced(inline_run(FRAMES), recipe))


MANY = images(30, seed=6)
MANY[:, 7, 7:12] = 2**32 - 1
"""Frames of a detector with a few dead pixels."""


def added_together(monkeypatch):
    """Note how many images are added to the mean frame as they are integrated."""
    noted = []
    integrate = az.MeanFrames.integrate

    def noting(self, integrator, frames, *args, **given):
        noted.append(len(frames))
        return integrate(self, integrator, frames, *args, **given)

    monkeypatch.setattr(az.MeanFrames, "integrate", noting)
    return noted


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("dummy", [None, 2**32 - 1])
def test_stacks_go_into_the_mean_frame_at_once_and_change_no_bit(tmp_path, monkeypatch, k, dummy):
    recipe = recipe_in(tmp_path, moving=True, corrections={"monitor": "i0", "dummy": dummy})
    n = 30 // k
    positions, monitors = [0.0] * 14 + [5.0] * (n - 14), np.arange(1.0, n + 1.0)
    uri = write_hdf5(tmp_path, MANY)
    step = reduced(stream_run(uri, n, positions, monitors, per_event=k), recipe)
    noted = added_together(monkeypatch)
    together = reduced(stream_run(uri, n, positions, monitors, order="tiled", per_event=k), recipe)
    assert noted
    assert_same_bits(together, step)
    assert names(together) == names(step)


def test_stacks_in_the_mean_frame_that_fail_on_their_way_are_made_good(tmp_path, monkeypatch):
    recipe = recipe_in(tmp_path)
    documents = stream_run(write_hdf5(tmp_path, MANY), 30, order="tiled")
    put = History.put
    noted = added_together(monkeypatch)

    def full(self, exposure, reduced_):
        if exposure.frame.seq_num == 11:
            raise OSError("no space left on device")
        return put(self, exposure, reduced_)

    monkeypatch.setattr(History, "put", full)
    derived = reduced(documents, recipe)
    assert noted == [8, 8, 8, 6]
    assert (
        "event 11 could not be added to the earlier ones (OSError: no space left on device)" in derived.stop["reason"]
    )
    others = [frame for at, frame in enumerate(MANY, 1) if at != 11]
    monkeypatch.setattr(History, "put", put)
    expected = reduced(inline_run(np.array(others)), recipe)
    last, want = derived.events["cumulative"][-1]["data"], expected.events["cumulative"][-1]["data"]
    assert last["frames"] == want["frames"] == 29
    assert last["mean_frame_spottiness"] == want["mean_frame_spottiness"]
    assert last["union_spottiness"] == pytest.approx(want["union_spottiness"], rel=1e-12)


def test_stacks_that_the_mean_frame_refuses_are_integrated_without_it(tmp_path, monkeypatch):
    recipe = recipe_in(tmp_path)
    documents = stream_run(write_hdf5(tmp_path, MANY), 30, order="tiled")
    expected = reduced(documents, recipe)

    def refuse(*_, **__):
        raise FrameError("not today")

    monkeypatch.setattr(az.MeanFrames, "integrate", refuse)
    assert_same_bits(reduced(documents, recipe), expected)


def test_stacks_that_come_again_after_a_pause_leave_no_trace(tmp_path):
    recipe = recipe_in(tmp_path)
    uri = write_hdf5(tmp_path, MANY)
    documents = stream_run(uri, 30, order="tiled")
    (datum,) = (document for name, document in documents if name == "stream_datum")
    first = datum | {"uid": "first", "indices": {"start": 0, "stop": 15}, "seq_nums": {"start": 1, "stop": 16}}
    again = datum | {"uid": "again", "indices": {"start": 12, "stop": 30}, "seq_nums": {"start": 9, "stop": 27}}
    told = [d for d in documents if d[0] not in ("stream_datum", "event", "stop")]
    paused = [*told, ("stream_datum", first), ("stream_datum", again), documents[-1]]
    derived = reduced(paused, recipe)
    expected = reduced(inline_run(np.concatenate([MANY[:8], MANY[12:]])), recipe)
    last, want = derived.events["cumulative"][-1]["data"], expected.events["cumulative"][-1]["data"]
    for key, value in want.items():
        assert np.array_equal(np.asarray(last[key]), np.asarray(value), equal_nan=not isinstance(value, str)), key
    assert derived.stop["frames_replaced"] == 7


@pytest.mark.parametrize(
    "sections",
    [
        {"outliers": {"method": "sigma_clip"}, "integration": {"splitting": "no"}},
        {"frames_per_event": "sum"},
        {"corrections": {"dark": 20, "dark_variance": 2}},
        {"corrections": {"dummy": 20}},
    ],
)
def test_stacks_under_every_treatment(tmp_path, monkeypatch, sections):
    recipe = recipe_in(tmp_path, **sections)
    pairs = images(14, seed=9)
    documents = stream_run(write_hdf5(tmp_path, pairs), 7, order="tiled", per_event=2)
    together = reduced(documents, recipe)
    monkeypatch.setattr(patterns, "MOST_STACKED", 1)
    assert_same_bits(together, reduced(documents, recipe))
    assert together.stop["frames_reduced"] == 14


def test_stacks_keep_to_their_bytes(tmp_path, monkeypatch, stacks):
    monkeypatch.setattr(patterns, "STACK_BYTES", 3 * FRAMES[0].nbytes + 1)
    reduced(stream_run(write_hdf5(tmp_path, FRAMES), 7, order="tiled"), recipe_in(tmp_path))
    assert stacks == [3, 3, 1]


def test_stacks_skip_a_frame_that_cannot_be_read_and_no_other(tmp_path):
    recipe = recipe_in(tmp_path)
    documents = tiff_run(tmp_path, FRAMES.astype(np.int32), order="tiled")
    expected = reduced(documents, recipe).latest("primary", "total_counts")
    (tmp_path / "scan12_000003.tif").unlink()
    derived = reduced(documents, recipe)
    (reason,) = derived.reasons()
    assert "scan12_000003.tif: there is no such file" in reason
    assert derived.stop["skip_reasons"][0]["seq_nums"] == [4]
    assert derived.latest("primary", "total_counts") == {n: c for n, c in expected.items() if n != 4}


def test_stacks_skip_a_frame_with_a_bad_monitor_and_no_other(tmp_path, stacks):
    recipe = recipe_in(tmp_path, corrections={"monitor": "i0"})
    monitors = [1.0, 1.0, 0.0, 1.0, 2.0, np.nan, 1.0]
    documents = stream_run(write_hdf5(tmp_path, FRAMES), 7, None, monitors, order="tiled")
    derived = reduced(documents, recipe)
    assert sorted(derived.latest("primary", "monitor")) == [1, 2, 4, 5, 7]
    assert derived.stop["frames_skipped"] == 2
    assert stacks == [2, 2, 1]


def test_stacks_that_the_engine_refuses_are_tried_one_by_one(tmp_path, monkeypatch):
    bad = FRAMES[2].sum()
    for kind, images_at in ((az.Integrator, 0), (az.MeanFrames, 1)):

        def picky(self, *args, integrate=kind.integrate, images_at=images_at, **given):
            if any(image.sum() == bad for image in args[images_at]):
                raise FrameError("this one does not please me")
            return integrate(self, *args, **given)

        monkeypatch.setattr(kind, "integrate", picky)
    derived = reduced(stream_run(write_hdf5(tmp_path, FRAMES), 7, order="tiled"), recipe_in(tmp_path))
    assert derived.reasons() == {"this one does not please me": 1}
    assert [event["seq_num"] for event in derived.events["primary"]] == [1, 2, 4, 5, 6, 7]
    assert derived.stop["exit_status"] == "success"


def test_stacks_are_made_live_of_what_waits_in_the_queue(tmp_path, stacks):
    recipe = recipe_in(tmp_path)
    documents = inline_run(FRAMES)
    gate, held = threading.Event(), threading.Event()
    derived = Derived()

    def slow(name, document):
        derived(name, document)
        if name == "event" and document["seq_num"] == 1 and not held.is_set():
            held.set()
            gate.wait(30)

    with PowderReduction(recipe) as reduction:
        reduction.subscribe(slow)
        for name, document in documents[:3]:
            reduction(name, document)
        assert held.wait(30)
        for name, document in documents[3:]:
            reduction(name, document)
        gate.set()
        assert reduction.wait(30)
    assert stacks == [1, 6]
    assert_same_bits(derived, reduced(documents, recipe))


def test_stacks_wait_for_nothing_live(tmp_path):
    derived = Derived()
    documents = inline_run(FRAMES)
    with PowderReduction(recipe_in(tmp_path)) as reduction:
        reduction.subscribe(derived)
        for at, (name, document) in enumerate(documents):
            reduction(name, document)
            assert reduction.wait(30)
            assert len(derived.events["primary"]) == min(max(at - 1, 0), len(FRAMES))


@pytest.fixture
def reads(monkeypatch):
    """Note what is read of HDF5 files at once: first event, how many."""
    noted = []
    read, read_stack = Hdf5Files.read, Hdf5Files.read_stack

    def one(self, path, dataset, index, count):
        noted.append((index, 1))
        return read(self, path, dataset, index, count)

    def many(self, path, dataset, start, stop, count=1):
        noted.append((start, stop - start))
        return read_stack(self, path, dataset, start, stop, count)

    monkeypatch.setattr(Hdf5Files, "read", one)
    monkeypatch.setattr(Hdf5Files, "read_stack", many)
    return noted


@pytest.mark.parametrize("k", [1, 2])
def test_stacks_are_read_at_once_from_files(tmp_path, reads, k):
    frames = images(20 * k, seed=3)
    expected = reduced(inline_run(frames.reshape(20, k, *SHAPE)), recipe_in(tmp_path))
    documents = stream_run(write_hdf5(tmp_path, frames), 20, order="tiled", per_event=k)
    assert_same_bits(reduced(documents, recipe_in(tmp_path)), expected)
    assert reads == ([(0, 8), (8, 8), (16, 4)] if k == 1 else [(0, 4), (4, 4), (8, 8), (16, 4)])


def test_stacks_of_which_one_frame_is_missing_give_the_others(tmp_path, reads):
    path = write_hdf5(tmp_path, FRAMES[:5])
    derived = reduced(stream_run(path, 7, order="tiled"), recipe_in(tmp_path))
    assert derived.stop["frames_reduced"] == 5
    assert sorted(n for entry in derived.stop["skip_reasons"] for n in entry["seq_nums"]) == [6, 7]
    assert reads[0] == (0, 7)
    assert_same_bits(derived, reduced(inline_run(FRAMES[:5]), recipe_in(tmp_path)))


def test_events_of_several_files_are_read_each_from_its_own(tmp_path):
    files = Hdf5Files(Patience(0))
    paths = [tmp_path / name for name in ("a.h5", "b.h5")]
    for path, frames in zip(paths, (FRAMES, FRAMES[::-1]), strict=True):
        write_hdf5(tmp_path, frames, path.name)
    wanted = [(paths[0], 0), (paths[0], 1), (paths[1], 2), (paths[0], 3), (paths[0], 9), (paths[0], 4), (paths[0], 5)]
    events = [Hdf5Images(files, path, "/entry/data/data", index, 1) for path, index in wanted]
    reader = EventReader(2**30)
    for _ in range(2):  # the second time it knows how large they are
        results = list(reader.read([*events, InlineImages(FRAMES[6])]))
        assert isinstance(results[4], FramesUnavailable)
        for at, (path, index) in enumerate(wanted):
            if index < 9:
                assert np.array_equal(results[at][0], FRAMES[index if path == paths[0] else 6 - index])
        assert np.array_equal(results[-1][0], FRAMES[6])
    files.close()


def test_stack_copies_only_what_does_not_lie_side_by_side():
    lone = Stack(16, 2**20)
    assert np.shares_memory(lone.put(FRAMES[:2]), FRAMES)
    side_by_side = Stack(5, 2**20)
    for at in (1, 3):
        assert side_by_side.has_room_for(FRAMES[at : at + 2])
        assert np.array_equal(side_by_side.put(FRAMES[at : at + 2]), FRAMES[at : at + 2])
    assert np.shares_memory(side_by_side.images, FRAMES)
    assert np.array_equal(side_by_side.images, FRAMES[1:5])
    assert not side_by_side.has_room_for(FRAMES[:2])
    assert side_by_side.has_room_for(FRAMES[:1])
    memory = np.zeros(8 + FRAMES.nbytes, np.uint8)
    lent = memory[8:].view(FRAMES.dtype).reshape(FRAMES.shape)
    lent[:] = FRAMES
    stack = Stack(16, 2**20)
    for at in (2, 3, 5):
        stack.put(lent[at : at + 1 + (at == 3)])
    assert np.shares_memory(stack.images, memory)
    assert np.array_equal(stack.images, FRAMES[2:6])
    for order in ([0, 0], [1, 0], [0, 2], [0, 1, 0], [3, 1, 2]):
        mixed = Stack(16, 2**20)
        for at in order:
            assert np.array_equal(mixed.put(FRAMES[at : at + 1]), FRAMES[at : at + 1])
        assert np.array_equal(mixed.images, FRAMES[order])
        assert not np.shares_memory(mixed.images, FRAMES)
        assert mixed.images.shape[1:] == SHAPE
    views = [FRAMES.astype(np.uint32)[at : at + 1] for at in (0, 1)], [FRAMES[at : at + 1, ::-1] for at in (0, 1)]
    for pair in views:
        stack = Stack(16, 2**20)
        for images_ in pair:
            stack.put(images_)
        assert np.array_equal(stack.images, np.concatenate(pair))
    with pytest.raises(ValueError, match="empty"):
        _ = Stack(1, 1).images


def test_stack_keeps_to_its_bytes_but_takes_one_event_whole():
    stack = Stack(2, 3 * FRAMES[0].nbytes)
    assert stack.has_room_for(FRAMES[:5])
    assert len(stack.put(FRAMES[:5])) == 5
    assert not stack.has_room_for(FRAMES[5:6])
