"""The ``geometry`` section: a PONI file, or a goniometer file with where its positions come from."""

import difflib
import math
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Annotated, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from azimuthal.detector import Detector
from azimuthal.geometry import Geometry
from azimuthal.goniometer import Goniometer, rounded_positions
from azimuthal.poni import from_poni_text
from bluesky_powder.recipe.files import TextFile, TextFileField
from bluesky_powder.recipe.mistakes import Key, at_keys
from bluesky_powder.recipe.sources import KeySource, Source

ANY_SHAPE = (16, 16)


def _grid(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ValueError(f"{value!r} is no tolerance; give a number above 0, in the goniometer's units")
    return float(value)


Tolerance = Annotated[float, BeforeValidator(_grid)]


class GeometrySection(BaseModel):
    """Where the detector is.

    Attributes
    ----------
    poni
        A detector that stays where it is: a PONI file.
    goniometer
        A detector that moves: a goniometer file (JSON).
    motors
        Goniometer position -> data key (in events, files of the same stream, configuration or baseline), a number, or
        a `KeySource` that says more.
    tolerance
        Goniometer position -> grid, in the goniometer's units: positions are rounded to whole multiples of it, so that
        jitter does not make new geometries. What is recorded with a pattern is not rounded.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    poni: TextFileField | None = Field(default=None, description="PONI file", examples=["detector.poni"])
    goniometer: TextFileField | None = Field(default=None, description="goniometer file", examples=["arm.json"])
    motors: dict[str, Source] = Field(default={}, description="position -> data key", examples=["{pos: two_theta}"])
    tolerance: dict[str, Tolerance] = Field(default={}, description="position -> grid", examples=["{pos: 0.0005}"])

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.poni is not None and self.goniometer is not None:
            raise ValueError("both poni and goniometer are given; keep one")
        if self.poni is not None:
            mistakes = list(self._poni_mistakes(self.poni))
        elif self.goniometer is not None:
            mistakes = list(self._goniometer_mistakes(self.goniometer))
        else:
            raise ValueError("give `poni: detector.poni` or `goniometer: arm.json`")
        if mistakes:
            raise at_keys(*mistakes)
        return self

    @property
    def moves(self) -> bool:
        """Whether the geometry depends on motors."""
        return self.goniometer is not None

    @property
    def detector(self) -> Detector | None:
        """The detector; None where the file leaves its shape to the first frame."""
        known = self._arm or self._fixed
        return known.detector if known is not None else None

    @property
    def has_wavelength(self) -> bool:
        """Whether the file gives a wavelength, as a number or an expression of the positions."""
        if self.goniometer is not None:
            arm = self._arm or _arm(self.goniometer, ANY_SHAPE)
            return arm.wavelength is not None or "wavelength" in dict(arm.expressions)
        if self.poni is not None:
            return (self._fixed or _fixed(self.poni, ANY_SHAPE)).wavelength is not None
        return False

    def at(self, positions: Mapping[str, float], shape: tuple[int, int]) -> Geometry:
        """Return the geometry for the goniometer's positions.

        Parameters
        ----------
        positions
            Goniometer position -> value, rounded here to the tolerance; ignored with a PONI file.
        shape
            (rows, columns) of the frame, for files that do not say which shape their detector has.

        Raises
        ------
        azimuthal.errors.GeometryError, azimuthal.errors.DetectorError
            If there is none.
        """
        if self.goniometer is not None:
            at = rounded_positions(positions, self.tolerance)
            return (self._arm or _arm(self.goniometer, shape)).geometry(at)
        if self.poni is not None:
            return self._fixed or _fixed(self.poni, shape)
        raise ValueError("a geometry needs a PONI or a goniometer file")

    @cached_property
    def _arm(self) -> Goniometer | None:
        try:
            return _arm(self.goniometer, None) if self.goniometer else None
        except (ValueError, OSError):
            return None

    @cached_property
    def _fixed(self) -> Geometry | None:
        try:
            return _fixed(self.poni, None) if self.poni else None
        except (ValueError, OSError):
            return None

    def _poni_mistakes(self, poni: TextFile) -> Iterator[tuple[Key, str]]:
        if self.motors:
            yield ("motors",), "a PONI file has no positions; leave motors out, or give a goniometer file"
        if self.tolerance:
            yield ("tolerance",), "a PONI file has no positions; leave tolerance out, or give a goniometer file"
        if self._fixed is None and (problem := _problem(_fixed, poni)):
            yield ("poni",), problem

    def _goniometer_mistakes(self, goniometer: TextFile) -> Iterator[tuple[Key, str]]:
        if self._arm is None and (problem := _problem(_arm, goniometer)):
            yield ("goniometer",), problem
            return
        arm = self._arm or _arm(goniometer, ANY_SHAPE)
        names = list(arm.position_names)
        for name in names:
            if name not in self.motors:
                way_out = f"add `{name}: ` and a data key or a number"
                yield ("motors",), f"position {name!r} of {goniometer.file} has no source; {way_out}"
        for section, given in (("motors", self.motors), ("tolerance", self.tolerance)):
            for name in given:
                if name not in names:
                    near = difflib.get_close_matches(name, names, n=1)
                    hint = f"did you mean {near[0]!r}?" if near else f"it has: {', '.join(names)}"
                    yield (section, name), f"{goniometer.file} has no position {name!r}; {hint}"
        for name, source in self.motors.items():
            if isinstance(source, KeySource) and source.take == "sum":
                yield ("motors", name, "take"), "positions do not add up; choose 'mean' or 'first'"


def _arm(file: TextFile, shape: tuple[int, int] | None) -> Goniometer:
    return Goniometer.from_text(file.text, shape, source=file.file, folder=file.folder)


def _fixed(file: TextFile, shape: tuple[int, int] | None) -> Geometry:
    return from_poni_text(file.text, shape, source=file.file, folder=file.folder)


def _problem(read: Callable[[TextFile, tuple[int, int] | None], object], file: TextFile) -> str:
    """Return what is wrong with a file; "" where it lacks nothing but a shape, which the first frame will have."""
    try:
        read(file, None)
    except (ValueError, OSError) as error:
        try:
            read(file, ANY_SHAPE)
        except (ValueError, OSError) as other:
            text = str(other if "shape=" in str(error) else error)
            return text if file.file in text else f"{file.file}: {text}"
    return ""
