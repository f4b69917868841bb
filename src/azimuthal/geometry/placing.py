"""Where a detector is, as the kernels take it, and what they are to multiply."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

NOTHING = np.empty((0, 0))
NO_NUMBERS = np.empty(0)
NO_MASK = np.empty((0, 0), np.bool_)
NO_TABLE = np.empty(0)
NO_TABLE.setflags(write=False)  # as tables are: numba compiles for either kind of array


@dataclass(frozen=True, eq=False)
class Placing:
    """Where a detector is.

    Attributes
    ----------
    poni1, poni2
        Coordinates of the foot of the perpendicular from the sample, metres.
    distance
        Length of that perpendicular, metres.
    matrix
        (3, 3), turns (rows, columns, normal) into the laboratory's (y, x, z).
    sines, shifts
        Table of the parallax correction, both empty without it.
    """

    poni1: float
    poni2: float
    distance: float
    matrix: Floats
    sines: Floats
    shifts: Floats

    @property
    def numbers(self) -> tuple[float, Floats, Floats, Floats]:
        """What kernels take, in their order."""
        return self.distance, self.matrix, self.sines, self.shifts


@dataclass(frozen=True, eq=False)
class Corrections:
    """What a normalization is multiplied by besides solid angle and polarization, and what is no use for it.

    Attributes
    ----------
    flat, absorption
        (rows, columns) float64, C-contiguous, or None.
    skipped
        (rows, columns) bool, pixels that are left out anyway; empty, with `unused`, where the product is all.
    unused
        (rows, columns) bool, to be filled: what is skipped, or where the product is 0 or not finite.
    """

    flat: Floats | None
    absorption: Floats | None
    skipped: Mask
    unused: Mask

    @property
    def arrays(self) -> tuple[Floats, Floats, Mask]:
        """What kernels read, in their order."""
        flat, absorption = (NOTHING if plane is None else plane for plane in (self.flat, self.absorption))
        return flat, absorption, self.skipped

    @staticmethod
    def total(counts: Iterable[tuple[int, int]]) -> tuple[int, int]:
        """Add up what pieces counted: pixels, not skipped, that are negative in flat and in absorption."""
        flat, absorption = zip(*counts, strict=True)
        return sum(flat), sum(absorption)


NO_CORRECTIONS = Corrections(None, None, NO_MASK, NO_MASK)
