"""How a simulated detector acquires: in a task of its own, which can be awaited and stopped."""

import asyncio
from abc import abstractmethod
from contextlib import suppress

from ophyd_async.core import DetectorAcquireLogic

_ASK_AGAIN = 0.05  # s


class AcquireInTask(DetectorAcquireLogic):
    """Acquires by a coroutine, from the trigger until it returns."""

    _task: asyncio.Task[None] | None = None

    @abstractmethod
    async def acquire(self) -> None:
        """Take and write all that was asked for."""

    async def start_acquiring(self) -> None:
        """Start, without waiting for anything."""
        self._task = asyncio.create_task(self.acquire())

    async def wait_for_idle(self) -> None:
        """Wait until everything is taken and written."""
        if self._task:
            await self._task

    async def ensure_stopped(self) -> None:
        """Give up what was not taken yet."""
        task, self._task = self._task, None
        if task is None:
            return
        # Asked again, for `asyncio.wait_for` before Python 3.12 forgets a cancellation that comes as it ends.
        while not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=_ASK_AGAIN)
        with suppress(asyncio.CancelledError):
            await task
