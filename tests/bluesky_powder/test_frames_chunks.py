"""Chunks and their filters: every pattern, every kind of damage, and the memory that they are decoded into."""

import contextlib

import h5py
import numpy as np
import pytest

from bluesky_powder.frames import Patience
from bluesky_powder.frames.chunks import Buffers, ChunkDamaged, Chunks, Filters
from bluesky_powder.frames.chunks.reader import Part
from bluesky_powder.frames.files.hdf5 import Hdf5Files
from hdf5_stacks import (
    DIRECT,
    SHAPE,
    age,
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
