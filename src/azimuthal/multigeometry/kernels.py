"""The loops that add a frame to sums over frames."""

import numpy as np
from numba import njit

from azimuthal.csr.corrected.kernels import corrected
from azimuthal.csr.totals.kernels import add_span

BLOCK = 4096
"""Pixels that are added, without a branch, before those that are lost among them are looked for."""
LARGEST_WHOLE = 2.0**53
"""From here on float64 does not hold every whole number."""


@njit(nogil=True, cache=True)
def add_counts(start, stop, sign, frame, used, dummy_low, dummy_high, signal, lost_pixels):
    """Add ``sign`` times pixels start..stop of `frame` to `signal`, uint32 or int64.

    Pixels that are not `used`, and those with a value from dummy_low to dummy_high, add nothing. The latter are lost:
    their numbers go to ``lost_pixels[:lost]``.

    Returns
    -------
    lost, negative, outgrown
        How many pixels are lost, how many are negative, and whether a sum does not fit its dtype any more.
    """
    lost = 0
    negative = 0
    outgrown = False
    for first in range(start, stop, BLOCK):
        last = min(first + BLOCK, stop)
        dropped, below, beyond = add_span(frame, signal, used, dummy_low, dummy_high, first, last, sign)
        negative += below
        outgrown |= beyond
        if dropped:
            lost += list_lost(frame[first:last], used[first:last], dummy_low, dummy_high, first, lost_pixels[lost:])
    return lost, negative, outgrown


@njit(nogil=True, cache=True)
def find_lost(start, stop, frame, used, dummy_low, dummy_high, lost_pixels):
    """Write the numbers of the pixels that `add_counts` would lose; return how many they are."""
    lost = 0
    for first in range(start, stop, BLOCK):
        last = min(first + BLOCK, stop)
        line, wanted = frame[first:last], used[first:last]
        dropped = 0
        for j in range(last - first):
            dropped += np.int64(wanted[j] & (line[j] >= dummy_low) & (line[j] <= dummy_high))
        if dropped:
            lost += list_lost(line, wanted, dummy_low, dummy_high, first, lost_pixels[lost:])
    return lost


@njit(nogil=True, cache=True, inline="always")
def list_lost(line, wanted, dummy_low, dummy_high, first, lost_pixels):
    """Write the numbers, from ``first`` on, of the pixels of a block that are lost; return how many they are."""
    lost = 0
    for j in range(line.size):
        if wanted[j] and dummy_low <= line[j] <= dummy_high:
            lost_pixels[lost] = first + j
            lost += 1
    return lost


@njit(nogil=True, cache=True, error_model="numpy")
def inspect_corrected(start, stop, frame, masked, low, high, dark, dark_variance, variance, gain, noise, used):
    """Look at what `add_corrected` would add.

    Returns
    -------
    lost, fractions, negative, fractional_variances
        How many used pixels are left out; of the others, how many signals are no whole numbers (or too large), how many
        are negative, and how many variances are no whole numbers.
    """
    lost = fractions = negative = fractional_variances = 0
    for i in range(start, stop):
        s, spread, good = corrected(i, frame, masked, low, high, dark, dark_variance, variance, gain, noise)
        if not used[i]:
            continue
        if not good:
            lost += 1
            continue
        fractions += s != np.floor(s) or abs(s) >= LARGEST_WHOLE
        negative += s < 0.0
        fractional_variances += spread != np.floor(spread) or spread >= LARGEST_WHOLE
    return lost, fractions, negative, fractional_variances


@njit(nogil=True, cache=True, error_model="numpy")
def add_corrected(
    start,
    stop,
    sign,
    frame,
    masked,
    low,
    high,
    dark,
    dark_variance,
    variance,
    gain,
    noise,
    used,
    signal,
    sum_variance,
    lost_pixels,
):
    """Add ``sign`` times the corrected signal of used pixels start..stop to `signal`, and its variance likewise.

    ``signal`` is int64 or float64; ``sum_variance`` may be empty. Numbers of left out pixels go to ``lost_pixels``.
    Returns how many they are.
    """
    lost = 0
    value = np.empty(1, signal.dtype)
    for i in range(start, stop):
        if not used[i]:
            continue
        s, spread, good = corrected(i, frame, masked, low, high, dark, dark_variance, variance, gain, noise)
        if not good:
            lost_pixels[lost] = i
            lost += 1
            continue
        value[0] = sign * s  # takes the dtype of the sums
        signal[i] += value[0]
        if sum_variance.size:
            sum_variance[i] += sign * spread
    return lost
