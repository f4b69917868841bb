"""Serial kernels over rows of pixels: detector coordinates -> laboratory -> radial coordinate, azimuth, corrections.

All arrays are float64 and C-contiguous unless said. `matrix` (3, 3) turns a vector (1: rows, 2: columns, 3: along the
normal) that begins at the sample into the laboratory's (y, x, z). `sines` and `shifts` tabulate the parallax
correction, in metres, against the sine of the incidence angle; both are empty without parallax. Output arrays of size 0
are not filled. Rows pass in blocks through small buffers that stay in the first cache, one simple loop after the other:
that is what the compiler vectorizes.
"""

import math

import numpy as np
from numba import njit

from azimuthal.units.kernels import angle_from_axis, fill_azimuth, fill_radial

_BLOCK = 512


@njit(cache=True, nogil=True, error_model="numpy")
def _undo_parallax(v1, v2, v3, sines, shifts):
    """Move points v1, v2, v3 (n), v3 > 0, towards the foot of the perpendicular.

    The table is interpolated linearly in the sine; its sines are those of equidistant angles from 0 to π/2.
    """
    last = sines.size - 1
    steps = last / (0.5 * math.pi)
    radius, sine, place = np.empty(v1.size), np.empty(v1.size), np.empty(v1.size)
    for j in range(v1.size):
        r2 = v1[j] * v1[j] + v2[j] * v2[j]
        radius[j] = math.sqrt(r2)
        sine[j] = radius[j] / math.sqrt(r2 + v3[j] * v3[j])
        place[j] = angle_from_axis(radius[j], v3[j]) * steps
    for j in range(v1.size):
        k = min(int(place[j]), last - 1)
        slope = (shifts[k + 1] - shifts[k]) / (sines[k + 1] - sines[k])
        sine[j] = shifts[k] + slope * (sine[j] - sines[k])
    for j in range(v1.size):
        scale = 1.0 + sine[j] / (radius[j] if radius[j] > 0.0 else 1.0)
        v1[j] *= scale
        v2[j] *= scale


@njit(cache=True, nogil=True, error_model="numpy")
def _turn(matrix, y, x, z):
    """Turn vectors along axes 1, 2 and 3, given in y, x and z (n), into the laboratory, in place."""
    for j in range(y.size):
        v1, v2, v3 = y[j], x[j], z[j]
        y[j] = matrix[0, 0] * v1 + matrix[0, 1] * v2 + matrix[0, 2] * v3
        x[j] = matrix[1, 0] * v1 + matrix[1, 1] * v2 + matrix[1, 2] * v3
        z[j] = matrix[2, 0] * v1 + matrix[2, 1] * v2 + matrix[2, 2] * v3


@njit(cache=True, nogil=True, error_model="numpy")
def line_to_lab(line1, lines2, distance, matrix, sines, shifts, y, x, z):
    """Fill y, x, z (n) at the crossings of one line with `lines2` (n)."""
    if shifts.size > 0:
        y[:] = line1
        x[:] = lines2
        z[:] = distance
        _undo_parallax(y, x, z, sines, shifts)
        _turn(matrix, y, x, z)
        return
    y0, dy = matrix[0, 0] * line1 + matrix[0, 2] * distance, matrix[0, 1]
    x0, dx = matrix[1, 0] * line1 + matrix[1, 2] * distance, matrix[1, 1]
    z0, dz = matrix[2, 0] * line1 + matrix[2, 2] * distance, matrix[2, 1]
    for j in range(lines2.size):
        y[j] = y0 + dy * lines2[j]
        x[j] = x0 + dx * lines2[j]
        z[j] = z0 + dz * lines2[j]


@njit(cache=True, nogil=True, error_model="numpy")
def grid_to_lab(lines1, lines2, distance, matrix, sines, shifts, start, stop, y, x, z):
    """Fill y, x, z (n1, n2) at the crossings of `lines1` (n1) and `lines2` (n2), which are relative to the PONI."""
    for i in range(start, stop):
        line_to_lab(lines1[i], lines2, distance, matrix, sines, shifts, y[i], x[i], z[i])


