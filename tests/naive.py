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
        outline = list(zip(radial[i].tolist(), azimuth.tolist(), strict=True))
        whole = polygon_area(outline)
        for r in range(len(edges) - 1):
            if edges[r] > radial[i].max() or edges[r + 1] < radial[i].min():
                continue
            part = clip_polygon(outline, 0, float(edges[r]), keep_above=True)
            part = clip_polygon(part, 0, float(edges[r + 1]), keep_above=False) if part else []
            matrix[i, r] = polygon_area(part) / whole
    return matrix


# ------------------------------------------------------------------------------------------- shares of a cake's cells


def azimuth_bin_of(x, edges):
    """Return the bin that holds azimuth x in degrees, which may be told in other turns; None outside."""
    found = (bin_of(x + turn, edges) for turn in (0.0, 360.0, -360.0))
    return next((a for a in found if a is not None), None)


def azimuth_shares(low, high, edges):
    """Return the overlap of the azimuths [low, high], degrees, with each bin in any turn, as parts of the interval."""
    if high <= low:
        row = np.zeros(len(edges) - 1)
        a = azimuth_bin_of((low + 180.0) % 360.0 - 180.0, edges)
        if a is not None:
            row[a] = 1.0
        return row
    return sum(interval_shares(low + turn, high + turn, edges) for turn in (-720.0, -360.0, 0.0, 360.0, 720.0))


def cake_no(centres, azimuths, skipped, edges, azimuth_edges):
    """Return dense shares (pixels, azimuthal, radial) of pixels that belong to the cell of their centre; degrees."""
    shares = np.zeros((centres.size, len(azimuth_edges) - 1, len(edges) - 1))
    for i, (x, chi) in enumerate(zip(centres.ravel(), azimuths.ravel(), strict=True)):
        r, a = bin_of(x, edges), azimuth_bin_of(chi, azimuth_edges)
        if r is not None and a is not None and not skipped.ravel()[i]:
            shares[i, a, r] = 1.0
    return shares


def cake_bbox(centres, half, azimuths, half_azimuths, skipped, edges, azimuth_edges, floor=0.0):
    """Return dense shares of pixels shared by the product of both directions' overlaps; degrees."""
    radial = shares_bbox(centres, half, skipped, edges, floor)
    chi, d = azimuths.ravel(), half_azimuths.ravel()
    along = np.array([azimuth_shares(chi[i] - d[i], chi[i] + d[i], azimuth_edges) for i in range(chi.size)])
    return along[:, :, None] * radial[:, None, :]


def cake_full(radial, chi, skipped, edges, azimuth_edges):
    """Return dense shares of pixels shared by the area of their quadrilateral; corners (pixels, 4), chi in radians."""
    shares = np.zeros((len(radial), len(azimuth_edges) - 1, len(edges) - 1))
    for i in range(len(radial)):
        if skipped.ravel()[i]:
            continue
        azimuth, turns = unwrapped(list(chi[i]))
        if abs(turns) > 0.5:
            across = interval_shares(0.0, radial[i].max(), edges)
            shares[i] = np.outer(np.diff(azimuth_edges) / 360.0, across)
            continue
        outline = list(zip(radial[i], np.degrees(azimuth), strict=True))
        whole = polygon_area(outline)
        for a, (lower, upper) in enumerate(zip(azimuth_edges[:-1], azimuth_edges[1:], strict=True)):
            for turn in (-360.0, 0.0, 360.0):
                strip = cut_out(outline, 1, lower + turn, upper + turn)
                for r in range(len(edges) - 1 if strip else 0):
                    shares[i, a, r] += polygon_area(cut_out(strip, 0, edges[r], edges[r + 1])) / whole
    return shares


def cut_out(points, axis, lower, upper):
    """Return the part of a polygon between two lines across `axis`."""
    part = clip_polygon(points, axis, lower, keep_above=True)
    return clip_polygon(part, axis, upper, keep_above=False) if part else []


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


# ------------------------------------------------------------------------------------------------- outliers

SLACK = 1e-12


def usable_entries(matrix, signal, norm, left_out, r):
    """Return the pixels of ring r that take part, with their values and weights."""
    use = (matrix[:, r] > 0) & ~left_out & (norm != 0) & np.isfinite(signal)
    pixels = np.flatnonzero(use).tolist()
    return pixels, {i: signal[i] / norm[i] for i in pixels}, {i: matrix[i, r] * norm[i] for i in pixels}


def kept_by_clipping(matrix, signal, norm, variance, left_out, threshold, max_iter, model, gain=1.0):
    """Return which entries (pixels, bins) sigma clipping keeps, `model` "azimuthal" or "poisson"."""
    kept = np.zeros(matrix.shape, bool)
    for r in range(matrix.shape[1]):
        stay, v, w = usable_entries(matrix, signal, norm, left_out, r)
        for _ in range(max_iter):
            if not stay:
                break
            mean = math.fsum(w[i] * v[i] for i in stay) / math.fsum(w[i] for i in stay)
            if model == "poisson":
                total = math.fsum(matrix[i, r] ** 2 * variance[i] for i in stay) or gain
            else:
                total = math.fsum((w[i] * (v[i] - mean)) ** 2 for i in stay)
            std = math.sqrt(total / math.fsum(w[i] ** 2 for i in stay))
            n = max(3.0, math.fsum(matrix[i, r] for i in stay))
            cut = max(threshold, math.sqrt(2 * math.log(n / math.sqrt(2 * math.pi))))
            reach = cut * std * (1 + SLACK) + SLACK * abs(mean)
            inside = [i for i in stay if abs(v[i] - mean) <= reach]
            if len(inside) == len(stay):
                break
            stay = inside
        kept[stay, r] = True
    return kept


def kept_between_quantiles(matrix, signal, norm, left_out, lower, upper):
    """Return which entries (pixels, bins) lie between two quantiles of cumulative weight."""
    kept = np.zeros(matrix.shape, bool)
    for r in range(matrix.shape[1]):
        pixels, v, w = usable_entries(matrix, signal, norm, left_out, r)
        if not pixels:
            continue
        total = math.fsum(w.values())
        begin, end, slack = lower * total, upper * total, SLACK * total
        weight_of = dict.fromkeys(sorted(v.values()), 0.0)
        for i in pixels:
            weight_of[v[i]] += w[i]
        spans = []  # of each distinct value: value, cumulative weight before and after
        before = 0.0
        for value, weight in weight_of.items():
            spans.append((value, before, before + weight))
            before += weight
        values = {x for x, a, b in spans if a >= begin - slack and b <= end + slack}
        values |= {x for x, a, b in spans if a <= begin + slack and b >= end - slack}
        if not values:
            middle = (begin + end) / 2
            values = {x for x, a, b in spans if a - slack <= middle <= b + slack}
        for i in pixels:
            kept[i, r] = v[i] in values
    return kept
