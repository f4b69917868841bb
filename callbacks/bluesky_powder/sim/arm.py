"""The goniometer file of a two theta arm."""

import json
import math

from azimuthal.detector import Detector
from azimuthal.poni import detector_config


def goniometer_text(detector: Detector, distance: float, wavelength: float) -> str:
    """Return a goniometer file (version 2, as pyFAI writes and reads them) for an arm that goes up.

    Position 0 has the detector's centre in the beam; `pos` degrees on, the arm has turned the centre to a scattering
    angle of `pos`: rot2 = scale * pos + offset, with a negative scale because positive rot2 turns the detector down.

    Parameters
    ----------
    detector
        On the arm.
    distance, wavelength
        m.
    """
    rows, columns = detector.shape
    name, config = detector_config(detector)
    parameters = {
        "dist": distance,
        "poni1": rows * detector.pixel1 / 2,
        "poni2": columns * detector.pixel2 / 2,
        "rot1": 0.0,
        "offset": 0.0,
        "scale": -math.pi / 180,
    }
    transformation = {
        "content": "GeometryTransformation",
        "param_names": list(parameters),
        "pos_names": ["pos"],
        "dist_expr": "dist",
        "poni1_expr": "poni1",
        "poni2_expr": "poni2",
        "rot1_expr": "rot1",
        "rot2_expr": "scale * pos + offset",
        "rot3_expr": "0.0",
        "constants": {"pi": math.pi},
    }
    content = {
        "content": "Goniometer calibration v2",
        "detector": name,
        "detector_config": config,
        "wavelength": wavelength,
        "param": list(parameters.values()),
        "param_names": list(parameters),
        "pos_names": ["pos"],
        "trans_function": transformation,
    }
    return json.dumps(content, indent=2) + "\n"
