"""Frames whose file is not on this machine: asked for from the server that has it."""

import math
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from bluesky_powder.errors import FrameSkipped, FramesUnavailable
from bluesky_powder.frames.frame import NotHeld, as_images
from bluesky_powder.frames.patience import Patience

READ_AHEAD = 2**26
"""Bytes, at most, asked for at once where frames are read one after the other."""
MOST_NODES = 8
"""Arrays of which the last answer is kept."""
_REFUSED = (401, 403)
_NOT_FOUND = 404


class RemoteFrames(Protocol):
    """Reads frames from elsewhere. What is not there (yet) raises FramesUnavailable, and is asked for again."""

    def read(self, run_uid: str, stream: str, data_key: str, index: int, count: int) -> NDArray[Any]:
        """Return the images of one event.

        Parameters
        ----------
        run_uid, stream, data_key
            Of the raw run, its stream, and the frames in it.
        index
            Number of the event among those of the stream, from 0.
        count
            Images an event, k.

        Returns
        -------
        ndarray
            (k, rows, columns).

        Raises
        ------
        FramesUnavailable
            If they cannot be had now.
        FrameSkipped
            If they cannot be had at all.
        """


@dataclass(frozen=True, slots=True)
class RemoteImages(NotHeld):
    """Images of one event that are elsewhere; see `RemoteFrames.read`."""

    remote: RemoteFrames
    patience: Patience
    run: str
    stream: str
    data_key: str
    index: int
    count: int

    def read(self) -> NDArray[Any]:
        """Return the images, (k, rows, columns)."""
        return as_images(self.patience.until_read(f"{self.run}/{self.stream}/{self.data_key}", self._try))

    def _try(self) -> NDArray[Any]:
        return self.remote.read(self.run, self.stream, self.data_key, self.index, self.count)


