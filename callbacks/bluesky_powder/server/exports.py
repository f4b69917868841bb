"""Patterns as files by HTTP: ``GET .../container/full/RUN?format=xye``, also in the download menu of Tiled's pages.

In any Tiled configuration::

    media_types:
      PowderRun:
        text/x-xye: bluesky_powder.server.exports:export
        text/x-chi: bluesky_powder.server.exports:export
        text/x-fxye: bluesky_powder.server.exports:export
        application/x-nxazint: bluesky_powder.server.exports:export
        text/csv: bluesky_powder.server.exports:export
    file_extensions: {xye: text/x-xye, chi: text/x-chi, fxye: text/x-fxye, nxazint: application/x-nxazint}

Which pattern is given stands in the media type, ``?format=text/x-xye;which=frame;frame=3`` (the semicolons as ``%3B``);
our own server takes ``?format=xye&which=frame&frame=3`` as well.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode

import numpy as np

from bluesky_powder.client.choice import Choice, Chosen, choose
from bluesky_powder.client.find import SPEC
from bluesky_powder.client.formats import FORMATS, Heading, format_of, rendered
from bluesky_powder.client.rebuild import SUMS, PatternKind
from bluesky_powder.errors import DerivedRunError, ExportError

Filter = Callable[[Any], Awaitable[Any]]

PLACE = "/container/full/"
"""In the path of requests for files of runs."""
_PARAMETERS = ("which", "frame")


def register(registry: Any) -> None:
    """Teach a Tiled serialization registry to give derived runs as files."""
    for kind in FORMATS.values():
        if registry.resolve_alias(kind.name) == kind.name:
            registry.register_alias(kind.name, kind.media_type)
        # What a system's own table of file types has for the name wins in Tiled.
        for media_type in {kind.media_type, registry.resolve_alias(kind.name)}:
            registry.register(SPEC, media_type, export)


def in_media_type(query: str) -> str:
    """Return a query with `which` and `frame` inside `format`, if that is one of our formats."""
    pairs = parse_qsl(query, keep_blank_values=True)
    given = dict(pairs)
    kind = FORMATS.get(given.get("format", ""))
    parameters = [f"{name}={given[name]}" for name in _PARAMETERS if name in given]
    if kind is None or not parameters or any("," in each or ";" in each for each in parameters):
        return query
    others = [(name, value) for name, value in pairs if name not in ("format", *_PARAMETERS)]
    return urlencode([*others, ("format", ";".join([kind.media_type, *parameters]))])


async def export(media_type: str, adapter: Any, metadata: Mapping[str, Any], filter_for_access: Filter) -> bytes:
    """Return a pattern of a derived run as a file; the signature is that of Tiled's exporters.

    Parameters
    ----------
    media_type
        Of the format, with ``;which=...;frame=...`` if need be.
    adapter
        The run.
    metadata
        Of the run.
    filter_for_access
        Takes out what the client may not see.

    Raises
    ------
    fastapi.HTTPException
        400 for parameters that make no sense, 404 for a pattern that is not there (yet), 406 for one that the format
        cannot hold.
    """
    from anyio import to_thread
    from fastapi import HTTPException
    from tiled.media_type_registration import default_serialization_registry as registry

    base, _, rest = media_type.partition(";")
    try:
        parameters = dict(_parameter(each) for each in rest.split(";") if each.strip())
        choice = Choice.of(parameters.get("which"), parameters.get("frame"))
        kind = next(each for each in FORMATS.values() if base in (each.media_type, registry.resolve_alias(each.name)))
    except ExportError as error:
        raise HTTPException(400, str(error)) from error
    try:
        pattern, words = await _Reader(adapter, metadata, filter_for_access).pattern(choice)
        content: bytes = await to_thread.run_sync(rendered, pattern, format_of(kind.name), Heading.of(metadata, words))
    except DerivedRunError as error:
        raise HTTPException(404, str(error)) from error
    except ExportError as error:
        raise HTTPException(406, str(error)) from error
    return content


def _parameter(text: str) -> tuple[str, str]:
    name, _, value = text.strip().partition("=")
    if name not in _PARAMETERS:
        raise ExportError(f"{name}: there is no such parameter; there are {' and '.join(_PARAMETERS)}")
    return name, value


class _Reader:
    """Reads patterns of one run through Tiled's adapters."""

    def __init__(self, run: Any, metadata: Mapping[str, Any], filter_for_access: Filter) -> None:
        self._run, self._metadata, self._filter = run, metadata, filter_for_access

    async def pattern(self, choice: Choice) -> tuple[Any, str]:
        """Return a pattern, and what it is in words."""
        primary = await self._stream("primary")
        seq_nums = await self._seq_nums(primary)
        merged = await self._stream("merged") if choice.which == "merged" else None
        sums = await self._child(merged, SUMS)
        chosen = choose(choice, self._metadata, seq_nums, 0 if sums is None else int(sums.structure().shape[0]))
        stream = merged if chosen.stream == "merged" else primary
        kind = await self._kind(_data_keys(stream))
        return kind.pattern(await self._sums(stream, chosen)), chosen.words

    async def _kind(self, keys: Mapping[str, Any]) -> PatternKind:
        axes = await self._stream("axes")
        edges = await self._child(axes, "radial_edges")
        if edges is None:
            raise DerivedRunError(f"run {self._metadata['start']['uid']} has no axes yet")
        first = np.asarray(await _rows(edges, 0, 1))[0]
        return PatternKind.of(self._metadata["start"], _data_keys(axes), keys, first)

    async def _stream(self, name: str) -> Any:
        return await self._child(self._run, name)

    async def _child(self, node: Any, name: str) -> Any:
        """Return a child that the client may see; None where there is none."""
        if node is None:
            return None
        try:
            return await (await self._filter(node)).lookup_adapter([name])
        except KeyError:
            return None

    async def _seq_nums(self, primary: Any) -> Any:
        table = await self._child(primary, "internal")
        return [] if table is None else np.asarray((await table.read(fields=["seq_num"]))["seq_num"])

    async def _sums(self, stream: Any, chosen: Chosen) -> Any:
        """Return the sums of rows, added in order: what the reduction itself has added."""
        array = await self._child(stream, SUMS)
        if array is None:
            raise DerivedRunError(f"{chosen.words}: the sums are not there yet")
        total: Any = None
        for first, end in chosen.pieces():
            piece = np.asarray(await _rows(array, first, end))
            if len(piece) < end - first:
                raise DerivedRunError(f"{chosen.words}: the sums are not all there yet")
            for row in piece:
                total = np.array(row) if total is None else total + row
        return total


def _data_keys(stream: Any) -> Mapping[str, Any]:
    return dict(stream.metadata().get("data_keys", {}))


async def _rows(array: Any, first: int, end: int) -> Any:
    from tiled.ndslice import NDSlice

    return await array.read(NDSlice(slice(first, end)))
