"""The loop that adds a frame of whole numbers to sums over frames."""

import numpy as np
from numba import njit


@njit(nogil=True, cache=True)
def add_counts(start, stop, sign, frame, used, dummy_low, dummy_high, signal, lost_pixels):
    """Add ``sign`` times pixels start..stop of `frame` to int64 `signal`; return how many are lost and negative.

    Pixels that are not `used`, and those with a value from dummy_low to dummy_high, add nothing. The latter are lost:
    their numbers go to ``lost_pixels[start:start + lost]``.
    """
    lost = 0
    negative = 0
    for i in range(start, stop):
        if not used[i]:
            continue
        raw = frame[i]
        if dummy_low <= raw <= dummy_high:
            lost_pixels[start + lost] = i
            lost += 1
            continue
        signal[i] += sign * np.int64(raw)
        if raw < 0:
            negative += 1
    return lost, negative