@njit(cache=True, nogil=True, error_model="numpy")
def points_to_lab(points, distance, matrix, sines, shifts, start, stop, y, x, z):
    """Fill y, x, z (n) for points (3, n), rows z, y, x, on the detector relative to the PONI."""
    for j in range(start, stop):
        y[j], x[j], z[j] = points[1, j], points[2, j], points[0, j] + distance
    if shifts.size > 0:
        _undo_parallax(y[start:stop], x[start:stop], z[start:stop], sines, shifts)
    _turn(matrix, y[start:stop], x[start:stop], z[start:stop])


@njit(cache=True, nogil=True, error_model="numpy")
def grid_to_radial(lines1, lines2, distance, matrix, sines, shifts, start, stop, code, factor, radial, chi):
    """Fill radial coordinate and azimuth, each (n1, n2) or empty, at the crossings of `lines1` and `lines2`."""
    lab = np.empty((3, _BLOCK))
    for i in range(start, stop):
        for first in range(0, lines2.size, _BLOCK):
            last = min(first + _BLOCK, lines2.size)
            y, x, z = lab[0, : last - first], lab[1, : last - first], lab[2, : last - first]
            line_to_lab(lines1[i], lines2[first:last], distance, matrix, sines, shifts, y, x, z)
            if radial.size > 0:
                fill_radial(code, factor, y, x, z, radial[i, first:last])
            if chi.size > 0:
                fill_azimuth(1.0, y, x, chi[i, first:last])


@njit(cache=True, nogil=True, error_model="numpy")
def grid_normalization(
    lines1,
    lines2,
    distance,
    matrix,
    sines,
    shifts,
    start,
    stop,
    areas1,
    areas2,
    polarization,
    flat,
    absorption,
    skipped,
    norm,
    unused,
):
    """Fill the normalization (n1, n2) of pixels centred at the crossings of `lines1` and `lines2`: see `finish`.

    `areas1` and `areas2` are the factors of a pixel's area: norm begins with (distance / R)³ times their product, or
    with 1 where they are empty. `polarization` (3) is that of `multiply_polarization`, or empty.
    """
    lab = np.empty((3, _BLOCK))
    negative1 = negative2 = 0
    for i in range(start, stop):
        for first in range(0, lines2.size, _BLOCK):
            last = min(first + _BLOCK, lines2.size)
            out = norm[i, first:last]
            y, x, z = lab[0, : last - first], lab[1, : last - first], lab[2, : last - first]
            if polarization.size > 0:
                line_to_lab(lines1[i], lines2[first:last], distance, matrix, sines, shifts, y, x, z)
            row = lines1[i], lines2[first:last], distance, y, x, z
            areas = areas1[i : i + 1], areas2[first:last]
            if skipped.size == 0:
                multiply_corrections(row, areas, polarization, out)
                continue
            planes = row_of(flat, i, first, last), row_of(absorption, i, first, last)
            here, no_use = skipped[i, first:last], unused[i, first:last]
            negative = normalize_line(row, areas, polarization, planes, here, no_use, out)
            negative1 += negative[0]
            negative2 += negative[1]
    return negative1, negative2


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def row_of(plane, i, first, last):
    """Return columns first..last of row i of a plane; of one without elements, none."""
    return plane[i, first:last] if plane.size > 0 else plane.reshape(-1)


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def multiply_corrections(row, areas, polarization, out):
    """Fill the product (n) of solid angle and polarization of pixels of a row.

    ``row`` holds the row's line, those of the pixels, the distance, and y, x and z of the pixels' centres, which the
    polarization needs; ``areas`` the factors of pixels' areas, (1) and (n), or none of either.
    """
    line1, lines2, distance, y, x, z = row
    if areas[0].size > 0:
        _fill_solid_angle(line1, lines2, areas[0][0], areas[1], distance, out)
    else:
        out[:] = 1.0
    if polarization.size > 0:
        multiply_polarization(y, x, z, polarization, out)


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def normalize_line(row, areas, polarization, planes, skipped, unused, out):
    """Fill the normalization (n) of pixels of a row, and which are no use: see `finish`.

    ``planes`` are flat and absorption, (n) or none; the rest is as for `multiply_corrections`.
    """
    multiply_corrections(row, areas, polarization, out)
    negative1 = _multiply(planes[0], skipped, out) if planes[0].size > 0 else 0
    negative2 = _multiply(planes[1], skipped, out) if planes[1].size > 0 else 0
    _leave_out(skipped, out, unused)
    return negative1, negative2


