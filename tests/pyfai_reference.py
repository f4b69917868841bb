"""The installed pyFAI as a reference: the same geometry there, and its numbers in a form that compares.

Every case gets a pyFAI integrator of its own, because its state depends on history. pyFAI stores pixel corners as
float32: `rounded` does the same to ours, so that what is compared is the splitting, not the rounding.
"""

import warnings
from dataclasses import dataclass

import numpy as np
from pyFAI.detectors import detector_factory
from pyFAI.integrator.azimuthal import AzimuthalIntegrator
from scipy.sparse import csc_array, csr_array

import azimuthal as az
from azimuthal.bins import poles_of
from azimuthal.csr import TiledMatrix
from azimuthal.integrator.summing import Summing
from azimuthal.splitting import Corners, share_bbox, share_full, share_whole

EPS32 = 1.0 + 2.0**-23
"""By this factor pyFAI widens the upper bound of a range."""
INTERNAL = {"q_nm^-1": "q_nm^-1", "q_A^-1": "q_nm^-1", "2th_deg": "2th_rad", "2th_rad": "2th_rad"}
"""The unit in which pyFAI keeps positions."""


def random_geometry(name, seed, orientation=3):
    """Return a detector anywhere in front of the sample, turned in any way."""
    rng = np.random.default_rng(seed)
    return az.Geometry(
        az.Detector.from_name(name, orientation=orientation),
        distance=rng.uniform(0.1, 0.5),
        poni1=rng.uniform(-0.02, 0.1),
        poni2=rng.uniform(-0.02, 0.1),
        rot1=rng.uniform(-0.6, 0.6),
        rot2=rng.uniform(-0.6, 0.6),
        rot3=rng.uniform(-3, 3),
        wavelength=rng.uniform(0.3e-10, 1.5e-10),
    )


def pyfai_of(geometry):
    """Return a fresh pyFAI integrator for a geometry."""
    g = geometry
    detector = detector_factory(g.detector.name, {"orientation": g.detector.orientation})
    rotations = {"rot1": g.rot1, "rot2": g.rot2, "rot3": g.rot3}
    ai = AzimuthalIntegrator(g.distance, g.poni1, g.poni2, **rotations, detector=detector, wavelength=g.wavelength)
    ai.empty = 0.0
    return ai


def common_range(geometry, unit, percentiles=(2, 98)):
    """Return a range inside the detector to ask pyFAI for, and the same with its upper bound widened as pyFAI does."""
    low, high = np.percentile(geometry.radial(unit), percentiles)
    scale = az.radial_unit(unit).scale / az.radial_unit(INTERNAL[unit]).scale
    return (low, high), (low, high / scale * EPS32 * scale)


def random_frame(geometry, seed, mean=50.0, least=0):
    """Return a uint32 frame of noise, without counts below `least`."""
    return np.maximum(np.random.default_rng(seed).poisson(mean, geometry.shape), least).astype(np.uint32)


@dataclass(frozen=True)
class Reference:
    """What pyFAI makes of a frame: its result, and its matrix, (bins, pixels)."""

    result: object
    matrix: csr_array


def integrate(geometry, frame, npt, unit, asked, splitting, **keywords):
    """Integrate with pyFAI's sparse matrix in a range, polarization 0.99, Poisson errors unless said."""
    ai = pyfai_of(geometry)
    keywords = {"polarization_factor": 0.99, "error_model": "poisson"} | keywords
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = ai.integrate1d(
            frame, npt, unit=unit, radial_range=asked, method=(splitting, "csr", "cython"), **keywords
        )
    engine = next(e.engine for e in ai.engines.values() if "csr" in str(type(e.engine)).lower())
    parts = tuple(np.asarray(x) for x in (engine.data, engine.indices, engine.indptr))
    return Reference(result, csr_array(parts, shape=(npt, frame.size)))


def bin_order(matrix: TiledMatrix) -> csr_array:
    """Return one of our matrices as (bins, pixels)."""
    csr = matrix.csr
    return csr_array((csr.shares.astype(np.float64), csr.pixels, csr.indptr), shape=(matrix.n_bins, matrix.n_pixels))


