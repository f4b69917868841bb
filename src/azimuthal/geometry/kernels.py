"""Serial kernels over rows of pixels: detector coordinates -> laboratory -> radial coordinate and azimuth.

All arrays are float64 and C-contiguous. `matrix` (3, 3) turns a vector (1: rows, 2: columns, 3: along the normal)
that begins at the sample into the laboratory's (y, x, z). `sines` and `shifts` tabulate the parallax correction, in
metres, against the sine of the incidence angle; both are empty without parallax. Output arrays of size 0 are not
filled. Rows pass through small buffers, one simple loop after the other: that is what the compiler vectorizes.
"""

import math

import numpy as np
from numba import njit

from azimuthal.units.kernels import fill_azimuth, fill_radial

_BLOCK = 4096


@njit(cache=True, nogil=True, error_model="numpy")
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


@njit(cache=True, nogil=True, error_model="numpy")
def _to_lab(v1, v2, v3, matrix, sines, shifts, y, x, z):
    """Fill y, x, z (n) for points v1, v2, v3 (n); the parallax moves them towards the foot of the perpendicular."""
    n = v1.size
    if shifts.size > 0:
        for j in range(n):
            radius = math.sqrt(v1[j] * v1[j] + v2[j] * v2[j])
            if radius > 0.0:
                scale = 1.0 + _shift(radius / math.sqrt(radius * radius + v3[j] * v3[j]), sines, shifts) / radius
                v1[j] *= scale
                v2[j] *= scale
    for j in range(n):
        y[j] = matrix[0, 0] * v1[j] + matrix[0, 1] * v2[j] + matrix[0, 2] * v3[j]
        x[j] = matrix[1, 0] * v1[j] + matrix[1, 1] * v2[j] + matrix[1, 2] * v3[j]
        z[j] = matrix[2, 0] * v1[j] + matrix[2, 1] * v2[j] + matrix[2, 2] * v3[j]


@njit(cache=True, nogil=True, error_model="numpy")
def _grid_row_to_lab(line1, lines2, distance, matrix, sines, shifts, buffer, y, x, z):
    """Fill y, x, z (n2) along one row of a grid; `buffer` (3, n2) is scratch."""
    buffer[0, :] = line1
    buffer[1, :] = lines2
    buffer[2, :] = distance
    _to_lab(buffer[0], buffer[1], buffer[2], matrix, sines, shifts, y, x, z)


@njit(cache=True, nogil=True, error_model="numpy")
def grid_to_lab(lines1, lines2, distance, matrix, sines, shifts, start, stop, y, x, z):
    """Fill y, x, z (n1, n2) at the crossings of `lines1` (n1) and `lines2` (n2), which are relative to the PONI."""
    buffer = np.empty((3, lines2.size))
    for i in range(start, stop):
        _grid_row_to_lab(lines1[i], lines2, distance, matrix, sines, shifts, buffer, y[i], x[i], z[i])


@njit(cache=True, nogil=True, error_model="numpy")
def points_to_lab(points, distance, matrix, sines, shifts, start, stop, y, x, z):
    """Fill y, x, z (n) for points (3, n), rows z, y, x, on the detector relative to the PONI."""
    buffer = np.empty((3, _BLOCK))
    for first in range(start, stop, _BLOCK):
        last = min(first + _BLOCK, stop)
        n = last - first
        buffer[0, :n] = points[1, first:last]
        buffer[1, :n] = points[2, first:last]
        buffer[2, :n] = points[0, first:last] + distance
        rows = (buffer[0, :n], buffer[1, :n], buffer[2, :n])
        _to_lab(rows[0], rows[1], rows[2], matrix, sines, shifts, y[first:last], x[first:last], z[first:last])


@njit(cache=True, nogil=True, error_model="numpy")
def grid_to_radial(lines1, lines2, distance, matrix, sines, shifts, start, stop, code, factor, radial, chi):
    """Fill radial coordinate and azimuth, each (n1, n2) or empty, at the crossings of `lines1` and `lines2`."""
    buffer, lab = np.empty((3, lines2.size)), np.empty((3, lines2.size))
    y, x, z = lab[0], lab[1], lab[2]
    for i in range(start, stop):
        _grid_row_to_lab(lines1[i], lines2, distance, matrix, sines, shifts, buffer, y, x, z)
        if radial.size > 0:
            fill_radial(code, factor, y, x, z, radial[i])
        if chi.size > 0:
            fill_azimuth(1.0, y, x, chi[i])


@njit(cache=True, nogil=True, error_model="numpy")
def grid_solid_angle(lines1, lines2, areas1, areas2, distance, start, stop, out):
    """Fill (distance / R)³ times the pixel's area over the nominal one, whose factors are `areas1` and `areas2`."""
    for i in range(start, stop):
        base = lines1[i] * lines1[i] + distance * distance
        for j in range(lines2.size):
            cosine = distance / math.sqrt(base + lines2[j] * lines2[j])
            out[i, j] = cosine * cosine * cosine * areas1[i] * areas2[j]


@njit(cache=True, nogil=True, error_model="numpy")
def fill_polarization(y, x, z, factor, cos2, sin2, out):
    """Fill the polarization factor (n) of points y, x, z (n); `cos2` and `sin2` are those of twice the axis offset."""
    for i in range(out.size):
        total = y[i] * y[i] + x[i] * x[i] + z[i] * z[i]
        plane = (x[i] * x[i] - y[i] * y[i]) * cos2 - 2.0 * x[i] * y[i] * sin2
        out[i] = 0.5 * (total + z[i] * z[i] - factor * plane) / total


@njit(cache=True, nogil=True, error_model="numpy")
def grid_polarization(lines1, lines2, distance, matrix, sines, shifts, start, stop, factor, cos2, sin2, out):
    """Fill the polarization factor (n1, n2) at the crossings of `lines1` and `lines2`."""
    buffer, lab = np.empty((3, lines2.size)), np.empty((3, lines2.size))
    y, x, z = lab[0], lab[1], lab[2]
    for i in range(start, stop):
        _grid_row_to_lab(lines1[i], lines2, distance, matrix, sines, shifts, buffer, y, x, z)
        fill_polarization(y, x, z, factor, cos2, sin2, out[i])


@njit(cache=True, nogil=True, error_model="numpy")
def corners_of_vertices(vertices, start, stop, out):
    """Copy a grid of vertices (n1 + 1, n2 + 1) to the corners A, B, C, D of each pixel: (n1, n2, 4)."""
    for i in range(start, stop):
        for j in range(out.shape[1]):
            out[i, j, 0] = vertices[i, j]
            out[i, j, 1] = vertices[i + 1, j]
            out[i, j, 2] = vertices[i + 1, j + 1]
            out[i, j, 3] = vertices[i, j + 1]
