"""The loops over the sparse matrix: sums of a frame over bins, and the counting sorts.

Every kernel is serial, releases the GIL and is cached on disk. ``sums`` have the rows of `azimuthal.pattern.SUMS`.
One specialisation exists per frame dtype that reaches a kernel: u1 u2 u4 i2 i4 i8 f4 f8. What kernels share is inlined:
a call per pixel would cost more than its sums (measured: 1.7 times the whole frame).
"""

import numpy as np
from numba import njit

N, V, W, Q, A, B, P = range(7)


@njit(nogil=True, cache=True, inline="always")
def add_signal_whole(r, s, n, variance, sums):
    """Add a pixel that lies in bin r to the rows of its signal: V, A, B, P."""
    sums[V, r] += s
    sums[A, r] += n * s
    sums[B, r] += s * s
    sums[P, r] += variance


@njit(nogil=True, cache=True, inline="always")
def add_weight_whole(r, n, sums):
    """Add a pixel that lies in bin r to the rows of its normalization: N, W, Q."""
    sums[N, r] += 1.0
    sums[W, r] += n
    sums[Q, r] += n * n


@njit(nogil=True, cache=True, inline="always")
def add_signal_shared(first, last, bins, shares, s, n, variance, sums):
    """Add a pixel with the entries first..last to the rows of its signal: V, A, B, P."""
    ns = n * s
    ss = s * s
    for k in range(first, last):
        c = np.float64(shares[k])
        cc = c * c
        r = bins[k]
        sums[V, r] += c * s
        sums[A, r] += cc * ns
        sums[B, r] += cc * ss
        sums[P, r] += cc * variance


@njit(nogil=True, cache=True, inline="always")
def add_weight_shared(first, last, bins, shares, n, sums):
    """Add a pixel with the entries first..last to the rows of its normalization: N, W, Q."""
    for k in range(first, last):
        w = np.float64(shares[k]) * n
        r = bins[k]
        sums[N, r] += np.float64(shares[k])
        sums[W, r] += w
        sums[Q, r] += w * w


@njit(nogil=True, cache=True)
def add_raw_whole(start, stop, frame, masked, dummy_low, dummy_high, norm, bins, gain, noise, sums, lost):
    """Add pixels start..stop of a raw frame to `sums` (7, bins), one bin a pixel.

    Rows V, A, B, P are added to; N, W, Q receive what the *left out* pixels take away, to be subtracted from the
    constants of the geometry. ``lost[0]`` counts the left out pixels.
    """
    has_mask = masked.size > 0
    for i in range(start, stop):
        r = bins[i]
        if r < 0:
            continue
        raw = frame[i]
        if (has_mask and masked[i]) or (dummy_low <= raw <= dummy_high) or not np.isfinite(raw):
            add_weight_whole(r, norm[i], sums)
            lost[0] += 1
            continue
        s = np.float64(raw)
        add_signal_whole(r, s, norm[i], gain * max(s, 0.0) + noise, sums)


@njit(nogil=True, cache=True)
def add_raw_shared(
    start, stop, frame, masked, dummy_low, dummy_high, norm, indptr, bins, shares, gain, noise, sums, lost
):
    """Add pixels start..stop of a raw frame to `sums`, each pixel by its shares; see `add_raw_whole`."""
    has_mask = masked.size > 0
    for i in range(start, stop):
        first = indptr[i]
        last = indptr[i + 1]
        if first == last:
            continue
        raw = frame[i]
        if (has_mask and masked[i]) or (dummy_low <= raw <= dummy_high) or not np.isfinite(raw):
            add_weight_shared(first, last, bins, shares, norm[i], sums)
            lost[0] += 1
            continue
        s = np.float64(raw)
        add_signal_shared(first, last, bins, shares, s, norm[i], gain * max(s, 0.0) + noise, sums)


