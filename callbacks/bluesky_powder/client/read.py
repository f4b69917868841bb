"""A derived run as plain arrays."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from azimuthal.units import RadialUnit, radial_unit
from bluesky_powder.client.connection import asking
from bluesky_powder.client.rebuild import SUMS
from bluesky_powder.errors import DerivedRunError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class SpottinessTable:
    """Spottiness frame by frame.

    Attributes
    ----------
    seq_num
        (n,) number of the raw event; each once, rising.
    columns
        Name -> (n,) values: the scalars of the streams `primary` and `cumulative`, as DESIGN names them; NaN where a
        frame has none.
    positions
        Names of the columns that are goniometer positions.
    """

    seq_num: NDArray[np.int64]
    columns: Mapping[str, NDArray[Any]]
    positions: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.seq_num)


@dataclass(frozen=True)
class MergedPattern:
    """The merge of all frames.

    Attributes
    ----------
    radial, edges
        (npt,) bin centres and (npt + 1,) edges, in `unit`.
    intensity, sem
        (npt,), NaN in empty bins.
    count
        (npt,) pixels in each bin.
    unit
        Radial unit.
    """

    radial: Floats
    edges: Floats
    intensity: Floats
    sem: Floats
    count: Floats
    unit: RadialUnit


def columns(run: Any, stream: str) -> dict[str, NDArray[Any]]:
    """Return the values of one stream of a derived run.

    Parameters
    ----------
    run
        As `find` returns it.
    stream
        axes, primary, cumulative or merged.

    Returns
    -------
    dict
        Data key, and `seq_num`, -> array with one entry per event, without `sums`. Of an event that was taken again
        after a pause, the last.

    Raises
    ------
    DerivedRunError
        If the run has no such stream (yet), or Tiled does not give it.
    """
    return _columns(run, stream, lambda node: [name for name in node if not name.startswith("ts_") and name != SUMS])


def _numbers(run: Any, stream: str) -> dict[str, NDArray[Any]]:
    """Return the columns of one stream that have one number, or text, per event."""
    return _columns(
        run,
        stream,
        lambda node: ["seq_num", *(name for name, key in node.metadata["data_keys"].items() if not key.get("shape"))],
    )


def _columns(run: Any, stream: str, names: Callable[[Any], list[str]]) -> dict[str, NDArray[Any]]:
    with asking(f"give stream {stream!r} of run {_uid(run)}"):
        # By way of the base: a process that asked a catalog for its v2 has runs whose own streams are other things.
        streams = run.base
        if stream not in streams:
            state = "yet" if not run.metadata.get("stop") else _ended(run)
            raise DerivedRunError(f"run {_uid(run)} has no stream {stream!r} {state}")
        node = streams[stream]
        data = node.read(names(node))
    read = {str(name): np.asarray(data[name].values) for name in data.data_vars}
    if "seq_num" not in read:
        return read
    last = {int(number): row for row, number in enumerate(read["seq_num"])}
    rows = [last[number] for number in sorted(last)]
    return {name: values[rows] for name, values in read.items()}


def spottiness(run: Any) -> SpottinessTable:
    """Return the spottiness of a derived run, frame by frame.

    Raises
    ------
    DerivedRunError
        If the run has no frames (yet).
    """
    primary, cumulative = _numbers(run, "primary"), _numbers(run, "cumulative")
    common, here, there = np.intersect1d(primary["seq_num"], cumulative["seq_num"], return_indices=True)
    table = {name: values[here] for name, values in primary.items() if values.ndim == 1}
    table |= {name: values[there] for name, values in cumulative.items() if values.ndim == 1 and name not in table}
    for name in ("seq_num", "time"):
        table.pop(name, None)
    about = run.base["primary"].metadata["data_keys"]
    positions = tuple(name for name in table if "goniometer_position" in about.get(name, {}))
    return SpottinessTable(common.astype(np.int64), table, positions)


def merged(run: Any) -> MergedPattern:
    """Return the merged pattern of a derived run, the latest.

    Raises
    ------
    DerivedRunError
        If there is none (yet).
    """
    axes, merges = columns(run, "axes"), columns(run, "merged")
    if not len(merges.get("intensity", ())):
        raise DerivedRunError(f"run {_uid(run)} has no merged pattern yet")
    radial, edges = np.ravel(axes["radial"][-1]), np.ravel(axes["radial_edges"][-1])
    return MergedPattern(
        radial, edges, merges["intensity"][-1], merges["sem"][-1], merges["count"][-1], radial_unit(unit_of(run))
    )


def unit_of(run: Any) -> str:
    """Return the name of a derived run's radial unit."""
    return str(run.metadata["start"]["recipe"]["bins"]["unit"])


def _uid(run: Any) -> str:
    return str(run.metadata["start"]["uid"])


def _ended(run: Any) -> str:
    stop = run.metadata["stop"]
    reason = stop.get("reason")
    return f"(it ended with {stop.get('exit_status')}{': ' + reason if reason else ''})"
