"""StreamResource documents: from an index in a stream to the images in a file."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from bluesky_powder.errors import FrameSkipped, FramesUnavailable
from bluesky_powder.frames.files import jpeg, npy, tiff
from bluesky_powder.frames.files.hdf5 import Hdf5Images
from bluesky_powder.frames.frame import Images, event_shape, images_per_event
from bluesky_powder.frames.images.numbered import FileImages, file_name, files_per_event
from bluesky_powder.frames.images.reach import Reach, Whereabouts
from bluesky_powder.frames.images.region import JoinedImages, RegionImages, region_of
from bluesky_powder.frames.joining.stream_resource import HDF5, Resource, told_by

TIFF, JPEG, NPY = "image/tiff", "image/jpeg", "application/x-npy"
_MANY = "multipart/related;type="
_READERS: Mapping[str, tuple[str, Callable[[Path], Any]]] = {
    TIFF: ("TIFF", tiff.load),
    JPEG: ("JPEG", jpeg.load),
    NPY: (".npy", npy.load),
}
_NPY_TEMPLATE = "%s_%d.npy"
"""Numbered .npy files bring no template; the consolidators take this one."""
MOST_FILES = 10_000


@dataclass(kw_only=True)
class StreamResource(Resource):
    """One StreamResource document of the frames' data key.

    Attributes
    ----------
    data_key
        As in the document.
    shape
        Of an event's images, as the descriptor has it.
    count
        Images an event.
    whereabouts
        Where they were found.
    """

    data_key: str
    shape: tuple[int, ...]
    count: int
    whereabouts: Whereabouts = field(default_factory=Whereabouts)

    @classmethod
    def of(cls, document: Mapping[str, Any], data_key: Mapping[str, Any]) -> "StreamResource":
        """Take a document, with the descriptor's entry for the frames."""
        told = told_by(document)
        shape, count = event_shape(data_key, told["parameters"]), images_per_event(data_key, told["parameters"])
        return cls(**told, data_key=str(document.get("data_key")), shape=shape, count=count)

    def images(self, index: int, stream: str, reach: Reach) -> Images:
        """Return the images at an index of the stream.

        Parameters
        ----------
        index
            As the StreamDatum has it.
        stream
            Name of the stream.
        reach
            What the readers of the run share.

        Raises
        ------
        FrameSkipped
            If this kind of resource is not read here.
        """
        remote = reach.remote_images(*self._there(index, stream), self.count)
        try:
            path = reach.path(self.uri)
        except FramesUnavailable:
            if remote is None:
                raise
            return remote
        try:
            first_file, local = self._local(path, index - self.first, reach)
        except FrameSkipped:
            if remote is None:
                raise
            return remote
        except (TypeError, ValueError, ArithmeticError) as error:
            raise FrameSkipped(f"the parameters of the StreamResource {self.uri} make no sense: {error}") from error
        return self.whereabouts.choose(local, first_file, remote)

    def _there(self, index: int, stream: str) -> tuple[str, str, int]:
        """Return stream, data key and row under which a server has an index."""
        row, begin = (self.row, self.begin) if self.home is None else (self.home.row, self.home.begin)
        if self.home is not None:
            stream = self.home.stream
        return stream, self.data_key, row + index - (begin if self._is_numbered else self.first)

    @property
    def _is_numbered(self) -> bool:
        """Whether the URI is what stands before the numbers of files, rather than a file."""
        return bool(self.parameters.get("template")) or (
            self.mimetype == _MANY + NPY and not self.uri.lower().endswith(".npy")
        )

    def _local(self, path: str, index: int, reach: Reach) -> tuple[str, Images]:
        """Return the images as the file has them, with its path."""
        kind = self.mimetype.removeprefix(_MANY)
        if kind == HDF5:
            return self._hdf5(path, index, reach)
        if kind not in _READERS:
            known = ", ".join((HDF5, *(_MANY + known for known in _READERS), *_READERS))
            raise FrameSkipped(f"frames of type {self.mimetype} are not read here; known are {known}")
        name, load = _READERS[kind]
        if self._is_numbered:
            paths = self._numbered(path, index)
        else:
            load, paths = self._within(kind, index), (Path(path),)
        return str(paths[0]), FileImages(paths, load, name, self.count, reach.patience)

    def _within(self, kind: str, index: int) -> Callable[[Path], Any]:
        """Return what reads the images of one event out of a file that holds them all."""
        if kind == TIFF:
            return partial(tiff.load_pages, first=index * self.count, stop=(index + 1) * self.count)
        if kind == NPY:
            return partial(npy.load_rows, index=index, count=self.count)
        if index:
            raise FrameSkipped(
                f"{self.uri} is one image, number {index} is not in it; its StreamResource has no template"
            )
        return jpeg.load

    def _numbered(self, path: str, index: int) -> tuple[Path, ...]:
        """Return the files of an event."""
        parameters = self.parameters
        if self.mimetype == _MANY + NPY:
            parameters = {**parameters, "chunk_shape": (1, *self.shape)}
        template, filename = str(parameters.get("template") or _NPY_TEMPLATE), str(parameters.get("filename") or "")
        many = files_per_event(self.shape, parameters)
        if many > MOST_FILES:
            raise FrameSkipped(f"{many} files an event are not read here; see the parameters of {self.uri}")
        numbers = range(index * many, (index + 1) * many)
        return tuple(Path(_joined(path, file_name(template, filename, number))) for number in numbers)

    def _hdf5(self, path: str, index: int, reach: Reach) -> tuple[str, Images]:
        # How to open the file (swmr, locking) is the reader's own choice; it opens finished and growing ones alike.
        dataset = str(self.parameters.get("dataset") or self.parameters.get("path") or "")
        if not dataset:
            raise FrameSkipped(f"the StreamResource of {path} names no dataset")
        paths: tuple[Path, ...] = (Path(path),)
        count = self.count
        if self.parameters.get("template"):
            paths = self._numbered(path, index)
            index, count = 0, max(self.count // len(paths), 1)
        parts: list[Images]
        if self.parameters.get("slice"):
            region = region_of(self.parameters["slice"])
            parts = [RegionImages(reach.hdf5, reach.patience, each, dataset, region, index, count) for each in paths]
        else:
            parts = [Hdf5Images(reach.hdf5, each, dataset, index, count) for each in paths]
        return str(paths[0]), parts[0] if len(parts) == 1 else JoinedImages(tuple(parts))


def _joined(path: str, name: str) -> str:
    """Append a file name to a prefix as it stands; the two may bring one slash too many between them."""
    return path + (name.lstrip("/") if path.endswith("/") and name.startswith("/") else name)
