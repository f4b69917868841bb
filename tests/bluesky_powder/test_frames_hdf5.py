"""Frames out of HDF5 files of every layout, against h5py's own reading, and what is held for it."""

import os
import threading
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from azimuthal import threads
from bluesky_powder.errors import FramesUnavailable, IngestError
from bluesky_powder.frames import Patience
from bluesky_powder.frames.files import hdf5
from bluesky_powder.frames.files.hdf5 import Hdf5Files, Hdf5Images
from bluesky_powder.ingest.hdf5 import hdf5_frames
from hdf5_stacks import (
    BSLZ4,
    BY_HDF5,
    CHUNKS,
    DIRECT,
    DTYPES,
    SHAPE,
    age,
    assert_reads,
    by_h5py,
    frames_of,
    is_direct,
    written,
)

pytestmark = pytest.mark.usefixtures("fresh_files_stay_fresh")


@pytest.fixture
def files():
    files = Hdf5Files(Patience(0.0))
    yield files
    files.close()
    assert files.bytes_ahead == 0


@pytest.mark.parametrize("settled", [True, False], ids=["finished", "fresh"])
@pytest.mark.parametrize("filters", DIRECT)
def test_hdf5_filters_are_undone_as_hdf5_undoes_them(files, tmp_path, filters, settled):
    for dtype in DTYPES:
        frames = frames_of((5, *SHAPE), dtype)
        path = written(tmp_path / f"{dtype}.h5", frames, settled=settled, chunks=(1, *SHAPE), **DIRECT[filters])
        assert is_direct(path)
        assert_reads(files, path)


@pytest.mark.parametrize("settled", [True, False], ids=["finished", "fresh"])
@pytest.mark.parametrize("chunks", CHUNKS, ids=str)
def test_hdf5_chunks_may_cut_frames_in_any_way(files, tmp_path, chunks, settled):
    for number, filters in enumerate(("nothing", "bitshuffle-lz4", "shuffle and gzip")):
        frames = frames_of((8, *SHAPE), "u4", seed=number)
        path = tmp_path / f"{number}.h5"
        with h5py.File(path, "w", libver="latest") as file:
            data = file.create_dataset(
                "data", (8, *SHAPE), "u4", chunks=chunks, maxshape=(None, None, None), **DIRECT[filters]
            )
            data[...] = frames
        if settled:
            age(path)
        assert is_direct(path) == (chunks[0] == 1 or filters != "nothing")
        assert_reads(files, path)
        assert_reads(files, path, count=2)


@pytest.mark.parametrize("filters", BY_HDF5)
def test_hdf5_itself_reads_what_its_filters_alone_can_undo(files, tmp_path, filters):
    path = written(tmp_path / "a.h5", frames_of((5, *SHAPE), "u4"), chunks=(1, *SHAPE), **BY_HDF5[filters])
    assert not is_direct(path)
    assert_reads(files, path)


def test_hdf5_several_images_an_event_are_read(files, tmp_path):
    for number, chunks in enumerate(((1, 1, *SHAPE), (1, 3, *SHAPE), (2, 2, *SHAPE), (1, 3, 10, 52))):
        path = written(tmp_path / f"{number}.h5", frames_of((4, 3, *SHAPE), "u2"), chunks=chunks, **BSLZ4)
        assert is_direct(path)
        assert_reads(files, path, count=3)


def test_hdf5_other_layouts_are_read(files, tmp_path):
    frames = frames_of((5, *SHAPE), "u4")
    assert_reads(files, written(tmp_path / "contiguous.h5", frames))
    assert_reads(files, written(tmp_path / "old.h5", frames, libver="earliest", chunks=(1, *SHAPE), **BSLZ4))
    with h5py.File(tmp_path / "compact.h5", "w") as file:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_layout(h5py.h5d.COMPACT)
        small = np.ascontiguousarray(frames[:2, :5, :6])
        space = h5py.h5s.create_simple(small.shape)
        h5py.h5d.create(file.id, b"data", h5py.h5t.py_create(small.dtype), space, plist).write(space, space, small)
    assert_reads(files, tmp_path / "compact.h5")
    written(tmp_path / "source.h5", frames, chunks=(1, *SHAPE), **BSLZ4)
    layout = h5py.VirtualLayout(frames.shape, frames.dtype)
    layout[...] = h5py.VirtualSource(tmp_path / "source.h5", "data", frames.shape)
    with h5py.File(tmp_path / "virtual.h5", "w", libver="latest") as file:
        file.create_virtual_dataset("data", layout)
    assert_reads(files, tmp_path / "virtual.h5")
    with h5py.File(tmp_path / "block.h5", "w", userblock_size=512) as file:
        file.create_dataset("data", data=frames, chunks=(1, *SHAPE), **BSLZ4)
    assert_reads(files, tmp_path / "block.h5")


