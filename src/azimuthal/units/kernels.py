"""Loops that turn points of the laboratory into a radial coordinate or an azimuth.

A point is given by y (up), x (towards the ring's centre) and z (along the beam), in metres, with the sample at the
origin. Nothing here uses the sine of half an angle: from R² = y² + x² + z² follows sin²(2θ/2) = (R - z) / (2 R), and
since R - z = (y² + x²) / (R + z) nothing cancels near the beam.

All is plain arithmetic without branches or library calls, but for logarithms: the compiler vectorizes it, and as every
operation is one of IEEE 754's exactly rounded ones, never fused, a point has the same bits in any place of an array
and on any processor.
"""

import math

from numba import njit

TWO_THETA, Q, RADIUS, DSTAR2, CHI, LOG10, LN, LOG1P, ARCSINH = range(9)
"""Codes of the formulas."""

_TAN_EIGHTH = math.tan(math.pi / 8.0)
# A quarter of π in two parts; whole multiples of the first, up to 4, are exact.
_QUARTER = float.fromhex("0x1.921fb54442d18p-1")
_QUARTER_REST = float.fromhex("0x1.1a62633145c07p-55")
# Own minimax fit (Remez exchange, 50 digits) of atan(t) = t + t³ P(t²) for |t| <= tan(π/8); its own error is 0.012 ulp.
_P0, _P1, _P2, _P3 = -0.333333333333332, 0.19999999999953247, -0.14285714280166462, 0.11111110782152092
_P4, _P5, _P6, _P7 = -0.09090897725210102, 0.07692059717247088, -0.06663099206619506, 0.058478593228850836
_P8, _P9, _P10 = -0.050391907560643164, 0.038062150551187626, -0.017905053267707964


# numba's cache watches the file that holds a kernel: after a change here touch geometry/kernels.py, which calls these.
@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def angle_from_axis(y, x):
    """Return atan2(y, x) for y >= 0, in [0, π], to 2.5 ulp, which is 2e-16 at most; 0 for y = x = 0.

    The argument is brought below tan(π/8), as Cephes' atan.c does, but before the only division:
    atan(a / b) = π/4 + atan((a - b) / (a + b)).
    """
    width = abs(x)
    steep = y > width
    a = width if steep else y
    b = y if steep else width
    large = a > _TAN_EIGHTH * b
    above = a - b if large else a
    below = a + b if large else b
    t = above / (below if below != 0.0 else 1.0)
    s = t * t
    p = ((_P10 * s + _P9) * s + _P8) * s + _P7
    p = ((p * s + _P6) * s + _P5) * s + _P4
    p = (((p * s + _P3) * s + _P2) * s + _P1) * s + _P0
    p = t + (t * s) * p
    # The angle is k quarters of π plus or minus p: mirrored at π/4 and at π/2.
    k = 1.0 if large else 0.0
    k = 2.0 - k if steep else k
    p = -p if steep else p
    k = 4.0 - k if x < 0.0 else k
    p = -p if x < 0.0 else p
    return k * _QUARTER + (k * _QUARTER_REST + p)


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def sin2_half(y, x, z):
    """Return sin² of half the scattering angle of a point; 0 at the sample itself."""
    r2 = y * y + x * x
    norm = math.sqrt(r2 + z * z)
    far = norm + abs(z)
    above = far * far if z < 0.0 else r2
    below = 2.0 * norm * far
    return above / (below if below != 0.0 else 1.0)


@njit(cache=True, nogil=True, error_model="numpy")
def fill_azimuth(factor, y, x, out):
    """Fill `factor` times χ = atan2(y, x) in ]-π, π] for points in 1-D arrays: the half line y = -0 belongs to +π."""
    for i in range(out.size):
        chi = angle_from_axis(abs(y[i]), x[i])
        chi = -chi if y[i] < 0.0 else chi
        out[i] = factor * (math.pi if chi <= -math.pi else chi)


@njit(cache=True, nogil=True, error_model="numpy")
def fill_radial(code, factor, y, x, z, out):
    """Fill the radial coordinate of points in 1-D arrays of float64, one simple loop for each formula.

    `code` and `factor` come from :meth:`RadialUnit.kernel_arguments`.
    """
    n = out.size
    if code == CHI:
        fill_azimuth(factor, y, x, out)
    elif code == TWO_THETA:
        for i in range(n):
            out[i] = factor * angle_from_axis(math.sqrt(y[i] * y[i] + x[i] * x[i]), z[i])
    elif code == RADIUS:
        for i in range(n):
            out[i] = factor * math.sqrt(y[i] * y[i] + x[i] * x[i])
    elif code == DSTAR2:
        for i in range(n):
            out[i] = factor * sin2_half(y[i], x[i], z[i])
    else:
        for i in range(n):
            out[i] = factor * math.sqrt(sin2_half(y[i], x[i], z[i]))
        if code == LOG1P:
            for i in range(n):
                out[i] = math.log1p(out[i])
        elif code == ARCSINH:
            for i in range(n):
                out[i] = math.asinh(out[i])
        elif code == LOG10:
            for i in range(n):
                out[i] = math.log10(out[i]) if out[i] > 0.0 else -math.inf
        elif code == LN:
            for i in range(n):
                out[i] = math.log(out[i]) if out[i] > 0.0 else -math.inf
