"""From an event to a remote reader: visible by HTTP, at a subscriber, and how long a thousand patterns take to read.

``python -m benchmarks.serving`` takes about a minute; publisher, server and readers share this machine.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import azimuthal as az
from azimuthal.pattern import Conditions
from bluesky_powder.live import follow
from bluesky_powder.publish import TiledPublisher
from bluesky_powder.recipe import Recipe
from bluesky_powder.reduction.documents import DerivedRun
from bluesky_powder.server import PowderServer

NPT, LIVE, STORED, PACE = 2000, 40, 1000, 0.5

PONI = """\
poni_version: 2.1
Detector: Detector
Detector_config: {"pixel1": 1e-3, "pixel2": 1e-3, "max_shape": [40, 50], "orientation": 3}
Distance: 0.1
Poni1: 0.02
Poni2: 0.001
Rot1: 0.0
Rot2: 0.0
Rot3: 0.0
Wavelength: 1e-10
"""


def patterns(count: int) -> list[az.Pattern]:
    """Return patterns of made-up sums."""
    rng = np.random.default_rng(0)
    edges = np.linspace(1.0, 60.0, NPT + 1)
    made = []
    for _ in range(count):
        signal = rng.poisson(1000.0, NPT).astype(float)
        ones = np.full(NPT, 1000.0)
        sums = np.array([ones, signal, ones, ones, signal, 2.0 * signal * signal / ones, signal])
        made.append(az.Pattern("2th_deg", edges, sums, Conditions("bbox"), wavelength=1e-10))
    return made


class Source:
    """A derived run that is told event by event."""

    def __init__(self, emit: Callable[[str, dict[str, Any]], None]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            poni = Path(folder, "detector.poni")
            poni.write_text(PONI)
            sections = {"geometry": {"poni": str(poni)}, "bins": {"unit": "2th_deg", "npt": NPT, "range": [1, 60]}}
            recipe = Recipe.model_validate({"frames": "det", **sections})
        self.run = DerivedRun({"uid": "raw", "time": time.time()}, recipe, emit)
        self.run.describe({"time": time.time(), "data_keys": {}})

    def tell(self, number: int, pattern: az.Pattern) -> None:
        """Tell one pattern; the first after the axes."""
        if number == 1:
            self.run.axes(pattern)
        about = {"positions": {}, "monitor": 1.0, "raw_event_uid": str(number)}
        self.run.primary(number, time.time(), pattern, about)


def live(server: PowderServer) -> tuple[list[float], list[float]]:
    """Return seconds from event to HTTP reader, and from event to subscriber, by event."""
    with TiledPublisher(server.uri, api_key=server.api_key, spool=server.spool, storage="events") as publisher:
        source, told = Source(publisher), patterns(LIVE)
        source.tell(1, told[0])
        publisher.wait(30)
        run, arrived, sent = server.client()[source.run.uid], {}, {}
        seen = []
        with follow(run, lambda update: arrived.setdefault(update.seq_num, time.perf_counter())):
            time.sleep(2.0)
            for number, pattern in enumerate(told[1:], 2):
                sent[number] = time.perf_counter()
                source.tell(number, pattern)
                if number % 2:
                    table = run["primary"].base["internal"]
                    while len(table.read(["seq_num"])) < number:
                        time.sleep(0.002)
                    seen.append(time.perf_counter() - sent[number])
                time.sleep(PACE)
            source.run.stop("success", "", {})
            publisher.wait(30)
            time.sleep(2.0)
    # Half of the events are polled for, and stand behind the polls at the server; the other half tell of pushing.
    return seen, [arrived[number] - sent[number] for number in sent if number in arrived and not number % 2]


def stored(server: PowderServer) -> str:
    """Write a thousand patterns; return the uid."""
    with TiledPublisher(server.uri, api_key=server.api_key, spool=server.spool, batch_size=100) as publisher:
        source = Source(publisher)
        for number, pattern in enumerate(patterns(50) * (STORED // 50), 1):
            source.tell(number, pattern)
        source.run.stop("success", "", {})
        publisher.wait(120)
    return source.run.uid


def in_milliseconds(seconds: list[float]) -> str:
    """Return median and 95 % quantile."""
    return f"{1e3 * statistics.median(seconds):.0f} ms, 95 % {1e3 * float(np.quantile(seconds, 0.95)):.0f} ms"


def main() -> None:
    """Print a Markdown table."""
    with tempfile.TemporaryDirectory() as folder, PowderServer(folder) as server:
        by_http, pushed = live(server)
        run = server.client()[stored(server)]
        times = []
        for _ in range(5):
            begun = time.perf_counter()
            run["primary"].read()
            times.append(time.perf_counter() - begun)
    print(f"| what ({NPT} bins) | median, 95 % |\n|---|---|")
    print(f"| event to visible by HTTP | {in_milliseconds(by_http)} |")
    print(f"| event to subscriber, with all seven sums | {in_milliseconds(pushed)} |")
    print(f"| `read()` of {STORED} patterns | {in_milliseconds(times)} |")


if __name__ == "__main__":
    main()
