"""Motors that go from point to point by themselves while detectors fly."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from ophyd_async.core import FlyableLogic, StandardFlyable


@dataclass(frozen=True, slots=True)
class Point:
    """Where the motors stand for one frame.

    Attributes
    ----------
    arm
        Degrees.
    sample
        mm.
    """

    arm: float
    sample: float


@dataclass
class _Flight(FlyableLogic[Sequence[Point], None]):
    points: tuple[Point, ...] = ()
    flying: bool = False

    def __post_init__(self) -> None:
        self.arrived = asyncio.Event()

    async def on_prepare(self, value: Sequence[Point]) -> None:
        self.points = tuple(value)
        self.arrived = asyncio.Event()

    async def on_kickoff(self, ctx: None) -> None:
        del ctx
        self.flying = True

    async def on_complete(self, ctx: None) -> None:
        del ctx
        if self.points:
            await self.arrived.wait()
        self.flying = False

    async def stop(self) -> None:
        self.flying = False


class Trajectory(StandardFlyable[Sequence[Point], None]):
    """A list of points, one for each frame, that a motion controller runs through in step with the detector."""

    @cached_property
    def flyable_logic(self) -> "_Flight":
        """How it flies."""
        return _Flight()

    def at(self, frame: int) -> Point | None:
        """Return the point of a frame, counted from 0 since the detector was started; None when not flying."""
        flight = self.flyable_logic
        if not flight.flying or frame >= len(flight.points):
            return None
        if frame == len(flight.points) - 1:
            flight.arrived.set()
        return flight.points[frame]
