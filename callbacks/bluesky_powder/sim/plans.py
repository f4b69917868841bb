"""Plans for the simulated beamline: a step scan, the same as a flight, and dark frames."""

from collections.abc import Collection, Sequence
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
from bluesky.utils import MsgGenerator
from ophyd_async.core import StandardDetector, TriggerInfo

from bluesky_powder.sim.beamline import Beamline
from bluesky_powder.sim.recorder import Recorder
from bluesky_powder.sim.trajectory import Point


def arm_scan(
    beamline: Beamline,
    positions: Sequence[float],
    exposures: int | Sequence[int],
    *,
    still_at: Collection[float] = (),
    detector: Any = None,
    frames_per_event: int = 1,
    also: Sequence[Any] = (),
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
    detector
        Instead of the beamline's own.
    frames_per_event
        Frames an exposure consists of. Classic detectors have that set already.
    also
        More devices to read in each event.
    md
        More for the start document.

    Returns
    -------
    generator
        A plan for the RunEngine, one event per exposure in the stream `primary`; its result is the run's uid.
    """
    numbers = _numbers(positions, exposures)
    detector = detector if detector is not None else beamline.detector
    start = _start("arm_scan", beamline, detector, sum(numbers), md)
    readables = [detector, *also, beamline.i0, beamline.arm, beamline.sample]

    @bpp.stage_decorator([detector, *also])
    @bpp.run_decorator(md=start)
    def inner() -> MsgGenerator[None]:
        yield from _prepare([detector, *also], 1, frames_per_event)
        for position, number in zip(positions, numbers, strict=True):
            yield from bps.mv(beamline.arm, position)
            for _ in range(number):
                yield from bps.checkpoint()
                if position not in still_at:
                    yield from bps.mvr(beamline.sample, beamline.beam_width)
                yield from bps.trigger_and_read(readables)

    return (yield from inner())


def fly_scan(
    beamline: Beamline,
    positions: Sequence[float],
    exposures: int | Sequence[int],
    recorders: Sequence[Recorder] = (),
    *,
    still_at: Collection[float] = (),
    detector: StandardDetector | None = None,
    frames_per_event: int = 1,
    flush_period: float = 0.1,
    md: dict[str, Any] | None = None,
) -> MsgGenerator[str]:
    """Take the exposures of :func:`arm_scan` in one flight: no events, positions and monitor in the recorders' files.

    Parameters
    ----------
    beamline, positions, exposures, still_at, detector, frames_per_event, md
        As for :func:`arm_scan`.
    recorders
        What writes positions and monitor down; in the stream `primary` like the frames.
    flush_period
        Seconds between documents.

    Returns
    -------
    generator
        A plan for the RunEngine; its result is the run's uid.
    """
    numbers = _numbers(positions, exposures)
    detector = detector if detector is not None else beamline.detector
    start = _start("fly_scan", beamline, detector, sum(numbers), md)
    devices = [detector, *recorders]

    @bpp.stage_decorator([*devices, beamline.trajectory])
    @bpp.run_decorator(md=start)
    def inner() -> MsgGenerator[None]:
        first = yield from bps.rd(beamline.sample)
        points = _points(positions, numbers, still_at, first, beamline.beam_width)
        yield from _prepare(devices, len(points), frames_per_event)
        each_frame = [point for point in points for _ in range(frames_per_event)]
        yield from bps.prepare(beamline.trajectory, each_frame, wait=True)
        yield from bps.declare_stream(*devices, name="primary")
        # Recorders first: they wait for frames.
        yield from bps.kickoff_all(beamline.trajectory, *recorders, wait=True)
        yield from bps.kickoff(detector, wait=True)
        yield from bps.collect_while_completing(
            [*devices, beamline.trajectory], devices, flush_period=flush_period, stream_name="primary"
        )

    return (yield from inner())


def take_dark(beamline: Beamline, detector: Any = None, *, stream: str = "dark") -> MsgGenerator[None]:
    """Take one event behind the closed shutter, in a stream of its own, within an open run.

    Parameters
    ----------
    beamline
        Where.
    detector
        Instead of the beamline's own.
    stream
        Name of the stream.

    Returns
    -------
    generator
        A plan stub.
    """
    yield from bps.mv(beamline.shutter, "closed")
    yield from bps.trigger_and_read([detector if detector is not None else beamline.detector], name=stream)
    yield from bps.mv(beamline.shutter, "open")


def _numbers(positions: Sequence[float], exposures: int | Sequence[int]) -> list[int]:
    return [exposures] * len(positions) if isinstance(exposures, int) else list(exposures)


def _start(plan: str, beamline: Beamline, detector: Any, points: int, md: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "plan_name": plan,
        "detectors": [detector.name],
        "motors": [beamline.arm.name],
        "num_points": points,
        "hints": {"dimensions": [([beamline.arm.name], "primary")]},
        **(md or {}),
    }


def _prepare(devices: Sequence[Any], events: int, frames_per_event: int) -> MsgGenerator[None]:
    """Prepare what writes files for a number of events; classic devices need no preparation."""
    for device in devices:
        if isinstance(device, StandardDetector):
            each = frames_per_event * (device.samples if isinstance(device, Recorder) else 1)
            info = TriggerInfo(number_of_events=events, collections_per_event=each)
            yield from bps.prepare(device, info, wait=True)


def _points(
    positions: Sequence[float], numbers: Sequence[int], still_at: Collection[float], first: float, step: float
) -> list[Point]:
    """Return where the motors stand for each event."""
    points, sample = [], first
    for position, number in zip(positions, numbers, strict=True):
        for _ in range(number):
            sample += 0.0 if position in still_at else step
            points.append(Point(float(position), sample))
    return points
