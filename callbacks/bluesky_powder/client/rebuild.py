"""Patterns, whole with their seven sums, from what a derived run tells of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from azimuthal.pattern import Conditions, ErrorModel, Pattern
from bluesky_powder.errors import DerivedRunError

SUMS = "sums"
"""Data key, in `primary` and `merged`, of the sums that a pattern is."""


@dataclass(frozen=True, eq=False)
class PatternKind:
    """What all patterns of a derived run have in common.

    Attributes
    ----------
    unit
        Radial unit.
    edges
        (npt + 1,) bin edges in that unit.
    conditions
        How the patterns came about.
    error_model
        Which errors they report.
    gain
        Variance of one count.
    wavelength
        Metres, or None.
    """

    unit: str
    edges: NDArray[np.float64]
    conditions: Conditions
    error_model: ErrorModel
    gain: float
    wavelength: float | None

    @classmethod
    def of(
        cls,
        start: Mapping[str, Any],
        axes: Mapping[str, Any],
        stream: Mapping[str, Any],
        edges: ArrayLike,
    ) -> Self:
        """Return what documents say.

        Parameters
        ----------
        start
            The derived start document.
        axes, stream
            Data keys of the stream `axes`, and of the stream that has the sums.
        edges
            The bin edges.

        Raises
        ------
        DerivedRunError
            If the run was reduced before sums were kept.
        """
        if "conditions" not in stream.get(SUMS, {}):
            raise DerivedRunError(
                f"run {start['uid']} was reduced by a version that kept intensities only; replay run {start['raw_uid']}"
            )
        made = dict(stream[SUMS]["conditions"])
        if made.get("polarization") is not None:
            made["polarization"] = tuple(made["polarization"])
        recipe, about = start["recipe"], axes["radial"]
        return cls(
            unit=str(about.get("radial_unit") or recipe["bins"]["unit"]),
            edges=np.array(edges, np.float64).ravel(),
            conditions=Conditions(**made),
            error_model=recipe.get("integration", {}).get("error_model", "azimuthal"),
            gain=float(stream[SUMS].get("gain", 1.0)),
            wavelength=about.get("wavelength"),
        )

    def pattern(self, sums: ArrayLike, masked_pixels: int = 0) -> Pattern:
        """Return the pattern of some sums, (7, npt).

        Raises
        ------
        DerivedRunError
            If the sums are those of a cake.
        """
        values = np.array(sums, np.float64)
        if values.ndim != 2:
            raise DerivedRunError(f"sums of shape {values.shape} are those of a cake, which is no single pattern")
        return Pattern(
            unit=self.unit,
            edges=self.edges,
            sums=values,
            conditions=self.conditions,
            error_model=self.error_model,
            gain=self.gain,
            masked_pixels=int(masked_pixels),
            wavelength=self.wavelength,
        )
