"""Counts summed over frames, pixel by pixel, while the frames are integrated.

The totals of one geometry's frames are uint32 as long as they fit, else int64. Lines of frames that are at hand for
integration are added to them, so that nothing is read from memory once more. What would not be exact, a total that
outgrows its dtype or a negative count, is found and told; both dtypes wrap, so that it can be taken out again exactly.
"""

import numpy as np
from numba import njit, types
from numba.extending import overload

# numba's cache watches the file that holds a kernel: after a change here touch those that use it.
NARROW_BITS = 32
LARGE_BITS = NARROW_BITS - 3
"""A batch's frames, `azimuthal.csr.vectors.WIDTH` of them, can be added in uint32 if their counts have no more."""
WIDE_BITS = 53
"""float64 holds every whole number of so many bits."""


def bits(totals):
    """Return how many bits a total may have."""
    raise NotImplementedError


def is_signed(frames):
    """Tell whether counts may be negative."""
    raise NotImplementedError


@overload(bits)
def _bits_of(totals):
    narrow = totals.dtype == types.uint32
    return (lambda totals: NARROW_BITS) if narrow else (lambda totals: WIDE_BITS)  # noqa: ARG005


@overload(is_signed)
def _is_signed(frames):
    unsigned = isinstance(frames.dtype, types.Integer) and not frames.dtype.signed
    return (lambda frames: False) if unsigned else (lambda frames: True)  # noqa: ARG005


def add_strip(added, totals, wanted):
    """Add whole numbers to the totals of wanted pixels; return whether one does not fit."""
    raise NotImplementedError


def any_large(every, wanted):
    """Tell whether counts of wanted pixels are so large that the sum over a batch may not fit its dtype.

    ``every`` has all bits of a pixel's counts.
    """
    raise NotImplementedError


@overload(add_strip)
def _add_strip(added, totals, wanted):  # noqa: ARG001
    return add_narrow_strip if added.dtype == types.uint32 else add_wide_strip


@overload(any_large, inline="always")
def _any_large(every, wanted):  # noqa: ARG001
    return any_narrow_large if every.dtype == types.uint32 else (lambda every, wanted: False)  # noqa: ARG005


def any_narrow_large(every, wanted):
    """Look at all pixels first, as it is hardly ever so."""
    of_all = np.uint32(0)
    for j in range(wanted.size):
        of_all |= every[j]
    if of_all >> LARGE_BITS == 0:
        return False
    large = False
    for j in range(wanted.size):
        large |= wanted[j] & (every[j] >> LARGE_BITS != 0)
    return large


def add_narrow_strip(added, totals, wanted):
    """Add uint32 to uint32."""
    carried = False
    for j in range(totals.size):
        more = added[j] if wanted[j] else np.uint32(0)
        total = np.uint32(totals[j] + more)
        carried |= total < more
        totals[j] = total
    return carried


def add_wide_strip(added, totals, wanted):
    """Add int64 to either."""
    every = np.int64(0)
    for j in range(totals.size):
        total = np.int64(totals[j]) + (added[j] if wanted[j] else 0)
        every |= total
        totals[j] = total
    return (every >> bits(totals)) != 0


@njit(nogil=True, cache=True)
def add_span(frame, totals, used, low, high, start, stop, sign):
    """Add ``sign`` times pixels start..stop of a frame of counts to totals, in the order of memory.

    Pixels that are not `used`, and those with a value from low to high, add nothing.

    Returns
    -------
    lost, negative, outgrown
        How many used pixels have no data, how many counts are negative, and whether a total does not fit its dtype.
    """
    lost = negative = 0
    every = np.int64(0)
    line, sums, wanted = frame[start:stop], totals[start:stop], used[start:stop]
    for j in range(stop - start):
        dummy = (line[j] >= low) & (line[j] <= high)
        good = wanted[j] & (not dummy)
        lost += np.int64(wanted[j] & dummy)
        if is_signed(frame):
            negative += np.int64(good & (line[j] < 0))
        value = np.int64(line[j]) if good else 0
        total = np.int64(sums[j]) + (value if sign > 0 else -value)
        every |= total
        sums[j] = total
    return lost, negative, (every >> bits(totals)) != 0


@njit(nogil=True, cache=True, inline="always")
def any_negative(line, wanted):
    """Tell whether the count of a wanted pixel is negative."""
    negative = False
    for j in range(wanted.size):
        negative |= wanted[j] & (line[j] < 0)
    return negative
