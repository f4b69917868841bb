"""NeXus detector files as pyFAI writes them: any arrangement of quadrilateral pixels.

Their corners are those of the array's pixels, whatever orientation is written beside them.
"""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from azimuthal.detector.model import NATIVE_ORIENTATION, FrozenArray, oriented_corners
from azimuthal.detector.sensor import Sensor
from azimuthal.errors import DetectorError

if TYPE_CHECKING:
    from azimuthal.detector.model import Detector

_LOGGER = logging.getLogger("azimuthal.detector")


def read_detector(cls: "type[Detector]", path: Path) -> "Detector":
    """Do the work of :meth:`azimuthal.detector.Detector.from_file`."""
    try:
        with h5py.File(path, "r") as file:
            group = _find_detector(file)
            if group is None:
                raise DetectorError(f"{path}: there is no group of class NXdetector in it")
            return _detector(cls, group, path)
    except OSError as error:
        raise DetectorError(f"{path}: cannot be read as a NeXus detector file: {error}") from error


def _find_detector(group: Any, depth: int = 4) -> Any:
    """Return the first NXdetector below a group, or None."""
    for member in group.values():
        if not isinstance(member, h5py.Group):
            continue
        if _text(member.attrs.get("NX_class", "")) == "NXdetector":
            return member
        if depth > 1 and (found := _find_detector(member, depth - 1)) is not None:
            return found
    return None


def _detector(cls: "type[Detector]", group: Any, path: Path) -> "Detector":
    def value(key: str) -> Any:
        return group[key][()] if key in group else None

    if (n := value("CORNERS")) is not None and int(n) != 4:
        raise DetectorError(f"{path}: pixels have {int(n)} corners; only quadrilaterals are done here")
    if (sizes := value("pixel_size")) is None:
        raise DetectorError(f"{path}: dataset {group.name}/pixel_size is missing")
    corners, mask = value("pixel_corners"), value("mask")
    shape = _shape(value("shape"), corners, mask, value("max_shape"), value("binning"), path, group.name)
    masked = np.zeros(shape, dtype=np.bool_) if mask is None else np.asarray(mask) != 0
    if masked.shape != shape:
        raise DetectorError(f"{path}: the mask has shape {masked.shape}, frames have {shape}")
    if corners is not None:
        if corners.shape != (*shape, 4, 3):
            raise DetectorError(f"{path}: pixel_corners has shape {corners.shape}, expected {(*shape, 4, 3)}")
        nowhere = ~np.isfinite(corners).all(axis=(2, 3))
        masked |= nowhere
        corners = np.where(nowhere[..., None, None], np.zeros((), corners.dtype), corners)
    dummy, delta_dummy = value("dummy"), value("delta_dummy")
    binning = value("binning")
    told = value("orientation")
    orientation = NATIVE_ORIENTATION if told is None else int(told)
    for extra in ("flatfield", "darkcurrent"):
        if extra in group:
            _LOGGER.warning("%s: its %s is not used; give it to the integrator", path, extra)
    return cls(
        name=group.name.rsplit("/", 1)[-1].replace("_", " "),
        shape=shape,
        pixel1=float(sizes[0]),
        pixel2=float(sizes[1]),
        orientation=orientation,
        binning=(1, 1) if binning is None else (int(binning[0]), int(binning[1])),
        dummy=None if dummy is None else float(dummy),
        delta_dummy=None if delta_dummy is None else float(delta_dummy),
        sensor=_sensor(value("sensor_material"), value("sensor_thickness")),
        mask_rule=FrozenArray(masked),
        corners=None if corners is None else FrozenArray(oriented_corners(corners, orientation)),
        source=str(path),
    )


def _shape(
    shape: Any, corners: Any, mask: Any, max_shape: Any, binning: Any, path: Path, group: str
) -> tuple[int, int]:
    if corners is not None:
        return corners.shape[0], corners.shape[1]
    if shape is not None:
        return int(shape[0]), int(shape[1])
    if mask is not None:
        return mask.shape[0], mask.shape[1]
    if max_shape is None:
        raise DetectorError(f"{path}: {group} has no shape, max_shape, mask or pixel_corners")
    factor = (1, 1) if binning is None else binning
    return int(max_shape[0]) // int(factor[0]), int(max_shape[1]) // int(factor[1])


def _sensor(material: Any, thickness: Any) -> Sensor | None:
    if material is None:
        return None
    return Sensor(_text(material), None if thickness is None else float(thickness))


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
