"""Derived runs as the reduction emits them, made of numbers that can be told from the row they stand in; a raw one."""

import math
from collections.abc import Iterator
from typing import Any

import event_model
import numpy as np

Document = tuple[str, dict[str, Any]]

_KINDS = ("", "_weighted", "_excess", "_excess_weighted", "_excess_error")


def derived_run(events: int, *, npt: int = 300, raw_uid: str = "raw", time: float | None = None) -> Iterator[Document]:
    """Yield the documents of a derived run with its four streams; array k of row n begins with n."""
    recipe = {"frames": "eiger", "bins": {"unit": "2th_deg", "npt": npt, "range": [0.0, 30.0]}}
    bundle = event_model.compose_run(
        metadata={
            "analysis_stage": "powder",
            "raw_uid": raw_uid,
            "parent_uids": [raw_uid],
            "tiled_specs": ["PowderRun"],
            "recipe": recipe,
            "versions": {"bluesky-powder": "0"},
        },
        time=time,
    )
    yield "start", bundle.start_doc
    edges = np.linspace(0.0, 30.0, npt + 1)
    axes = bundle.compose_descriptor(
        name="axes", data_keys={"radial": _array(npt, "deg"), "radial_edges": _array(npt + 1, "deg")}
    )
    yield "descriptor", axes.descriptor_doc
    yield "event", _event(axes, {"radial": (edges[1:] + edges[:-1]) / 2, "radial_edges": edges})
    primary = bundle.compose_descriptor(name="primary", data_keys=_primary_keys(npt))
    yield "descriptor", primary.descriptor_doc
    cumulative = bundle.compose_descriptor(name="cumulative", data_keys=_cumulative_keys(npt))
    yield "descriptor", cumulative.descriptor_doc
    for number in range(1, events + 1):
        yield "event", _event(primary, primary_values(number, npt))
        yield "event", _event(cumulative, cumulative_values(number, npt))
    merged = bundle.compose_descriptor(
        name="merged",
        data_keys={name: _array(npt) for name in ("intensity", "sem", "count")} | {"geometries": _scalar("integer")},
    )
    yield "descriptor", merged.descriptor_doc
    last = {"intensity": _row(events, npt), "sem": _row(events, npt), "count": np.ones(npt), "geometries": 3}
    yield "event", _event(merged, last)
    yield "stop", bundle.compose_stop()


def raw_run(values: list[Any]) -> Iterator[Document]:
    """Yield the documents of a run of numbers that nothing was derived for: a third of a derived run's requests."""
    bundle = event_model.compose_run()
    yield "start", bundle.start_doc
    stream = bundle.compose_descriptor(name="primary", data_keys={"x": {"source": "s", "dtype": "number", "shape": []}})
    yield "descriptor", stream.descriptor_doc
    for value in values:
        yield "event", stream.compose_event(data={"x": value}, timestamps={"x": 1.0}, validate=False)
    yield "stop", bundle.compose_stop()


def primary_values(number: int, npt: int) -> dict[str, Any]:
    """Return the values of one primary event; NaN in the first ten, numpy scalars and Python's mixed."""
    excess = math.nan if number <= 10 else number / 100
    return {
        "intensity": _row(number, npt),
        "sem": _row(-number, npt),
        **{f"spottiness{kind}": np.float64(number / 1000) for kind in _KINDS},
        "spottiness_excess_error": excess,
        "total_counts": np.float64(1e6 + number),
        "masked_pixels": np.int64(number),
        "monitor": 1,  # an integer where the descriptor says number, as motors and counters give
        "pos": number if number < 3 else number / 2,
        "raw_event_uid": f"event-{number}",
    }


def cumulative_values(number: int, npt: int) -> dict[str, Any]:
    """Return the values of one cumulative event."""
    return {
        "intensity": _row(number, npt),
        "sem": _row(-number, npt),
        "frames": number,
        **{f"{which}_spottiness{kind}": number / 500 for which in ("union", "mean_frame") for kind in _KINDS},
        "independent_frames": math.nan,
    }


def _row(first: float, npt: int) -> Any:
    row = np.sin(np.arange(npt, dtype=np.float64))
    row[0], row[-1] = first, math.nan
    return row


def _primary_keys(npt: int) -> dict[str, Any]:
    numbers = [*(f"spottiness{kind}" for kind in _KINDS), "total_counts", "monitor"]
    return {
        "intensity": _array(npt),
        "sem": _array(npt),
        **{name: _scalar("number") for name in numbers},
        "pos": {**_scalar("number"), "goniometer_position": "pos"},
        "masked_pixels": _scalar("integer"),
        "raw_event_uid": {"source": "reduction", "dtype": "string", "shape": []},
    }


def _cumulative_keys(npt: int) -> dict[str, Any]:
    numbers = [f"{which}_spottiness{kind}" for which in ("union", "mean_frame") for kind in _KINDS]
    return {
        "intensity": _array(npt),
        "sem": _array(npt),
        "frames": _scalar("integer"),
        **{name: _scalar("number") for name in (*numbers, "independent_frames")},
    }


def _array(size: int, units: str = "") -> dict[str, Any]:
    return {"source": "reduction", "dtype": "array", "shape": [size], "dtype_numpy": "<f8", "units": units}


def _scalar(dtype: str) -> dict[str, Any]:
    return {"source": "reduction", "dtype": dtype, "shape": [], "dtype_numpy": {"integer": "<i8"}.get(dtype, "<f8")}


def _event(descriptor: Any, data: dict[str, Any]) -> dict[str, Any]:
    # numpy scalars are not JSON's numbers, but reductions emit them.
    return dict(descriptor.compose_event(data=data, timestamps=dict.fromkeys(data, 1.0), validate=False))
