"""Derived runs with real patterns, as the reduction emits them, at any pace."""

from collections.abc import Collection, Iterator
from typing import Any

import numpy as np

import azimuthal as az
from azimuthal.pattern import Conditions
from bluesky_powder.recipe import Recipe
from bluesky_powder.reduction.documents import KINDS, DerivedRun

Document = tuple[str, dict[str, Any]]

PONI = """poni_version: 2
Detector: Detector
Detector_config: {"pixel1": 1e-4, "pixel2": 1e-4, "max_shape": [40, 50]}
Distance: 0.1
Poni1: 0.0
Poni2: 0.0
Rot1: 0.0
Rot2: 0.0
Rot3: 0.0
Wavelength: 4.0e-11
"""


def pattern(number: int, npt: int = 200) -> az.Pattern:
    """Return a pattern that can be told from others by the number it was made with; its third bin is empty."""
    random = np.random.default_rng(number)
    sums = random.random((7, npt)) + 1.0
    sums[1] += number
    sums[5] += 50.0 + number
    sums[:, 2] = 0.0
    conditions = Conditions("full", "relative", (0.99, 0.0))
    return az.Pattern("2th_deg", np.linspace(0.5, 25.0, npt + 1), sums, conditions, wavelength=4e-11)


def recipe(npt: int = 200) -> Recipe:
    """Return the recipe of these runs."""
    return Recipe.model_validate(
        {
            "frames": "eiger",
            "geometry": {"poni": {"file": "a.poni", "text": PONI}},
            "bins": {"unit": "2th_deg", "npt": npt, "range": [0.5, 25.0]},
            "corrections": {"monitor": "i0"},
        }
    )


def documents_of(
    seq_nums: range | list[int],
    *,
    npt: int = 200,
    announced: int | None = None,
    merges: bool = False,
    streams: Collection[str] = ("cumulative", "merged"),
) -> Iterator[Document]:
    """Yield the documents of a run with a pattern for each seq_num, as they come up.

    Each stream beside `axes` and `primary` is a dozen requests to a server, so `streams` are those that matter.
    """
    emitted: list[Document] = []
    raw = {"uid": "raw-run", "time": 1000.0, "sample": "LaB6", **({"num_points": announced} if announced else {})}
    run = DerivedRun(raw, recipe(npt), lambda name, document: emitted.append((name, document)))
    run.describe({"time": 1000.0, "data_keys": {"i0": {"units": "counts"}}})
    run.axes(pattern(0, npt))
    mean_frame = {f"mean_frame_spottiness{kind}": 0.1 for kind in KINDS}
    for row, seq_num in enumerate(seq_nums):
        made = pattern(seq_num, npt)
        about = {"positions": {}, "monitor": 2.0, "raw_event_uid": f"event-{row}", "dark_uid": ""}
        run.primary(seq_num, 1000.0 + row, made, about)
        so_far = {"frames": row + 1, "mean_frame": mean_frame, "independent_frames": 1.0, "reason": ""}
        if "cumulative" in streams:
            run.cumulative(seq_num, 1000.0 + row, made, so_far)
        if merges:
            run.merged(1000.0 + row, made, row + 1)
        yield from emitted
        emitted.clear()
    if "merged" in streams:
        run.merged(2000.0, pattern(0, npt), 1)
    run.stop("success", "", {})
    yield from emitted
