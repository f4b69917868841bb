"""The simulated beamline: spotty powder, detector on a two-theta arm, sample motor, monitor, and their files."""

import asyncio
import json
import math
import re
from collections import OrderedDict
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
import numpy as np
import numpy.typing as npt
import yaml
from bluesky.run_engine import get_bluesky_event_loop
from bluesky.utils import MsgGenerator
from ophyd_async.core import init_devices, soft_signal_r_and_setter

from azimuthal.detector import Detector
from azimuthal.geometry import Geometry
from azimuthal.goniometer import Goniometer
from azimuthal.poni import detector_config
from bluesky_powder.errors import BlueskyPowderError
from bluesky_powder.recipe import Recipe
from bluesky_powder.sim.devices import Axis, FrameDetector
from bluesky_powder.sim.image import View
from bluesky_powder.sim.specimen import Powder, Specimen

POLARIZATION = 0.99
_VIEWS_KEPT = 3
_NOISE, _BEAM = 1, 2


class NoRunEngine(BlueskyPowderError, RuntimeError):  # noqa: N818 - a missing thing, named as such
    """Devices connect in the RunEngine's event loop; there is none yet."""


class Beamline:
    """Devices that see one simulated world, deterministic by its seed.

    Make the RunEngine first: the devices connect in its event loop.

    Parameters
    ----------
    directory
        Where detector files, the goniometer file and recipes go; made when missing.
    detector
        Name of a detector that :meth:`azimuthal.Detector.from_name` knows, or a flat, uniform one.
    distance
        Sample to detector, m.
    wavelength
        m.
    powder
        What stands in the beam.
    beam_width
        mm along the sample motor: a move of that much brings fresh crystallites into the beam.
    exposure_time
        s per frame, unless a plan prepares another. It is waited for.
    monitor_rate
        Counts per second of the monitor; frames scale with it.
    arm_speed
        °/s; 0 arrives at once.
    seed
        Whence crystallites, beam fluctuations and counting noise come.

    Attributes
    ----------
    detector
        :class:`FrameDetector`, named after the detector's family ("eiger", "pilatus", "detector").
    arm
        :class:`Axis` "two_theta", degrees: the scattering angle at the detector's centre.
    sample
        :class:`Axis` "sample_x", mm.
    i0
        Signal "i0": counts of the monitor during the last frame.
    goniometer
        :class:`azimuthal.Goniometer` with the position "pos", also in the file `goniometer_path`.
    """

    def __init__(
        self,
        directory: str | Path,
        *,
        detector: str | Detector = "Eiger2 CdTe 1M",
        distance: float = 0.2,
        wavelength: float = 0.3e-10,
        powder: Powder | None = None,
        beam_width: float = 0.2,
        exposure_time: float = 0.2,
        monitor_rate: float = 1e6,
        arm_speed: float = 0.0,
        seed: int = 0,
    ) -> None:
        _need_event_loop()
        self.directory = Path(directory).resolve()
        self.directory.mkdir(parents=True, exist_ok=True)
        model = Detector.from_name(detector) if isinstance(detector, str) else detector
        self.goniometer_path = self.directory / "goniometer.json"
        self.goniometer_path.write_text(_goniometer_text(model, distance, wavelength), encoding="utf-8")
        self.goniometer = Goniometer.from_json(self.goniometer_path)
        self.beam_width = beam_width
        self._wavelength = wavelength
        self._specimen = Specimen(powder or Powder(), wavelength, math.pi, beam_width, seed)
        self._seed = seed
        self._monitor_rate = monitor_rate
        self._frames = 0
        self._pending = 0.0
        self._views: OrderedDict[float, View] = OrderedDict()
        name = re.match("[a-z]+", model.name.lower())
        with init_devices(set_name=False):
            arm = Axis("two_theta", "deg", speed=arm_speed)
            sample = Axis("sample_x", "mm")
            i0, self._set_i0 = soft_signal_r_and_setter(float, 0.0, units="counts", name="i0")
            frames = FrameDetector(
                name.group() if name else "detector", self.directory, model.shape, self, exposure_time
            )
        self.arm, self.sample, self.i0, self.detector = arm, sample, i0, frames

    def geometry(self, position: float) -> Geometry:
        """Return where the detector is when the arm stands at a position (degrees)."""
        return self.goniometer.geometry(position)

    def recipe(
        self, positions: Sequence[float], *, npt: int = 2000, name: str = "recipe.yaml", **sections: Any
    ) -> Recipe:
        """Write a recipe for a scan of this beamline and return it.

        Parameters
        ----------
        positions
            Arm positions in degrees; the bins cover what the detector sees there, to the next half degree.
        npt
            Number of bins.
        name
            File name; it goes beside the goniometer file.
        **sections
            Replace, or add to, the recipe's sections.
        """
        angles = [np.rad2deg(self.geometry(p).two_theta()) for p in positions]
        low, high = min(float(a.min()) for a in angles), max(float(a.max()) for a in angles)
        content: dict[str, Any] = {
            "frames": self.detector.name,
            "geometry": {"goniometer": self.goniometer_path.name, "motors": {"pos": self.arm.name}},
            "bins": {"unit": "2th_deg", "npt": npt, "range": [math.floor(2 * low) / 2, math.ceil(2 * high) / 2]},
            "integration": {"solid_angle": "absolute", "polarization": POLARIZATION},
            "corrections": {"monitor": self.i0.name},
            **sections,
        }
        path = self.directory / name
        path.write_text(yaml.safe_dump(content, sort_keys=False, default_flow_style=None), encoding="utf-8")
        return Recipe.load(path)

    async def expose(self, exposure_time: float) -> npt.NDArray[np.uint32]:
        """Return the next frame: what the detector does when it is triggered."""
        arm, sample = await asyncio.gather(self.arm.readback.get_value(), self.sample.readback.get_value())
        self._frames += 1
        beam = np.random.default_rng([self._seed, _BEAM, self._frames])
        # A ring current that decays, and a monochromator that trembles.
        flux = math.exp(-self._frames / 500) * (1 + 0.02 * beam.standard_normal())
        self._pending = float(round(self._monitor_rate * exposure_time * max(flux, 0.1)))
        noise = np.random.default_rng([self._seed, _NOISE, self._frames])
        return await asyncio.to_thread(self._render, arm, sample, self._pending, noise)

    async def done(self) -> None:
        """Show the monitor of the frame that was just written."""
        self._set_i0(self._pending)

    def _render(self, arm: float, sample: float, monitor: float, noise: np.random.Generator) -> npt.NDArray[np.uint32]:
        if arm not in self._views:
            self._views[arm] = View(self.geometry(arm), self._specimen, POLARIZATION)
            while len(self._views) > _VIEWS_KEPT:
                self._views.popitem(last=False)
        self._views.move_to_end(arm)
        return self._views[arm].expose(self._specimen.at(sample), monitor, noise)