@njit(cache=True, nogil=True, error_model="numpy")
def finish(start, stop, flat, absorption, skipped, norm, unused):
    """Multiply norm (rows, columns) by flat and absorption, each of its shape or empty, and mark what is no use.

    Where the product is not finite it becomes 0. Unused is, (rows, columns) bool like `skipped`, what is skipped or 0.
    Returns how many pixels that are not skipped are negative in flat and in absorption.
    """
    negative1 = negative2 = 0
    for i in range(start, stop):
        negative1 += _multiply(flat[i], skipped[i], norm[i]) if flat.size > 0 else 0
        negative2 += _multiply(absorption[i], skipped[i], norm[i]) if absorption.size > 0 else 0
        _leave_out(skipped[i], norm[i], unused[i])
    return negative1, negative2


@njit(cache=True, nogil=True, error_model="numpy")
def _fill_solid_angle(line1, lines2, area1, areas2, distance, out):
    """Fill (distance / R)³ times the pixel's area over the nominal one."""
    base = line1 * line1 + distance * distance
    scale = distance * distance * distance * area1
    for j in range(out.size):
        r2 = base + lines2[j] * lines2[j]
        out[j] = scale * areas2[j] / (r2 * math.sqrt(r2))


@njit(cache=True, nogil=True, error_model="numpy")
def multiply_polarization(y, x, z, polarization, out):
    """Multiply by the polarization of points y, x, z (n).

    `polarization` holds the factor, and cosine and sine of twice the axis offset.
    """
    factor, cos2, sin2 = polarization[0], polarization[1], polarization[2]
    for j in range(out.size):
        yy, xx, zz = y[j] * y[j], x[j] * x[j], z[j] * z[j]
        total = yy + xx + zz
        plane = (xx - yy) * cos2 - 2.0 * x[j] * y[j] * sin2
        out[j] *= 0.5 * (total + zz - factor * plane) / total


@njit(cache=True, nogil=True, error_model="numpy")
def _multiply(plane, skipped, out):
    """Multiply by a plane (n); return how many of its pixels are negative and not skipped."""
    negative = 0
    for j in range(out.size):
        out[j] *= plane[j]
        negative += (plane[j] < 0.0) & (not skipped[j])
    return negative


@njit(cache=True, nogil=True, error_model="numpy")
def _leave_out(skipped, norm, unused):
    """Make norm (n) finite, and mark where it is 0 or skipped."""
    for j in range(norm.size):
        value = norm[j] if abs(norm[j]) < math.inf else 0.0
        norm[j] = value
        unused[j] = skipped[j] | (value == 0.0)


@njit(cache=True, nogil=True, error_model="numpy")
def corners_of_vertices(vertices, start, stop, out):
    """Copy a grid of vertices (n1 + 1, n2 + 1) to the corners A, B, C, D of each pixel: (n1, n2, 4)."""
    for i in range(start, stop):
        for j in range(out.shape[1]):
            out[i, j, 0] = vertices[i, j]
            out[i, j, 1] = vertices[i + 1, j]
            out[i, j, 2] = vertices[i + 1, j + 1]
            out[i, j, 3] = vertices[i, j + 1]