class TiledFrames:
    """Reads frames of runs that a Tiled server has. May be shared by threads.

    Frames that are read one after the other are asked for several at a time, `READ_AHEAD` bytes at most, of what the
    server has at that moment. A failed request is not repeated here, and not by Tiled's client either: its 45 s would
    be beyond anybody's patience.

    Tiled 0.2.20 does not give HDF5 frames as long as their file is ahead of the catalog and is shown with another
    number of axes, (n, 1, rows, columns) for (n, rows, columns): these come when the catalog has caught up.

    Parameters
    ----------
    client
        Tiled client of the container that has the raw runs under their uids. How long one request may take is its
        own `timeout`.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._nodes: OrderedDict[tuple[str, str, str], _Node] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, run_uid: str, stream: str, data_key: str, index: int, count: int) -> NDArray[Any]:
        """Return the images of one event, (k, rows, columns); see `RemoteFrames.read`.

        The array may be (n, rows, columns), (n, k, rows, columns), or one image (rows, columns).
        """
        node = self._node(run_uid, stream, data_key)
        with node.lock:
            if node.length < node.rows(index, count)[1]:
                self._look_up(node)  # for the first time, or it may have grown
            first, stop = node.rows(index, count)
            if node.length < stop:
                raise FramesUnavailable(f"{node.name}: Tiled has {node.length} frames, number {stop - 1} is not there")
            if not node.first <= first < stop <= node.first + len(node.block):
                node.block, node.first = self._fetch(node, first, node.ahead(first, stop)), first
            node.next = stop
            return as_images(node.block[first - node.first : stop - node.first])

    def _node(self, run_uid: str, stream: str, data_key: str) -> "_Node":
        key = (run_uid, stream, data_key)
        with self._lock:
            node = self._nodes.pop(key, None) or _Node(*key)
            self._nodes[key] = node
            while len(self._nodes) > MOST_NODES:
                self._nodes.popitem(last=False)
        return node

    def _look_up(self, node: "_Node") -> None:
        """Find out where the array is, and what shape it has by now."""
        for path in [node.path] if node.path else node.paths():
            answer = self._get(f"{str(self._client.uri).rstrip('/')}/{path}", {}, "application/json", node.name)
            try:
                if answer is not None and node.take(path, answer.json()["data"]):
                    return
            except (KeyError, TypeError, ValueError) as error:
                raise FramesUnavailable(f"{node.name}: {self._client.uri} does not answer as Tiled does") from error
        raise FramesUnavailable(f"{node.name}: Tiled at {self._client.context.api_uri} does not have it (yet)")

    def _fetch(self, node: "_Node", first: int, stop: int) -> NDArray[Any]:
        """Return rows of the array."""
        shape = (stop - first, *node.shape[1:]) if len(node.shape) > 2 else node.shape
        params = {"expected_shape": ",".join(map(str, shape))}
        if len(node.shape) > 2:
            params["slice"] = f"{first}:{stop}"
        try:
            answer = self._get(node.links["full"], params, "application/octet-stream", node.name)
            if answer is None:
                raise FramesUnavailable(f"{node.name}: Tiled does not have it any more")
            # A copy: an array over bytes is read-only, and the kernels are not compiled for that.
            images = np.frombuffer(bytearray(answer.content), node.dtype)
            return images.reshape(shape if len(shape) > 2 else (1, *shape))
        except FramesUnavailable:
            node.forget()  # it may have another shape by now
            raise
        except ValueError as error:
            node.forget()
            raise FramesUnavailable(f"{node.name}: Tiled sent something else than {shape}: {error}") from error

    def _get(self, url: str, params: Mapping[str, str], media_type: str, what: str) -> Any:
        """Return the answer; None where the server says that there is no such thing."""
        try:
            answer = self._client.context.http_client.get(url, params=params, headers={"Accept": media_type})
        except Exception as error:  # of the network, of logging in, of a client that was closed
            raise FramesUnavailable(f"{what}: Tiled does not answer: {type(error).__name__}: {error}") from error
        if answer.status_code in _REFUSED:
            raise FrameSkipped(
                f"{what}: Tiled refuses ({answer.status_code}); use a client whose key may read this run"
            )
        if answer.status_code == _NOT_FOUND:
            return None
        if answer.is_error:
            raise FramesUnavailable(f"{what}: Tiled answers {answer.status_code} {_detail(answer)}")
        return answer


@dataclass
class _Node:
    """One array of the server's, as last seen, and the rows that were last asked for."""

    run: str
    stream: str
    data_key: str
    path: str = ""
    links: Mapping[str, str] = field(default_factory=dict)
    shape: tuple[int, ...] = ()
    dtype: np.dtype[Any] = field(default_factory=lambda: np.dtype(np.uint8))
    block: NDArray[Any] = field(default_factory=lambda: np.empty(0))
    first: int = 0
    next: int = -1
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def name(self) -> str:
        return f"{self.stream}/{self.data_key} of run {self.run[:8]}"

    @property
    def length(self) -> int:
        if len(self.shape) < 3:
            return len(self.shape[:1])
        return self.shape[0]

    def forget(self) -> None:
        self.shape, self.block, self.next = (), np.empty(0), -1

    def paths(self) -> Iterator[str]:
        """Yield where the array may be: as TiledWriter lays out runs now, or did, or as databroker shows old ones."""
        run, stream, key = (quote(part, safe="") for part in (self.run, self.stream, self.data_key))
        for before, after in (("", ""), ("", "data/"), ("streams/", ""), ("", "external/")):
            yield f"{run}/{before}{stream}/{after}{key}"

    def take(self, path: str, item: Mapping[str, Any]) -> bool:
        """Take what the server says of a node; False if it is no array."""
        from tiled.structures.array import ArrayStructure

        about = item["attributes"]
        if about["structure_family"] != "array":
            return False
        structure = ArrayStructure.from_json(about["structure"])
        if not 2 <= len(structure.shape) <= 4:
            raise FrameSkipped(f"{self.name} has shape {tuple(structure.shape)} in Tiled; these are no frames")
        self.path, self.links, self.shape = path, item["links"], tuple(structure.shape)
        self.dtype = structure.data_type.to_numpy_dtype()
        return True

    def rows(self, index: int, count: int) -> tuple[int, int]:
        """Return the first and last + 1 row of an event."""
        return (index * count, (index + 1) * count) if len(self.shape) == 3 else (index, index + 1)

    def ahead(self, first: int, stop: int) -> int:
        """Return up to where to read: beyond `stop` if reading goes on where it was."""
        if first != self.next:
            return stop
        row = math.prod(self.shape[1:]) * self.dtype.itemsize
        return max(stop, min(self.length, first + READ_AHEAD // max(row, 1)))


def _detail(answer: Any) -> str:
    try:
        return str(answer.json()["detail"])[:200]
    except Exception:
        return str(answer.reason_phrase)
