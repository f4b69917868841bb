"""Frames out of HDF5 files of every layout, against h5py's own reading; files that grow, lack frames or are damaged."""

import contextlib
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from azimuthal import threads
from bluesky_powder.errors import FramesUnavailable, IngestError
from bluesky_powder.frames import Patience, hdf5
from bluesky_powder.frames.chunks import Buffers, ChunkDamaged, Chunks, Filters
from bluesky_powder.frames.chunks.reader import Part
from bluesky_powder.frames.hdf5 import FrameUnwritten, Hdf5Files, Hdf5Images
from bluesky_powder.ingest.hdf5 import hdf5_frames

SHAPE = (37, 52)
BSLZ4 = dict(hdf5plugin.Bitshuffle())
DIRECT = {
    "nothing": {},
    "bitshuffle-lz4": BSLZ4,
    "bitshuffle-lz4 in blocks of 64": dict(hdf5plugin.Bitshuffle(nelems=64)),
    "bitshuffle-lz4 in blocks of 520": dict(hdf5plugin.Bitshuffle(nelems=520)),
    "bitshuffle-lz4 in one block": dict(hdf5plugin.Bitshuffle(nelems=8192)),
    "lz4": dict(hdf5plugin.LZ4()),
    "lz4 in blocks": dict(hdf5plugin.LZ4(nbytes=1000)),
    "shuffle and lz4": {"shuffle": True, **hdf5plugin.LZ4()},
    "gzip": {"compression": "gzip"},
    "shuffle and gzip": {"compression": "gzip", "shuffle": True},
    "shuffle": {"shuffle": True},
}
BY_HDF5 = {
    "checksums": {"fletcher32": True},
    "gzip and checksums": {"compression": "gzip", "fletcher32": True},
    "lzf": {"compression": "lzf"},
    "bitshuffle-zstd": dict(hdf5plugin.Bitshuffle(cname="zstd")),
    "bitshuffle alone": dict(hdf5plugin.Bitshuffle(cname="none")),
    "zstd": dict(hdf5plugin.Zstd()),
    "blosc": dict(hdf5plugin.Blosc()),
}
DTYPES = ("u1", "u2", "u4", "u8", "i2", "i4", "f4", "f8", ">u2", ">i4", ">f8", "?")
CHUNKS = ((1, 37, 52), (3, 37, 52), (1, 37, 20), (1, 10, 52), (2, 16, 16), (1, 1, 52), (8, 37, 52), (1, 64, 64))


