"""Documents as bytes, arrays and NaN included."""

import datetime
import enum
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import msgpack  # type: ignore[import-untyped]
import numpy as np

_ARRAY = 1


def encode(name: str, document: Mapping[str, Any]) -> bytes:
    """Return a document as bytes.

    Raises
    ------
    TypeError, OverflowError
        If it holds what no document may hold.
    """
    return bytes(msgpack.packb([name, document], default=_plain, use_bin_type=True))


def decode(data: bytes) -> tuple[str, dict[str, Any]]:
    """Return name and document; numbers are Python's own, tuples have become lists, arrays are read-only."""
    name, document = msgpack.unpackb(data, ext_hook=_array, strict_map_key=False)
    return name, document


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return _packed(value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    raise TypeError(f"a document cannot hold a {type(value).__name__} ({str(value)[:60]})")


def _packed(array: np.ndarray[Any, Any]) -> Any:
    if array.ndim == 0:
        return array.item()
    if array.dtype.hasobject:
        return array.tolist()
    head = msgpack.packb([np.lib.format.dtype_to_descr(array.dtype), array.shape])
    return msgpack.ExtType(_ARRAY, len(head).to_bytes(4, "big") + head + array.tobytes())


def _array(code: int, data: bytes) -> Any:
    if code != _ARRAY:
        return msgpack.ExtType(code, data)
    size = int.from_bytes(data[:4], "big")
    description, shape = msgpack.unpackb(data[4 : 4 + size], use_list=True)
    if not isinstance(description, str):
        description = [tuple(field) for field in description]
    return np.frombuffer(data, np.lib.format.descr_to_dtype(description), offset=4 + size).reshape(shape)
