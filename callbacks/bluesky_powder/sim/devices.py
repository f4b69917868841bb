"""The devices of the simulated beamline, as ophyd-async makes them: motors, and an area detector that writes files."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from ophyd_async.core import (
    AsyncStatus,
    DetectorDataLogic,
    DetectorTriggerLogic,
    DeviceMock,
    MovableLogic,
    SignalR,
    SignalRW,
    StandardDetector,
    StandardMovable,
    StandardReadable,
    StreamableDataProvider,
    StreamResourceDataProvider,
    StreamResourceInfo,
    TimeoutCalculator,
    TriggerInfo,
    default_mock_class,
    soft_signal_r_and_setter,
    soft_signal_rw,
)
from ophyd_async.core import StandardReadableFormat as Format

from bluesky_powder.sim.acquiring import AcquireInTask
from bluesky_powder.sim.writer import FileKind, FrameWriter, open_writer

_READBACK_PERIOD = 0.05


class Exposer(Protocol):
    """What the detector asks of the world: a frame of the moment, and to be told when it is written."""

    async def begin(self) -> None:
        """Take note that the detector was triggered."""
        ...

    async def expose(self, exposure_time: float) -> npt.NDArray[np.uint32]:
        """Return the next frame, given the exposure time in s."""
        ...

    async def done(self) -> None:
        """Take note that the frame is on disk, before anybody is told so."""
        ...


@dataclass
class _SteadyMove(MovableLogic[float]):
    """Travel at constant speed, reporting on the way."""

    report: Callable[[float], None]
    speed: SignalRW[float]

    async def stop(self) -> None:
        await self.setpoint.set(await self.readback.get_value())

    async def move(self, new_position: float, timeout: TimeoutCalculator) -> None:
        del timeout  # nothing to wait for but the move itself
        await self.setpoint.set(new_position)
        start, speed = await self.readback.get_value(), await self.speed.get_value()
        duration = abs(new_position - start) / speed if speed > 0 else 0.0
        began = time.monotonic()
        while (elapsed := time.monotonic() - began) < duration:
            self.report(start + (new_position - start) * elapsed / duration)
            await asyncio.sleep(min(_READBACK_PERIOD, duration - elapsed))
        self.report(new_position)


@default_mock_class(DeviceMock)
class Axis(StandardReadable, StandardMovable[float]):
    """A simulated motor.

    Parameters
    ----------
    name
        Name of the device and of its reading.
    units
        Of its positions.
    position
        Where it starts.
    speed
        Units per second; 0 arrives at once.
    """

    def __init__(self, name: str, units: str, position: float = 0.0, speed: float = 0.0) -> None:
        with self.add_children_as_readables(Format.HINTED_SIGNAL):
            self.readback, self._report = soft_signal_r_and_setter(float, position, units=units)
        with self.add_children_as_readables(Format.CONFIG_SIGNAL):
            self.speed = soft_signal_rw(float, speed, units=f"{units}/s")
        self.setpoint = soft_signal_rw(float, position, units=units)
        super().__init__(name=name)

    async def place(self, position: float) -> None:
        """Stand at a position at once, as a motion controller that flies puts it there."""
        await self.setpoint.set(position)
        self._report(position)

    @cached_property
    def movable_logic(self) -> MovableLogic[float]:
        """How it moves."""
        return _SteadyMove(setpoint=self.setpoint, readback=self.readback, report=self._report, speed=self.speed)


class _Trigger(DetectorTriggerLogic):
    """Internal triggers only: the plan asks for a number of frames of some length."""

    def __init__(self, exposure_time: SignalRW[float]) -> None:
        self.exposure_time = exposure_time
        self.frames = 1
        self.deadtime = 0.0

    def config_sigs(self) -> set[SignalR[Any]]:
        return {self.exposure_time}

    async def prepare_internal(self, num: int, livetime: float, deadtime: float) -> None:
        if livetime > 0:
            await self.exposure_time.set(livetime)
        self.frames, self.deadtime = num, deadtime


class _Acquire(AcquireInTask):
    """Takes the frames in a task of its own; each lasts its exposure, or its rendering if that is longer."""

    def __init__(self, exposer: Exposer, trigger: _Trigger, data: "_Data") -> None:
        self._exposer = exposer
        self._trigger = trigger
        self._data = data

    async def acquire(self) -> None:
        exposure_time = await self._trigger.exposure_time.get_value()
        await self._exposer.begin()
        for _ in range(self._trigger.frames):
            began = time.monotonic()
            frame = await self._exposer.expose(exposure_time)
            await asyncio.sleep(max(0.0, exposure_time + self._trigger.deadtime - (time.monotonic() - began)))
            await self._data.write(frame, self._exposer.done)


class _Data(DetectorDataLogic):
    """One new file, or folder of files, per run; a frame is announced when a reader can see it."""

    def __init__(self, directory: Path, shape: tuple[int, int], files: FileKind) -> None:
        self._directory = directory
        self._shape = shape
        self._files: FileKind = files
        self._file: FrameWriter | None = None
        self.frames_per_event = 1
        self._held: list[npt.NDArray[np.uint32]] = []
        self._written, self._announce = soft_signal_r_and_setter(int)

    async def prepare_unbounded(self, datakey_name: str) -> StreamableDataProvider:
        self._file = open_writer(self._files, self._directory, datakey_name, self._shape, np.uint32)
        self._held = []
        self._announce(0)
        frames = StreamResourceInfo(
            data_key=datakey_name,
            shape=self._shape,
            chunk_shape=(1, *self._shape),
            dtype_numpy=np.dtype(np.uint32).str,
            parameters=self._file.parameters,
        )
        return StreamResourceDataProvider(
            uri=self._file.uri,
            resources=[frames],
            mimetype=self._file.mimetype,
            collections_written_signal=self._written,
        )

    async def write(self, frame: npt.NDArray[np.uint32], done: Callable[[], Any]) -> None:
        file = self._file
        if file is None:
            raise RuntimeError("the detector was not prepared: no file is open")
        # By convention a numbered .npy file holds an event, all others a frame.
        per_file = self.frames_per_event if self._files == "npy" else 1
        self._held.append(frame)
        if len(self._held) == per_file:
            await asyncio.to_thread(file.append, frame if per_file == 1 else np.stack(self._held))
            self._held = []
        await done()
        self._announce(file.frames * per_file)

    async def stop(self) -> None:
        # The file stays at hand: writing and acquiring are stopped at once, and a last frame may come after.
        if self._file:
            self._file.close()

    def get_hinted_fields(self, datakey_name: str) -> Sequence[str]:
        return [datakey_name]


class FrameDetector(StandardDetector):
    """An area detector that writes each run to files of its own and tells of them in StreamResource documents.

    Parameters
    ----------
    name
        Name of the device and of the data key of its frames.
    directory
        Where the files go.
    shape
        (rows, columns).
    exposer
        Where frames come from.
    exposure_time
        s, unless a plan prepares another.
    files
        "hdf5": one growing file a run; "tiff": one file a frame; "npy": one file an event.
    """

    def __init__(
        self,
        name: str,
        directory: Path,
        shape: tuple[int, int],
        exposer: Exposer,
        exposure_time: float,
        files: FileKind = "hdf5",
    ) -> None:
        self.exposure_time = soft_signal_rw(float, exposure_time, units="s")
        trigger = _Trigger(self.exposure_time)
        self._data = _Data(directory, shape, files)
        self.add_detector_logics(trigger, _Acquire(exposer, trigger, self._data), self._data)
        super().__init__(name=name)

    @AsyncStatus.wrap
    async def prepare(self, value: TriggerInfo) -> None:
        """Prepare for a number of frames."""
        self._data.frames_per_event = value.collections_per_event
        await super().prepare(value)
