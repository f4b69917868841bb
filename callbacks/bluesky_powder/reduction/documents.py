"""The derived run's documents: their keys, composed with event-model, ndarrays left as they are."""

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, astuple
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import event_model
import numpy as np

from azimuthal import Pattern, grade, radial_unit
from azimuthal.pattern import SUMS
from bluesky_powder.recipe import Recipe
from bluesky_powder.recipe.darks import DarkFromRun, DarkFromStream
from bluesky_powder.recipe.sources import KeySource

LOGGER = logging.getLogger("bluesky_powder.reduction")

Emit = Callable[[str, dict[str, Any]], None]

STAGE = "powder"
SPEC = "PowderRun"
KINDS = ("", "_weighted", "_excess", "_excess_weighted", "_excess_error")
"""Suffixes of the five spottiness numbers."""

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
    values = astuple(pattern.spottiness_numbers())
    return {f"{prefix}spottiness{kind}": value for kind, value in zip(KINDS, values, strict=True)}


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
        self._recipe = recipe
        self._emit = emit
        self._units = "counts/sr" if recipe.integration.solid_angle == "absolute" else "counts"
        self._streams: dict[str, Any] = {}
        self._last: dict[str, int] = {}
        self._raw_time: float | None = None
        self._raw_keys: dict[str, Any] = {}
        self._so_far: dict[str, float] = {}
        self.position_keys = {name: _position_key(name) for name in recipe.geometry.motors}
        metadata = _start_metadata(raw_start, recipe, self.position_keys)
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
        for device in raw_descriptor.get("configuration", {}).values():
            self._raw_keys.update(device.get("data_keys", {}))
        self._raw_keys.update(raw_descriptor["data_keys"])

    def axes(self, pattern: Pattern) -> None:
        """Emit the axes, which are the same for the whole run."""
        unit = radial_unit(pattern.unit)
        about = {
            "units": unit.symbol,
            "radial_unit": unit.name,
            "label": unit.label,
            "wavelength": pattern.wavelength,
            "wavelength_units": "m",
        }
        keys = {
            "radial": _array_key(pattern.npt, dims=["radial"], **about),
            "radial_edges": _array_key(pattern.npt + 1, dims=["radial_edge"], **about),
        }
        data = {"radial": pattern.radial, "radial_edges": pattern.edges}
        self._event("axes", 1, self._raw_time, keys, data)

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
        with_dark = isinstance(self._recipe.corrections.dark, DarkFromStream | DarkFromRun)
        data: dict[str, Any] = {
            **self._curve(pattern),
            "sums": pattern.sums,
            **spottiness(pattern),
            "total_counts": float(pattern.sum_signal.sum()),
            "masked_pixels": int(pattern.masked_pixels),
            "monitor": float(about["monitor"]),
            **{key: float(about["positions"][name]) for name, key in self.position_keys.items()},
            "raw_event_uid": about["raw_event_uid"],
            **({"dark_uid": about["dark_uid"]} if with_dark else {}),
        }
        keys = {
            **self._curve_keys(pattern.npt),
            "sums": _sums_key(pattern),
            **_spottiness_keys(),
            "total_counts": _number_key("counts"),
            "masked_pixels": _integer_key("pixels"),
            "monitor": self._monitor_key(),
            **{
                key: {**self._raw_number(self._recipe.geometry.motors[name]), "goniometer_position": name}
                for name, key in self.position_keys.items()
            },
            "raw_event_uid": _uid_key("raw:event"),
            **({"dark_uid": _uid_key("raw:dark")} if with_dark else {}),
        }
        self._event("primary", seq_num, when, keys, data)

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
        keys = {
            **self._curve_keys(pattern.npt),
            "frames": _integer_key("frames"),
            **_spottiness_keys("union_"),
            **_spottiness_keys("mean_frame_"),
            "independent_frames": _number_key("frames"),
            "reason": {"dtype": "string", "shape": [], "dtype_numpy": "<U512", "source": _SOURCE},
        }
        self._event("cumulative", seq_num, when, keys, data)
        self._so_far = {name: value for name, value in data.items() if name.startswith(_SUMMED_UP)}

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
        keys = {
            **self._curve_keys(pattern.npt),
            "sums": _sums_key(pattern),
            "count": _array_key(pattern.npt, dims=["radial"], units="pixels"),
            "geometries": _integer_key(),
        }
        self._event("merged", self._last.get("merged", 0) + 1, when, keys, data)

    def stop(self, exit_status: str, reason: str, counts: Mapping[str, Any]) -> None:
        """Emit the stop document with the counts of frames, and the spottiness at the end, by which runs are found."""
        document = self._run.compose_stop(exit_status=exit_status, reason=reason, validate=False)
        document.update({**counts, "num_events": dict(self._last)})
        if self._so_far:
            document["spottiness"] = _summary(self._so_far)
        self._emit("stop", document)

    def _raw_number(self, source: str | float | KeySource | None) -> dict[str, Any]:
        """Return the data key of a number that comes from the raw run, with its units there or those it is put into."""
        units = self._raw_keys.get(str(source), {}).get("units")
        if isinstance(source, KeySource) and source.to_unit is not None:
            units = source.to_unit
        return _number_key(units if isinstance(units, str) else None, source=f"raw:{source}")

    def _monitor_key(self) -> dict[str, Any]:
        """Return the data key of what frames are divided by; with an exposure time it is a product."""
        corrections = self._recipe.corrections
        if corrections.exposure is None:
            return self._raw_number(corrections.monitor)
        factors = [source for source in (corrections.monitor, corrections.exposure) if source is not None]
        return _number_key(source=f"raw:{' * '.join(map(str, factors))}")

    def _curve(self, pattern: Pattern) -> dict[str, Any]:
        pattern = pattern.with_errors(self._recipe.integration.error_model)
        return {"intensity": pattern.intensity, "sem": pattern.sem}

    def _curve_keys(self, npt: int) -> dict[str, Any]:
        common = {"dims": ["radial"], "units": self._units, "normalized_by": _plain(self._recipe.corrections.monitor)}
        if self._recipe.corrections.exposure is not None:
            common["exposure"] = _plain(self._recipe.corrections.exposure)
        return {
            "intensity": _array_key(npt, **common),
            "sem": _array_key(npt, error_model=self._recipe.integration.error_model, **common),
        }

    def _event(
        self, stream: str, seq_num: int, when: float | None, keys: Mapping[str, Any], data: dict[str, Any]
    ) -> None:
        if stream not in self._streams:
            self._open_stream(stream, keys)
        stamp = time.time() if when is None else when
        event = self._streams[stream].compose_event(
            data=data, timestamps=dict.fromkeys(data, stamp), seq_num=seq_num, time=stamp, validate=False
        )
        self._last[stream] = max(seq_num, self._last.get(stream, 0))
        self._emit("event", event)

    def _open_stream(self, stream: str, keys: Mapping[str, Any]) -> None:
        named = {name: {**about, "object_name": STAGE} for name, about in keys.items()}
        bundle = self._run.compose_descriptor(
            name=stream,
            data_keys=named,
            object_keys={STAGE: list(named)},
            hints={STAGE: {"fields": [name for name in named if name in _HINTED]}},
            time=self._raw_time,
            validate=False,
        )
        self._streams[stream] = bundle
        self._emit("descriptor", bundle.descriptor_doc)


