"""Undoing the shuffles of HDF5's filters: of bits (bitshuffle, 32008) and of bytes (2).

Both gather what elements have in common before they are compressed. Shuffled bits: first the lowest bit of all
elements of a block, one bit an element, then the next one. Shuffled bytes: first the lowest byte of all, and so on.
"""

import numpy as np
from numba import njit

from bluesky_powder.frames.chunks.memory import (
    WIDTH,
    byte_at,
    copy_8,
    copy_bytes,
    occupied,
    put_byte,
    put_word,
    transpose_bits,
    weave_2,
    weave_4,
    weave_8,
)

STRIP = 8 * WIDTH
"""Elements that are put together at a time."""
_SEVENTH = np.uint64(0x00AA00AA00AA00AA)
_FOURTEENTH = np.uint64(0x0000CCCC0000CCCC)
_TWENTYEIGHTH = np.uint64(0x00000000F0F0F0F0)


@njit(nogil=True, cache=True)
def weave(source: int, stride: int, count: int, size: int, target: int) -> None:
    """Write elements from rows that have one byte of each.

    Parameters
    ----------
    source
        Address of the rows.
    stride
        Bytes from one row to the next.
    count
        Elements.
    size
        Bytes of an element, and rows: 1, 2, 4 or 8.
    target
        Address of ``count * size`` bytes.
    """
    if size == 1:
        copy_bytes(target, source, count)
        return
    whole = count - count % WIDTH
    for at in range(0, whole, WIDTH):
        if size == 2:
            weave_2(source + at, stride, target + 2 * at)
        elif size == 4:
            weave_4(source + at, stride, target + 4 * at)
        else:
            weave_8(source + at, stride, target + 8 * at)
    for at in range(whole, count):
        for k in range(size):
            put_byte(target + size * at + k, byte_at(source + k * stride + at))


@njit(nogil=True, cache=True)
def unshuffle_bits(source: int, count: int, size: int, target: int, scratch: int) -> None:
    """Undo bitshuffle in one block.

    Parameters
    ----------
    source
        Address of ``count * size`` bytes: 8 * size rows, one a bit, of count / 8 bytes.
    count
        Elements, a multiple of 8.
    size
        Bytes of an element: 1, 2, 4 or 8.
    target
        Address of as many bytes.
    scratch
        Address of STRIP * size bytes.
    """
    row = count // 8
    at = 0
    while at < row:
        strip = WIDTH if at + WIDTH <= row else 1
        for k in range(size):
            planes = source + k * count + at
            part = scratch + k * STRIP
            if strip == 1:
                put_word(part, _eight_elements(planes, row))
            elif k == 0 or occupied(planes, row):
                transpose_bits(planes, row, part)
            else:
                for j in range(0, STRIP, 8):
                    put_word(part + j, np.uint64(0))
        if strip == 1 and size == 1:
            copy_8(target + 8 * at, scratch)
        else:
            weave(scratch, STRIP, 8 * strip, size, target + 8 * at * size)
        at += strip


@njit(nogil=True, cache=True)
def _eight_elements(planes: int, row: int) -> np.uint64:
    """Return one byte of each of 8 elements, the first one lowest; its bits are in 8 rows."""
    x = np.uint64(0)
    for p in range(8):
        x |= np.uint64(byte_at(planes + p * row)) << np.uint64(8 * p)
    # Transposes 8 x 8 bits: swaps bits, then pairs, then fours across the diagonal.
    t = (x ^ (x >> np.uint64(7))) & _SEVENTH
    x = x ^ t ^ (t << np.uint64(7))
    t = (x ^ (x >> np.uint64(14))) & _FOURTEENTH
    x = x ^ t ^ (t << np.uint64(14))
    t = (x ^ (x >> np.uint64(28))) & _TWENTYEIGHTH
    return x ^ t ^ (t << np.uint64(28))
