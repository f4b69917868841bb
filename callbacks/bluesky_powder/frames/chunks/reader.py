"""The chunks of one dataset: where each goes in an array of rows, and reading it there."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

import h5py
import numpy as np
from h5py._objects import phil
from numpy.typing import NDArray

from bluesky_powder.frames.chunks.buffers import Buffers
from bluesky_powder.frames.chunks.filters import ChunkDamaged, Filters

Raw = tuple[int, bytes]
"""A chunk's filter mask, and what is in the file."""
MOST_BYTES = 2**28
"""Rows that share chunks and occupy more than this are left to HDF5."""


class ChunkMissing(LookupError):  # noqa: N818 - said of the chunk
    """A chunk that was never written."""


@dataclass(frozen=True, slots=True)
class Part:
    """One chunk of an array of rows.

    Attributes
    ----------
    offset
        Of the chunk in the dataset.
    where
        The part of the array that it fills.
    """

    offset: tuple[int, ...]
    where: tuple[slice, ...]


class Chunks:
    """The chunks of a dataset (n, ...), in rows: along its first axis.

    Parameters
    ----------
    dataset
        Open.
    filters
        That its chunks went through.
    """

    def __init__(self, dataset: h5py.Dataset, filters: Filters) -> None:
        self.filters = filters
        self.fill = dataset.fillvalue
        self._dataset = dataset
        self._dtype: np.dtype[Any] = dataset.dtype
        self._within: tuple[int, ...] = dataset.shape[1:]
        self._chunk: tuple[int, ...] = dataset.chunks

    @classmethod
    def of(cls, dataset: h5py.Dataset) -> "Chunks | None":
        """Return the chunks of a dataset; None where HDF5 has to read it."""
        if dataset.chunks is None or dataset.is_virtual or dataset.ndim < 3 or dataset.dtype.kind not in "buif":
            return None
        deep, within = dataset.chunks[0], prod(dataset.shape[1:]) * dataset.dtype.itemsize
        if within == 0 or max(deep * within, prod(dataset.chunks) * dataset.dtype.itemsize) > MOST_BYTES:
            return None
        filters = Filters.of(dataset)
        # HDF5 itself takes single rows out of deep chunks where nothing has to be undone.
        return None if filters is None or (deep > 1 and not filters.any) else cls(dataset, filters)

    def span(self, first: int, stop: int) -> tuple[int, int]:
        """Return the rows, first to stop, that have to be read for those asked for: whole chunks."""
        deep = self._chunk[0]
        return first - first % deep, stop + -stop % deep

    def nbytes(self, first: int, stop: int) -> int:
        """Return what rows occupy."""
        return (stop - first) * prod(self._within) * self._dtype.itemsize

    def empty(self, first: int, stop: int, buffers: Buffers) -> NDArray[Any]:
        """Return an array for rows."""
        return buffers.empty((stop - first, *self._within), self._dtype)

    def parts(self, first: int, stop: int) -> Iterator[Part]:
        """Yield the chunks of rows; `first` and `stop` as `span` returns them."""
        starts = [range(0, size, step) for size, step in zip(self._within, self._chunk[1:], strict=True)]
        deep = self._chunk[0]
        for row in range(first, stop, deep):
            for start in product(*starts):
                inside = zip(start, self._chunk[1:], self._within, strict=True)
                where = (slice(at, min(at + step, size)) for at, step, size in inside)
                yield Part((row, *start), (slice(row - first, row - first + deep), *where))

    def read(self, part: Part, out: NDArray[Any], known: Raw | None = None) -> Raw | None:
        """Read and decode a chunk.

        Parameters
        ----------
        part
            Which.
        out
            The array of rows.
        known
            What was in the file when it was last decoded into `out`; nothing is decoded where that is still so.

        Returns
        -------
        int, bytes
            What is in the file, `known` where that is it; None where it was read right into `out`.

        Raises
        ------
        ChunkMissing
            If it was never written.
        ChunkDamaged
            If it is in the file, but not right.
        """
        target = out[part.where]
        in_place = target.shape == self._chunk and target.flags.c_contiguous
        if in_place and not self.filters.any:
            self._fetch(part, _flat(target).data)
            return None
        raw = self._fetch(part, None)
        if raw == known:
            return known
        if in_place:
            self.filters.decode(raw[1], raw[0], _flat(target))
        else:
            whole = np.empty(self._chunk, self._dtype)
            self.filters.decode(raw[1], raw[0], _flat(whole))
            target[...] = whole[tuple(slice(size) for size in target.shape)]
        return raw

    def check_whole(self, part: Part) -> None:
        """Make sure that a chunk does not end beyond its file, where bytes that are missing are read as zeros.

        Raises
        ------
        ChunkDamaged
            If it does.
        """
        with phil:
            info = self._dataset.id.get_chunk_info_by_coord(part.offset)
            size = os.fstat(self._dataset.file.id.get_vfd_handle()).st_size
        if info.byte_offset is None or info.byte_offset + info.size > size:
            raise ChunkDamaged("the file ends before its end")

    def _fetch(self, part: Part, into: memoryview | None) -> Raw:
        with phil:  # older versions of h5py do not take it here themselves
            try:
                mask, data = self._dataset.id.read_direct_chunk(part.offset, out=into)
            except Exception as error:
                if self._dataset.id.get_chunk_info_by_coord(part.offset).byte_offset is None:
                    raise ChunkMissing(part.offset) from None
                raise ChunkDamaged(str(error)) from error
        if into is not None and len(data) != len(into):
            raise ChunkDamaged(f"it has {len(data)} bytes in place of {len(into)}")
        return mask, data


def _flat(array: NDArray[Any]) -> NDArray[np.uint8]:
    return array.reshape(-1).view(np.uint8)


def ends_in_zero(raw: Raw | None, part: Part, out: NDArray[Any]) -> bool:
    """Tell whether the last byte of a chunk is 0, as it is wherever a file ends too early."""
    if raw is not None:
        return raw[1][-1:] in (b"", b"\0")
    return not _flat(out[part.where])[-1]


__all__: Sequence[str] = ("ChunkDamaged", "ChunkMissing", "Chunks", "Part", "Raw", "ends_in_zero")