def rounded(geometry, unit, edges, splitting):
    """Return our matrix from positions rounded as pyFAI rounds them; `edges` in `unit`."""
    internal = INTERNAL[unit]
    edges = edges * (az.radial_unit(internal).scale / az.radial_unit(unit).scale)
    mask, centres = geometry.detector.mask, geometry.radial(internal)
    if splitting == "no":
        return share_whole(centres, mask, edges)
    radial, chi = (a.astype(np.float32).astype(np.float64) for a in geometry.vertices(internal))
    if splitting == "full":
        corners = Corners.from_vertices(radial, chi)
        return share_full(corners, mask, edges, poles_of(geometry, internal))
    half = np.abs(four_corners(radial) - centres.reshape(-1, 1)).max(axis=-1)
    return share_bbox(centres, half.reshape(centres.shape), mask, edges)


def inside(ours):
    """Return which pixels, flat, lie wholly in the range, from our shares of them, (bins, pixels)."""
    return np.asarray(ours.sum(axis=0)).ravel() == 1.0


def differences(ours, theirs, skipped_bins=1):
    """Return the largest difference of the coefficients of each pixel wholly in the range, behind the first bins."""
    difference = abs(ours[skipped_bins:] - theirs[skipped_bins:]).max(axis=0).toarray().ravel()
    return np.where(inside(ours), difference, 0.0)


def four_corners(vertices):
    """Return the corners of each pixel, (pixels, 4), from a grid of vertices."""
    return np.stack([vertices[:-1, :-1], vertices[1:, :-1], vertices[1:, 1:], vertices[:-1, 1:]], -1).reshape(-1, 4)


def buffer_rounding(geometry, unit, edges):
    """Return how far pyFAI's `full` coefficients of each pixel can be off, because it adds up in float32.

    The area of a pixel is the small difference of terms as large as azimuth times radial extent: far from the beam,
    where pixels are thin in azimuth, digits are lost.
    """
    internal = INTERNAL[unit]
    width = (edges[1] - edges[0]) * (az.radial_unit(internal).scale / az.radial_unit(unit).scale)
    radial, chi = (four_corners(a) for a in geometry.vertices(internal))
    bins = radial / width
    near = chi[:, :1] + (chi - chi[:, :1] + np.pi) % (2 * np.pi) - np.pi
    diagonals = (bins[:, 2] - bins[:, 0]) * (near[:, 3] - near[:, 1]) - (bins[:, 3] - bins[:, 1]) * (
        near[:, 2] - near[:, 0]
    )
    return 2.0**-24 * np.abs(near).max(axis=1) * np.maximum(1.0, np.ptp(bins, axis=1)) / (0.5 * np.abs(diagonals))


def sums(matrix, frame, geometry):
    """Return N, V, W, Q and the Poisson variance of a frame by our kernels, over any matrix (bins, pixels)."""
    columns = csc_array(matrix)
    bins, shares = columns.indices.astype(np.int32), columns.data.astype(np.float32)
    indptr = columns.indptr.astype(np.int64)
    pixels = TiledMatrix.of_pixels(
        geometry.shape,
        matrix.shape[0],
        lambda a, b: (indptr[a : b + 1] - indptr[a], bins[indptr[a] : indptr[b]], shares[indptr[a] : indptr[b]]),
    )
    norm = (geometry.solid_angle("relative") * geometry.polarization(0.99)).ravel()
    summing = Summing(pixels, norm, 1.0, 0.0)
    counts, _ = summing.raw(frame.ravel(), np.empty(0, bool), 1, 0)
    names = ("count", "sum_signal", "sum_normalization", "sum_normalization2")
    return dict(zip(names, counts, strict=False)) | {"sum_variance": counts[6]}


def with_their_sums(pattern, result):
    """Return one of our patterns with the sums of a pyFAI result, its azimuthal variance among them."""
    V, W, Q = (np.asarray(x) for x in (result.sum_signal, result.sum_normalization, result.sum_normalization2))
    mean = np.divide(V, W, out=np.zeros_like(V), where=W != 0)
    rows = [result.count, V, W, Q, mean * Q, np.asarray(result.sum_variance) + mean**2 * Q, np.maximum(V, 0.0)]
    return pattern.with_sums(np.array(rows))
