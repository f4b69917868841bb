"""Chunks as they lie in HDF5 files, decoded by our own kernels: in any number of threads, outside HDF5's lock."""

from bluesky_powder.frames.chunks.ahead import Budget, ReadAhead
from bluesky_powder.frames.chunks.buffers import Buffers
from bluesky_powder.frames.chunks.filters import ChunkDamaged, Filters
from bluesky_powder.frames.chunks.reader import ChunkMissing, Chunks

__all__ = ["Budget", "Buffers", "ChunkDamaged", "ChunkMissing", "Chunks", "Filters", "ReadAhead"]
