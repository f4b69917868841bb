"""StreamResource documents: from an index in a stream to the images in a file."""

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from bluesky_powder.errors import FrameSkipped, FramesUnavailable
from bluesky_powder.frames.frame import Images, images_per_event
from bluesky_powder.frames.hdf5 import Hdf5Files, Hdf5Images
from bluesky_powder.frames.patience import Patience
from bluesky_powder.frames.tiff import TiffImages, file_name, files_per_event

HDF5 = "application/x-hdf5"
TIFF = "multipart/related;type=image/tiff"


@dataclass
class StreamResource:
    """One StreamResource document of the frames' data key.

    Attributes
    ----------
    uid, mimetype, uri, parameters
        As in the document.
    count
        Images an event.
    first
        Index at which the file itself begins; 0 unless indices go on from an earlier file.
    begun
        Whether a StreamDatum of it has come.
    """

    uid: str
    mimetype: str
    uri: str
    parameters: Mapping[str, Any]
    count: int
    first: int = 0
    begun: bool = False

    @classmethod
    def of(cls, document: Mapping[str, Any], data_key: Mapping[str, Any]) -> "StreamResource":
        """Take a document, with the descriptor's entry for the frames."""
        parameters = document.get("parameters") or {}
        count = images_per_event(data_key, parameters)
        return cls(document["uid"], str(document.get("mimetype")), str(document.get("uri")), parameters, count)

    def images(self, index: int, files: Hdf5Files, patience: Patience) -> Images:
        """Return the images at an index of the stream.

        Raises
        ------
        FrameSkipped
            If this kind of resource is not read here.
        """
        path = local_path(self.uri)
        kind = self.mimetype.replace(" ", "").lower()
        if kind == HDF5:
            return self._hdf5(path, index - self.first, files)
        if kind == TIFF:
            return self._tiff(path, index - self.first, patience)
        raise FrameSkipped(f"frames of type {self.mimetype} are not read here; known are {HDF5} and {TIFF}")

    def _hdf5(self, path: str, index: int, files: Hdf5Files) -> Images:
        dataset = self.parameters.get("dataset")
        if not dataset:
            raise FrameSkipped(f"the StreamResource of {path} names no dataset")
        for odd in ("template", "slice"):
            if self.parameters.get(odd):
                raise FrameSkipped(f"HDF5 frames with {odd!r} in their StreamResource are not read here")
        return Hdf5Images(files, Path(path), str(dataset), index, self.count)

    def _tiff(self, path: str, index: int, patience: Patience) -> Images:
        template = self.parameters.get("template")
        if not template:
            return TiffImages((Path(path),), (index * self.count, (index + 1) * self.count), patience)
        many = files_per_event(self.count, self.parameters)
        names = (
            file_name(str(template), str(self.parameters.get("filename", "")), number)
            for number in range(index * many, (index + 1) * many)
        )
        return TiffImages(tuple(Path(_joined(path, name)) for name in names), None, patience)


def local_path(uri: str) -> str:
    """Return the path of a file:// URI on this machine; a trailing slash stays.

    Raises
    ------
    FramesUnavailable
        If the URI points elsewhere.
    """
    parts = urlsplit(uri)
    if parts.scheme != "file":
        raise FramesUnavailable(f"{uri}: only file:// URIs are read here")
    if parts.netloc not in ("", "localhost"):
        raise FramesUnavailable(f"{uri}: this file is on {parts.netloc}, not on this machine")
    return posixpath.normpath(unquote(parts.path)) + ("/" if parts.path.endswith("/") else "")


def _joined(path: str, name: str) -> str:
    """Append a file name to a prefix as it stands; the two may bring one slash too many between them."""
    return path + (name.lstrip("/") if path.endswith("/") and name.startswith("/") else name)
