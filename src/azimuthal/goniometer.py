"""Goniometers: from the positions of motors to a geometry, as calibrated by pyFAI."""

import json
import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from azimuthal.detector import Detector
from azimuthal.errors import DetectorError, ExpressionError, GeometryError, GoniometerError
from azimuthal.expressions import Expression
from azimuthal.geometry import Geometry
from azimuthal.poni import detector_config, detector_from_config

Content = Literal["GeometryTransformation", "ExtendedTransformation"]

_VERSION_2 = "Goniometer calibration v2"
_VERSION_1_1 = "Goniometer calibration v1.1"
_V1_DETECTOR_KEYS = ("pixel1", "pixel2", "orientation", "max_shape", "splineFile", "sensor", "binning")
_REQUIRED = ("dist", "poni1", "poni2", "rot1", "rot2", "rot3")
# Planck's constant times the speed of light in keV Å, and the elementary charge in C: what extended files may rely on.
_EXTENDED_CONSTANTS = {"hc": 12.398419843320026, "q": 1.602176634e-19}


@dataclass(frozen=True)
class Goniometer:
    """A detector on motors.

    Attributes
    ----------
    detector
        What is moved.
    position_names
        The motors, in the file's order.
    parameters, constants
        Named numbers that the expressions use, as pairs.
    expressions
        Pairs of a field (``dist``, ``poni1`` ... ``rot3``, and ``wavelength`` in extended ones) and its expression.
    wavelength
        In metres, or None; an expression for it wins.
    content
        Which kind of transformation the file declares.
    """

    detector: Detector
    position_names: tuple[str, ...]
    parameters: tuple[tuple[str, float], ...]
    constants: tuple[tuple[str, float], ...]
    expressions: tuple[tuple[str, Expression], ...]
    wavelength: float | None = None
    content: Content = "GeometryTransformation"

    @classmethod
    def from_json(cls, path: str | Path, shape: tuple[int, int] | None = None) -> "Goniometer":
        """Read a goniometer file (version 2 or 1.1).

        Parameters
        ----------
        path
            The file.
        shape
            (rows, columns) of the frames: needed when the file's detector is generic and has no shape.

        Raises
        ------
        GoniometerError
            When the file is malformed or incomplete.
        ExpressionError
            When an expression is not plain arithmetic over known names.
        DetectorError
            When the detector is unknown, cannot be done right, or contradicts `shape`.
        OSError
            When the file cannot be read.
        """
        path = Path(path)
        text = path.read_text(encoding="utf-8-sig", errors="replace")
        return cls.from_text(text, shape, source=str(path), folder=path.parent)

    @classmethod
    def from_text(
        cls,
        text: str,
        shape: tuple[int, int] | None = None,
        *,
        source: str = "goniometer text",
        folder: Path | None = None,
    ) -> "Goniometer":
        """Read the text of a goniometer file; see :meth:`from_json`. Errors begin with `source`."""
        try:
            content = json.loads(text)
        except (json.JSONDecodeError, RecursionError) as error:
            raise GoniometerError(f"{source}: not valid JSON: {error}") from error
        try:
            return _Reader(content).goniometer(shape, folder)
        except (GoniometerError, DetectorError) as error:
            raise type(error)(f"{source}: {error}") from error

    def to_json(self, path: str | Path) -> None:
        """Write a goniometer file (version 2) that pyFAI reads."""
        Path(path).write_text(self.to_text(), encoding="utf-8")

    def to_text(self) -> str:
        """Return the text of a goniometer file (version 2) that pyFAI reads."""
        name, config = detector_config(self.detector)
        names = [key for key, _ in self.parameters]
        content: dict[str, Any] = {"content": _VERSION_2, "detector": name, "detector_config": config}
        if self.wavelength is not None:
            content["wavelength"] = self.wavelength
        content |= {"param": [value for _, value in self.parameters], "param_names": names}
        content["pos_names"] = list(self.position_names)
        content["trans_function"] = (
            {"content": self.content, "param_names": names, "pos_names": list(self.position_names)}
            | {f"{key}_expr": expression.text for key, expression in self.expressions}
            | {"constants": dict(self.constants)}
        )
        return json.dumps(content, indent=2) + "\n"

    def geometry(self, position: Mapping[str, float] | float | None = None, /, **positions: float) -> Geometry:
        """Return the geometry at a position.

        Parameters
        ----------
        position
            Positions by name, or one number when there is only one motor.
        **positions
            Positions by name, in the motors' units of the calibration.

        Raises
        ------
        GoniometerError
            When a position is missing, unknown or not a finite number, or when an expression has no value there.
        """
        variables = dict(self.parameters) | dict(self.constants) | self._positions(position, positions)
        values: dict[str, float | None] = {"wavelength": self.wavelength}
        for key, expression in self.expressions:
            try:
                values["distance" if key == "dist" else key] = expression(variables)
            except GoniometerError as error:
                raise GoniometerError(f"{key}: {error}") from error
        try:
            return Geometry(self.detector, **values)  # type: ignore[arg-type]  # only the wavelength may be None
        except GoniometerError:
            raise
        except GeometryError as error:
            told = ", ".join(f"{key} = {variables[key]!r}" for key in self.position_names)
            raise GoniometerError(f"no geometry at {told}: {error}") from error

    def _positions(self, position: Mapping[str, float] | float | None, named: Mapping[str, float]) -> dict[str, float]:
        known = ", ".join(self.position_names)
        given: dict[str, Any] = dict(named)
        if isinstance(position, Mapping):
            given = dict(position) | given
        elif position is not None:
            if len(self.position_names) != 1:
                raise GoniometerError(f"one number is not enough: there are the positions {known}; give them by name")
            given = {self.position_names[0]: position} | given
        for name in given:
            if name not in self.position_names:
                raise GoniometerError(f"unknown position {name!r}: this goniometer has {known}")
        for name in self.position_names:
            if name not in given:
                raise GoniometerError(f"position {name!r} is missing: this goniometer needs {known}")
        return {name: _scalar(f"position {name!r}", given[name]) for name in self.position_names}


