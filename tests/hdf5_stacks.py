"""HDF5 files of frames, in all the ways that they are stored, and h5py's own reading of them."""

import os

import h5py
import hdf5plugin
import numpy as np

from bluesky_powder.frames.chunks import Chunks

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
