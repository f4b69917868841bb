"""A fly scan on the simulated beamline, reduced while it flies.

    python simulated_flight.py [FOLDER]

Darks come from a run of their own, positions and monitor from a recorder's file. Afterwards the same flight is reduced
again, by a recipe that does without the darks. Wants bluesky-powder[sim]; at a real beamline only `Beamline` and the
plans are different ones.
"""

import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.plans as bp
from bluesky import RunEngine

from bluesky_powder import PowderReduction, replay
from bluesky_powder.recipe import Recipe
from bluesky_powder.sim import Beamline, Recorder, fly_scan

POSITIONS, EXPOSURES = (4, 8, 12), (3, 3, 3)
STILL_AT = (12,)  # everywhere else each exposure has fresh sample
DARK_RUN = "sc_dk_field_uid"


class Record:
    """Sorts derived events by stream."""

    def __init__(self) -> None:
        self.stop: dict[str, Any] = {}
        self.events: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        self._streams: dict[str, str] = {}

    def __call__(self, name: str, document: dict[str, Any]) -> None:
        """Take a derived document."""
        if name == "descriptor":
            self._streams[document["uid"]] = document["name"]
        elif name == "event":
            self.events[self._streams[document["descriptor"]]].append(document["data"])
        elif name == "stop":
            self.stop = document


def write_recipe(beamline: Beamline, name: str, **corrections: Any) -> Recipe:
    """Write a recipe for the flight; `panda` is the recorder."""
    return beamline.recipe(
        POSITIONS,
        npt=800,
        name=name,
        geometry={"goniometer": beamline.goniometer_path.name, "motors": {"pos": "panda-two_theta"}},
        corrections={"monitor": {"key": "panda-i0", "take": "sum"}, **corrections},
    )


def dark_then_flight(beamline: Beamline, recorder: Recorder) -> Iterator[Any]:
    """Take five dark frames in a run, then fly in another, which names the first as its dark run."""
    yield from bps.mv(beamline.shutter, "closed")
    dark_uid = yield from bp.count([beamline.detector], 5, md={"dark_frame": True})
    yield from bps.mv(beamline.shutter, "open")
    yield from fly_scan(beamline, POSITIONS, EXPOSURES, [recorder], still_at=STILL_AT, md={DARK_RUN: dark_uid})


def main(folder: str) -> None:
    """Fly, print what the live reduction found, and replay."""
    RE = RunEngine({})
    beamline = Beamline(folder, detector="Pilatus 100k", exposure_time=0.05, monitor_rate=2e7, dark_current=100)
    recorder = beamline.recorder(samples=4)  # four readings of the monitor for each frame
    runs: list[list[tuple[str, dict[str, Any]]]] = []

    def keep(name: str, document: dict[str, Any]) -> None:
        if name == "start":
            runs.append([])
        runs[-1].append((name, document))

    live = Record()
    with PowderReduction(write_recipe(beamline, "recipe.yaml", dark={"run": DARK_RUN})) as reduction:
        reduction.subscribe(live)
        RE.subscribe(reduction)
        RE.subscribe(keep)
        RE(dark_then_flight(beamline, recorder))
    print("position   monitor   spottiness   of all so far")
    for each, so_far in zip(live.events["primary"], live.events["cumulative"], strict=True):
        print(
            f"{each['pos']:7.1f}° {each['monitor']:9.0f} {each['spottiness']:12.4f} "
            f"{so_far['mean_frame_spottiness']:12.4f}"
        )
    print(f"{live.stop['exit_status']}: {live.stop['frames_reduced']} of {live.stop['frames_seen']} frames reduced")
    again = Record()
    replay(runs[-1], write_recipe(beamline, "without_dark.yaml"), again)
    counts = [sum(event["total_counts"] for event in record.events["primary"]) for record in (live, again)]
    print(f"the darks are {100 * (1 - counts[0] / counts[1]):.0f} % of all counts")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="simulated-flight-"))
