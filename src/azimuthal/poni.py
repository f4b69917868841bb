"""PONI files: a geometry as text, in the four versions that pyFAI has written (1, 2, 2.1 and 3)."""

import dataclasses
import json
import logging
import math
from pathlib import Path
from typing import Any

from azimuthal.detector import Detector, Sensor
from azimuthal.detector.table import GENERIC, canonical_name
from azimuthal.errors import DetectorError, GeometryError, PoniError
from azimuthal.geometry import Geometry

_LOGGER = logging.getLogger("azimuthal.poni")

_NUMBERS = ("poni1", "poni2", "rot1", "rot2", "rot3")
_SPELLED = {
    "distance": "Distance",
    "wavelength": "Wavelength",
    "pixelsize1": "PixelSize1",
    "pixelsize2": "PixelSize2",
    "poni_version": "poni_version",
} | {key: key.capitalize() for key in _NUMBERS}
_CONFIG_KEYS = frozenset({"pixel1", "pixel2", "orientation", "max_shape", "binning", "sensor", "shape", "filename"})
_NOTHING = ("", "none", "null")


def read_poni(path: str | Path, shape: tuple[int, int] | None = None) -> Geometry:
    """Read a PONI file; see :meth:`azimuthal.Geometry.from_poni`."""
    path = Path(path)
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    return from_poni_text(text, shape, source=str(path), folder=path.parent)


def from_poni_text(
    text: str, shape: tuple[int, int] | None = None, *, source: str = "PONI text", folder: Path | None = None
) -> Geometry:
    """Read the text of a PONI file.

    Parameters
    ----------
    text
        ``key: value`` lines; keys in any case; of a repeated key the last one counts; lines that begin with # do not.
    shape
        (rows, columns) of the frames: required by files that name no detector, must agree with the detector otherwise.
    source
        What to call the text in errors.
    folder
        Where a detector file with a relative path is looked for, besides the working directory.

    Raises
    ------
    PoniError
        When the text is malformed or incomplete; key and source are named.
    DetectorError
        When the detector is unknown, cannot be done right, or contradicts `shape`.
    """
    entries = _entries(text)
    version = _version(entries, source)
    if "distance" not in entries and "dist" in entries:
        entries["distance"] = entries["dist"]
    numbers = {key: _number(entries, key, source) for key in ("distance", *_NUMBERS)}
    wavelength = None
    if entries.get("wavelength", "").lower() not in _NOTHING:
        wavelength = _number(entries, "wavelength", source)
    try:
        if version < 2:
            detector = _detector_v1(entries, shape, source, folder)
        else:
            config = _config(entries, source)
            detector = detector_from_config(entries["detector"], config, shape, folder=folder)
        parallax = entries.get("parallax", "").lower() == "true"
        return Geometry(detector=detector, wavelength=wavelength, parallax=parallax, **numbers)
    except PoniError:
        raise
    except DetectorError as error:
        raise DetectorError(f"{source}: {error}") from error
    except GeometryError as error:
        raise PoniError(f"{source}: {error}") from error


def _entries(text: str) -> dict[str, str]:
    entries = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon and not line.lstrip().startswith("#"):
            entries[key.strip().lower()] = value.strip()
    return entries


def _version(entries: dict[str, str], source: str) -> float:
    declared = _number(entries, "poni_version", source) if "poni_version" in entries else 1.0
    if declared > 3:
        raise PoniError(f"{source}: poni_version {declared:g} is newer than what is known here (1, 2, 2.1 and 3)")
    return max(declared, 2.0) if "detector_config" in entries else declared


def _number(entries: dict[str, str], key: str, source: str) -> float:
    spelled = _SPELLED.get(key, key)
    value = entries.get(key, "")
    if value.lower() in _NOTHING:
        raise PoniError(f"{source}: key {spelled!r} is missing")
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise PoniError(f"{source}: {spelled!r} must be a finite number, not {value!r}")
    return number


def _config(entries: dict[str, str], source: str) -> dict[str, Any]:
    if entries.get("detector", "").lower() in _NOTHING:
        raise PoniError(f"{source}: key 'Detector' is missing")
    text = entries.get("detector_config", "")
    if text.lower() in _NOTHING:
        return {}
    try:
        config = json.loads(text)
    except json.JSONDecodeError as error:
        raise PoniError(f"{source}: Detector_config is not valid JSON: {error}") from error
    if not isinstance(config, dict):
        raise PoniError(f"{source}: Detector_config must be a JSON object, not {text!r}")
    return config


def _detector_v1(entries: dict[str, str], shape: tuple[int, int] | None, source: str, folder: Path | None) -> Detector:
    spline = entries.get("splinefile", "")
    if spline.lower() not in _NOTHING:
        raise DetectorError(_no_spline(spline))
    pixels = {
        axis: _number(entries, f"pixelsize{axis}", source)
        for axis in (1, 2)
        if entries.get(f"pixelsize{axis}", "").lower() not in _NOTHING
    }
    name = entries.get("detector", GENERIC)
    if name.lower() in _NOTHING:
        name = GENERIC
    if (file := _detector_file(name, folder)) is not None:
        return _from_file(file, shape)
    if canonical_name(name) == GENERIC:
        for axis in (1, 2):
            _number(entries, f"pixelsize{axis}", source)
        if shape is None:
            raise PoniError(
                f"{source} names no detector, only pixel sizes: give shape=(rows, columns) of the frames, or name the "
                "detector in the file (e.g. 'Detector: Pilatus1M')"
            )
    return Detector.from_name(name, shape=shape, pixel1=pixels.get(1), pixel2=pixels.get(2))


