"""What a document must have before anything is done with it, so that nobody behind this door need ask again."""

import math
import operator
import os
from collections.abc import Callable, Mapping, Sequence, Sized
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np

from bluesky_powder.errors import BlueskyPowderError

Document = Mapping[str, Any]

MOST_SEQ_NUMS = 10_000_000
"""How many events one StreamDatum may tell of: hours of the fastest detectors."""
HIGHEST = 2**63 - 1
"""The highest number that tables and files of derived runs hold."""
HDF5_SPECS = frozenset(
    {"HDF5", "AD_HDF5", "AD_HDF5_SINGLE", "AD_HDF5_SWMR", "AD_HDF5_SWMR_SLICE", "AD_HDF5_SWMR_STREAM", "PANDA"}
)
"""Specs of HDF5 files, which StreamResources named in place of a mimetype before event-model 1.20."""
_AD_DATASET = "/entry/data/data"
_EXIT_STATUS = ("success", "abort", "fail")
_SHOWN = 60


class DocumentError(BlueskyPowderError, ValueError):
    """A document that cannot be used; the message says what is wrong with it."""


class Legal(NamedTuple):
    """A document that can be used.

    Attributes
    ----------
    document
        As it came, without what is wrong with it, or as it would be written today.
    complaints
        What that was.
    """

    document: Document
    complaints: tuple[str, ...] = ()


def checked(name: str, document: Any) -> Legal:
    """Return a document that has what its kind must have, of the right types.

    Other kinds pass as they are, if they are mappings.

    Parameters
    ----------
    name
        The kind: "start", "event" ...
    document
        Whatever came.

    Raises
    ------
    DocumentError
        If it lacks something that it cannot be used without.
    """
    if not isinstance(name, str):
        raise DocumentError(f"its name is {shown(name)}, not a text")
    if not isinstance(document, Mapping):
        raise DocumentError(f"it is {shown(document)}, not a mapping")
    check = _CHECKS.get(name)
    return Legal(document) if check is None else check(document)


def not_understood(name: Any, error: Exception) -> str:
    """Return what to say of a document that could not be used."""
    kind = f"{'an' if name.startswith('e') else 'a'} {name} document" if isinstance(name, str) else "a document"
    what = str(error) if isinstance(error, DocumentError) else f"{type(error).__name__}: {error}"
    return f"{kind} was not understood ({what})"


def shown(value: Any) -> str:
    """Return a value as text for a message: short, whatever it is."""
    try:
        text = repr(value)
    except Exception:  # also RecursionError
        text = f"<{type(value).__name__}>"
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def whole_path(root: str, path: str) -> str:
    """Return the path of a file that a document gives by a root and a path below it, or whole beside its root."""
    if not root or path.startswith(os.path.join(root, "")):
        return path
    return os.path.join(root, path.removeprefix("/"))


def _start(document: Document) -> Legal:
    if not _text(document, "uid"):
        raise DocumentError("its uid is empty")
    return Legal(document)


def _stop(document: Document) -> Legal:
    _text(document, "run_start")
    wrong: dict[str, Any] = {}
    complaints = []
    status, reason = document.get("exit_status", "success"), document.get("reason") or ""
    if not isinstance(status, str) or status not in _EXIT_STATUS:
        complaints.append(f"its exit_status is {shown(status)}, taken as 'fail'")
        wrong["exit_status"] = "fail"
    if not isinstance(reason, str):
        complaints.append("its reason is no text")
        wrong["reason"] = shown(reason)
    return Legal({**document, **wrong}, tuple(complaints)) if complaints else Legal(document)


def _descriptor(document: Document) -> Legal:
    for key in ("uid", "run_start"):
        _text(document, key)
    if "name" in document:
        _text(document, "name")
    _number(document, "time")
    keys, configuration = _mapping(document, "data_keys"), document.get("configuration") or {}
    wrong = {key: why for key, about in keys.items() if (why := _wrong_with_key(key, about))}
    complaints = [f"its data key {shown(key)} is left out: {why}" for key, why in wrong.items()]
    devices: dict[Any, Any] = {}
    if isinstance(configuration, Mapping):
        devices = {device: about for device, about in configuration.items() if _is_configuration(about)}
        odd = [device for device in configuration if device not in devices]
        complaints += [f"its configuration of {shown(device)} is left out: it makes no sense" for device in odd]
    else:
        complaints.append(f"its configuration is {shown(configuration)}, not a mapping")
    if not complaints:
        return Legal(document)
    good = {key: about for key, about in keys.items() if key not in wrong}
    return Legal({**document, "data_keys": good, "configuration": devices}, tuple(complaints))


