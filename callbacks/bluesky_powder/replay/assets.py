"""From the files behind an array in Tiled back to StreamResource documents."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bluesky_powder.frames.images.reach import local_path

HDF5 = "application/x-hdf5"


@dataclass(frozen=True)
class Piece:
    """A StreamResource document and the events whose values it holds.

    Attributes
    ----------
    document
        StreamResource.
    span
        Indices of the events, in the whole stream.
    """

    document: Mapping[str, Any]
    span: range


def pieces_of(node: Any, about: Mapping[str, Any], descriptor: Mapping[str, Any]) -> list[Piece]:
    """Return what one data key's files are, in order.

    Where it cannot be told which frames are in which file, there is one piece that points at Tiled itself.

    Parameters
    ----------
    node
        Tiled's array client.
    about
        The descriptor's entry for the data key.
    descriptor
        Of the stream.
    """
    (source, *_) = node.data_sources()
    make = _Maker(node, descriptor, source)
    assets = sorted(source.assets, key=lambda asset: asset.num or 0)
    uris = [asset.data_uri for asset in assets if asset.parameter in ("data_uri", "data_uris", None)]
    total = _events(node.shape, about)
    if len(uris) == 1:
        return [make.piece(uris[0], range(total))]
    if source.mimetype == HDF5:
        counts = [_events_in(uri, source.parameters, about, make.multiplier) for uri in uris]
        known = [count for count in counts if count is not None]
        whole = uris and len(known) == len(uris) and sum(known) >= total
        return make.pieces(uris, known, total) if whole else [make.remote(total)]
    if not (uris and total) or len(uris) % total:
        return [make.remote(total)]
    many = len(uris) // total
    template = _template(uris)
    if template is not None:
        return [make.piece(template[0], range(total), {"template": template[1], "files_per_datum": many})]
    return make.pieces(uris, [1] * total, total) if many == 1 else [make.remote(total)]


@dataclass(frozen=True)
class _Maker:
    """Makes StreamResource documents of one data key."""

    node: Any
    descriptor: Mapping[str, Any]
    source: Any

    @property
    def multiplier(self) -> int | None:
        """Images an event, as Tiled's writers keep it: in the node's metadata, under the older of its two names."""
        return self.node.metadata.get("frame_per_point")

    def piece(self, uri: str, span: range, more: Mapping[str, Any] | None = None, number: int = 0) -> Piece:
        key = self.node.path_parts[-1]
        multiplier = {"multiplier": self.multiplier} if self.multiplier else {}
        document = {
            "uid": f"resource-{self.descriptor['uid']}-{key}-{number}",
            "run_start": self.descriptor["run_start"],
            "data_key": key,
            "mimetype": self.source.mimetype,
            "uri": uri,
            "parameters": {**self.source.parameters, **multiplier, **(more or {})},
        }
        return Piece(document, span)

    def pieces(self, uris: Sequence[str], counts: Sequence[int], total: int) -> list[Piece]:
        pieces, at = [], 0
        for number, (uri, count) in enumerate(zip(uris, counts, strict=True)):
            span = range(at, min(at + count, total))
            if span:
                pieces.append(self.piece(uri, span, number=number))
            at += count
        return pieces

    def remote(self, total: int) -> Piece:
        return self.piece(self.node.uri, range(total))


def _events(shape: Sequence[int], about: Mapping[str, Any]) -> int:
    """Return for how many events an array has entries: stacked along an axis of their own, or one after the other."""
    each = tuple(about.get("shape") or ())
    if not shape:
        return 0
    return shape[0] if len(shape) > len(each) else shape[0] // max(int(each[0] or 1), 1)


def _events_in(uri: str, parameters: Mapping[str, Any], about: Mapping[str, Any], multiplier: int | None) -> int | None:
    """Return how many events an HDF5 file holds; None where it cannot be looked into."""
    import h5py

    try:
        with h5py.File(local_path(uri), "r", swmr=True, libver="latest") as file:
            shape: tuple[int, ...] = file[parameters["dataset"]].shape
    except (OSError, KeyError):
        return None
    each = list(about.get("shape") or ())
    images = multiplier or (int(each[0]) if len(each) > 2 else 1)
    one = each[1:] if len(each) > 2 else [size for size in each if each != [1]]
    # The images of an event stand one after the other, or along an axis of their own.
    return int(shape[0]) // images if len(shape) == len(one) + 1 else int(shape[0])


def _template(uris: Sequence[str]) -> tuple[str, str] | None:
    """Return prefix and format of names that count from 0; None for others.

    Any group of digits may be the one that counts: ``scan12_000.tif`` has two.
    """
    first = uris[0]
    for found in reversed(list(re.finditer(r"\d+", first))):
        head, tail = first[: found.start()], first[found.end() :]
        for form in (f"{{:0{len(found.group())}d}}", "{:d}"):
            if all(uri == head + form.format(number) + tail for number, uri in enumerate(uris)):
                return head, form + tail.replace("{", "{{").replace("}", "}}")
    return None
