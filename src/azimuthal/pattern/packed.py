"""Patterns that are kept for long: the bins that hold something, of the many that a goniometer's positions share."""

from dataclasses import fields
from typing import Any, Generic, TypeVar

import numpy as np

from azimuthal.pattern.sums import BinnedSums

T = TypeVar("T", bound=BinnedSums)


class Packed(Generic[T]):
    """A pattern without its empty bins.

    Parameters
    ----------
    pattern
        To be kept.
    span
        Radial bins outside of which it is known to be empty.
    """

    def __init__(self, pattern: T, span: slice) -> None:
        self._kind = type(pattern)
        self._span = span
        self._shape = pattern.sums.shape
        self._sums = pattern.sums[..., span].copy()
        self._fields: dict[str, Any] = {
            item.name: getattr(pattern, item.name) for item in fields(pattern) if item.name != "sums"
        }

    @property
    def nbytes(self) -> int:
        """Bytes of the sums that are kept."""
        return self._sums.nbytes

    @property
    def pattern(self) -> T:
        """The pattern, with the bits that it had."""
        sums = np.zeros(self._shape)
        sums[..., self._span] = self._sums
        return self._kind(sums=sums, **self._fields)
