"""The first frame of a geometry, summed without the matrix that only repetition needs."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from azimuthal import threads
from azimuthal.bins import poles_of, turn_of
from azimuthal.csr.tiles import bands
from azimuthal.geometry import Geometry
from azimuthal.geometry.grid import GridPixels
from azimuthal.geometry.placing import NO_MASK, Corrections
from azimuthal.integrator.summing import Weighted, add_up
from azimuthal.pattern import Conditions
from azimuthal.splitting.once.kernels import full_once, whole_once
from azimuthal.units import radial_unit

Floats = NDArray[np.float64]


class Summed(NamedTuple):
    """What came of a frame.

    Attributes
    ----------
    signal
        (bins, 4), V, A, B and P of the counts.
    weighted
        N, W, Q and the sum of c^2, and what the frame takes away.
    used
        (pixels,) bool, whether a pixel has a share in any bin.
    unused
        How many pixels no frame can use.
    lost
        How many of the others this one lacks.
    """

    signal: Floats
    weighted: Weighted
    used: NDArray[np.bool_]
    unused: int
    lost: int


@dataclass(frozen=True, eq=False)
class Once:
    """Sums a frame on the way, from where pixels are to bins.

    Attributes
    ----------
    shape, n_bins
        Of the frame, and number of bins.
    kernel
        Of `azimuthal.splitting.once`.
    before, after
        Its arguments before the frame, and behind.
    """

    shape: tuple[int, int]
    n_bins: int
    kernel: Any
    before: tuple[Any, ...]
    after: tuple[Any, ...]

    @classmethod
    def of(
        cls,
        geometry: Geometry,
        unit: str,
        edges: Floats,
        conditions: Conditions,
        skipped: NDArray[np.bool_],
        normalized: tuple[Floats, NDArray[np.bool_]] | None,
    ) -> "Once | None":
        """Return what sums frames of a geometry onto bins; None where there is no such short way.

        It exists for rectangles in a flat grid, over radial coordinates, without splitting or with full splitting.

        Parameters
        ----------
        geometry, unit, edges
            Where the pixels are, and bins, (bins + 1,).
        conditions
            Of the patterns.
        skipped
            (rows, columns), pixels that are left out.
        normalized
            The normalization of pixels and which are no use, (rows, columns), where they are known.

        Raises
        ------
        GeometryError, UnitError
            If solid angle, polarization or unit cannot be.
        """
        pixels, splitting = geometry.pixels, conditions.splitting
        if not isinstance(pixels, GridPixels) or turn_of(radial_unit(unit)) is not None or splitting == "bbox":
            return None
        if splitting == "full" and not geometry.contiguous:
            return None
        kinds = conditions.solid_angle, conditions.polarization
        if normalized is None:
            factors = geometry.normalization_factors(*kinds, Corrections(None, None, skipped, NO_MASK))
        else:  # one factor is the whole
            given = Corrections(normalized[0], None, normalized[1], NO_MASK)
            factors = geometry.normalization_factors(None, None, given)
        axis = *radial_unit(unit).kernel_arguments(geometry.wavelength), edges
        before = pixels.centre_grid(), factors, axis
        if splitting == "no":
            return cls(geometry.shape, edges.size - 1, whole_once, before, ())
        after = pixels.vertex_lines(), poles_of(geometry, unit).array
        return cls(geometry.shape, edges.size - 1, full_once, before, after)

    def __call__(self, frame: NDArray[Any], masked: NDArray[np.bool_], low: Any, high: Any) -> Summed:
        """Sum a flat frame; arguments as for `Summing.raw`."""
        used = np.empty(self.shape[0] * self.shape[1], np.bool_)
        counts = frame, masked, low, high
        parts = threads.run(
            lambda first, last: self.kernel(first, last, self.shape, *self.before, counts, used, *self.after),
            bands(self.shape, self.n_bins),
        )
        first, last = min(part[2] for part in parts), max(part[3] for part in parts)
        span = slice(first, max(first, last))
        sums = add_up([part[0][span] for part in parts])
        lost = sum(part[5] for part in parts)
        lost_sums = add_up([part[1][span] for part in parts]) if lost else None
        weighted = Weighted(self.n_bins, span, sums[:, 4:], lost_sums)
        return Summed(sums[:, :4], weighted, used, sum(part[4] for part in parts), lost)