def arm_scan(
    beamline: Beamline,
    positions: Sequence[float],
    exposures: int | Sequence[int],
    *,
    still_at: Collection[float] = (),
    md: dict[str, Any] | None = None,
) -> MsgGenerator[str]:
    """Take some exposures at each position of the arm, every one on fresh sample unless told otherwise.

    Parameters
    ----------
    beamline
        Where.
    positions
        Of the arm, degrees.
    exposures
        How many at each position, or one number for each.
    still_at
        Positions at which the sample stays where it is.
    md
        More for the start document.

    Returns
    -------
    generator
        A plan for the RunEngine, one event per exposure in the stream `primary`; its result is the run's uid.
    """
    numbers = [exposures] * len(positions) if isinstance(exposures, int) else list(exposures)
    start = {
        "plan_name": "arm_scan",
        "detectors": [beamline.detector.name],
        "motors": [beamline.arm.name],
        "num_points": sum(numbers),
        "hints": {"dimensions": [([beamline.arm.name], "primary")]},
        **(md or {}),
    }
    readables = [beamline.detector, beamline.i0, beamline.arm, beamline.sample]

    @bpp.stage_decorator([beamline.detector])
    @bpp.run_decorator(md=start)
    def inner() -> MsgGenerator[None]:
        for position, number in zip(positions, numbers, strict=True):
            yield from bps.mv(beamline.arm, position)
            for _ in range(number):
                yield from bps.checkpoint()
                if position not in still_at:
                    yield from bps.mvr(beamline.sample, beamline.beam_width)
                yield from bps.trigger_and_read(readables)

    return (yield from inner())


def _need_event_loop() -> None:
    if get_bluesky_event_loop() is None:
        raise NoRunEngine("make the RunEngine first (`RE = RunEngine()`): devices connect in its event loop")


def _goniometer_text(detector: Detector, distance: float, wavelength: float) -> str:
    """Return a goniometer file (version 2, as pyFAI writes and reads them) for an arm that goes up.

    Position 0 has the detector's centre in the beam; `pos` degrees on, the arm has turned the centre to a scattering
    angle of `pos`: rot2 = scale * pos + offset, with a negative scale because positive rot2 turns the detector down.
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
