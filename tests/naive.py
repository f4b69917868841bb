"""Slow, obvious numpy truth for every kernel of the engine: dense matrices, two passes, loops in Python.

Written from DESIGN 3 alone, in other ways than the engine where there is one: polygons are clipped rather than edges
integrated, variances are summed around the mean, bins are found by searching the edges.
"""

import math

import numpy as np

# ------------------------------------------------------------------------------------------------- shares of bins


def bin_of(x, edges):
    """Return the bin that holds x, None outside; half open, the last bin closed."""
    if not edges[0] <= x <= edges[-1]:
        return None
    return min(int(np.searchsorted(edges, x, side="right")) - 1, len(edges) - 2)


def shares_no(centres, skipped, edges):
    """Return the dense matrix (pixels, bins) of pixels that belong to the bin of their centre."""
    matrix = np.zeros((centres.size, len(edges) - 1))
    for i, x in enumerate(centres.ravel()):
        r = bin_of(x, edges)
        if r is not None and not skipped.ravel()[i]:
            matrix[i, r] = 1.0
    return matrix


def interval_shares(low, high, edges):
    """Return the overlap of [low, high] with each bin, as parts of the interval."""
    if high <= low:
        row = np.zeros(len(edges) - 1)
        r = bin_of(low, edges)
        if r is not None:
            row[r] = 1.0
        return row
    overlap = np.minimum(high, edges[1:]) - np.maximum(low, edges[:-1])
    return np.maximum(overlap, 0.0) / (high - low)


def shares_bbox(centres, half, skipped, edges, floor=0.0):
    """Return the dense matrix of pixels shared by centre -+ half width."""
    matrix = np.zeros((centres.size, len(edges) - 1))
    for i, (x, d) in enumerate(zip(centres.ravel(), half.ravel(), strict=True)):
        if not skipped.ravel()[i]:
            low = x - d if floor is None else max(x - d, floor)
            matrix[i] = interval_shares(low, x + d, edges)
    return matrix


def unwrapped(chi):
    """Return azimuths along an outline without jumps, and how often the closed outline turns around the beam."""
    steps = [(b - a + math.pi) % (2 * math.pi) - math.pi for a, b in zip(chi, [*chi[1:], chi[0]], strict=True)]
    return chi[0] + np.concatenate([[0.0], np.cumsum(steps[:-1])]), sum(steps) / (2 * math.pi)


def clip_polygon(points, axis, bound, keep_above):
    """Cut a polygon, a list of points, at a line across `axis` (Sutherland and Hodgman 1974)."""
    kept = []
    for a, b in zip(points, [*points[1:], points[0]], strict=True):
        inside_a = (a[axis] >= bound) == keep_above or a[axis] == bound
        inside_b = (b[axis] >= bound) == keep_above or b[axis] == bound
        if inside_a:
            kept.append(a)
        if inside_a != inside_b:
            t = (bound - a[axis]) / (b[axis] - a[axis])
            kept.append((a[0] + t * (b[0] - a[0]), a[1] + t * (b[1] - a[1])))
    return kept


def polygon_area(points):
    """Return the area of a polygon (shoelace formula)."""
    if len(points) < 3:
        return 0.0
    x0, y0 = points[0]
    twice = 0.0
    for (xa, ya), (xb, yb) in zip(points, [*points[1:], points[0]], strict=True):
        twice += (xa - x0) * (yb - y0) - (xb - x0) * (ya - y0)
    return abs(twice) / 2


def shares_full(radial, chi, skipped, edges):
    """Return the dense matrix of pixels shared by the area of their quadrilateral; corners (pixels, 4)."""
    matrix = np.zeros((len(radial), len(edges) - 1))
    for i in range(len(radial)):
        if skipped.ravel()[i]:
            continue
        azimuth, turns = unwrapped(list(chi[i]))
        if abs(turns) > 0.5:
            matrix[i] = interval_shares(0.0, radial[i].max(), edges)
            continue
        outline = list(zip(radial[i], azimuth, strict=True))
        whole = polygon_area(outline)
        for r in range(len(edges) - 1):
            part = clip_polygon(outline, 0, edges[r], keep_above=True)
            part = clip_polygon(part, 0, edges[r + 1], keep_above=False) if part else []
            matrix[i, r] = polygon_area(part) / whole
    return matrix


# ------------------------------------------------------------------------------------------------- sums and errors


def sums(matrix, signal, norm, variance, left_out):
    """Return the seven sums (7, bins) of a frame by the dense matrix (pixels, bins); all other arguments flat."""
    use = ~left_out & (norm != 0) & np.isfinite(signal)
    c = matrix[use]
    s, n, var = signal[use][:, None], norm[use][:, None], variance[use][:, None]
    w = c * n
    v = s / n
    parts = (c, c * s, w, w**2, w**2 * v, w**2 * v**2, c**2 * var)
    return np.array([part.sum(axis=0) for part in parts])


def two_pass_variance(matrix, signal, norm, left_out):
    """Return sum w^2 (v - I)^2 of each bin, I the weighted mean; 0 where the bin is empty."""
    use = ~left_out & (norm != 0) & np.isfinite(signal)
    c, s, n = matrix[use], signal[use], norm[use]
    result = np.zeros(matrix.shape[1])
    for r in range(matrix.shape[1]):
        w = c[:, r] * n
        if w.sum() != 0:
            mean = (c[:, r] * s).sum() / w.sum()
            result[r] = (w**2 * (s / n - mean) ** 2).sum()
    return result


# ------------------------------------------------------------------------------------------------- spottiness


def spottiness(V, W, Q, VV, P, *, weighted=False, excess=False):
    """Return S of DESIGN 3 from per-ring arrays, ring by ring."""
    total, weights = 0.0, 0.0
    for r in range(len(V)):
        if W[r] == 0 or V[r] <= 0 or (excess and W[r] ** 2 / Q[r] < 10):
            continue
        scatter = VV[r] - P[r] * (1 - Q[r] / W[r] ** 2) if excess else VV[r]
        weight = V[r] / W[r] if weighted else 1.0
        total += weight * scatter / V[r] ** 2
        weights += weight
    return math.sqrt(max(0.0, total / weights)) if weights else math.nan


def pyfai_spottiness(V, W, VV, *, weighted=False):
    """Return what pyFAI's calc_spottiness computes: all bins, floors at one count."""
    intensity = np.array([v / w if w else 0.0 for v, w in zip(V, W, strict=True)])
    weight = np.maximum(intensity, 0) if weighted else np.ones(len(V))
    return math.sqrt((weight * np.maximum(VV, 0) / np.maximum(V, 1) ** 2).sum() / weight.sum())