def _wrong_with_key(key: Any, about: Any) -> str:
    """Return what is wrong with an entry of data_keys, "" where nothing is."""
    if not isinstance(key, str):
        return "it is no text"
    if not isinstance(about, Mapping):
        return f"it is {shown(about)}, not a mapping"
    shape = about.get("shape")
    if shape is None:
        return ""
    if not isinstance(shape, list | tuple) or not all(size is None or _is_size(size) for size in shape):
        return f"its shape is {shown(shape)}"
    return ""


def _is_size(size: Any) -> bool:
    return isinstance(size, int | np.integer) and not isinstance(size, bool) and bool(0 <= size <= HIGHEST)


def _is_configuration(about: Any) -> bool:
    """Tell whether the configuration of a device can be used."""
    if not isinstance(about, Mapping):
        return False
    data, keys = about.get("data") or {}, about.get("data_keys") or {}
    return (
        isinstance(data, Mapping) and isinstance(keys, Mapping) and all(isinstance(k, Mapping) for k in keys.values())
    )


def _event(document: Document) -> Legal:
    _text(document, "descriptor")
    _text(document, "uid")
    _number(document, "time")
    _mapping(document, "data")
    seq_num = _whole(document, "seq_num")
    return Legal(document if type(document["seq_num"]) is int else {**document, "seq_num": seq_num})


def _event_page(document: Document) -> Legal:
    _text(document, "descriptor")
    columns = {key: _column(document, key) for key in ("seq_num", "time", "uid")}
    rows = len(columns["seq_num"])
    for key in ("data", "timestamps", "filled"):
        given = _mapping(document, key) if key == "data" else (document.get(key) or {})
        if not isinstance(given, Mapping):
            raise DocumentError(f"its {key} are {shown(given)}, not a mapping")
        columns |= {f"{key} of {shown(name)}": _column(given, name) for name in given}
    for name, column in columns.items():
        if len(column) != rows:
            raise DocumentError(f"it has {rows} seq_nums, but its {name} has {len(column)} rows")
    seq_nums = [_whole({"seq_num": number}, "seq_num") for number in columns["seq_num"]]
    for row in range(rows):
        _number({"time": columns["time"][row]}, "time")
        _text({"uid": columns["uid"][row]}, "uid")
    told = {key: document.get(key) or {} for key in ("timestamps", "filled")}
    return Legal({**document, **told, "seq_num": seq_nums})


def _resource(document: Document) -> Legal:
    for key in ("uid", "spec", "resource_path"):
        _text(document, key)
    for key in ("root", "run_start"):
        if document.get(key) is not None:
            _text(document, key)
    if document.get("resource_kwargs") is not None:
        _mapping(document, "resource_kwargs")
    return Legal(document)


def _datum(document: Document) -> Legal:
    for key in ("datum_id", "resource"):
        _text(document, key)
    _mapping(document, "datum_kwargs")
    return Legal(document)


def _datum_page(document: Document) -> Legal:
    _text(document, "resource")
    ids, arguments = _column(document, "datum_id"), _mapping(document, "datum_kwargs")
    for datum_id in ids:
        _text({"datum_id": datum_id}, "datum_id")
    for name in arguments:
        if len(_column(arguments, name)) != len(ids):
            raise DocumentError(f"it has {len(ids)} datum_ids, but {len(arguments[name])} values of {shown(name)}")
    return Legal(document)


def _stream_resource(document: Document) -> Legal:
    if "mimetype" not in document and "spec" in document:
        document = _of_today(document)
    for key in ("uid", "data_key", "mimetype", "uri"):
        _text(document, key)
    if document.get("run_start") is not None:
        _text(document, "run_start")
    if document.get("parameters") is not None:
        _mapping(document, "parameters")
    return Legal(document)


