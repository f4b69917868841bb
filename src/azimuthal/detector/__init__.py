"""Detectors: shape, pixels, gaps, orientation, dummy values, sensor."""

from azimuthal.detector.model import AxisLayout, Detector, FrozenArray
from azimuthal.detector.sensor import Sensor, sensor_materials
from azimuthal.detector.table import detector_names

__all__ = ["AxisLayout", "Detector", "FrozenArray", "Sensor", "detector_names", "sensor_materials"]
