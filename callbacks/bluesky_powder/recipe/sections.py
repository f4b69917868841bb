"""The other sections of a recipe: bins, integration, corrections."""

import math
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator

from azimuthal.bins import RadialBins
from azimuthal.detector import Detector
from azimuthal.integrator import SolidAngle
from azimuthal.pattern import ErrorModel
from azimuthal.splitting import Splitting
from azimuthal.units import radial_unit
from bluesky_powder.recipe.files import ArrayFile, ArrayFileField, read_array_field
from bluesky_powder.recipe.geometry import Source
from bluesky_powder.recipe.mistakes import Key


def _number(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError(f"{value!r} is no number")
    return value


Number = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
Whole = Annotated[int, BeforeValidator(_number)]


class BinsSection(BaseModel):
    """Radial bins.

    Attributes
    ----------
    unit
        Radial unit, such as 2th_deg or q_A^-1.
    npt
        Number of bins.
    range
        Lower and upper bound in that unit; may be left out with a PONI file: what the detector covers.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    unit: str = Field(description="radial unit", examples=["2th_deg"])
    npt: Whole = Field(description="number of bins", examples=[2000])
    range: tuple[Number, Number] | None = Field(default=None, description="bounds in that unit", examples=["[2, 60]"])

    @field_validator("unit")
    @classmethod
    def _known(cls, unit: str) -> str:
        return radial_unit(unit).name

    @field_validator("npt")
    @classmethod
    def _some(cls, npt: int) -> int:
        if npt < 1:
            raise ValueError(f"{npt} bins are none; give 1 or more")
        return npt

    @field_validator("range")
    @classmethod
    def _rising(cls, bounds: tuple[float, float] | None) -> tuple[float, float] | None:
        if bounds is not None and not bounds[0] < bounds[1]:
            raise ValueError(f"[{bounds[0]:g}, {bounds[1]:g}] is empty; give [low, high] with low < high")
        return bounds

    def radial_bins(self) -> RadialBins:
        """Return the engine's bins."""
        return RadialBins(self.unit, self.npt, self.range)


class IntegrationSection(BaseModel):
    """How pixels become bins.

    Attributes
    ----------
    splitting
        no, bbox or full.
    error_model
        Which errors `sem` reports: azimuthal (scatter along the ring) or poisson (counting statistics).
    solid_angle
        relative, absolute or null; left out: relative with a PONI file, absolute with a goniometer.
    polarization
        Factor between -1 and 1, or null.
    parallax
        true or false; null as the file says.
    gain
        Variance of one count.
    read_noise
        Standard deviation of a pixel without counts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    splitting: Splitting = "full"
    error_model: ErrorModel = "azimuthal"
    solid_angle: SolidAngle = "relative"
    polarization: Number | None = Field(default=0.99, ge=-1, le=1)
    parallax: bool | None = None
    gain: Number = Field(default=1.0, gt=0)
    read_noise: Number = Field(default=0.0, ge=0)

    @field_validator("splitting", mode="before")
    @classmethod
    def _yaml_no(cls, value: Any) -> Any:
        return "no" if value is False else value  # what other YAML readers make of a bare no


class CorrectionsSection(BaseModel):
    """What is taken off, divided by, or left out.

    Attributes
    ----------
    mask
        File of booleans or whole numbers, non-zero = left out; adds to the detector's gaps.
    flat
        File; pixels where it is 0 are left out.
    absorption
        File, a further factor like the flat.
    dark
        File or number, subtracted with its sign.
    dummy, delta_dummy
        Value that stands for 'no data', and its tolerance; left out: as the detector's maker has it.
    monitor
        Data key (in events, configuration or baseline) or number that frames are divided by.
    bad_monitor
        What becomes of a frame whose monitor is missing, not finite, or not above 0: skip, or unnormalised.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mask: ArrayFileField | None = Field(default=None, description="file, non-zero = left out", examples=["mask.npy"])
    flat: ArrayFileField | None = Field(default=None, description="file", examples=["flat.npy"])
    absorption: ArrayFileField | None = Field(default=None, description="file", examples=["absorption.npy"])
    dark: ArrayFile | float | None = Field(default=None, description="file or number", examples=["dark.npy"])
    dummy: Number | None = None
    delta_dummy: Number | None = Field(default=None, ge=0)
    monitor: Source | None = Field(default=None, description="data key", examples=["i0"])
    bad_monitor: Literal["skip", "unnormalised"] = "skip"

    @field_validator("dark", mode="before")
    @classmethod
    def _dark_kind(cls, value: Any, info: ValidationInfo) -> Any:
        if value == "stream":
            raise ValueError("darks from a stream are not done yet; give a file or a number, or leave dark out")
        if value is None or (isinstance(value, int | float) and math.isfinite(value)):
            return _number(value)
        return read_array_field(value, info)

    @field_validator("mask")
    @classmethod
    def _is_mask(cls, mask: ArrayFile | None) -> ArrayFile | None:
        if mask is not None and mask.array.dtype.kind == "f":
            raise ValueError(
                f"{mask.file} holds {mask.dtype}, a mask is boolean or whole numbers (non-zero = left out); "
                "is it a flat or an image?"
            )
        return mask

    @field_validator("flat", "absorption")
    @classmethod
    def _is_factor(cls, factor: ArrayFile | None, info: ValidationInfo) -> ArrayFile | None:
        if factor is not None and (factor.array < 0).any():
            raise ValueError(f"{factor.file} holds negative numbers; a factor like {info.field_name} has none")
        return factor

    @field_validator("monitor")
    @classmethod
    def _normalizes(cls, monitor: str | float | None) -> str | float | None:
        if isinstance(monitor, float) and not (math.isfinite(monitor) and monitor > 0):
            raise ValueError(f"{monitor!r} cannot normalize a frame; give a data key or a number above 0")
        return monitor

    def misfits(self, detector: Detector) -> Iterator[tuple[Key, str]]:
        """Yield the key of each array that does not fit the detector, and what is wrong."""
        for name in ("mask", "flat", "absorption", "dark"):
            file = getattr(self, name)
            if isinstance(file, ArrayFile) and file.shape != detector.shape:
                yield (name,), f"{file.file} has shape {file.shape}, the detector {detector.name} has {detector.shape}"
