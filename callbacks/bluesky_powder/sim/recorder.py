"""A recorder of numbers beside a detector, as a PandA is: one row a frame, or several, in columns of an HDF5 file."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from ophyd_async.core import (
    DetectorDataLogic,
    DetectorTriggerLogic,
    StandardDetector,
    StreamableDataProvider,
    StreamResourceDataProvider,
    StreamResourceInfo,
    soft_signal_r_and_setter,
)

from bluesky_powder.sim.acquiring import AcquireInTask
from bluesky_powder.sim.world import Exposure
from bluesky_powder.sim.writer import ColumnFile, next_free

Listener = Callable[[Exposure], None]
Listen = Callable[[Listener | None], None]
"""Has a listener told of every frame from now on; None ends that."""


class _Trigger(DetectorTriggerLogic):
    def __init__(self) -> None:
        self.rows = 1

    async def prepare_internal(self, num: int, livetime: float, deadtime: float) -> None:
        del livetime, deadtime  # the detector sets the pace
        self.rows = num


class _Data(DetectorDataLogic):
    """One file per run, and the exposures that are still to be written to it."""

    def __init__(self, directory: Path, columns: Sequence[str], samples: int, listen: Listen) -> None:
        self._directory = directory
        self._columns = columns
        self._samples = samples
        self._listen = listen
        self._file: ColumnFile | None = None
        self._exposures: asyncio.Queue[Exposure] = asyncio.Queue()
        self._written, self._announce = soft_signal_r_and_setter(int)

    async def prepare_unbounded(self, datakey_name: str) -> StreamableDataProvider:
        self._file = file = ColumnFile(next_free(self._directory, datakey_name), self._columns)
        self._exposures = asyncio.Queue()
        self._listen(self._exposures.put_nowait)
        self._announce(0)
        columns = [
            StreamResourceInfo(
                data_key=f"{datakey_name}-{column}",
                shape=(),
                chunk_shape=(file.chunk,),
                dtype_numpy=np.dtype(np.float64).str,
                parameters={"dataset": f"/{column}"},
            )
            for column in self._columns
        ]
        return StreamResourceDataProvider(
            uri=file.uri, resources=columns, mimetype=file.mimetype, collections_written_signal=self._written
        )

    async def write_next(self) -> int:
        """Wait for an exposure, write its rows, and return how many they were."""
        exposure = await self._exposures.get()
        if self._file is not None:
            self._file.append(sampled(exposure, self._samples))
            self._announce(self._file.rows)
        return self._samples

    async def stop(self) -> None:
        self._listen(None)
        if self._file:
            self._file.close()
            self._file = None


class _Acquire(AcquireInTask):
    def __init__(self, trigger: _Trigger, data: _Data) -> None:
        self._trigger = trigger
        self._data = data

    async def acquire(self) -> None:
        rows = self._trigger.rows
        while rows > 0:
            rows -= await self._data.write_next()


class Recorder(StandardDetector):
    """Captures positions and monitor at every light frame, and tells of them in StreamResource documents.

    It sees all frames since it was prepared. Data keys are its name, a dash, and the column.

    Parameters
    ----------
    name
        Name of the device.
    directory
        Where the files go.
    columns
        Of "two_theta" (degrees), "sample_x" (mm), "i0" (counts).
    samples
        Rows a frame; the counts are spread over them. Plans prepare that many collections, or events, a frame.
    listen
        Asks to be told of frames.
    """

    def __init__(self, name: str, directory: Path, columns: Sequence[str], samples: int, listen: Listen) -> None:
        self.samples = samples
        trigger = _Trigger()
        data = _Data(directory, tuple(columns), samples, listen)
        self.add_detector_logics(trigger, _Acquire(trigger, data), data)
        super().__init__(name=name)


def sampled(exposure: Exposure, samples: int) -> Mapping[str, list[float]]:
    """Return the rows of one exposure by column: positions as they stood, whole counts that add up to the monitor's."""
    rng = np.random.default_rng(int(exposure.monitor))
    counts = rng.multinomial(int(exposure.monitor), np.full(samples, 1 / samples))
    return {
        "two_theta": [exposure.moment.arm] * samples,
        "sample_x": [exposure.moment.sample] * samples,
        "i0": [float(count) for count in counts],
    }
