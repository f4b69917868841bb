"""Serial kernels over rows of pixels: detector coordinates -> laboratory -> radial coordinate and azimuth.

All arrays are float64 and C-contiguous. `matrix` (3, 3) turns a vector (1: rows, 2: columns, 3: along the normal)
that begins at the sample into the laboratory's (y, x, z). `sines` and `shifts` tabulate the parallax correction, in
metres, against the sine of the incidence angle; both are empty without parallax. Output arrays of size 0 are not
filled.
"""

import math

from numba import njit

from azimuthal.units import azimuth_of, radial_of


@njit(cache=True, nogil=True, inline="always")
def _shift(sine, sines, shifts):
    """Interpolate linearly in a table whose sines are those of equidistant angles from 0 to π/2."""
    last = sines.size - 1
    sine = min(max(sine, 0.0), 1.0)
    k = int(math.asin(sine) * (last / (0.5 * math.pi)))
    k = min(max(k, 0), last - 1)
    while k > 0 and sines[k] > sine:
        k -= 1
    while k < last - 1 and sines[k + 1] <= sine:
        k += 1
    return shifts[k] + (shifts[k + 1] - shifts[k]) * (sine - sines[k]) / (sines[k + 1] - sines[k])


@njit(cache=True, nogil=True, inline="always")
def _to_lab(v1, v2, v3, matrix, sines, shifts):
    """Return (y, x, z) of a point of the detector; the parallax moves it towards the foot of the perpendicular."""
    if shifts.size > 0:
        radius = math.sqrt(v1 * v1 + v2 * v2)
        if radius > 0.0:
            scale = 1.0 + _shift(radius / math.sqrt(radius * radius + v3 * v3), sines, shifts) / radius
            v1 *= scale
            v2 *= scale
    y = matrix[0, 0] * v1 + matrix[0, 1] * v2 + matrix[0, 2] * v3
    x = matrix[1, 0] * v1 + matrix[1, 1] * v2 + matrix[1, 2] * v3
    z = matrix[2, 0] * v1 + matrix[2, 1] * v2 + matrix[2, 2] * v3
    return y, x, z


@njit(cache=True, nogil=True)
def grid_to_lab(lines1, lines2, distance, matrix, sines, shifts, start, stop, y, x, z):
    """Fill y, x, z (n1, n2) at the crossings of `lines1` (n1) and `lines2` (n2), which are relative to the PONI."""
    for i in range(start, stop):
        for j in range(lines2.size):
            y[i, j], x[i, j], z[i, j] = _to_lab(lines1[i], lines2[j], distance, matrix, sines, shifts)


@njit(cache=True, nogil=True)
def points_to_lab(points, distance, matrix, sines, shifts, start, stop, y, x, z):
    """Fill y, x, z (n) for points (n, 3) given as (z, y, x) on the detector relative to the PONI."""
    for i in range(start, stop):
        y[i], x[i], z[i] = _to_lab(points[i, 1], points[i, 2], distance + points[i, 0], matrix, sines, shifts)


@njit(cache=True, nogil=True)
def grid_to_radial(lines1, lines2, distance, matrix, sines, shifts, start, stop, code, factor, radial, chi):
    """Fill radial coordinate and azimuth, each (n1, n2) or empty, for the crossings of `lines1` and `lines2`."""
    with_radial, with_chi = radial.size > 0, chi.size > 0
    for i in range(start, stop):
        for j in range(lines2.size):
            y, x, z = _to_lab(lines1[i], lines2[j], distance, matrix, sines, shifts)
            if with_radial:
                radial[i, j] = radial_of(code, factor, y, x, z)
            if with_chi:
                chi[i, j] = azimuth_of(y, x)


@njit(cache=True, nogil=True)
def points_to_radial(points, distance, matrix, sines, shifts, start, stop, code, factor, radial, chi):
    """Fill radial coordinate and azimuth, each (n) or empty, for points (n, 3) given as (z, y, x)."""
    with_radial, with_chi = radial.size > 0, chi.size > 0
    for i in range(start, stop):
        y, x, z = _to_lab(points[i, 1], points[i, 2], distance + points[i, 0], matrix, sines, shifts)
        if with_radial:
            radial[i] = radial_of(code, factor, y, x, z)
        if with_chi:
            chi[i] = azimuth_of(y, x)


@njit(cache=True, nogil=True)
def grid_solid_angle(lines1, lines2, areas1, areas2, distance, start, stop, out):
    """Fill (distance / R)³ times the pixel's area over the nominal one, whose factors are `areas1` and `areas2`."""
    for i in range(start, stop):
        base = lines1[i] * lines1[i] + distance * distance
        for j in range(lines2.size):
            cosine = distance / math.sqrt(base + lines2[j] * lines2[j])
            out[i, j] = cosine * cosine * cosine * areas1[i] * areas2[j]


@njit(cache=True, nogil=True, inline="always")
def _polarized(y, x, z, factor, cos2, sin2):
    total = y * y + x * x + z * z
    if total == 0.0:
        return 1.0
    plane = (x * x - y * y) * cos2 - 2.0 * x * y * sin2
    return 0.5 * (total + z * z - factor * plane) / total


@njit(cache=True, nogil=True)
def grid_polarization(lines1, lines2, distance, matrix, sines, shifts, start, stop, factor, cos2, sin2, out):
    """Fill the polarization factor (n1, n2) for the crossings of `lines1` and `lines2`."""
    for i in range(start, stop):
        for j in range(lines2.size):
            y, x, z = _to_lab(lines1[i], lines2[j], distance, matrix, sines, shifts)
            out[i, j] = _polarized(y, x, z, factor, cos2, sin2)


@njit(cache=True, nogil=True)
def points_polarization(points, distance, matrix, sines, shifts, start, stop, factor, cos2, sin2, out):
    """Fill the polarization factor (n) for points (n, 3) given as (z, y, x)."""
    for i in range(start, stop):
        y, x, z = _to_lab(points[i, 1], points[i, 2], distance + points[i, 0], matrix, sines, shifts)
        out[i] = _polarized(y, x, z, factor, cos2, sin2)


@njit(cache=True, nogil=True)
def corners_of_vertices(vertices, start, stop, out):
    """Copy a grid of vertices (n1 + 1, n2 + 1) to the corners A, B, C, D of each pixel: (n1, n2, 4)."""
    for i in range(start, stop):
        for j in range(out.shape[1]):
            out[i, j, 0] = vertices[i, j]
            out[i, j, 1] = vertices[i + 1, j]
            out[i, j, 2] = vertices[i + 1, j + 1]
            out[i, j, 3] = vertices[i, j + 1]