def frames_of(shape, dtype, seed=1):
    """Return frames with counts, gaps of the highest value, empty stretches and noise, each another one."""
    rng = np.random.default_rng(seed)
    values = rng.poisson(np.linspace(0, 300, shape[-1]) ** 0.8, shape).astype(np.float64)
    values[..., : shape[-1] // 4] = 0
    if np.dtype(dtype).kind == "f":
        return (values * rng.normal(1.0, 0.1, shape)).astype(dtype)
    if dtype == "?":
        return values > 50
    top = np.iinfo(np.dtype(dtype)).max
    counts = np.minimum(values, float(min(top, 2**31))).astype(np.uint64)
    counts[..., -3:] = top
    return counts.astype(dtype)


def age(path):
    """Make a file look as if it had been finished long ago."""
    os.utime(path, (1e9, 1e9))
    return path


def written(path, frames, *, settled=True, libver="latest", **keywords):
    with h5py.File(path, "w", libver=libver) as file:
        file.create_dataset("data", data=frames, **keywords)
    return age(path) if settled else path


def by_h5py(path):
    with h5py.File(path, "r") as file:
        return file["data"][()]


def is_direct(path):
    with h5py.File(path, "r") as file:
        return Chunks.of(file["data"]) is not None


@pytest.fixture
def files():
    files = Hdf5Files(Patience(0.0))
    yield files
    files.close()
    assert files.bytes_ahead == 0


def assert_reads(files, path, count=1):
    """Hold every way of reading against h5py's, bit for bit."""
    truth = by_h5py(path)
    events = len(truth) // count if truth.ndim == 3 else len(truth)
    each = truth.reshape(events, count, *truth.shape[-2:])
    mixed = [*range(events), *range(events - 1, -1, -1), *range(0, events, 2), 0, 0]
    for index in mixed:
        images = files.read(path, "data", index, count)
        assert images.dtype == truth.dtype
        assert images.shape == each[index].shape
        assert images.tobytes() == each[index].tobytes()
    for size in (1, 2, 3, events):
        for start in range(0, events - size + 1, size):
            stack = files.read_stack(path, "data", start, start + size, count)
            assert stack.dtype == truth.dtype
            assert stack.tobytes() == each[start : start + size].tobytes()
            assert stack.shape == (size * count, *truth.shape[-2:])


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


def repeating(period, nbytes, seed):
    """Return bytes with stretches that repeat after `period`, of many lengths, between random ones."""
    rng = np.random.default_rng(seed)
    parts, size = [], 0
    while size < nbytes:
        stretch = np.resize(rng.integers(0, 256, period, np.uint8), rng.integers(1, 700))
        parts += [stretch, rng.integers(0, 256, rng.integers(0, 40), np.uint8)]
        size += parts[-1].size + parts[-2].size
    return np.concatenate(parts)[:nbytes]


@pytest.mark.parametrize("period", [*range(1, 36), 63, 64, 65, 255, 300])
def test_hdf5_lz4_repeats_at_any_distance(files, tmp_path, period):
    frames = np.stack([repeating(period, 64 * 64, seed).reshape(64, 64) for seed in range(3)])
    for name in ("lz4", "lz4 in blocks", "bitshuffle-lz4"):
        path = written(tmp_path / f"{name}.h5", frames, chunks=(1, 64, 64), **DIRECT[name])
        assert files.read_stack(path, "data", 0, 3).tobytes() == frames.tobytes()


@pytest.fixture(scope="module")
def chunk_of(tmp_path_factory):
    """Return a function that gives the filters, the bytes in the file and the frame, for a kind of filters."""
    folder = tmp_path_factory.mktemp("chunks")

    def chunk(name, dtype="u4"):
        frame = frames_of((1, *SHAPE), dtype)
        with h5py.File(folder / "a.h5", "w") as file:
            data = file.create_dataset("data", data=frame, chunks=(1, *SHAPE), **DIRECT[name])
            file.flush()
            return Filters.of(data), *data.id.read_direct_chunk((0, 0, 0)), frame

    return chunk


def decoded(filters, mask, raw, nbytes):
    """Decode between two guards, which have to stay."""
    room = np.full(nbytes + 128, 0xA5, np.uint8)
    try:
        filters.decode(raw, mask, room[64:-64])
    finally:
        assert (room[:64] == 0xA5).all()
        assert (room[-64:] == 0xA5).all()
    return room[64:-64].tobytes()


@pytest.mark.parametrize("name", [name for name in DIRECT if name != "nothing"])
def test_hdf5_chunks_cut_off_or_damaged_never_pass_for_frames_nor_touch_other_memory(chunk_of, name):
    filters, mask, raw, frame = chunk_of(name)
    nbytes = frame.nbytes
    assert decoded(filters, mask, raw, nbytes) == frame.tobytes()
    for length in {*range(0, 40), *range(40, len(raw), 97), len(raw) - 1}:
        with pytest.raises(ChunkDamaged):
            decoded(filters, mask, raw[:length], nbytes)
    rng = np.random.default_rng(2)
    for _ in range(300):
        changed = np.frombuffer(raw, np.uint8).copy()
        at = rng.integers(0, len(raw), rng.integers(1, 4))
        changed[at] = rng.integers(0, 256, at.size)
        with contextlib.suppress(ChunkDamaged):
            decoded(filters, mask, changed.tobytes(), nbytes)
        with pytest.raises(ChunkDamaged):
            decoded(filters, mask, rng.bytes(200), nbytes)


@pytest.mark.parametrize("name", ["bitshuffle-lz4", "lz4", "gzip"])
def test_hdf5_compressed_chunks_whose_end_is_zeros_are_found_out(chunk_of, name):
    """As a file reads that ends within a chunk; the last bytes, which LZ4 keeps as they are, alone can pass."""
    filters, mask, raw, frame = chunk_of(name)
    for missing in range(100, len(raw) - 20, 61):
        with pytest.raises(ChunkDamaged):
            decoded(filters, mask, raw[:-missing] + bytes(missing), frame.nbytes)


def test_hdf5_blocks_that_do_not_fit_are_damage(chunk_of):
    filters, mask, raw, frame = chunk_of("bitshuffle-lz4")
    for block in (4, 36, 2**32 - 1):
        with pytest.raises(ChunkDamaged):
            decoded(filters, mask, raw[:8] + block.to_bytes(4, "big") + raw[12:], frame.nbytes)
    with pytest.raises(ChunkDamaged, match="bytes in place of"):
        decoded(filters, mask, raw, frame.nbytes - 4)
    filters, mask, raw, frame = chunk_of("lz4")
    with pytest.raises(ChunkDamaged, match="no bytes"):
        decoded(filters, mask, raw[:8] + bytes(4) + raw[12:], frame.nbytes)


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
                import zlib

                data.id.write_direct_chunk((2, 0, 0), zlib.compress(frames[3].tobytes()), filter_mask=1)
                shuffled = frames[0].reshape(-1).view(np.uint8).reshape(-1, 4).T.tobytes()
                data.id.write_direct_chunk((3, 0, 0), shuffled, filter_mask=2)
        truth = by_h5py(path)
        assert np.array_equal(truth[1], frames[4])
        assert_reads(files, age(path))


def test_hdf5_chunks_as_detectors_write_them_are_read(files, tmp_path, chunk_of):
    """Without values for the filter beside those that HDF5 adds; the chunk tells its block itself."""
    _, _, raw, frame = chunk_of("bitshuffle-lz4 in blocks of 64")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        data = file.create_dataset(
            "data", (2, *SHAPE), "u4", chunks=(1, *SHAPE), compression=32008, compression_opts=(0, 2)
        )
        data.id.write_direct_chunk((0, 0, 0), raw)
        data.id.write_direct_chunk((1, 0, 0), raw + b"padded")
    assert is_direct(tmp_path / "a.h5")
    for index in range(2):
        assert np.array_equal(files.read(age(tmp_path / "a.h5"), "data", index, 1), frame)


@pytest.mark.parametrize("name", ["lz4", "bitshuffle-lz4", "gzip"])
@pytest.mark.parametrize("settled", [True, False], ids=["finished", "fresh"])
def test_hdf5_half_written_chunk_is_told_and_waited_for(tmp_path, name, settled):
    """As with a writer whose file system brings the end of a chunk later than its beginning."""
    frames = frames_of((3, *SHAPE), "u4")
    path = written(tmp_path / "a.h5", frames, chunks=(1, *SHAPE), **DIRECT[name])
    with h5py.File(path, "r") as file:
        raw = file["data"].id.read_direct_chunk((1, 0, 0))[1]
    with h5py.File(path, "r+") as file:
        file["data"].id.write_direct_chunk((1, 0, 0), raw[: len(raw) // 2])
    if settled:
        age(path)
    files = Hdf5Files(Patience(0.0))
    assert np.array_equal(files.read(path, "data", 0, 1)[0], frames[0])
    with pytest.raises(FramesUnavailable, match="frame 1 of /data is damaged"):
        files.read(path, "data", 1, 1)
    with pytest.raises(FramesUnavailable, match="frame 0 of /data is damaged"):
        files.read_stack(path, "data", 0, 3)
    files.close()
    patient = Hdf5Files(Patience(30.0))
    patient.read(path, "data", 0, 1)

    def complete():
        with h5py.File(tmp_path / "b.h5", "w") as file:
            file.create_dataset("data", data=frames, chunks=(1, *SHAPE), **DIRECT[name])
        path.write_bytes((tmp_path / "b.h5").read_bytes())

    timer = threading.Timer(0.1, complete)
    timer.start()
    assert np.array_equal(patient.read(path, "data", 1, 1)[0], frames[1])
    timer.join()
    patient.close()


@pytest.mark.parametrize("name", ["nothing", "bitshuffle-lz4", "gzip"])
def test_hdf5_file_cut_short_gives_frames_or_reasons_but_no_garbage(tmp_path, name):
    """A writer that crashed, or a copy that is not complete."""
    frames = frames_of((4, *SHAPE), "u4") + np.uint32(1)
    with h5py.File(tmp_path / "a.h5", "w", libver="latest") as file:
        data = file.create_dataset(
            "data", (0, *SHAPE), "u4", chunks=(1, *SHAPE), maxshape=(None, *SHAPE), **DIRECT[name]
        )
        file.swmr_mode = True
        for n, frame in enumerate(frames):
            data.resize(n + 1, axis=0)
            data[n] = frame
            data.flush()
        raw = (tmp_path / "a.h5").read_bytes()
        last, before = (data.id.get_chunk_info(k).size for k in (3, 2))
    told = []
    for cut in (0, 1, 2, 3, 5, 20, 100, 1000, last, last + 1, last + before // 2):
        path = tmp_path / f"{cut}.h5"
        path.write_bytes(raw[: len(raw) - cut])
        files = Hdf5Files(Patience(0.0))
        for index in range(4):
            try:
                assert np.array_equal(files.read(path, "data", index, 1)[0], frames[index])
            except FramesUnavailable:
                told.append((cut, index))
        files.close()
    cuts = [(cut, 3) for cut in (1, 2, 3, 5, 20, 100, 1000, last)]
    assert told == [*cuts, (last + 1, 2), (last + 1, 3), (last + before // 2, 2), (last + before // 2, 3)]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("block", [b"EADB", b"EAIB", b"EAHD", b"OHDR"])
def test_hdf5_damaged_index_ends_in_a_reason_soon(files, tmp_path, block):
    """HDF5 itself would wait for a writer to put it right, in effect for ever, and let nothing else use HDF5."""
    frames = frames_of((40, *SHAPE), "u4")
    with h5py.File(tmp_path / "a.h5", "w", libver="latest") as file:
        data = file.create_dataset("data", (0, *SHAPE), "u4", chunks=(1, *SHAPE), maxshape=(None, *SHAPE), **BSLZ4)
        file.swmr_mode = True
        for n, frame in enumerate(frames):
            data.resize(n + 1, axis=0)
            data[n] = frame
            data.flush()
        raw = bytearray((tmp_path / "a.h5").read_bytes())
    raw[raw.rindex(block) + 20] ^= 0xFF
    (tmp_path / "b.h5").write_bytes(raw)
    with pytest.raises(FramesUnavailable, match=r"b\.h5.*(checksum|has no dataset)"):
        files.read(tmp_path / "b.h5", "data", 39, 1)


def test_hdf5_finished_file_that_is_too_short_is_refused(files, tmp_path):
    path = written(tmp_path / "a.h5", frames_of((4, *SHAPE), "u4"), chunks=(1, *SHAPE))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(FramesUnavailable, match="is truncated"):
        files.read(age(path), "data", 0, 1)


@pytest.mark.parametrize("settled", [True, False], ids=["finished", "fresh"])
def test_hdf5_frames_never_written_are_told_in_any_file(files, tmp_path, settled):
    frames = frames_of((6, *SHAPE), "u4")
    for name, chunks in (("one", (1, *SHAPE)), ("parts", (1, 10, 52)), ("deep", (2, *SHAPE))):
        path = tmp_path / f"{name}.h5"
        with h5py.File(path, "w") as file:
            data = file.create_dataset("data", (6, *SHAPE), "u4", chunks=chunks, **BSLZ4)
            data[:2] = frames[:2]
            data[4:] = frames[4:]
        if settled:
            age(path)
        for index in (0, 1, 4, 5):
            assert np.array_equal(files.read(path, "data", index, 1)[0], frames[index])
        for index in (2, 3):
            with pytest.raises(FrameUnwritten, match=f"frame {index} of /data was announced but is not written"):
                files.read(path, "data", index, 1)
        with pytest.raises(FrameUnwritten, match="frame 2 of"):
            files.read_stack(path, "data", 0, 6)


def test_hdf5_missing_parts_of_a_frame_are_fill_only_where_nobody_writes_any_more(tmp_path):
    frame = frames_of((1, *SHAPE), "u4")
    for settled in (True, False):
        path = tmp_path / f"{settled}.h5"
        with h5py.File(path, "w") as file:
            data = file.create_dataset("data", (1, *SHAPE), "u4", chunks=(1, 10, 52), fillvalue=7, **BSLZ4)
            data[0, :20] = frame[0, :20]
        files = Hdf5Files(Patience(0.0))
        if settled:
            assert np.array_equal(files.read(age(path), "data", 0, 1), by_h5py(path))
        else:
            with pytest.raises(FrameUnwritten):
                files.read(path, "data", 0, 1)
        files.close()


WRITER = """
    import sys, time
    import h5py, hdf5plugin
    import numpy as np

    path, kind, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    shape = (40, 50)

    def frame(n):
        return (np.arange(2000, dtype="u4").reshape(shape) * (n + 1)) % 1009 + 1

    with h5py.File(path + ".all", "w") as file:
        whole = np.stack([frame(n) for n in range(count)])
        packed = file.create_dataset("data", data=whole, chunks=(1, *shape), **hdf5plugin.Bitshuffle())
        file.flush()
        chunks = [packed.id.read_direct_chunk((n, 0, 0))[1] for n in range(count)]
    with h5py.File(path, "w", libver="latest") as file:
        data = file.create_dataset(
            "data", (0, *shape), "u4", maxshape=(None, *shape),
            chunks=(4 if kind == "deep" else 1, *shape), **hdf5plugin.Bitshuffle(),
        )
        file.swmr_mode = True
        for n in range(count):
            if kind == "announced":
                data.resize(min(count, n - n % 10 + 10), axis=0)
                data.flush()
                time.sleep(0.004)
            else:
                data.resize(n + 1, axis=0)
            if kind == "direct":
                data.id.write_direct_chunk((n, 0, 0), chunks[n])
            else:
                data[n] = frame(n)
            data.flush()
            print(n, flush=True)
            time.sleep(0.002)
"""


def writer(*arguments, text=WRITER):
    command = [sys.executable, "-c", textwrap.dedent(text), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("kind", ["filtered", "direct", "announced", "deep"])
def test_hdf5_file_that_another_process_is_writing_is_read_as_it_grows(tmp_path, kind):
    """By two readers at once, in step with the writer and as fast as possible."""
    path, count = tmp_path / "live.h5", 60
    truth = (np.arange(2000, dtype="u4").reshape(1, 40, 50) * np.arange(1, count + 1)[:, None, None]) % 1009 + 1
    both = [Hdf5Files(Patience(60.0)), Hdf5Files(Patience(60.0))]
    wrong = []

    def follow(process):
        for line in process.stdout:
            n = int(line)
            if not np.array_equal(both[0].read(path, "data", n, 1)[0], truth[n]):
                wrong.append(n)

    with writer(path, kind, count) as process:
        follower = threading.Thread(target=follow, args=(process,))
        follower.start()
        if kind != "deep":  # rows of a chunk that is there may be unwritten: only those that were told can be asked for
            for n in range(count):
                assert np.array_equal(both[1].read(path, "data", n, 1)[0], truth[n])
        follower.join()
    assert not wrong
    for files in both:
        assert np.array_equal(files.read_stack(path, "data", 0, count), truth)
        files.close()


def test_hdf5_dataset_open_twice_in_a_process_keeps_its_frames_apart(tmp_path):
    """HDF5 mixes up the chunks of a dataset that is refreshed while it is open twice."""
    frames = frames_of((6, *SHAPE), "u4")
    path = written(
        tmp_path / "a.h5", frames, settled=False, chunks=(1, *SHAPE), maxshape=(None, *SHAPE), **DIRECT["gzip"]
    )
    one, other = Hdf5Files(Patience(0.0)), Hdf5Files(Patience(0.0))
    with h5py.File(path, "r", libver="latest", swmr=True) as file:
        mine = file["data"]
        for index in (0, 1, 2, 4, 3, 5):
            for files in (one, other, one):
                assert np.array_equal(files.read(path, "data", index, 1)[0], frames[index])
            assert np.array_equal(mine[index], frames[index])
        with pytest.raises(
            FramesUnavailable, match="has 6 frames, number 6 is not there; it is open elsewhere in this"
        ):
            one.read(path, "data", 6, 1)
    one.close()
    assert np.array_equal(other.read(path, "data", 5, 1)[0], frames[5])
    other.close()


CHANGER = """
    import sys
    import h5py, hdf5plugin

    with h5py.File(sys.argv[1], "r+", libver="latest", locking=False) as file:
        file["data"][2] = file["data"][0]
"""


@pytest.mark.parametrize("settled", [True, False], ids=["finished", "fresh"])
def test_hdf5_frame_that_is_written_again_after_it_was_read_ahead_is_the_new_one(files, tmp_path, settled):
    frames = frames_of((6, *SHAPE), "u4")
    for name in ("nothing", "bitshuffle-lz4"):
        path = written(tmp_path / f"{name}.h5", frames, settled=settled, chunks=(1, *SHAPE), **DIRECT[name])
        for index in range(2):
            files.read(path, "data", index, 1)
        with writer(path, text=CHANGER):
            pass
        assert np.array_equal(files.read(path, "data", 2, 1)[0], frames[0])
        assert np.array_equal(files.read(path, "data", 3, 1)[0], frames[3])


@pytest.mark.parametrize("settled", [True, False], ids=["finished", "fresh"])
def test_hdf5_another_file_under_the_same_name_is_the_one_that_is_read(files, tmp_path, settled):
    frames = frames_of((8, *SHAPE), "u4")
    path = written(tmp_path / "a.h5", frames[:4], settled=settled, chunks=(1, *SHAPE), **BSLZ4)
    for index in range(2):
        assert np.array_equal(files.read(path, "data", index, 1)[0], frames[index])
    written(tmp_path / "b.h5", frames[4:], settled=settled, chunks=(1, *SHAPE), **BSLZ4)
    os.replace(tmp_path / "b.h5", path)
    for index in (2, 3, 0):
        assert np.array_equal(files.read(path, "data", index, 1)[0], frames[index + 4])
    path.unlink()
    assert np.array_equal(files.read(path, "data", 1, 1)[0], frames[5])  # it is still open
    with pytest.raises(FramesUnavailable):
        files.read(path, "data", 4, 1)
    with pytest.raises(FramesUnavailable, match="there is no such file"):
        files.read(path, "data", 1, 1)


def test_hdf5_finished_file_that_is_overwritten_is_read_anew(files, tmp_path):
    frames = frames_of((8, *SHAPE), "u4")
    path = written(tmp_path / "a.h5", frames[:4], chunks=(1, *SHAPE), **BSLZ4)
    for index in range(2):
        files.read(path, "data", index, 1)
    other = written(tmp_path / "b.h5", frames[4:], chunks=(1, *SHAPE))
    path.write_bytes(other.read_bytes())
    for index in (2, 3):
        assert np.array_equal(files.read(path, "data", index, 1)[0], frames[index + 4])


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
        before = threading.active_count()
        assert_reads(files, path)
        assert count == "2" or threading.active_count() == before
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


def test_buffers_use_memory_again_once_nobody_has_it():
    buffers = Buffers(10_000)
    one = buffers.empty((10, 50), np.dtype("u4"))
    where = one.ctypes.data
    view = one[2:, 3:].view("i4").T
    del one
    other = buffers.empty((10, 50), np.dtype("u4"))
    assert other.ctypes.data != where
    del view
    assert buffers.empty((500,), np.dtype("f4")).ctypes.data == where


def test_buffers_keep_little():
    buffers = Buffers(10_000)
    held = [buffers.empty((1000,), np.dtype("u1")) for _ in range(30)]
    assert buffers.nbytes == 30_000
    del held
    for size in (2000, 3000, 40_000):
        buffers.empty((size,), np.dtype("u1"))
        assert buffers.nbytes <= max(10_000, size)
    buffers.clear()
    assert buffers.nbytes == 0


def test_hdf5_parts_of_a_stack_cover_it_once(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        data = file.create_dataset("data", (7, 5, 9), "u2", chunks=(2, 2, 4), compression="gzip")
        chunks = Chunks.of(data)
        assert chunks.span(1, 2) == (0, 2)
        assert chunks.span(3, 7) == (2, 8)
        covered = np.zeros((6, 5, 9), int)
        parts = list(chunks.parts(2, 8))
        for part in parts:
            covered[part.where] += 1
        assert (covered == 1).all()
        assert parts[0] == Part((2, 0, 0), (slice(0, 2), slice(0, 2), slice(0, 4)))
        assert parts[-1] == Part((6, 4, 8), (slice(4, 6), slice(4, 5), slice(8, 9)))


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
