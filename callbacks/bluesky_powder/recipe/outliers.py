"""The ``outliers`` section: what to leave out of each ring."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from azimuthal.outliers import Quantiles, Rule, SigmaClip
from azimuthal.pattern import ErrorModel
from bluesky_powder.recipe.mistakes import Key, at_keys
from bluesky_powder.recipe.sections import Number, Whole

THRESHOLD = 5.0
MAX_ITER = 5
_KEYS = {"sigma_clip": {"threshold", "max_iter"}, "quantile": {"quantile"}, "median": set()}


class OutliersSection(BaseModel):
    """How outliers (zingers, single-crystal spots) are kept out of patterns; the mean frame is integrated whole.

    Attributes
    ----------
    method
        sigma_clip, quantile (the mean between two quantiles) or median.
    threshold, max_iter
        Of sigma_clip: standard deviations, and rounds at most; left out: 5 and 5.
    quantile
        Of quantile: the fractions between which a ring's values are kept.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["sigma_clip", "quantile", "median"] = Field(description="how", examples=["sigma_clip"])
    threshold: Number | None = Field(default=None, ge=0)
    max_iter: Whole | None = Field(default=None, ge=0)
    quantile: tuple[Number, Number] | None = Field(default=None, examples=["[0.1, 0.9]"])

    @model_validator(mode="before")
    @classmethod
    def _quantile_says_how(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and "method" not in data and "quantile" in data:
            return {**data, "method": "quantile"}
        return data

    @model_validator(mode="after")
    def _belong_together(self) -> Self:
        mistakes = list(self._mistakes())
        if mistakes:
            raise at_keys(*mistakes)
        return self

    def rule(self, error_model: ErrorModel) -> Rule:
        """Return what the engine applies to a frame."""
        if self.method == "sigma_clip":
            threshold = THRESHOLD if self.threshold is None else self.threshold
            return SigmaClip(threshold, MAX_ITER if self.max_iter is None else self.max_iter, error_model)
        return Quantiles(*(self.quantile or (0.5, 0.5)))

    def _mistakes(self) -> Iterator[tuple[Key, str]]:
        for name in ("threshold", "max_iter", "quantile"):
            if getattr(self, name) is not None and name not in _KEYS[self.method]:
                yield (name,), f"is no part of method {self.method}; leave it out"
        if self.method != "quantile":
            return
        if self.quantile is None:
            yield ("quantile",), "missing (fractions between which values are kept); for example `quantile: [0.1, 0.9]`"
        elif not 0 <= self.quantile[0] <= self.quantile[1] <= 1:
            yield ("quantile",), f"{list(self.quantile)} are not two rising fractions between 0 and 1"
