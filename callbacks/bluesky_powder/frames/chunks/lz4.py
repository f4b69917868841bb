"""LZ4 in HDF5 chunks: blocks (32004), and blocks of shuffled bits (32008).

Written here because no library does both at once: blocks go through the first cache and each byte of a frame is written
once, and whatever the bytes are, nothing outside of source and target is read or written. An Eiger2 4M frame takes
2.4 ms of processor time; the bitshuffle package takes 4.7, hdf5plugin's code 5.2, imagecodecs in two passes 8.0.
"""

import numpy as np
from numba import njit

from bluesky_powder.frames.chunks.memory import (
    byte_at,
    copy_8,
    copy_16,
    copy_32,
    copy_bytes,
    pair_at,
    put_byte,
    put_word,
    put_words,
    word_at,
)
from bluesky_powder.frames.chunks.shuffle import STRIP, unshuffle_bits

HEADER = 12
"""Bytes in front of the blocks: the chunk's size (8) and a block's (4), the highest byte first."""
BEYOND = 64
"""Bytes beyond the end of a block that may be overwritten where copies are made in large steps."""
DAMAGED = -1


@njit(nogil=True, cache=True)
def _count_on(count: int, i: int, stop: int) -> tuple[int, int]:
    """Read the bytes that a length goes on in; return it, and where they end."""
    more = 255
    while more == 255 and i < stop:
        more = byte_at(i)
        i += 1
        count += more
    return count, i


@njit(nogil=True, cache=True)
def _repeat_short(o: int, offset: int, count: int) -> None:
    """Write `count` bytes, and up to 32 more, that repeat the last `offset` bytes, at most 7."""
    bits = np.uint64(8 * offset)
    pattern = word_at(o - offset) & ((np.uint64(1) << bits) - np.uint64(1))
    span = offset
    while span < 8:
        pattern |= pattern << np.uint64(8 * span)
        span *= 2
    if span == 8:
        for k in range(0, count, 32):
            put_words(o + k, pattern)
        return
    span = 8 - 8 % offset
    for k in range(0, count, span):
        put_word(o + k, pattern)


@njit(nogil=True, cache=True)
def _repeat(o: int, offset: int, count: int) -> None:
    """Write `count` bytes, and up to 32 more, as they are `offset` bytes earlier; those may be among them."""
    source = o - offset
    if offset >= 32:
        for k in range(0, count, 32):
            copy_32(o + k, source + k)
    elif offset >= 16:
        for k in range(0, count, 16):
            copy_16(o + k, source + k)
    elif offset >= 8:
        for k in range(0, count, 8):
            copy_8(o + k, source + k)
    else:
        _repeat_short(o, offset, count)


@njit(nogil=True, cache=True)
def decode_block(source: int, stop: int, readable: int, target: int, size: int, writable: int) -> int:
    """Decode one LZ4 block.

    Parameters
    ----------
    source, stop
        Addresses of the block and its end.
    readable
        Address of the end of the memory that may be read.
    target
        Address to write to.
    size
        Bytes that may come out.
    writable
        Address of the end of the memory that may be overwritten, with something else, beyond what comes out.

    Returns
    -------
    int
        Bytes that came out, or DAMAGED.
    """
    i, o, end = source, target, target + size
    while i < stop:
        token = byte_at(i)
        i += 1
        count = token >> 4
        if count == 15:
            count, i = _count_on(count, i, stop)
        if count > stop - i or count > end - o:
            return DAMAGED
        if count + 32 <= readable - i and count + 32 <= writable - o:
            copy_16(o, i)
            for k in range(16, count, 32):
                copy_32(o + k, i + k)
        else:
            copy_bytes(o, i, count)
        i += count
        o += count
        if i == stop:
            return o - target
        if stop - i < 2:
            return DAMAGED
        offset = pair_at(i)
        i += 2
        count = token & 15
        if count == 15:
            count, i = _count_on(count, i, stop)
        count += 4
        if offset == 0 or offset > o - target or count > end - o:
            return DAMAGED
        if count + BEYOND <= writable - o:
            _repeat(o, offset, count)
        else:
            for k in range(count):
                put_byte(o + k, byte_at(o - offset + k))
        o += count
    return DAMAGED


@njit(nogil=True, cache=True)
def _length_at(i: int) -> int:
    """Return four bytes as a number, the highest byte first."""
    length = 0
    for k in range(4):
        length = length << 8 | byte_at(i + k)
    return length


@njit(nogil=True, cache=True)
def decode_blocks(source: int, length: int, target: int, nbytes: int, block: int) -> int:
    """Decode a chunk of LZ4 blocks.

    Parameters
    ----------
    source, length
        Address of the chunk with its header, and its bytes.
    target, nbytes
        Address of the bytes that come out, and how many.
    block
        Bytes of a block before it was compressed.

    Returns
    -------
    int
        `nbytes`, or DAMAGED.
    """
    i, stop = source + HEADER, source + length
    o, end = target, target + nbytes
    while o < end:
        size = min(block, end - o)
        if stop - i < 4:
            return DAMAGED
        count = _length_at(i)
        i += 4
        if count > stop - i:
            return DAMAGED
        if count == size:
            copy_bytes(o, i, size)
        elif decode_block(i, i + count, stop, o, size, end) != size:
            return DAMAGED
        i += count
        o += size
    return nbytes


@njit(nogil=True, cache=True)
def decode_shuffled_blocks(
    source: int, length: int, target: int, count: int, size: int, block: int, scratch: int
) -> int:
    """Decode a chunk of LZ4 blocks of shuffled bits.

    Parameters
    ----------
    source, length
        Address of the chunk with its header, and its bytes.
    target
        Address of the elements that come out.
    count, size
        How many, and the bytes of each: 1, 2, 4 or 8.
    block
        Elements of a block, a multiple of 8.
    scratch
        Address of ``block * size + BEYOND + STRIP * size`` bytes.

    Returns
    -------
    int
        `count`, or DAMAGED.
    """
    i, stop = source + HEADER, source + length
    o, left = target, count
    parts = scratch + block * size + BEYOND
    while left >= 8:
        elements = min(block, left - left % 8)
        if stop - i < 4:
            return DAMAGED
        packed = _length_at(i)
        i += 4
        if packed > stop - i:
            return DAMAGED
        nbytes = elements * size
        if decode_block(i, i + packed, stop, scratch, nbytes, scratch + nbytes + BEYOND) != nbytes:
            return DAMAGED
        unshuffle_bits(scratch, elements, size, o, parts)
        i += packed
        o += nbytes
        left -= elements
    # Fewer than 8 elements are left: they are stored as they are.
    if left * size > stop - i:
        return DAMAGED
    copy_bytes(o, i, left * size)
    return count


def scratch_bytes(block: int, size: int) -> int:
    """Return how much scratch `decode_shuffled_blocks` needs."""
    return block * size + BEYOND + STRIP * size
