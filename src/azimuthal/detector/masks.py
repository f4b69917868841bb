"""Which pixels of a detector never see the beam: gaps between modules, dead columns, rims."""

from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

Mask: TypeAlias = npt.NDArray[np.bool_]
Band: TypeAlias = tuple[int, int, int]
"""First index, width and period of masked rows or columns."""


class MaskRule(Protocol):
    """How a detector's mask follows from its shape; hashable."""

    def on(self, shape: tuple[int, int], binning: tuple[int, int]) -> Mask:
        """Return the mask, True = masked, of a frame with this shape (before binning) that is binned like this."""
        ...


def bin_mask(mask: Mask, binning: tuple[int, int]) -> Mask:
    """Return the mask of a binned frame: a pixel is masked when any pixel that went into it is."""
    if binning == (1, 1):
        return mask
    rows, columns = (n // b for n, b in zip(mask.shape, binning, strict=True))
    cut = mask[: rows * binning[0], : columns * binning[1]]
    return np.asarray(cut.reshape(rows, binning[0], columns, binning[1]).any(axis=(1, 3)))


@dataclass(frozen=True)
class NoMask:
    """Every pixel counts."""

    def on(self, shape: tuple[int, int], binning: tuple[int, int]) -> Mask:
        """Return an empty mask."""
        return np.zeros((shape[0] // binning[0], shape[1] // binning[1]), dtype=np.bool_)


@dataclass(frozen=True)
class Bands:
    """Whole rows and columns are masked, periodically."""

    rows: tuple[Band, ...]
    columns: tuple[Band, ...]

    def on(self, shape: tuple[int, int], binning: tuple[int, int]) -> Mask:
        """Return the mask of all rows and columns in a band."""
        rows, columns = (_in_bands(n, bands) for n, bands in zip(shape, (self.rows, self.columns), strict=True))
        return bin_mask(rows[:, None] | columns[None, :], binning)


def _in_bands(n: int, bands: tuple[Band, ...]) -> Mask:
    index = np.arange(n)
    masked = np.zeros(n, dtype=np.bool_)
    for first, width, period in bands:
        masked |= (index >= first) & ((index - first) % period < width)
    return masked


@dataclass(frozen=True)
class Tiles:
    """Only rectangles of one size, with their first pixels at these places, count."""

    size: tuple[int, int]
    at: tuple[tuple[int, int], ...]

    def on(self, shape: tuple[int, int], binning: tuple[int, int]) -> Mask:
        """Return the mask of all that is outside the tiles."""
        mask = np.ones(shape, dtype=np.bool_)
        for row, column in self.at:
            mask[row : row + self.size[0], column : column + self.size[1]] = False
        return bin_mask(mask, binning)


@dataclass(frozen=True)
class Disc:
    """Only the disc inscribed in the (binned) frame counts: image plates, round tapers."""

    def on(self, shape: tuple[int, int], binning: tuple[int, int]) -> Mask:
        """Return the mask of pixels whose centres are outside the disc."""
        rows, columns = (n // b for n, b in zip(shape, binning, strict=True))
        centre = (rows // 2, columns // 2)
        dy = np.arange(rows) + 0.5 - centre[0]
        dx = np.arange(columns) + 0.5 - centre[1]
        return np.asarray(dy[:, None] ** 2 + dx[None, :] ** 2 > float(centre[0]) ** 2)
