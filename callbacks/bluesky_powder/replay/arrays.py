"""Arrays in msgpack files, in the form that the package msgpack-numpy gives them."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from bluesky_powder.errors import ReplayError


def unpacked_array(mapping: dict[Any, Any]) -> Any:
    """Return the array, the numpy scalar or the complex number that a mapping stands for; any other as it is.

    Arrays are mappings with the keys nd (true), type (a dtype, or the fields of one), kind, shape and data (bytes in C
    order); scalars have nd false. Keys are bytes.

    Raises
    ------
    ReplayError
        If it stands for Python objects: these are pickled, and a pickle may run any program.
    """
    if b"complex" in mapping:
        return complex(_text(mapping[b"data"]))
    if b"nd" not in mapping:
        return mapping
    if mapping.get(b"kind") in (b"O", "O"):
        raise ReplayError("an array of Python objects is pickled, and pickles are not read here")
    # A copy: an array over bytes would be read-only.
    values = np.frombuffer(bytearray(mapping[b"data"]), _dtype(mapping))
    return values.reshape(mapping[b"shape"]) if mapping[b"nd"] else values[0]


def _dtype(mapping: Mapping[Any, Any]) -> np.dtype[Any]:
    described = mapping[b"type"]
    if isinstance(described, list | tuple):
        return np.dtype([tuple(map(_part, field)) for field in described])
    return np.dtype(_text(described))


def _part(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else _text(value)


def _text(value: Any) -> str:
    return value.decode("ascii") if isinstance(value, bytes) else str(value)
