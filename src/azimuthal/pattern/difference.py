"""A pattern less a background.

Intensities subtract, and errors add in squares; but what remains is not a set of sums any more. Its signal can be
negative, and two samples less the same background share its errors, so that merging them as if they were independent
would promise too much. A difference therefore keeps both patterns whole, reads intensity and errors from them, and is
not merged: merge samples, merge backgrounds, subtract last.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, NoReturn, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from azimuthal.errors import MergeError, PatternError
from azimuthal.pattern.sums import Array, BinnedSums, Conditions, ErrorModel

T = TypeVar("T", bound=BinnedSums)


@dataclass(frozen=True, eq=False)
class Difference(Generic[T]):
    """The intensity of `sample` less `scale` times that of `background`, bin by bin; NaN where either is empty.

    Attributes
    ----------
    sample, background
        Patterns, or cakes, over the same bins with the same corrections; splitting and outlier treatment may differ.
    scale
        Factor of the background, taken for exact.

    Raises
    ------
    MergeError
        If unit, bins, solid angle, polarization or parallax differ; the message names it.
    PatternError
        If the scale is not finite.
    """

    sample: T
    background: T
    scale: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what cannot be subtracted."""
        if not math.isfinite(self.scale):
            raise PatternError(f"subtract: scale {self.scale!r} is not finite")
        object.__setattr__(self, "scale", float(self.scale))
        if not isinstance(self.background, BinnedSums):
            raise MergeError(f"subtract: {type(self.background).__name__} is neither a pattern nor a cake")
        same = {name: getattr(self.sample.conditions, name) for name in ("splitting", "outliers")}
        background = replace(self.background, conditions=replace(self.background.conditions, **same))
        difference = self.sample.difference_from(background)
        if difference:
            raise MergeError(f"subtract: the background does not fit the sample: {difference}")

    @property
    def unit(self) -> str:
        """Name of the radial unit."""
        return self.sample.unit

    @property
    def edges(self) -> Array:
        """Radial bin edges, (npt + 1,), in the unit."""
        return self.sample.edges

    @property
    def radial(self) -> Array:
        """Radial bin centres, (npt,), in the unit."""
        return self.sample.radial

    @property
    def azimuthal(self) -> Array:
        """Centres of a cake's azimuthal bins in degrees."""
        centres: Array = self._of_cake("azimuthal")
        return centres

    @property
    def azimuthal_edges(self) -> Array:
        """Edges of a cake's azimuthal bins in degrees."""
        edges: Array = self._of_cake("azimuthal_edges")
        return edges

    @property
    def conditions(self) -> Conditions:
        """How the sample's pattern came about."""
        return self.sample.conditions

    @property
    def error_model(self) -> ErrorModel:
        """Which variance of the sample `sem` and `std` speak of; the background keeps its own."""
        return self.sample.error_model

    @property
    def wavelength(self) -> float | None:
        """Metres, of the sample."""
        return self.sample.wavelength

    @property
    def filled(self) -> NDArray[np.bool_]:
        """Whether both hold anything in a bin."""
        return self.sample.filled & self.background.filled

    @property
    def intensity(self) -> Array:
        """Intensity of the sample less `scale` times that of the background."""
        return self.sample.intensity - self.scale * self.background.intensity

    @property
    def sem(self) -> Array:
        """Standard error of the intensity: both ones added in squares."""
        return np.hypot(self.sample.sem, self.scale * self.background.sem)

    @property
    def std(self) -> Array:
        """Spread of one pixel of the sample less one of the background: both ones added in squares."""
        return np.hypot(self.sample.std, self.scale * self.background.std)

    def with_errors(self, error_model: ErrorModel) -> Self:
        """Return the same difference with both errors after another error model."""
        return replace(
            self, sample=self.sample.with_errors(error_model), background=self.background.with_errors(error_model)
        )

    def rebin(self, factor: int | ArrayLike) -> Self:
        """Return the difference of both patterns in wider bins; see `BinnedSums.rebin`."""
        return replace(self, sample=self.sample.rebin(factor), background=self.background.rebin(factor))

    def save(self, path: str | Path) -> None:
        """Write both patterns whole to an HDF5 file, which `azimuthal.load_pattern` reads."""
        from azimuthal.pattern.store import save_pattern

        save_pattern(self, path)

    def __or__(self, other: object) -> NoReturn:
        """Refuse to merge, and say what to do instead."""
        raise MergeError(
            "union: differences share their background's errors and are not merged; merge the samples, merge the "
            "backgrounds, and subtract then"
        )

    __ror__ = __or__

    def __repr__(self) -> str:
        """Say what is subtracted from what."""
        return f"<Difference of {self.sample!r} and {self.scale:g} times {self.background!r}>"

    def _of_cake(self, name: str) -> Any:
        if not hasattr(self.sample, name):
            raise AttributeError(f"a pattern has no {name}; cakes have")
        return getattr(self.sample, name)
