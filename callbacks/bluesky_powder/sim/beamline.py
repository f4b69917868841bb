"""The simulated beamline: spotty powder, detector on a two-theta arm, sample motor, monitor, and their files."""

import asyncio
import math
import re
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import yaml
from bluesky.run_engine import get_bluesky_event_loop
from ophyd_async.core import StrictEnum, init_devices, soft_signal_r_and_setter, soft_signal_rw

from azimuthal.detector import Detector
from azimuthal.geometry import Geometry
from azimuthal.goniometer import Goniometer
from bluesky_powder.errors import BlueskyPowderError
from bluesky_powder.recipe import Recipe
from bluesky_powder.sim.arm import goniometer_text
from bluesky_powder.sim.devices import Axis, FrameDetector
from bluesky_powder.sim.image import compile_rendering
from bluesky_powder.sim.recorder import Listener, Recorder
from bluesky_powder.sim.specimen import Powder, Specimen
from bluesky_powder.sim.trajectory import Trajectory
from bluesky_powder.sim.world import POLARIZATION, Camera, Exposure, Moment, World
from bluesky_powder.sim.writer import FileKind

if TYPE_CHECKING:
    from bluesky_powder.sim.classic import ClassicDetector, Spec


class NoRunEngine(BlueskyPowderError, RuntimeError):  # noqa: N818 - a missing thing, named as such
    """Devices connect in the RunEngine's event loop; there is none yet."""