def _of_today(stream_resource: Document) -> Document:
    """Return a StreamResource from before event-model 1.20 as it would be today."""
    left = dict(_resource(stream_resource).document)
    spec, root, path = left.pop("spec"), left.pop("root", None), left.pop("resource_path")
    if spec not in HDF5_SPECS:
        raise DocumentError(
            f"it has no mimetype, and its spec {shown(spec)} is none of {', '.join(sorted(HDF5_SPECS))}"
        )
    parameters = dict(left.pop("resource_kwargs", None) or {})
    left.pop("path_semantics", None)
    if spec.startswith("AD_") and not parameters.get("path"):
        parameters.setdefault("dataset", _AD_DATASET)
    uri = f"file://localhost/{quote(whole_path(root or '', path).removeprefix('/'))}"
    return {**left, "mimetype": "application/x-hdf5", "uri": uri, "parameters": parameters}


def _stream_datum(document: Document) -> Legal:
    for key in ("stream_resource", "descriptor"):
        _text(document, key)
    return Legal({**document, "seq_nums": _span(document, "seq_nums"), "indices": _span(document, "indices")})


def _span(document: Document, key: str) -> dict[str, int]:
    span = _mapping(document, key)
    try:
        start, stop = _whole(span, "start"), _whole(span, "stop")
    except DocumentError as error:
        raise DocumentError(f"of its {key}: {error}") from None
    if stop < start:
        raise DocumentError(f"its {key} end at {stop}, before they begin at {start}")
    if stop - start > MOST_SEQ_NUMS:
        raise DocumentError(f"its {key} are {stop - start} events; more than {MOST_SEQ_NUMS} are not believed")
    return {"start": start, "stop": stop}


def _text(document: Document, key: str) -> str:
    value = document.get(key)
    if not isinstance(value, str):
        raise DocumentError(f"it has no {key}" if key not in document else f"its {key} is {shown(value)}, not a text")
    return value


def _mapping(document: Document, key: str) -> Mapping[Any, Any]:
    value = document.get(key)
    if not isinstance(value, Mapping):
        raise DocumentError(
            f"it has no {key}" if key not in document else f"its {key} is {shown(value)}, not a mapping"
        )
    return value


def _number(document: Document, key: str) -> None:
    value = document.get(key)
    if type(value) is float and math.isfinite(value):
        return
    is_number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if value is None or not is_number or not -HIGHEST <= value <= HIGHEST:
        raise DocumentError(f"it has no {key}" if key not in document else f"its {key} is {shown(value)}, not a number")


def _column(document: Mapping[Any, Any], key: Any) -> Sequence[Any] | np.ndarray[Any, Any]:
    value = document.get(key)
    if isinstance(value, str | Mapping) or not isinstance(value, Sized) or not hasattr(value, "__getitem__"):
        column = key if isinstance(key, str) else shown(key)
        none = key not in document
        raise DocumentError(f"it has no {column}" if none else f"its {column} is {shown(value)}, not a column")
    return value  # type: ignore[return-value]  # has a length and items


def _whole(document: Document, key: str) -> int:
    """Return a number that counts something."""
    value = document.get(key)
    try:
        if isinstance(value, bool | np.bool_):
            raise TypeError
        number = operator.index(value)  # type: ignore[arg-type]  # what has none raises TypeError
    except TypeError:
        none = key not in document
        raise DocumentError(
            f"it has no {key}" if none else f"its {key} is {shown(value)}, not a whole number"
        ) from None
    if not 0 <= number <= HIGHEST:
        raise DocumentError(f"its {key} is {shown(number)}; it must be from 0 to {HIGHEST}")
    return number


_CHECKS: Mapping[str, Callable[[Document], Legal]] = {
    "start": _start,
    "stop": _stop,
    "descriptor": _descriptor,
    "event": _event,
    "event_page": _event_page,
    "resource": _resource,
    "datum": _datum,
    "datum_page": _datum_page,
    "stream_resource": _stream_resource,
    "stream_datum": _stream_datum,
}
KNOWN = frozenset(_CHECKS)
"""The kinds of documents that are used."""
