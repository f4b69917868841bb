"""How the kernels over the matrix read a tile of frames: into small buffers, where what is left out becomes 0."""

import numpy as np
from numba import njit, types
from numba.extending import overload

from azimuthal.csr.tiles import TILE_COLUMNS, TILE_ROWS
from azimuthal.csr.totals.kernels import any_large, any_negative, is_signed
from azimuthal.csr.vectors import WIDTH, interleave, lent, prefetch

# numba's cache watches the file that holds a kernel: after a change here touch those that use it.
CACHE_LINE = 64
"""Bytes."""


def new_lanes(frames, totals, size):
    """Return an array of zeros for interleaved counts: uint32 where they and their totals fit, else float64.

    What is narrow takes half the room in the processor's caches, which sets the pace, and becomes float64 when used.
    """
    raise NotImplementedError


def as_lane(count, lanes):
    """Return a count in the dtype of `lanes`."""
    raise NotImplementedError


def new_added(lanes, size):
    """Return an array of zeros for sums of counts over a batch, and the bits they have (`interleave`)."""
    raise NotImplementedError


@overload(new_added)
def _new_added(lanes, size):  # noqa: ARG001
    if lanes.dtype == types.uint32:
        return lambda lanes, size: np.zeros(size, np.uint32)  # noqa: ARG005
    return lambda lanes, size: np.zeros(size, np.int64)  # noqa: ARG005


@overload(new_lanes)
def _new_lanes(frames, totals, size):  # noqa: ARG001
    counts = isinstance(frames.dtype, types.Integer) and not frames.dtype.signed and frames.dtype.bitwidth <= 32
    if counts and totals.dtype == types.uint32:
        return lambda frames, totals, size: np.zeros(size, np.uint32)  # noqa: ARG005
    return lambda frames, totals, size: np.zeros(size)  # noqa: ARG005


@overload(as_lane)
def _as_lane(count, lanes):  # noqa: ARG001
    if lanes.dtype == types.uint32:
        return lambda count, lanes: np.uint32(count)  # noqa: ARG005
    return lambda count, lanes: np.float64(count)  # noqa: ARG005