class Shutter(StrictEnum):
    """Positions of the shutter."""

    OPEN = "open"
    CLOSED = "closed"


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
    dark_current
        Mean counts per pixel and second that the detector adds to every frame; pixels differ.
    seed
        Whence crystallites, beam fluctuations, counting noise and dark current come: the same scan gives the same
        frames, whichever detector takes them.

    Attributes
    ----------
    detector
        :class:`FrameDetector`, named after the detector's family ("eiger", "pilatus", "detector").
    arm
        :class:`Axis` "two_theta", degrees: the scattering angle at the detector's centre.
    sample
        :class:`Axis` "sample_x", mm.
    i0
        Signal "i0": counts of the monitor since the detector was last triggered; 0 behind the closed shutter.
    shutter
        Signal "shutter", "open" or "closed": closed, a frame holds dark current only.
    trajectory
        :class:`Trajectory` that moves arm and sample while detectors fly.
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
        dark_current: float = 0.0,
        seed: int = 0,
    ) -> None:
        _need_event_loop()
        self.directory = Path(directory).resolve()
        self.directory.mkdir(parents=True, exist_ok=True)
        model = Detector.from_name(detector) if isinstance(detector, str) else detector
        self.goniometer_path = self.directory / "goniometer.json"
        self.goniometer_path.write_text(goniometer_text(model, distance, wavelength), encoding="utf-8")
        self.goniometer = Goniometer.from_json(self.goniometer_path)
        self.beam_width = beam_width
        self._shape = model.shape
        self._exposure_time = exposure_time
        specimen = Specimen(powder or Powder(), wavelength, math.pi, beam_width, seed)
        compile_rendering(self.geometry(0.0), specimen, POLARIZATION)
        self._world = World(self.geometry, specimen, monitor_rate=monitor_rate, dark_current=dark_current, seed=seed)
        self._listeners: dict[str, Listener] = {}
        name = re.match("[a-z]+", model.name.lower())
        self._name = name.group() if name else "detector"
        with init_devices(set_name=False):
            arm = Axis("two_theta", "deg", speed=arm_speed)
            sample = Axis("sample_x", "mm")
            i0, self._set_i0 = soft_signal_r_and_setter(float, 0.0, units="counts", name="i0")
            shutter = soft_signal_rw(Shutter, Shutter.OPEN, name="shutter")
            trajectory = Trajectory("trajectory")
        self.arm, self.sample, self.i0, self.shutter, self.trajectory = arm, sample, i0, shutter, trajectory
        self.detector = self.file_detector("hdf5")

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

    def file_detector(self, files: FileKind, *, name: str | None = None) -> FrameDetector:
        """Return a detector in the detector's place that writes other files, or has another name.

        Parameters
        ----------
        files
            "hdf5": one growing file a run; "tiff": one file a frame; "npy": one file an event.
        name
            Of the same name, it takes the same frames; of another, its own.
        """
        with init_devices(set_name=False):
            detector = FrameDetector(
                name or self._name, self.directory, self._shape, self._exposer(name), self._exposure_time, files
            )
        return detector

    def classic_detector(
        self, spec: "Spec | None" = None, *, frames_per_event: int = 1, name: str | None = None
    ) -> "ClassicDetector":
        """Return a detector in the detector's place, as classic ophyd has it.

        Parameters
        ----------
        spec
            None: frames stand in the events. "AD_HDF5_SWMR", "AD_TIFF", "NPY_SEQ": it writes files, and tells of them
            in Resource and Datum documents.
        frames_per_event
            How many an event has.
        name
            Of the same name, it takes the same frames; of another, its own.
        """
        from bluesky_powder.sim.classic import Blocking, ClassicDetector, ResourceDetector

        loop = get_bluesky_event_loop()
        arguments = (name or self._name, self._shape, Blocking(self._exposer(name), loop), self._exposure_time)
        if spec is None:
            return ClassicDetector(*arguments, frames_per_event)
        return ResourceDetector(*arguments, frames_per_event, directory=self.directory, spec=spec)

    def recorder(
        self, columns: Sequence[str] = ("two_theta", "sample_x", "i0"), *, samples: int = 1, name: str = "panda"
    ) -> Recorder:
        """Return what writes positions and monitor of every light frame to a file, as a PandA does.

        Parameters
        ----------
        columns
            What it captures.
        samples
            Rows a frame; the monitor's counts are spread over them.
        name
            Of the device; data keys are ``panda-two_theta`` ...
        """
        with init_devices(set_name=False):
            recorder = Recorder(name, self.directory, columns, samples, partial(self._listen, name))
        return recorder

    def _exposer(self, name: str | None) -> "_Exposer":
        camera = Camera(self._world, "" if name in (None, self._name) else str(name))
        return _Exposer(camera, self._moment, self._done)

    def _listen(self, name: str, listener: Listener | None) -> None:
        if listener is None:
            self._listeners.pop(name, None)
        else:
            self._listeners[name] = listener

    async def _moment(self, frame: int) -> Moment:
        """Return how everything stands for a frame, counted since the detector was triggered."""
        shutter = await self.shutter.get_value()
        point = self.trajectory.at(frame)
        if point is None:
            arm, sample = await asyncio.gather(self.arm.readback.get_value(), self.sample.readback.get_value())
            return Moment(arm, sample, shutter.value)
        await asyncio.gather(self.arm.place(point.arm), self.sample.place(point.sample))
        return Moment(point.arm, point.sample, shutter.value)

    def _done(self, exposure: Exposure, counts: float) -> None:
        self._set_i0(counts)
        if exposure.moment.shutter == "open":
            for listener in list(self._listeners.values()):
                listener(exposure)


class _Exposer:
    """What one detector asks of the beamline."""

    def __init__(
        self,
        camera: Camera,
        moment: Callable[[int], Awaitable[Moment]],
        done: Callable[[Exposure, float], None],
    ) -> None:
        self._camera = camera
        self._moment = moment
        self._done = done
        self._frames = 0
        self._counts = 0.0
        self._last: Exposure | None = None

    async def begin(self) -> None:
        self._frames, self._counts = 0, 0.0

    async def expose(self, exposure_time: float) -> npt.NDArray[np.uint32]:
        moment = await self._moment(self._frames)
        self._frames += 1
        self._last = await asyncio.to_thread(self._camera.expose, moment, exposure_time)
        return self._last.frame

    async def done(self) -> None:
        if self._last is not None:
            self._counts += self._last.monitor
            self._done(self._last, self._counts)


def _need_event_loop() -> None:
    if get_bluesky_event_loop() is None:
        raise NoRunEngine("make the RunEngine first (`RE = RunEngine()`): devices connect in its event loop")
