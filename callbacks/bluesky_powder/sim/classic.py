"""The same detector as classic ophyd has it: frames in the events, or behind Resource and Datum."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, Literal, TypeVar

import event_model
import numpy as np
import numpy.typing as npt
from ophyd import Component, Device, DeviceStatus, Kind, Signal

from bluesky_powder.sim.devices import Exposer
from bluesky_powder.sim.writer import FrameFile, FrameSequence, FrameWriter, next_free

T = TypeVar("T")
Frames = npt.NDArray[np.uint32]
Spec = Literal["AD_HDF5_SWMR", "AD_TIFF", "NPY_SEQ"]


class Blocking:
    """Lets a thread of a classic device wait for an exposer that lives in the RunEngine's event loop.

    Parameters
    ----------
    exposer
        Where frames come from.
    loop
        In which it lives.
    """

    def __init__(self, exposer: Exposer, loop: asyncio.AbstractEventLoop) -> None:
        self._exposer = exposer
        self._loop = loop

    def begin(self) -> None:
        """Say that the detector was triggered."""
        self._wait_for(self._exposer.begin())

    def frame(self, exposure_time: float, write: Callable[[Frames], None]) -> Frames:
        """Take a frame that lasts s, have it written, and return it."""
        began = time.monotonic()
        frame = self._wait_for(self._exposer.expose(exposure_time))
        time.sleep(max(0.0, exposure_time - (time.monotonic() - began)))
        write(frame)
        self._wait_for(self._exposer.done())
        return frame

    def _wait_for(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()


class ClassicDetector(Device):
    """A detector whose frames stand in the events, as arrays.

    Parameters
    ----------
    name
        Name of the device and of the data key of its frames.
    shape
        (rows, columns).
    exposer
        Where frames come from.
    exposure_time
        s.
    frames_per_event
        The array of an event is (rows, columns) for 1, else (k, rows, columns).
    """

    exposure_time = Component(Signal, value=0.0, kind=Kind.config)

    def __init__(
        self, name: str, shape: tuple[int, int], exposer: Blocking, exposure_time: float, frames_per_event: int = 1
    ) -> None:
        super().__init__(name=name)
        self.exposure_time.put(exposure_time)
        self.frames_per_event = frames_per_event
        self.image_shape = shape if frames_per_event == 1 else (frames_per_event, *shape)
        self._exposer = exposer
        self._value: Any = None
        self._when = 0.0

    def trigger(self) -> DeviceStatus:
        """Take the frames of an event, in a thread."""
        status = DeviceStatus(self)
        threading.Thread(target=self._acquire, args=(status,), name=self.name, daemon=True).start()
        return status

    def describe(self) -> dict[str, Any]:
        """Describe the frames."""
        return {**super().describe(), self.name: self.describe_frames()}

    def describe_frames(self) -> dict[str, Any]:
        """Return the data key of the frames."""
        return {
            "source": f"SIM:{self.name}",
            "dtype": "array",
            "shape": list(self.image_shape),
            "dtype_numpy": np.dtype(np.uint32).str,
        }

    def read(self) -> dict[str, Any]:
        """Return the last frames."""
        return {**super().read(), self.name: {"value": self._value, "timestamp": self._when}}

    def keep(self, frames: Frames) -> Any:
        """Return what an event has for the frames of an event, shape `image_shape`."""
        return frames

    def write(self, frame: Frames) -> None:
        """Write a single frame; there is nowhere to."""

    def _acquire(self, status: DeviceStatus) -> None:
        try:
            self._exposer.begin()
            frames = [self._exposer.frame(self.exposure_time.get(), self.write) for _ in range(self.frames_per_event)]
            self._value = self.keep(np.stack(frames).reshape(self.image_shape))
            self._when = time.time()
        except BaseException as error:
            status.set_exception(error)
        else:
            status.set_finished()


class ResourceDetector(ClassicDetector):
    """A detector that writes files and tells of them in Resource and Datum documents.

    Parameters
    ----------
    name, shape, exposer, exposure_time, frames_per_event
        As for `ClassicDetector`.
    directory
        Where the files go.
    spec
        How they are written: "AD_HDF5_SWMR" one growing HDF5 file a run, "AD_TIFF" one TIFF file a frame, "NPY_SEQ"
        one .npy file an event.
    """

    def __init__(
        self,
        name: str,
        shape: tuple[int, int],
        exposer: Blocking,
        exposure_time: float,
        frames_per_event: int = 1,
        *,
        directory: Path,
        spec: Spec,
    ) -> None:
        super().__init__(name, shape, exposer, exposure_time, frames_per_event)
        self.directory = directory
        self.spec: Spec = spec
        self._frame_shape = shape
        self._files: FrameWriter | None = None
        self._resource: Any = None
        self._points = 0
        self._documents: deque[tuple[str, dict[str, Any]]] = deque()

    def stage(self) -> list[object]:
        """Begin new files."""
        self._files, where, known = self._begin_files()
        self._points = 0
        self._resource = event_model.compose_resource(
            spec=self.spec, root=str(self.directory), resource_path=where, resource_kwargs=known, start=None
        )
        self._documents.append(("resource", self._resource.resource_doc))
        staged: list[object] = super().stage()
        return staged

    def unstage(self) -> list[object]:
        """End the files."""
        if self._files is not None:
            self._files.close()
            self._files = None
        self._documents.clear()
        unstaged: list[object] = super().unstage()
        return unstaged

    def describe_frames(self) -> dict[str, Any]:
        """Return the data key of the frames."""
        return {**super().describe_frames(), "external": "FILESTORE:"}

    def collect_asset_docs(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield Resource and Datum documents that were not told yet."""
        while self._documents:
            yield self._documents.popleft()

    def write(self, frame: Frames) -> None:
        """Write a single frame, where files hold those."""
        if self._files is not None and self.spec != "NPY_SEQ":
            self._files.append(frame)

    def keep(self, frames: Frames) -> str:
        """Return the datum_id of the frames of an event."""
        if self._files is not None and self.spec == "NPY_SEQ":
            self._files.append(frames)
        key = "index" if self.spec == "NPY_SEQ" else "point_number"
        datum = self._resource.compose_datum(datum_kwargs={key: self._points})
        self._points += 1
        self._documents.append(("datum", datum))
        return str(datum["datum_id"])

    def _begin_files(self) -> tuple[FrameWriter, str, dict[str, Any]]:
        """Return a writer, its path as seen from the directory, and what its handler must know."""
        if self.spec == "AD_HDF5_SWMR":
            file = FrameFile(next_free(self.directory, self.name), self._frame_shape, np.uint32)
            return file, file.path.name, {"frame_per_point": self.frames_per_event}
        folder = next_free(self.directory, self.name, "")
        if self.spec == "NPY_SEQ":
            return FrameSequence(folder, "npy", self.name), f"{folder.name}/{self.name}", {}
        known = {
            "template": "%s%s_%6.6d.tif",
            "filename": self.name,
            "frame_per_point": self.frames_per_event,
        }
        # With the slash that EPICS puts behind a folder; TiledWriter takes one without for the beginning of file names.
        return FrameSequence(folder, "tiff", self.name), f"{folder.name}/", known