def test_hdf5_dataset_behind_a_link_is_read_and_its_file_watched(files, tmp_path):
    frames = frames_of((6, *SHAPE), "u4")
    written(tmp_path / "data.h5", frames[:3], chunks=(1, *SHAPE), **BSLZ4)
    with h5py.File(tmp_path / "master.h5", "w") as file:
        file["data"] = h5py.ExternalLink("data.h5", "data")
    age(tmp_path / "master.h5")
    assert_reads(files, tmp_path / "master.h5")
    written(tmp_path / "other.h5", frames[3:], chunks=(1, *SHAPE), **BSLZ4)
    os.replace(tmp_path / "other.h5", tmp_path / "data.h5")
    assert np.array_equal(files.read(tmp_path / "master.h5", "data", 1, 1)[0], frames[4])


def test_hdf5_types_that_hdf5_converts_are_left_to_it(files, tmp_path):
    frames = frames_of((3, *SHAPE), "u2")
    twelve = h5py.h5t.STD_U16LE.copy()
    twelve.set_precision(12)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((1, *SHAPE))
        h5py.h5d.create(file.id, b"data", twelve, h5py.h5s.create_simple(frames.shape), plist)
        file["data"][...] = frames
    assert not is_direct(tmp_path / "a.h5")
    assert_reads(files, tmp_path / "a.h5")


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_hdf5_any_stack_is_read(tmp_path_factory, data):
    draw = data.draw
    shape = tuple(draw(st.integers(1, most), label="size") for most in (5, 40, 40))
    chunks = tuple(draw(st.integers(1, size), label="chunk") for size in shape)
    dtype = draw(st.sampled_from(DTYPES))
    filters = draw(st.sampled_from([*DIRECT, *BY_HDF5]))
    if filters == "bitshuffle-zstd" and dtype == "?":
        return
    frames = frames_of(shape, dtype, seed=draw(st.integers(0, 99)))
    path = tmp_path_factory.mktemp("any") / "a.h5"
    written(path, frames, settled=draw(st.booleans()), chunks=chunks, **DIRECT.get(filters, BY_HDF5.get(filters)))
    files = Hdf5Files(Patience(0.0), ahead_bytes=draw(st.sampled_from([0, 5000, 2**28])))
    try:
        order = draw(st.lists(st.integers(0, shape[0] - 1), max_size=8))
        for index in (*range(shape[0]), *order):
            assert files.read(path, "data", index, 1)[0].tobytes() == frames[index].tobytes()
        first = draw(st.integers(0, shape[0] - 1))
        stop = draw(st.integers(first + 1, shape[0]))
        assert files.read_stack(path, "data", first, stop).tobytes() == frames[first:stop].tobytes()
    finally:
        files.close()


def test_hdf5_filter_masks_are_honoured(files, tmp_path):
    frames = frames_of((5, *SHAPE), "u4")
    for name in ("bitshuffle-lz4", "shuffle and gzip", "lz4"):
        path = tmp_path / f"{name}.h5"
        with h5py.File(path, "w") as file:
            data = file.create_dataset("data", data=frames, chunks=(1, *SHAPE), **DIRECT[name])
            file.flush()
            count = data.id.get_create_plist().get_nfilters()
            data.id.write_direct_chunk((1, 0, 0), frames[4].tobytes(), filter_mask=2**count - 1)
            if count == 2:  # compressed but not shuffled, and shuffled but not compressed
                data.id.write_direct_chunk((2, 0, 0), zlib.compress(frames[3].tobytes()), filter_mask=1)
                shuffled = frames[0].reshape(-1).view(np.uint8).reshape(-1, 4).T.tobytes()
                data.id.write_direct_chunk((3, 0, 0), shuffled, filter_mask=2)
        truth = by_h5py(path)
        assert np.array_equal(truth[1], frames[4])
        assert_reads(files, age(path))


def test_hdf5_read_ahead_stays_within_its_budget(tmp_path, monkeypatch):
    monkeypatch.setenv("AZIMUTHAL_THREADS", "8")
    frames = frames_of((40, *SHAPE), "u4")
    paths = [written(tmp_path / f"{k}.h5", frames, chunks=(1, *SHAPE), **BSLZ4) for k in range(3)]
    most = 5 * frames[0].nbytes
    files, seen = Hdf5Files(Patience(0.0), ahead_bytes=most), []
    for index in range(40):
        for path in paths:
            assert np.array_equal(files.read(path, "data", index, 1)[0], frames[index])
            seen.append(files.bytes_ahead)
    assert max(seen) == most
    files.read(paths[2], "data", 0, 1)
    files.read(paths[1], "data", 0, 1)
    files.read(paths[0], "data", 0, 1)
    assert files.bytes_ahead == 0  # nobody reads in order any more
    files.close()


def test_hdf5_nothing_is_read_ahead_without_a_budget_or_with_one_thread(tmp_path, monkeypatch):
    frames = frames_of((6, *SHAPE), "u4")
    path = written(tmp_path / "a.h5", frames, chunks=(2, 20, 52), **BSLZ4)
    for budget, count in ((0, "2"), (2**20, "1")):
        monkeypatch.setenv("AZIMUTHAL_THREADS", count)
        files = Hdf5Files(Patience(0.0), ahead_bytes=budget)
        before = set(threading.enumerate())
        assert_reads(files, path)
        assert count == "2" or set(threading.enumerate()) <= before
        files.close()


