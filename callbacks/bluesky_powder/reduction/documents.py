"""The derived run's documents: their keys, composed with event-model, ndarrays left as they are."""

import json
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import event_model
import numpy as np

from azimuthal import Pattern, grade
from azimuthal.pattern import SpottinessNumbers
from bluesky_powder.recipe import Recipe
from bluesky_powder.reduction.keys import KINDS, DataKeys, Keys, spottiness_names

__all__ = ["KINDS", "DerivedRun", "Emit", "spottiness", "versions"]

LOGGER = logging.getLogger("bluesky_powder.reduction")

Emit = Callable[[str, dict[str, Any]], None]

STAGE = "powder"
SPEC = "PowderRun"
PASSED_ON = frozenset(
    (
        "beamline",
        "beamline_id",
        "cycle",
        "data_groups",
        "data_session",
        "experiment",
        "group",
        "institution",
        "operator",
        "owner",
        "project",
        "proposal",
        "purpose",
        "sample",
        "tiled_access_tags",
        "user",
        "username",
        "visit",
    )
)
PASSED_ON_PREFIXES = ("proposal_", "sample_")
_VERSIONED = ("bluesky-powder", "numpy", "numba", "h5py", "event-model", "bluesky")


def spottiness(pattern: Pattern, prefix: str = "") -> dict[str, float]:
    """Return the five spottiness numbers of a pattern, by their data keys."""
    return named(pattern.spottiness_numbers(), prefix)


def named(numbers: SpottinessNumbers, prefix: str = "") -> dict[str, float]:
    """Return spottiness numbers by their data keys."""
    plain, excess = (numbers.plain, numbers.weighted), (numbers.excess, numbers.excess_weighted, numbers.excess_error)
    return dict(zip(spottiness_names(prefix), (*plain, *excess), strict=True))


class DerivedRun:
    """Composes and emits the documents of one derived run.

    Parameters
    ----------
    raw_start
        The raw run's start document.
    recipe
        What is done.
    emit
        Takes (name, document).
    supersedes
        Uids of earlier derived runs of the same raw run and detector, as far as they are known.
    """

    def __init__(
        self, raw_start: Mapping[str, Any], recipe: Recipe, emit: Emit, supersedes: Sequence[str] = ()
    ) -> None:
        self._emit = emit
        self._error_model = recipe.integration.error_model
        self._keys = DataKeys(recipe)
        self._positions = tuple(self._keys.positions.items())
        self._streams: dict[str, Any] = {}
        self._last: dict[str, int] = {}
        self._raw_time: float | None = None
        self._so_far: dict[str, float] = {}
        metadata = _start_metadata(raw_start, recipe, self._keys.positions)
        if supersedes:
            metadata["supersedes"] = [str(uid) for uid in supersedes]
        self._run = event_model.compose_run(metadata=metadata, validate=False)
        emit("start", self._run.start_doc)

    @property
    def uid(self) -> str:
        """Uid of the derived run."""
        return str(self._run.start_doc["uid"])

    def describe(self, raw_descriptor: Mapping[str, Any]) -> None:
        """Take what the raw descriptor says: units of positions and monitor, and the time.

        Derived streams are as old as what they describe; readers that sort documents by time rely on it.
        """
        self._raw_time = float(raw_descriptor["time"])
        self._keys.describe(raw_descriptor)

    def axes(self, pattern: Pattern) -> None:
        """Emit the axes, which are the same for the whole run."""
        data = {"radial": pattern.radial, "radial_edges": pattern.edges}
        self._event("axes", 1, self._raw_time, data, lambda: self._keys.axes(pattern))

    def primary(self, seq_num: int, when: float, pattern: Pattern, about: Mapping[str, Any]) -> None:
        """Emit the pattern of one raw event.

        Parameters
        ----------
        seq_num, when
            Of the raw event.
        pattern
            Of its frames.
        about
            monitor, raw_event_uid, dark_uid, and goniometer positions by name.
        """
        positions = about["positions"]
        data: dict[str, Any] = {
            **self._curve(pattern),
            "sums": pattern.sums,
            **spottiness(pattern),
            "total_counts": float(pattern.sum_signal.sum()),
            "masked_pixels": int(pattern.masked_pixels),
            "monitor": float(about["monitor"]),
            **{key: float(positions[name]) for name, key in self._positions},
            "raw_event_uid": about["raw_event_uid"],
        }
        if self._keys.with_dark:
            data["dark_uid"] = about["dark_uid"]
        self._event("primary", seq_num, when, data, lambda: self._keys.primary(pattern))

    def cumulative(self, seq_num: int, when: float, pattern: Pattern, about: Mapping[str, Any]) -> None:
        """Emit what is known after the frames up to one raw event.

        Parameters
        ----------
        seq_num, when
            Of the raw event.
        pattern
            Union of the patterns.
        about
            frames, mean_frame (numbers by data key), independent_frames, reason.
        """
        data = {
            **self._curve(pattern),
            "frames": int(about["frames"]),
            **spottiness(pattern, "union_"),
            **about["mean_frame"],
            "independent_frames": float(about["independent_frames"]),
            "reason": about["reason"],
        }
        self._event("cumulative", seq_num, when, data, lambda: self._keys.cumulative(pattern))
        self._so_far = {name: data[name] for name in _SUMMED_UP}

    def merged(self, when: float, pattern: Pattern, geometries: int) -> None:
        """Emit the merge of all frames so far.

        Parameters
        ----------
        when
            Time of the last raw event in it.
        pattern
            Union of the patterns.
        geometries
            How many there are in it.
        """
        data = {
            **self._curve(pattern),
            "sums": pattern.sums,
            "count": np.array(pattern.count),
            "geometries": int(geometries),
        }
        self._event("merged", self._last.get("merged", 0) + 1, when, data, lambda: self._keys.merged(pattern))

    def stop(self, exit_status: str, reason: str, counts: Mapping[str, Any]) -> None:
        """Emit the stop document with the counts of frames, and the spottiness at the end, by which runs are found."""
        document = self._run.compose_stop(exit_status=exit_status, reason=reason, validate=False)
        document.update({**counts, "num_events": dict(self._last)})
        if self._so_far:
            document["spottiness"] = _summary(self._so_far)
        self._emit("stop", document)

    def _curve(self, pattern: Pattern) -> dict[str, Any]:
        if pattern.error_model != self._error_model:
            pattern = pattern.with_errors(self._error_model)
        return {"intensity": pattern.intensity, "sem": pattern.sem}

    def _event(
        self, stream: str, seq_num: int, when: float | None, data: dict[str, Any], keys: Callable[[], Keys]
    ) -> None:
        """Emit an event; before the first one of a stream, the descriptor with what `keys` returns."""
        bundle = self._streams.get(stream) or self._begun(stream, keys())
        stamp = time.time() if when is None else when
        event = bundle.compose_event(
            data=data, timestamps=dict.fromkeys(data, stamp), seq_num=seq_num, time=stamp, validate=False
        )
        self._last[stream] = max(seq_num, self._last.get(stream, 0))
        self._emit("event", event)

    def _begun(self, stream: str, keys: Keys) -> Any:
        named = {name: {**about, "object_name": STAGE} for name, about in keys.items()}
        bundle = self._streams[stream] = self._run.compose_descriptor(
            name=stream,
            data_keys=named,
            object_keys={STAGE: list(named)},
            hints={STAGE: {"fields": [name for name in named if name in _HINTED]}},
            time=self._raw_time,
            validate=False,
        )
        self._emit("descriptor", bundle.descriptor_doc)
        return bundle