def rounded_positions(positions: Mapping[str, float], tolerance: Mapping[str, float]) -> dict[str, float]:
    """Return positions rounded to whole multiples of their tolerance, half to even.

    A grid rather than the nearest position seen so far: what a position becomes does not depend on any other.

    Parameters
    ----------
    positions
        Positions by name.
    tolerance
        Grid by name, in the units of the position; names without one stay as they are.

    Raises
    ------
    GoniometerError
        When a tolerance is not a finite number above 0, or a position is not finite.
    """
    return {name: _rounded(name, value, tolerance.get(name)) for name, value in positions.items()}


def _rounded(name: str, value: float, grid: float | None) -> float:
    if grid is None:
        return value
    if not 0 < grid < math.inf:
        raise GoniometerError(f"the tolerance of position {name!r} must be a finite number above 0, not {grid!r}")
    steps = _scalar(f"position {name!r}", value) / grid
    if not math.isfinite(steps):
        raise GoniometerError(f"the tolerance {grid!r} is too fine for position {name!r} = {value!r}")
    return round(steps) * grid


def _scalar(what: str, value: Any) -> float:
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value.item()
    number = float(value) if isinstance(value, numbers.Real) else math.nan
    if not math.isfinite(number):
        raise GoniometerError(f"{what} must be a finite number, not {value!r}")
    return number


