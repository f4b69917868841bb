"""Documents of a run in Tiled: from the server's exporter, or put together from the run's nodes where it has none."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from bluesky_powder.errors import ReplayError

Pair = tuple[str, Mapping[str, Any]]
NOT_ACCEPTABLE = 406


def documents_of_run(run: Any) -> Iterator[Pair]:
    """Yield the documents of a BlueskyRun client.

    Raises
    ------
    ReplayError
        If the server cannot give them.
    """
    try:
        pairs: Iterable[Pair] = [_pair(item) for item in run.documents()]
        # The exporter guesses a template from the first digits of a file name, and loses files where that is wrong.
        if any(name == "stream_resource" and "multipart" in document["mimetype"] for name, document in pairs):
            pairs = _rebuilt(run)
    except Exception as error:
        if getattr(getattr(error, "response", None), "status_code", None) != NOT_ACCEPTABLE:
            raise ReplayError(f"the documents of {run!r} could not be had: {type(error).__name__}: {error}") from error
        pairs = _rebuilt(run)
    yield from pairs


def _pair(item: Any) -> Pair:
    return (item["name"], item["doc"]) if isinstance(item, Mapping) else (item[0], item[1])


def _rebuilt(run: Any) -> Iterator[Pair]:
    """Yield documents put together from the nodes: descriptors, events, then what points at files, then stop."""
    start, stop = run.metadata.get("start"), run.metadata.get("stop")
    if not start:
        raise ReplayError(f"{run!r} has no start document; it is no Bluesky run")
    yield "start", start
    external: list[Pair] = []
    for name in run:
        node = run[name]
        stream = getattr(node, "base", node)
        descriptors = _descriptors(node.metadata, name, start["uid"])
        for descriptor in descriptors:
            yield "descriptor", descriptor
        yield from _events(stream, descriptors)
        external.extend(_external(stream, descriptors[0]))
    yield from external
    if stop:
        yield "stop", stop


def _descriptors(metadata: Mapping[str, Any], stream: str, run: str) -> list[dict[str, Any]]:
    from bluesky_tiled_plugins.exporters import build_descriptor_docs

    return build_descriptor_docs(dict(metadata), stream, run_start_uid=run)


def _events(stream: Any, descriptors: list[dict[str, Any]]) -> Iterator[Pair]:
    """Yield one event a row of the stream's table, with what arrays beside the table hold."""
    if "internal" not in stream:
        return
    rows = stream["internal"].read().to_dict(orient="records")
    keys = descriptors[0]["data_keys"]
    beside = {key: stream[key].read() for key in stream if key != "internal" and not keys[key].get("external")}
    order = {row["seq_num"]: at for at, row in enumerate(sorted(rows, key=lambda row: row["seq_num"]))}
    for row in rows:
        data = {key: row[key] for key in keys if key in row}
        data |= {key: values[order[row["seq_num"]]] for key, values in beside.items()}
        descriptor = [d for d in descriptors if d["time"] <= row["time"]] or descriptors
        yield (
            "event",
            {
                "uid": f"event-{descriptor[-1]['uid']}-{row['seq_num']}",
                "time": row["time"],
                "seq_num": int(row["seq_num"]),
                "descriptor": descriptor[-1]["uid"],
                "data": data,
                "timestamps": {key: row.get(f"ts_{key}", row["time"]) for key in data},
                "filled": {},
            },
        )


def _external(stream: Any, descriptor: Mapping[str, Any]) -> Iterator[Pair]:
    """Yield StreamResource and StreamDatum documents for what is kept in files."""
    for key, about in descriptor["data_keys"].items():
        if about.get("external") and key in stream:
            yield from _resource(stream[key], key, descriptor)


def _resource(node: Any, key: str, descriptor: Mapping[str, Any]) -> Iterator[Pair]:
    (source, *_) = node.data_sources()
    assets = sorted(source.assets, key=lambda asset: asset.num or 0)
    size = len(descriptor["data_keys"][key]["shape"])
    total = node.shape[0] if len(node.shape) > size else node.shape[0] // descriptor["data_keys"][key]["shape"][0]
    files = len(assets) if "multipart" in source.mimetype else 1
    if total % files or (files == 1 < len(assets)):
        raise ReplayError(
            f"{key}: which of its {total} frames are in which of its {len(assets)} files cannot be told from here; "
            "have the server register bluesky_tiled_plugins.exporters:json_seq_exporter"
        )
    each = total // files
    for number, asset in enumerate(assets[:files]):
        uid = f"resource-{descriptor['uid']}-{key}-{number}"
        yield (
            "stream_resource",
            {
                "uid": uid,
                "run_start": descriptor["run_start"],
                "data_key": key,
                "mimetype": source.mimetype,
                "uri": asset.data_uri,
                "parameters": dict(source.parameters),
            },
        )
        span = {"start": number * each, "stop": (number + 1) * each}
        yield (
            "stream_datum",
            {
                "uid": f"{uid}/0",
                "stream_resource": uid,
                "descriptor": descriptor["uid"],
                "indices": span,
                "seq_nums": {"start": span["start"] + 1, "stop": span["stop"] + 1},
            },
        )
