"""Tiled's client for a stream of a derived run: consistent while the run grows, and over a radial axis with units."""

from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr
from bluesky_tiled_plugins.clients.bluesky_event_stream import DATAVALUES, TIMESTAMPS, BlueskyEventStreamV3

from bluesky_powder.client.rebuild import SUMS

_AXIS_KEYS = ("units", "label", "radial_unit", "wavelength", "wavelength_units")


class PowderStream(BlueskyEventStreamV3):
    """A stream of a derived run.

    The client that it derives from reads table and arrays one after the other, and fails when a row comes in between.
    An event's arrays are written before its row in the table, so here the table is read first, and as much of the
    arrays as it has rows.
    """

    def read(self, variables: Iterable[Any] = (DATAVALUES,), dim0: str | None = None) -> xr.Dataset:
        """Read the stream's values.

        Parameters
        ----------
        variables
            Names; unless given, all values but `sums`, which are seven times the rest: ``read(["sums"])``.
        dim0
            Name of the dimension along events; "time" unless given.

        Returns
        -------
        xarray.Dataset
            One entry per event along the first dimension, units as attributes. What is over the radial axis has the
            dimension `radial`, whose coordinate is the axis, in the run's unit.
        """
        wanted, time = self._names(variables), dim0 or "time"
        parts = {key: item["attributes"]["structure_family"] for key, item in self.get_contents().items()}
        table = self._table(key for key, family in parts.items() if family == "table")
        arrays = {key: self.base[key] for key, family in parts.items() if family == "array" and key in wanted}
        in_table = min(map(len, table.values()), default=0)
        rows = min([in_table, *(array.shape[0] for array in arrays.values())])
        variables_read: dict[str, Any] = {
            name: ((time,), values[:rows], self._attributes(name)) for name, values in table.items() if name in wanted
        }
        for name, array in arrays.items():
            dims = (time, *self._dims(name, array))
            variables_read[name] = (dims, array.read((slice(0, rows),)), self._attributes(name))
        return xr.Dataset(
            variables_read, self._coordinates({dim for dims, *_ in variables_read.values() for dim in dims})
        )

    def _names(self, variables: Iterable[Any]) -> set[Any]:
        names: set[Any] = set(variables)
        if DATAVALUES in names:
            names |= self._var_keys - ({SUMS} - names)
        if TIMESTAMPS in names:
            names |= self._ts_keys
        return names - {DATAVALUES, TIMESTAMPS}

    def _table(self, keys: Iterator[str]) -> dict[str, np.ndarray[Any, Any]]:
        read = (self.base[key].read() for key in keys)
        return {name: _plain(frame[name].to_numpy()) for frame in read for name in frame}

    def _attributes(self, name: str) -> dict[str, str]:
        units = self._about(name).get("units")
        return {"units": units} if units else {}

    def _about(self, name: str) -> dict[str, Any]:
        return dict(self.metadata.get("data_keys", {}).get(name, {}))

    def _dims(self, name: str, array: Any) -> list[str]:
        """Return the names of an array's dimensions after the first."""
        declared = self._about(name).get("dims") or []
        if name != "radial" and len(declared) == array.ndim - 1:
            return list(declared)
        return list((array.dims or [f"{name}_dim{axis}" for axis in range(array.ndim)])[1:])

    def _coordinates(self, dims: set[str]) -> dict[str, Any]:
        """Return the coordinates of what is over the radial axis, or over the sums."""
        found: dict[str, Any] = {}
        if "radial" in dims:
            found["radial"] = self._radial
        if "sum" in dims and (sums := self._about(SUMS).get("sums")):
            found["sum"] = (("sum",), list(sums))
        return found

    @cached_property
    def _radial(self) -> tuple[tuple[str], Any, dict[str, Any]]:
        axes = self.parent["axes"]
        about = axes.metadata["data_keys"]["radial"]
        attributes = {name: about[name] for name in _AXIS_KEYS if about.get(name) is not None}
        return ("radial",), axes.base["radial"].read((slice(0, 1),))[0], attributes


def _plain(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return text as such, rather than as objects."""
    is_text = values.dtype.hasobject and all(isinstance(value, str) for value in values)
    return values.astype("U") if is_text else values