class _Reader:
    """Check the content of a goniometer file piece by piece."""

    def __init__(self, content: Any) -> None:
        if not isinstance(content, dict):
            raise GoniometerError("not a goniometer file: it must hold a JSON object")
        version = content.get("content")
        if version not in (_VERSION_2, _VERSION_1_1):
            raise GoniometerError(f"\"content\" must be '{_VERSION_2}' or '{_VERSION_1_1}', not {version!r}")
        self.content = content
        self.function = self._mapping(content, "trans_function")
        self.kind = self._kind()

    def goniometer(self, shape: tuple[int, int] | None, folder: Path | None) -> Goniometer:
        names = self._names(self.function, "param_names", () if self.kind == "ExtendedTransformation" else None)
        positions = self._names(self.function, "pos_names", ("pos",))
        constants = self._constants()
        for name in (*names, *positions):
            if name in constants or (names + positions).count(name) > 1:
                raise GoniometerError(f"the name {name!r} is defined twice, among parameters, positions and constants")
        parameters = self._parameters(names)
        wavelength = self.content.get("wavelength")
        if wavelength is not None:
            wavelength = _scalar('"wavelength"', wavelength)
        return Goniometer(
            detector=self._detector(shape, folder),
            position_names=positions,
            parameters=parameters,
            constants=tuple(constants.items()),
            expressions=self._expressions({*names, *positions, *constants}),
            wavelength=wavelength,
            content=self.kind,
        )

    def _kind(self) -> Content:
        kind = self.function.get("content", "GeometryTransformation")
        if kind in ("GeometryTransformation", "GeometryTranslation", None):
            return "GeometryTransformation"
        if kind == "ExtendedTransformation":
            return "ExtendedTransformation"
        raise GoniometerError(
            f"unknown transformation {kind!r}: there are GeometryTransformation, GeometryTranslation and "
            "ExtendedTransformation"
        )

    def _mapping(self, holder: dict[str, Any], key: str) -> dict[str, Any]:
        value = holder.get(key)
        if not isinstance(value, dict):
            raise GoniometerError(f'"{key}" must be a JSON object, not {value!r}')
        return value

    def _names(self, holder: dict[str, Any], key: str, default: tuple[str, ...] | None) -> tuple[str, ...]:
        value = holder.get(key)
        if value is None and default is not None:
            return default
        if not isinstance(value, list) or not all(isinstance(name, str) and name.isidentifier() for name in value):
            raise GoniometerError(f'"{key}" must be a list of names, not {value!r}')
        return tuple(value)

    def _constants(self) -> dict[str, float]:
        constants = {"pi": math.pi} | (_EXTENDED_CONSTANTS if self.kind == "ExtendedTransformation" else {})
        if self.function.get("constants") is not None:
            for name, value in self._mapping(self.function, "constants").items():
                constants[name] = _scalar(f"constant {name!r}", value)
        return constants

    def _parameters(self, names: tuple[str, ...]) -> tuple[tuple[str, float], ...]:
        values = self.content.get("param", [])
        if isinstance(values, dict):
            values = [values.get(name) for name in names]
        if not isinstance(values, list) or len(values) != len(names):
            told = ", ".join(names)
            raise GoniometerError(f'"param" must be a list of {len(names)} numbers ({told}), not {values!r}')
        return tuple((name, _scalar(f"parameter {name!r}", value)) for name, value in zip(names, values, strict=True))

    def _expressions(self, known: set[str]) -> tuple[tuple[str, Expression], ...]:
        fields = (*_REQUIRED, "wavelength") if self.kind == "ExtendedTransformation" else _REQUIRED
        told = {"content", "param_names", "pos_names", "constants", *(f"{key}_expr" for key in fields)}
        if unknown := sorted(set(self.function) - told):
            raise GoniometerError(f"{self.kind} has no {', '.join(unknown)}")
        expressions = []
        for key in fields:
            text = self.function.get(f"{key}_expr")
            if text is None and key == "wavelength":
                continue
            if text is None:
                raise GoniometerError(f'"{key}_expr" is missing')
            try:
                expressions.append((key, Expression.parse(_expression_text(text), known)))
            except ExpressionError as error:
                raise ExpressionError(f"{key}_expr: {error}") from error
        return tuple(expressions)

    def _detector(self, shape: tuple[int, int] | None, folder: Path | None) -> Detector:
        name = self.content.get("detector")
        if not isinstance(name, str):
            raise GoniometerError(f'"detector" must be a name, not {name!r}')
        if self.content["content"] == _VERSION_1_1:
            config = {key: self.content[key] for key in _V1_DETECTOR_KEYS if key in self.content}
        else:
            config = self.content.get("detector_config") or {}
        if isinstance(config, str):
            try:
                config = json.loads(config)
            except json.JSONDecodeError as error:
                raise GoniometerError(f'"detector_config" is not valid JSON: {error}') from error
        if not isinstance(config, dict):
            raise GoniometerError(f'"detector_config" must be a JSON object, not {config!r}')
        return detector_from_config(name, config, shape, folder=folder)


def _expression_text(value: Any) -> Any:
    return repr(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value
