"""The raw run: documents that say where the frames are, and what goes with them."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import event_model

from bluesky_powder.errors import IngestError
from bluesky_powder.ingest.series import FrameFile, Series

Document = tuple[str, dict[str, Any]]

BLOCK = 50
"""Frames that one StreamDatum announces at most."""
_NOT_IN_NAMES = frozenset("%#?{}\\")


@dataclass(frozen=True)
class _Resource:
    """What one StreamResource document stands for."""

    uri: str
    mimetype: str
    parameters: dict[str, Any]
    file: FrameFile
    first: int


def raw_documents(
    series: Series, data_key: str, columns: Mapping[str, Sequence[float]], metadata: Mapping[str, Any]
) -> Iterator[Document]:
    """Yield the documents of the run that a series of files makes.

    Parameters
    ----------
    series
        The files.
    data_key
        Of the frames.
    columns
        Data key -> one number a frame.
    metadata
        For the start document.

    Yields
    ------
    str, dict
        Name and document: start, descriptor, then for each block of frames its events and where the frames are, stop.

    Raises
    ------
    IngestError
        If a file's name cannot be written down in a document.
    """
    rows, columns_ = series.shape
    resources = list(_resources(series))
    run = event_model.compose_run(metadata={"plan_name": "ingest", **metadata})
    yield "start", run.start_doc
    stream = run.compose_descriptor(
        name="primary",
        data_keys={
            data_key: {
                "source": "files",
                "dtype": "array",
                "shape": [rows, columns_],
                "dtype_numpy": series.dtype.str,
                "external": "STREAM:",
            },
            "file": {"source": "files", "dtype": "string", "shape": []},
            "file_time": {"source": "files", "dtype": "number", "shape": [], "dtype_numpy": "<f8", "units": "s"},
            **{
                name: {"source": "command line", "dtype": "number", "shape": [], "dtype_numpy": "<f8"}
                for name in columns
            },
        },
        hints={},
    )
    yield "descriptor", stream.descriptor_doc
    for resource in resources:
        composed = run.compose_stream_resource(
            mimetype=resource.mimetype, uri=resource.uri, data_key=data_key, parameters=resource.parameters
        )
        yield "stream_resource", composed.stream_resource_doc
        about_file = {"file": resource.file.name, "file_time": os.path.getmtime(resource.file.path)}
        last = resource.first + resource.file.frames
        for begin in range(resource.first, last, BLOCK):
            block = range(begin, min(begin + BLOCK, last))
            for index in block:
                data = {**about_file, **{name: values[index] for name, values in columns.items()}}
                yield "event", stream.compose_event(data=data, timestamps=dict.fromkeys(data, time.time()))
            datum = composed.compose_stream_datum(
                indices={"start": block.start, "stop": block.stop},
                seq_nums={"start": block.start + 1, "stop": block.stop + 1},
                descriptor=stream.descriptor_doc,
            )
            yield "stream_datum", datum
    yield "stop", run.compose_stop()


def _resources(series: Series) -> Iterator[_Resource]:
    """Yield what the StreamResource documents have to say: one for each file, whatever its name and number."""
    rows, columns = series.shape
    parameters: dict[str, Any] = {"chunk_shape": [1, rows, columns], "join_method": "stack"}
    first = 0
    if series.kind == "hdf5":
        for file in series.files:
            yield _Resource(_uri(file.path), "application/x-hdf5", {**parameters, "dataset": file.dataset}, file, first)
            first += file.frames
        return
    # All must have one URI: Tiled's consolidator keeps the first, and takes names from the templates.
    base = Path(os.path.commonpath([str(folder) for folder in series.folders]))
    mimetype = "multipart/related;type=image/tiff"
    for file in series.files:
        template = file.path.relative_to(base).as_posix()
        if _NOT_IN_NAMES & set(template):
            raise IngestError(f"{file.path}: names with any of % # ? {{ }} \\ cannot be told to Tiled; rename the file")
        yield _Resource(f"{_uri(base)}/", mimetype, {**parameters, "template": template}, file, first)
        first += file.frames


def _uri(path: Path) -> str:
    return f"file://localhost{quote(str(path))}"
