"""Slow and obvious geometry: one point at a time, with matrices and angles, as the definitions read."""

import math

import numpy as np


def rotation(rot1, rot2, rot3):
    """Return R3 R2 R1: left-handed about axes 1 and 2, right-handed about axis 3."""
    c1, s1, c2, s2, c3, s3 = (f(a) for a in (rot1, rot2, rot3) for f in (math.cos, math.sin))
    r1 = np.array([[1, 0, 0], [0, c1, s1], [0, -s1, c1]])
    r2 = np.array([[c2, 0, -s2], [0, 1, 0], [s2, 0, c2]])
    r3 = np.array([[c3, -s3, 0], [s3, c3, 0], [0, 0, 1]])
    return r3 @ r2 @ r1


def to_lab(geometry, p1, p2, p3=0.0):
    """Return (y, x, z) of a point of the detector."""
    vector = np.array([p1 - geometry.poni1, p2 - geometry.poni2, geometry.distance + p3])
    return rotation(geometry.rot1, geometry.rot2, geometry.rot3) @ vector


def azimuth(y, x):
    """Return χ = atan2(y, x) in ]-π, π]."""
    chi = math.atan2(y, x)
    return math.pi if chi == -math.pi else chi


def radial(name, y, x, z, wavelength):
    """Return the radial coordinate of a point, from its scattering angle."""
    two_theta = math.atan2(math.hypot(x, y), z)
    if name.startswith("2th"):
        return math.degrees(two_theta) if name == "2th_deg" else two_theta
    if name.startswith("chi"):
        return math.degrees(azimuth(y, x)) if name == "chi_deg" else azimuth(y, x)
    if name.startswith("r_"):
        return math.hypot(x, y) * (1000.0 if name == "r_mm" else 1.0)
    q_nm = 4.0 * math.pi / (wavelength * 1e9) * math.sin(0.5 * two_theta)
    q_a = 4.0 * math.pi / (wavelength * 1e10) * math.sin(0.5 * two_theta)
    return {
        "q_nm^-1": lambda: q_nm,
        "q_A^-1": lambda: q_a,
        "d*2_nm^-2": lambda: (q_nm / (2.0 * math.pi)) ** 2,
        "d*2_A^-2": lambda: (q_a / (2.0 * math.pi)) ** 2,
        "log10(q.m)_None": lambda: math.log10(q_nm * 1e9),
        "log(q.nm)_None": lambda: math.log(q_nm),
        "log(1+q.nm)_None": lambda: math.log(1.0 + q_nm),
        "log(1+q.A)_None": lambda: math.log(1.0 + q_a),
        "arcsinh(q.nm)_None": lambda: math.asinh(q_nm),
        "arcsinh(q.A)_None": lambda: math.asinh(q_a),
    }[name]()


def native_index(i, n, flipped):
    """Return which native row or column the array's one is; for vertices give n + 1 as n."""
    return n - 1 - i if flipped else i


def centre(detector, i, j):
    """Return (p1, p2) of the centre of a pixel of a uniform detector."""
    rows, columns = detector.shape
    i = native_index(i, rows, detector.orientation in (1, 2))
    j = native_index(j, columns, detector.orientation in (1, 4))
    return detector.pixel1 * (i + 0.5), detector.pixel2 * (j + 0.5)


def vertex(detector, i, j):
    """Return (p1, p2) of a vertex of the pixel grid of a uniform detector."""
    rows, columns = detector.shape
    i = native_index(i, rows + 1, detector.orientation in (1, 2))
    j = native_index(j, columns + 1, detector.orientation in (1, 4))
    return detector.pixel1 * i, detector.pixel2 * j


def pixel_corners(detector, i, j):
    """Return the four (p1, p2) of a pixel of a uniform detector, in the order A, B, C, D."""
    return [vertex(detector, i + a, j + b) for a, b in ((0, 0), (1, 0), (1, 1), (0, 1))]


def centres(geometry, name):
    """Return radial coordinate and azimuth of all pixel centres of a uniform detector: two (rows, columns) arrays."""
    rows, columns = geometry.shape
    out = np.empty((2, rows, columns))
    for i in range(rows):
        for j in range(columns):
            y, x, z = to_lab(geometry, *centre(geometry.detector, i, j))
            out[:, i, j] = radial(name, y, x, z, geometry.wavelength), azimuth(y, x)
    return out[0], out[1]


def corners(geometry, name):
    """Return radial coordinate and azimuth of all corners of a uniform detector: two (rows, columns, 4) arrays."""
    rows, columns = geometry.shape
    out = np.empty((2, rows, columns, 4))
    for i in range(rows):
        for j in range(columns):
            for k, point in enumerate(pixel_corners(geometry.detector, i, j)):
                y, x, z = to_lab(geometry, *point)
                out[:, i, j, k] = radial(name, y, x, z, geometry.wavelength), azimuth(y, x)
    return out[0], out[1]


def solid_angle(geometry):
    """Return the relative solid angle of all pixels of a uniform, flat detector: cos³ of the incidence angle."""
    rows, columns = geometry.shape
    out = np.empty((rows, columns))
    for i in range(rows):
        for j in range(columns):
            p1, p2 = centre(geometry.detector, i, j)
            incidence = math.atan(math.hypot(p1 - geometry.poni1, p2 - geometry.poni2) / geometry.distance)
            out[i, j] = math.cos(incidence) ** 3
    return out


def polarization(geometry, factor, axis_offset=0.0):
    """Return the polarization factor of all pixels of a uniform detector, from 2θ and χ."""
    two_theta, chi = centres(geometry, "2th_rad")
    cos2 = np.cos(two_theta) ** 2
    return 0.5 * (1.0 + cos2 - factor * np.cos(2.0 * (chi + axis_offset)) * (1.0 - cos2))


def parallax_displacement(angle, attenuation, thickness=None, steps=200_000):
    """Return the mean displacement in the detector's plane by summing over the depth of absorption."""
    path = np.linspace(0.0, 60.0 / attenuation if thickness is None else thickness / math.cos(angle), steps + 1)
    middle = 0.5 * (path[1:] + path[:-1])
    weight = np.exp(-attenuation * middle)
    return math.sin(angle) * float((middle * weight).sum() / weight.sum())