def detector_from_config(
    name: str, config: dict[str, Any], shape: tuple[int, int] | None = None, *, folder: Path | None = None
) -> Detector:
    """Return the detector that PONI and goniometer files describe by a name and a configuration.

    Parameters
    ----------
    name
        Name or alias of a known detector, ``"NexusDetector"`` with a ``filename`` in the configuration, or the path
        of a NeXus detector file.
    config
        ``pixel1``, ``pixel2`` (m), ``orientation``, ``max_shape``, ``binning``, ``sensor``, ``filename``, in any case.
        What is unknown is logged and ignored, as in pyFAI; distortion files are refused.
    shape
        (rows, columns) of the frames; a generic detector needs it when the configuration has none.
    folder
        Where a detector file with a relative path is looked for, besides the working directory.

    Raises
    ------
    DetectorError
        When the detector is unknown, cannot be done right, or contradicts `shape`.
    """
    given = {str(key).lower(): value for key, value in config.items() if value is not None}
    for key in ("splinefile", "x_offset_file", "y_offset_file"):
        if str(file := given.pop(key, "")).lower() not in _NOTHING:
            raise DetectorError(_no_spline(file))
    if "module_size" in given:
        raise DetectorError(
            f"detector {name!r} with modules of its own ({given['module_size']}) cannot be done right by name: save "
            "its pixel corners and mask as a NeXus detector file and name that file instead"
        )
    unknown = sorted(set(given) - _CONFIG_KEYS)
    if unknown:
        _LOGGER.warning("detector %s: ignored unknown configuration %s", name, ", ".join(unknown))
    file = _detector_file(str(given.get("filename", name)), folder)
    if file is None and name.replace(" ", "").lower() == "nexusdetector":
        raise DetectorError(f"the NeXus detector file {given.get('filename', '(no filename given)')!r} is not there")
    if file is not None:
        changes = {key: given[key] for key in ("orientation",) if given.get(key)}
        if (sensor := _sensor(given.get("sensor"))) is not None:
            changes["sensor"] = sensor
        return dataclasses.replace(_from_file(file, shape), **changes)
    if canonical_name(name) == GENERIC and shape is None and "max_shape" not in given:
        raise DetectorError(
            "a generic detector without max_shape has no shape: give shape=(rows, columns) of the frames"
        )
    return Detector.from_name(
        name,
        shape=shape,
        pixel1=given.get("pixel1"),
        pixel2=given.get("pixel2"),
        orientation=given.get("orientation") or 3,
        binning=given.get("binning"),
        max_shape=given.get("max_shape"),
        sensor=_sensor(given.get("sensor")),
    )


def _sensor(config: Any) -> Sensor | None:
    if config is None:
        return None
    if not isinstance(config, dict) or "material" not in config:
        raise DetectorError(f'sensor must be like {{"material": "Si", "thickness": 4.5e-4}}, not {config!r}')
    return Sensor(str(config["material"]), config.get("thickness"))


def _no_spline(file: object) -> str:
    return (
        f"distortion files ({file}) are not read here: save the detector with its pixel corners as a NeXus detector "
        "file and name that file instead"
    )


def _detector_file(name: str, folder: Path | None) -> Path | None:
    for candidate in (Path(name), (folder or Path()) / name):
        if candidate.is_file():
            return candidate
    return None


def _from_file(file: Path, shape: tuple[int, int] | None) -> Detector:
    detector = Detector.from_file(file)
    if shape is not None and tuple(shape) != detector.shape:
        raise DetectorError(f"{file}: the detector has frames of {detector.shape} pixels, not {tuple(shape)}")
    return detector


def detector_config(detector: Detector) -> tuple[str, dict[str, Any]]:
    """Return name and configuration of a detector, as :func:`detector_from_config` and pyFAI read them."""
    if detector.source is not None:
        config: dict[str, Any] = {"filename": detector.source, "orientation": detector.orientation}
        return "NexusDetector", config | _sensor_config(detector)
    config = {
        "pixel1": detector.pixel1,
        "pixel2": detector.pixel2,
        "orientation": detector.orientation,
    }
    config |= _sensor_config(detector)
    if detector.name == GENERIC:
        return GENERIC, config | {"max_shape": list(detector.shape)}
    assert detector.max_shape is not None  # noqa: S101  set at construction
    for extra in ({}, {"max_shape": list(detector.max_shape)}):
        if detector_from_config(detector.name, config | extra) == detector:
            return detector.name, config | extra
    implied = detector_from_config(detector.name, config | extra).binning
    config |= {
        "pixel1": detector.pixel1 * implied[0] / detector.binning[0],
        "pixel2": detector.pixel2 * implied[1] / detector.binning[1],
        "max_shape": list(detector.max_shape),
        "binning": list(detector.binning),
    }
    return detector.name, config


def _sensor_config(detector: Detector) -> dict[str, Any]:
    return {} if detector.sensor is None else {"sensor": detector.sensor.config()}


def poni_text(geometry: Geometry) -> str:
    """Return the text of a PONI file: version 2.1, or 3 when the parallax is corrected."""
    name, config = detector_config(geometry.detector)
    lines = [
        "# Lengths in metres, angles in radians; 1 is the slow axis (rows), 2 the fast one (columns)",
        f"poni_version: {3 if geometry.parallax else 2.1}",
        f"Detector: {name}",
        f"Detector_config: {json.dumps(config)}",
        f"Distance: {geometry.distance!r}",
    ]
    lines += [f"{_SPELLED[key]}: {getattr(geometry, key)!r}" for key in _NUMBERS]
    if geometry.wavelength is not None:
        lines.append(f"Wavelength: {geometry.wavelength!r}")
    if geometry.parallax:
        lines.append("Parallax: True")
    return "\n".join(lines) + "\n"