@njit(nogil=True, cache=True, inline="always")
def tile_box(tile, across, rows, columns):
    """Return the first and last + 1 row and column of a tile."""
    r0 = (tile // across) * TILE_ROWS
    c0 = (tile % across) * TILE_COLUMNS
    return r0, min(r0 + TILE_ROWS, rows), c0, min(c0 + TILE_COLUMNS, columns)


@njit(nogil=True, cache=True, inline="always", error_model="numpy")
def load_line(line, low, high, hidden, to):
    """Read a line of counts in the dtype of `to`, 0 for what is left out; return how many that are."""
    lost = 0
    nothing = as_lane(0, to)
    for j in range(line.size):
        bad = (line[j] >= low) & (line[j] <= high)
        if is_signed(line):
            x = np.float64(line[j])
            bad |= x - x != 0.0
        lost += np.int64(bad)
        to[j] = nothing if bad else as_lane(line[j], to)
    for j in range(hidden.size):
        if hidden[j]:
            to[j] = nothing
            lost += 1
    return lost


@njit(nogil=True, cache=True, error_model="numpy")
def load_counts(frame, columns, box, low, high, masked, out):
    """Read a tile of a flat frame by `load_line`."""
    r0, r1, c0, c1 = box
    lost = 0
    for i in range(r0, r1):
        first, to, width = i * columns + c0, (i - r0) * TILE_COLUMNS, c1 - c0
        hidden = lent(masked, first, first + width) if masked.size else lent(masked, 0, 0)
        lost += load_line(lent(frame, first, first + width), low, high, hidden, lent(out, to, to + width))
    return lost


@njit(nogil=True, cache=True, inline="always")
def load_lines(frames, first, width, low, high, masked, lines, lost):
    """Read a line of each of `WIDTH` flat frames by `load_line`."""
    flat, hides = frames.reshape(-1), masked.reshape(-1)
    for f in range(WIDTH):
        at = f * frames.shape[1] + first
        hidden = lent(hides, at, at + width) if hides.size else lent(hides, 0, 0)
        to = lent(lines, f * TILE_COLUMNS, f * TILE_COLUMNS + width)
        lost[f] += load_line(lent(flat, at, at + width), low, high, hidden, to)


@njit(nogil=True, cache=True, error_model="numpy")
def load_mixed(frames, columns, box, low, high, masked, lines, out, lost):
    """Read a tile of `WIDTH` flat frames, interleaved pixel by pixel; ``lost`` (WIDTH,) is how many are left out.

    ``lines`` (WIDTH * TILE_COLUMNS,) is scratch.
    """
    r0, r1, c0, c1 = box
    lost[:] = 0
    for i in range(r0, r1):
        load_lines(frames, i * columns + c0, c1 - c0, low, high, masked, lines, lost)
        for j in range(0, c1 - c0, WIDTH):
            to = ((i - r0) * TILE_COLUMNS + j) * WIDTH
            interleave(lines, j, TILE_COLUMNS, out, to, None, None)


@njit(nogil=True, cache=True, error_model="numpy")
def load_mixed_and_sum(frames, columns, box, low, high, masked, lines, out, lost, strip, totals, used, rarely, follow):
    """Read a tile as `load_mixed` does, and sum it over the frames; return whether totals are spoilt by it.

    The sums go to `strip`, (TILE_ROWS * columns,), of the lines of a whole row of tiles, whence they are added to the
    totals in the order of memory. With ``follow``, the totals after each frame are interleaved too, 0 for ``rarely``
    ones.
    """
    r0, r1, c0, c1 = box
    width = c1 - c0
    added, before = new_added(lines, 2 * TILE_COLUMNS), new_lanes(frames, totals, TILE_COLUMNS)
    lost[:] = 0
    spoilt = False
    for i in range(r0, r1):
        first = i * columns + c0
        line, wanted = lent(totals, first, first + width), lent(used, first, first + width)
        load_lines(frames, first, width, low, high, masked, lines, lost)
        if is_signed(frames):
            for f in range(WIDTH):
                spoilt |= any_negative(lines[f * TILE_COLUMNS : f * TILE_COLUMNS + width], wanted)
        if follow:
            for j in range(width):
                before[j] = as_lane(line[j], before)
            for j in range(0, width, WIDTH):
                to = ((i - r0) * TILE_COLUMNS + j) * (2 * WIDTH)
                interleave(lines, j, TILE_COLUMNS, out, to, added, before)
            if rarely.size and any_of(lent(rarely, first, first + width)):
                for j in range(width):
                    if rarely[first + j]:
                        to = ((i - r0) * TILE_COLUMNS + j) * (2 * WIDTH) + WIDTH
                        out[to : to + WIDTH] = as_lane(0, out)
        else:
            for j in range(0, width, WIDTH):
                to = ((i - r0) * TILE_COLUMNS + j) * WIDTH
                interleave(lines, j, TILE_COLUMNS, out, to, added, None)
        spoilt |= any_large(lent(added, TILE_COLUMNS, TILE_COLUMNS + width), wanted)
        sums = lent(strip, (i - r0) * columns + c0, (i - r0) * columns + c1)
        for j in range(width):
            sums[j] = added[j]
    return spoilt


@njit(nogil=True, cache=True, inline="always")
def any_of(flags):
    """Tell whether a flag is set: by looking at all of them, which is quicker than asking after each."""
    one = False
    for j in range(flags.size):
        one |= flags[j]
    return one


@njit(nogil=True, cache=True)
def load_pairs(counts, columns, box, totals, rarely, pairs):
    """Read a tile of totals and put them beside its counts, (TILE_PIXELS, 2) flat; 0 for ``rarely`` ones."""
    r0, r1, c0, c1 = box
    width = c1 - c0
    for i in range(r0, r1):
        first, to = i * columns + c0, (i - r0) * TILE_COLUMNS
        here, line = lent(counts, to, to + width), lent(totals, first, first + width)
        pair = lent(pairs, 2 * to, 2 * (to + width))
        for j in range(width):
            pair[2 * j] = here[j]
            pair[2 * j + 1] = np.float64(line[j])
        if rarely.size:
            for j in range(width):
                if rarely[first + j]:
                    pair[2 * j + 1] = 0.0


@njit(nogil=True, cache=True)
def load_norm(norm, columns, box, out):
    """Copy a tile of the flat normalization."""
    r0, r1, c0, c1 = box
    for i in range(r0, r1):
        line = lent(norm, i * columns + c0, i * columns + c1)
        to = lent(out, (i - r0) * TILE_COLUMNS, (i - r0) * TILE_COLUMNS + c1 - c0)
        for j in range(c1 - c0):
            to[j] = line[j]


@njit(nogil=True, cache=True, error_model="numpy")
def flag_lost(frame, columns, box, low, high, masked, used, flags):
    """Flag the pixels of a tile that a frame leaves out although the matrix uses them; return how many."""
    r0, r1, c0, c1 = box
    lost = 0
    for i in range(r0, r1):
        first, to = i * columns + c0, (i - r0) * TILE_COLUMNS
        line, wanted, out = frame[first : first + c1 - c0], used[first : first + c1 - c0], flags[to : to + c1 - c0]
        for j in range(c1 - c0):
            x = np.float64(line[j])
            bad = ((line[j] >= low) & (line[j] <= high)) | (x - x != 0.0)
            out[j] = bad & wanted[j]
            lost += np.int64(bad & wanted[j])
        if masked.size:
            hidden = masked[first : first + c1 - c0]
            for j in range(c1 - c0):
                lost += np.int64(hidden[j] & wanted[j] & (not out[j]))
                out[j] |= hidden[j] & wanted[j]
    return lost


@njit(nogil=True, cache=True, inline="always")
def ask_for(array, first, last):
    """Have elements first..last of a flat array, about a line of a tile, on their way from memory."""
    for at in range(first, last, CACHE_LINE // array.itemsize):
        prefetch(array, at)