_SUMMED_UP = (*spottiness_names("union_"), *spottiness_names("mean_frame_"), "independent_frames")
_HINTED = ("spottiness", "spottiness_excess", "union_spottiness", "mean_frame_spottiness", "independent_frames")


def _start_metadata(raw: Mapping[str, Any], recipe: Recipe, position_keys: Mapping[str, str]) -> dict[str, Any]:
    # Under names of their own: scan_id itself would shadow the raw run in catalogs.
    renamed = {f"raw_{key}": raw[key] for key in ("scan_id", "plan_name", "num_points") if key in raw}
    wanted = {key: value for key, value in raw.items() if _is_passed_on(key)} | renamed
    passed = {key: value for key, value in wanted.items() if _is_valid({key: value})}
    axes = list(position_keys.values()) or ["time"]
    metadata = {
        **passed,
        "analysis_stage": STAGE,
        "raw_uid": raw["uid"],
        "parent_uids": [raw["uid"]],
        "tiled_specs": [SPEC],
        "recipe": recipe.stored(),
        "versions": versions(),
        "hints": {"dimensions": [[axes, "primary"]]},
    }
    if recipe.detector is not None:
        metadata["detector"] = recipe.detector
    return metadata


def _summary(so_far: Mapping[str, float]) -> dict[str, Any]:
    """Return the spottiness of all frames for the stop document: numbers by data key, None for NaN, and the grade.

    The grade is the mean frame's, or the union's where there is no mean frame.
    """
    numbers = {name: None if math.isnan(value) else float(value) for name, value in so_far.items()}
    plain = so_far["mean_frame_spottiness"]
    return {**numbers, "grade": grade(so_far["union_spottiness"] if math.isnan(plain) else plain)}


def _is_passed_on(key: Any) -> bool:
    return key in PASSED_ON or (isinstance(key, str) and key.startswith(PASSED_ON_PREFIXES))


def _is_valid(metadata: Mapping[str, Any]) -> bool:
    """Tell whether a start document may have this; what is wrong in the raw one is not to spoil the derived one.

    Nor what JSON does not have: no server would take it.
    """
    try:
        json.dumps(event_model.sanitize_doc(dict(metadata)))
        event_model.schema_validators[event_model.DocumentNames.start].validate({"uid": "-", "time": 0.0, **metadata})
    except Exception:
        LOGGER.warning("the start document has %s of a kind that it may not have; left out", " ".join(metadata))
        return False
    return True


def versions() -> dict[str, str]:
    """Return the versions of what the numbers depend on."""
    return dict(_versions())


@cache
def _versions() -> dict[str, str]:
    found = {}
    for package in _VERSIONED:
        try:
            found[package.replace("-", "_")] = version(package)
        except PackageNotFoundError:
            continue
    return found
