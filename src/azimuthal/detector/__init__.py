"""Detectors: shape, pixels, gaps, orientation, dummy values, sensor."""

from azimuthal.detector.model import AxisLayout, Detector, FrozenArray
from azimuthal.detector.sensor import Sensor, sensor_materials
from azimuthal.detector.table import detector_names, known_sensors

__all__ = ["AxisLayout", "Detector", "FrozenArray", "Sensor", "detector_names", "known_sensors", "sensor_materials"]