def test_hdf5_files_close_while_frames_are_read_ahead(tmp_path):
    frames = frames_of((30, 300, 400), "u4")
    path = written(tmp_path / "a.h5", frames, chunks=(1, 300, 400), **BSLZ4)
    for _ in range(5):
        files = Hdf5Files(Patience(0.0))
        for index in range(3):
            files.read(path, "data", index, 1)
        files.close()
        assert files.bytes_ahead == 0
        with h5py.File(path, "a"):
            pass  # nobody has it open any more
        age(path)
        assert np.array_equal(files.read(path, "data", 3, 1)[0], frames[3])  # opens it again
        files.close()


def test_hdf5_many_files_are_open_once_and_few_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(hdf5, "MOST_OPEN_FILES", 2)
    frames = frames_of((4, *SHAPE), "u4")
    paths = [written(tmp_path / f"{k}.h5", frames, chunks=(1, *SHAPE), **BSLZ4) for k in range(5)]
    files = Hdf5Files(Patience(0.0))
    for index in range(4):
        for path in paths:
            assert np.array_equal(files.read(path, "data", index, 1)[0], frames[index])
        for path in paths[:3]:
            with h5py.File(path, "r+"):
                pass
            age(path)
    files.close()


def test_hdf5_reading_from_the_engines_pool_does_not_wait_for_itself(tmp_path):
    frames = frames_of((12, *SHAPE), "u4")
    path = written(tmp_path / "a.h5", frames, chunks=(1, 10, 52), **BSLZ4)
    files = Hdf5Files(Patience(0.0))

    def read(start, stop):
        return files.read_stack(path, "data", start, stop)

    for _ in range(3):
        assert np.array_equal(np.concatenate(threads.run(read, [(k, k + 2) for k in range(0, 12, 2)])), frames)
    files.close()


def test_hdf5_frames_handed_out_keep_their_memory(tmp_path):
    frames = frames_of((30, *SHAPE), "u4")
    path = written(tmp_path / "a.h5", frames, chunks=(1, *SHAPE), **BSLZ4)
    files, kept = Hdf5Files(Patience(0.0)), []
    for index, frame in enumerate(files.frames(path, "data", 0, 30)):
        if index % 3 == 0:
            kept.append((index, frame[3:-2, 5:].T[::2]))
    files.close()
    for index, part in kept:
        assert np.array_equal(part, frames[index][3:-2, 5:].T[::2])


def test_hdf5_images_hold_nothing_and_read(files, tmp_path):
    frames = frames_of((6, *SHAPE), "u4")
    path = written(tmp_path / "a.h5", frames, chunks=(1, *SHAPE), **BSLZ4)
    found = [Hdf5Images(files, path, "data", index, 2) for index in range(3)]
    assert not any(images.nbytes_held for images in found)
    assert np.array_equal(np.concatenate([images.read() for images in found]), frames)


def test_hdf5_reasons_name_file_and_dataset(files, tmp_path):
    path = written(tmp_path / "a.h5", frames_of((2, *SHAPE), "u4"), chunks=(1, *SHAPE))
    for name, dataset, index, reason in (
        ("b.h5", "data", 0, "there is no such file"),
        ("a.h5", "other", 0, "has no dataset other"),
        ("a.h5", "data", 2, "data has 2 frames, number 2 is not there"),
    ):
        with pytest.raises(FramesUnavailable, match=f"{name}.*{reason}"):
            files.read(tmp_path / name, dataset, index, 1)
    (tmp_path / "c.h5").write_bytes(b"no HDF5" * 100)
    with pytest.raises(FramesUnavailable, match="c.h5 is no readable HDF5 file"):
        files.read(tmp_path / "c.h5", "data", 0, 1)
    assert np.array_equal(files.read(path, "data", 1, 1)[0], by_h5py(path)[1])


def test_ingest_reads_frames_in_order_and_takes_unwritten_ones_as_hdf5_does(tmp_path):
    frames = frames_of((5, *SHAPE), "i4")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        data = file.create_dataset("data", (5, *SHAPE), "i4", chunks=(1, *SHAPE), fillvalue=-3, **BSLZ4)
        data[:2], data[3:] = frames[:2], frames[3:]
    found = np.stack(list(hdf5_frames(tmp_path / "a.h5", "data")))
    assert np.array_equal(found, by_h5py(tmp_path / "a.h5"))
    assert (found[2] == -3).all()
    with pytest.raises(IngestError, match="cannot be read"):
        list(hdf5_frames(tmp_path / "a.h5", "other"))
    with pytest.raises(IngestError, match="cannot be read"):
        list(hdf5_frames(Path(tmp_path / "b.h5"), "data"))
