"""The filters that a dataset's chunks went through, undone."""

import zlib
from dataclasses import dataclass
from typing import Any, Literal

import h5py
import numpy as np
from numpy.typing import NDArray

from bluesky_powder.frames.chunks import lz4, shuffle

Compression = Literal["none", "gzip", "lz4", "bitshuffle-lz4"]

GZIP, SHUFFLE, LZ4, BITSHUFFLE = 1, 2, 32004, 32008
_SIZES = (1, 2, 4, 8)
_BITSHUFFLE_IS_LZ4 = 2
_LEAST_BLOCK = 128


class ChunkDamaged(ValueError):  # noqa: N818 - said of the chunk
    """A chunk that is not what its filters make: cut off, half written, or written by something else."""


@dataclass(frozen=True, slots=True)
class Filters:
    """What the chunks of one dataset went through.

    Attributes
    ----------
    shuffle
        Number of the filter that shuffled their bytes; None where none did.
    compression
        What compressed them.
    number
        Of that filter; None where there is none.
    itemsize
        Bytes of an element.
    """

    shuffle: int | None
    compression: Compression
    number: int | None
    itemsize: int

    @classmethod
    def of(cls, dataset: h5py.Dataset) -> "Filters | None":
        """Return the filters of a chunked dataset; None where only HDF5 itself can undo them, or convert its type."""
        size = dataset.dtype.itemsize
        if size not in _SIZES or not _as_in_memory(dataset):
            return None
        properties = dataset.id.get_create_plist()
        listed = [properties.get_filter(number) for number in range(properties.get_nfilters())]
        shuffled = 0 if listed and listed[0][0] == SHUFFLE else None
        if shuffled == 0 and tuple(listed[0][2][:1]) != (size,):
            return None
        rest = listed[1:] if shuffled == 0 else listed
        if not rest:
            return cls(shuffled, "none", None, size)
        compression = _compression(rest[0][0], rest[0][2], size)
        if len(rest) > 1 or compression is None:
            return None
        return cls(shuffled, compression, 1 if shuffled == 0 else 0, size)

    @property
    def any(self) -> bool:
        """Whether there is anything to undo."""
        return self.shuffle is not None or self.number is not None

    def decode(self, chunk: bytes, mask: int, out: NDArray[np.uint8]) -> None:
        """Undo the filters.

        Parameters
        ----------
        chunk
            As in the file.
        mask
            The chunk's filter mask: a bit that is set says that this filter was left out.
        out
            Contiguous, flat; all of it is written.

        Raises
        ------
        ChunkDamaged
            If the chunk does not give just what `out` holds. What is in `out` then is undefined.
        """
        compression = self._compressed(mask)
        if not self._shuffled(mask):
            _decompress(compression, chunk, out, self.itemsize)
            return
        rows = np.frombuffer(chunk, np.uint8)
        if compression != "none":
            rows = np.empty_like(out)
            _decompress(compression, chunk, rows, self.itemsize)
        _check_size(rows.nbytes, out.nbytes)
        count = out.nbytes // self.itemsize
        shuffle.weave(_address(rows), count, count, self.itemsize, _address(out))

    def _shuffled(self, mask: int) -> bool:
        return self.shuffle is not None and not mask >> self.shuffle & 1

    def _compressed(self, mask: int) -> Compression:
        return "none" if self.number is None or mask >> self.number & 1 else self.compression


def _as_in_memory(dataset: h5py.Dataset) -> bool:
    """Tell whether the bytes in the file are those that h5py would return: no conversion, no padding."""
    return bool(dataset.id.get_type().equal(h5py.h5t.py_create(dataset.dtype, logical=True)))


def _compression(code: int, values: tuple[int, ...], size: int) -> Compression | None:
    if code == GZIP:
        return "gzip"
    if code == LZ4:
        return "lz4"
    # Its values: version (2), bytes of an element, elements of a block, what compresses them.
    if code == BITSHUFFLE and len(values) > 4 and values[2] == size and values[4] == _BITSHUFFLE_IS_LZ4:
        return "bitshuffle-lz4"
    return None


def _decompress(compression: Compression, chunk: bytes, out: NDArray[np.uint8], size: int) -> None:
    if compression == "none":
        _check_size(len(chunk), out.nbytes)
        out[:] = np.frombuffer(chunk, np.uint8)
    elif compression == "gzip":
        _gunzip(chunk, out)
    elif compression == "lz4":
        _decode_lz4(chunk, out)
    else:
        _decode_bitshuffle(chunk, out, size)


def _gunzip(chunk: bytes, out: NDArray[np.uint8]) -> None:
    decoder = zlib.decompressobj()
    try:
        data = decoder.decompress(chunk, out.nbytes + 1)
    except zlib.error as error:
        raise ChunkDamaged(f"it is damaged: {error}") from error
    if not decoder.eof:
        raise ChunkDamaged("it is cut off")
    _check_size(len(data), out.nbytes)
    out[:] = np.frombuffer(data, np.uint8)


def _decode_lz4(chunk: bytes, out: NDArray[np.uint8]) -> None:
    block = _block_bytes(chunk, out.nbytes)
    if block == 0:
        raise ChunkDamaged("its blocks have no bytes")
    source = np.frombuffer(chunk, np.uint8)
    if lz4.decode_blocks(_address(source), len(chunk), _address(out), out.nbytes, block) == lz4.DAMAGED:
        raise ChunkDamaged("its LZ4 blocks are damaged or cut off")


def _decode_bitshuffle(chunk: bytes, out: NDArray[np.uint8], size: int) -> None:
    count = out.nbytes // size
    # What is written in the chunk counts, as for HDF5's own filter, not what the dataset says of its filter.
    block = _block_bytes(chunk, out.nbytes) // size or max(8192 // size // 8 * 8, _LEAST_BLOCK)
    if block % 8:
        raise ChunkDamaged(f"its blocks have {block} elements, not a multiple of 8")
    block = min(block, count - count % 8)
    scratch = np.empty(lz4.scratch_bytes(block, size), np.uint8)
    source = np.frombuffer(chunk, np.uint8)
    done = lz4.decode_shuffled_blocks(
        _address(source), len(chunk), _address(out), count, size, block, _address(scratch)
    )
    if done == lz4.DAMAGED:
        raise ChunkDamaged("its blocks of bitshuffle-LZ4 are damaged or cut off")


def _block_bytes(chunk: bytes, nbytes: int) -> int:
    """Return the bytes of a block, as the header says, after a look at the chunk's size in it."""
    if len(chunk) < lz4.HEADER:
        raise ChunkDamaged("it is cut off")
    _check_size(int.from_bytes(chunk[:8], "big"), nbytes)
    return int.from_bytes(chunk[8 : lz4.HEADER], "big")


def _check_size(found: int, wanted: int) -> None:
    if found != wanted:
        raise ChunkDamaged(f"it has {found} bytes in place of {wanted}")


def _address(array: NDArray[Any]) -> int:
    return int(array.ctypes.data)