_SOURCE = "bluesky-powder"
_SUMMED_UP = ("union_spottiness", "mean_frame_spottiness", "independent_frames")
_HINTED = ("spottiness", "spottiness_excess", "union_spottiness", "mean_frame_spottiness", "independent_frames")


def _start_metadata(raw: Mapping[str, Any], recipe: Recipe, position_keys: Mapping[str, str]) -> dict[str, Any]:
    passed = {k: v for k, v in raw.items() if _is_passed_on(k) and _is_valid({k: v})}
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
    # Under names of their own: scan_id itself would shadow the raw run in catalogs.
    if recipe.detector is not None:
        metadata["detector"] = recipe.detector
    metadata |= {f"raw_{key}": raw[key] for key in ("scan_id", "plan_name", "num_points") if key in raw}
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
    """Tell whether a start document may have this; what is wrong in the raw one is not to spoil the derived one."""
    try:
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


def _position_key(name: str) -> str:
    """Return the data key for a goniometer position; one that is taken, or not allowed, gets a prefix."""
    taken = {"intensity", "sem", "sums", "total_counts", "masked_pixels", "monitor", "raw_event_uid", "time", "seq_num"}
    clean = name.replace(".", "_").replace("/", "_")
    return f"position_{clean}" if clean in taken or clean.startswith("spottiness") else clean


def _spottiness_keys(prefix: str = "") -> dict[str, Any]:
    return {f"{prefix}spottiness{kind}": _number_key("") for kind in KINDS}


def _plain(source: str | float | KeySource | None) -> str | float | None:
    return str(source) if isinstance(source, KeySource) else source


def _uid_key(source: str) -> dict[str, Any]:
    return {"dtype": "string", "shape": [], "dtype_numpy": "<U64", "source": source}


def _array_key(size: int, **about: Any) -> dict[str, Any]:
    return {"dtype": "array", "shape": [size], "dtype_numpy": "<f8", "source": _SOURCE, **about}


def _sums_key(pattern: Pattern) -> dict[str, Any]:
    """Return the data key of all that a pattern is, from which it can be merged and graded again."""
    made = pattern.conditions
    polarization = None if made.polarization is None else list(made.polarization)
    return {
        "dtype": "array",
        "shape": [len(SUMS), pattern.npt],
        "dtype_numpy": "<f8",
        "source": _SOURCE,
        "dims": ["sum", "radial"],
        "sums": list(SUMS),
        "conditions": {**asdict(made), "polarization": polarization},
        "gain": pattern.gain,
    }


def _number_key(units: str | None = None, source: str = _SOURCE) -> dict[str, Any]:
    return {"dtype": "number", "shape": [], "dtype_numpy": "<f8", "source": source, "units": units}


def _integer_key(units: str | None = None) -> dict[str, Any]:
    return {"dtype": "integer", "shape": [], "dtype_numpy": "<i8", "source": _SOURCE, "units": units}
