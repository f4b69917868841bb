"""The other sections of a recipe: bins, integration, corrections."""

import math
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator

from azimuthal.bins import RadialBins
from azimuthal.detector import Detector
from azimuthal.integrator import SolidAngle
from azimuthal.pattern import ErrorModel
from azimuthal.splitting import Splitting
from azimuthal.units import radial_unit
from bluesky_powder.recipe.conversions import unit_name
from bluesky_powder.recipe.darks import Dark, DarkFromRun, DarkFromStream, number_or_array, read_dark
from bluesky_powder.recipe.files import ArrayFile, ArrayFileField
from bluesky_powder.recipe.mistakes import Key, at_keys
from bluesky_powder.recipe.sources import KeySource, Source


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
        What is subtracted from each frame, with its sign: a file or number, the latest frame before it of a stream of
        the run (`stream`: the one named dark), or the mean of another run (`{run: key of the start document}`). Several
        images of one dark event are averaged. Nothing is scaled to the frame's exposure time.
    dark_variance
        File or number, the variance of a dark from a file or number; that of other darks follows from gain, read noise
        and how many images were averaged.
    missing_dark
        What becomes of a frame that has no dark where the run should bring one: skip, or unsubtracted.
    dummy, delta_dummy
        Value that stands for 'no data', and its tolerance; left out: as the detector's maker has it.
    monitor
        Data key (in events, files, configuration, baseline or another stream) or number that frames are divided by.
    exposure
        Likewise, the exposure time; frames are divided by it too. It is in seconds: a data key whose own units are
        another time is converted, one without units, or with units that are not known here, is taken for seconds.
    bad_monitor
        What becomes of a frame whose monitor or exposure is missing, not finite, or not above 0: skip, or unnormalised.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mask: ArrayFileField | None = Field(default=None, description="file, non-zero = left out", examples=["mask.npy"])
    flat: ArrayFileField | None = Field(default=None, description="file", examples=["flat.npy"])
    absorption: ArrayFileField | None = Field(default=None, description="file", examples=["absorption.npy"])
    dark: Dark | None = Field(default=None, description="stream, run, file or number", examples=["stream"])
    dark_variance: ArrayFile | float | None = Field(default=None, description="file or number")
    missing_dark: Literal["skip", "unsubtracted"] = "skip"
    dummy: Number | None = None
    delta_dummy: Number | None = Field(default=None, ge=0)
    monitor: Source | None = Field(default=None, description="data key", examples=["i0"])
    exposure: Source | None = Field(default=None, description="data key or seconds", examples=["eiger_exposure"])
    bad_monitor: Literal["skip", "unnormalised"] = "skip"

    @field_validator("dark", mode="before")
    @classmethod
    def _dark_kind(cls, value: Any, info: ValidationInfo) -> Any:
        return read_dark(value, info)

    @field_validator("dark_variance", mode="before")
    @classmethod
    def _variance_kind(cls, value: Any, info: ValidationInfo) -> Any:
        return value if value is None else number_or_array(value, info)

    @field_validator("dark_variance")
    @classmethod
    def _is_variance(cls, variance: ArrayFile | float | None, info: ValidationInfo) -> ArrayFile | float | None:
        if variance is None:
            return None
        array = variance.array if isinstance(variance, ArrayFile) else variance
        if not np.all(np.isfinite(array)) or np.any(array < 0):
            raise ValueError("a variance is finite and at least 0; is it a standard deviation, or a dark?")
        if isinstance(info.data.get("dark"), DarkFromStream | DarkFromRun):
            raise ValueError("goes with a dark from a file or number; that of a stream or run is known from its counts")
        if info.data.get("dark", 0.0) is None:
            raise ValueError("there is no dark that it could belong to; give dark too")
        return variance

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

    @field_validator("monitor", "exposure")
    @classmethod
    def _normalizes(cls, source: str | float | KeySource | None) -> str | float | KeySource | None:
        if isinstance(source, float) and not (math.isfinite(source) and source > 0):
            raise ValueError(f"{source!r} cannot normalize a frame; give a data key or a number above 0")
        return source

    @field_validator("exposure")
    @classmethod
    def _is_a_time(cls, source: str | float | KeySource | None) -> str | float | KeySource | None:
        if isinstance(source, KeySource) and source.to_unit is not None and unit_name(source.to_unit) != "s":
            raise at_keys((("to_unit",), f"{source.to_unit!r}: the exposure is in seconds; give `to_unit: s`"))
        return source

    def misfits(self, detector: Detector) -> Iterator[tuple[Key, str]]:
        """Yield the key of each array that does not fit the detector, and what is wrong."""
        for name in ("mask", "flat", "absorption", "dark", "dark_variance"):
            file = getattr(self, name)
            if isinstance(file, ArrayFile) and file.shape != detector.shape:
                yield (name,), f"{file.file} has shape {file.shape}, the detector {detector.name} has {detector.shape}"
