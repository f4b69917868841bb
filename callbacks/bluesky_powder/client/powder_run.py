"""Tiled's clients for derived runs; Tiled finds them by the entry point ``tiled.special_client`` of this package."""

import copy
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import xarray as xr
from bluesky_tiled_plugins.clients.bluesky_event_stream import DATAVALUES, TIMESTAMPS, BlueskyEventStreamV3
from bluesky_tiled_plugins.clients.bluesky_run import BlueskyRunV3


class PowderRun(BlueskyRunV3):
    """A derived run; its streams can be read while they grow."""

    def __init__(self, context: Any, *, item: Any, structure_clients: Any, **keywords: Any) -> None:
        clients = copy.copy(structure_clients)
        clients.set("BlueskyEventStream", lambda: PowderStream)
        super().__init__(context, item=item, structure_clients=clients, **keywords)


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
            Names; all values unless given.
        dim0
            Name of the dimension along events; "time" unless given.

        Returns
        -------
        xarray.Dataset
            One entry per event along the first dimension, units as attributes.
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
            dims = (time, *(array.dims or [f"{name}_dim{axis}" for axis in range(array.ndim)])[1:])
            variables_read[name] = (dims, array.read((slice(0, rows),)), self._attributes(name))
        return xr.Dataset(variables_read)

    def _names(self, variables: Iterable[Any]) -> set[Any]:
        names: set[Any] = set(variables)
        if DATAVALUES in names:
            names |= self._var_keys
        if TIMESTAMPS in names:
            names |= self._ts_keys
        return names - {DATAVALUES, TIMESTAMPS}

    def _table(self, keys: Iterator[str]) -> dict[str, np.ndarray[Any, Any]]:
        read = (self.base[key].read() for key in keys)
        return {name: _plain(frame[name].to_numpy()) for frame in read for name in frame}

    def _attributes(self, name: str) -> dict[str, str]:
        units = self.metadata.get("data_keys", {}).get(name, {}).get("units")
        return {"units": units} if units else {}


def _plain(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return text as such, rather than as objects."""
    is_text = values.dtype.hasobject and all(isinstance(value, str) for value in values)
    return values.astype("U") if is_text else values