@njit(nogil=True, cache=True)
def add_prepared_whole(start, stop, signal, variance, norm, monitor, bins, sums):
    """Add pixels start..stop of a signal with its variance to all seven `sums`, one bin a pixel.

    ``monitor`` multiplies the normalization: one value for all pixels, or one a pixel; a pixel whose monitor is 0, or
    whose signal or variance is not finite, is left out.
    """
    single = monitor.size == 1
    for i in range(start, stop):
        r = bins[i]
        n = norm[i] * (monitor[0] if single else monitor[i])
        s = np.float64(signal[i])
        if r < 0 or n == 0.0 or not (np.isfinite(s) and np.isfinite(variance[i])):
            continue
        add_weight_whole(r, n, sums)
        add_signal_whole(r, s, n, variance[i], sums)


@njit(nogil=True, cache=True)
def add_prepared_shared(start, stop, signal, variance, norm, monitor, indptr, bins, shares, sums):
    """Add pixels start..stop to all seven `sums`, each pixel by its shares; see `add_prepared_whole`."""
    single = monitor.size == 1
    for i in range(start, stop):
        n = norm[i] * (monitor[0] if single else monitor[i])
        s = np.float64(signal[i])
        if n == 0.0 or not (np.isfinite(s) and np.isfinite(variance[i])):
            continue
        add_weight_shared(indptr[i], indptr[i + 1], bins, shares, n, sums)
        add_signal_shared(indptr[i], indptr[i + 1], bins, shares, s, n, variance[i], sums)


@njit(nogil=True, cache=True)
def add_some_whole(pixels, counts, monitor, norm, bins, gain, sums):
    """Add some pixels, by their numbers, to all seven `sums`; ``monitor`` has one value for each of them."""
    for j in range(pixels.size):
        i = pixels[j]
        n = norm[i] * monitor[j]
        if bins[i] < 0 or n == 0.0:
            continue
        s = np.float64(counts[i])
        add_weight_whole(bins[i], n, sums)
        add_signal_whole(bins[i], s, n, gain * s, sums)


@njit(nogil=True, cache=True)
def add_some_shared(pixels, counts, monitor, norm, indptr, bins, shares, gain, sums):
    """Add some pixels to all seven `sums`, each by its shares; see `add_some_whole`."""
    for j in range(pixels.size):
        i = pixels[j]
        n = norm[i] * monitor[j]
        if n == 0.0:
            continue
        s = np.float64(counts[i])
        add_weight_shared(indptr[i], indptr[i + 1], bins, shares, n, sums)
        add_signal_shared(indptr[i], indptr[i + 1], bins, shares, s, n, gain * s, sums)


@njit(nogil=True, cache=True)
def sort_whole_pixels(bins, n_bins):
    """Sort pixels by their bin by counting; one pass to count, one to place."""
    indptr = np.zeros(n_bins + 1, np.int64)
    for i in range(bins.size):
        if bins[i] >= 0:
            indptr[bins[i] + 1] += 1
    for r in range(n_bins):
        indptr[r + 1] += indptr[r]
    cursor = indptr[:-1].copy()
    pixels = np.empty(indptr[n_bins], np.int32)
    for i in range(bins.size):
        r = bins[i]
        if r >= 0:
            pixels[cursor[r]] = i
            cursor[r] += 1
    return indptr, pixels, np.ones(pixels.size, np.float32)


@njit(nogil=True, cache=True)
def sort_shares(pixel_indptr, bins, shares, n_bins):
    """Sort shares by their bin by counting; pixels stay ascending inside a bin."""
    indptr = np.zeros(n_bins + 1, np.int64)
    for k in range(bins.size):
        indptr[bins[k] + 1] += 1
    for r in range(n_bins):
        indptr[r + 1] += indptr[r]
    cursor = indptr[:-1].copy()
    pixels = np.empty(bins.size, np.int32)
    sorted_shares = np.empty(bins.size, np.float32)
    for i in range(pixel_indptr.size - 1):
        for k in range(pixel_indptr[i], pixel_indptr[i + 1]):
            at = cursor[bins[k]]
            pixels[at] = i
            sorted_shares[at] = shares[k]
            cursor[bins[k]] = at + 1
    return indptr, pixels, sorted_shares
