"""What can be reached from this machine: files by their path, by a folder mounted elsewhere, or through a server."""

import os
import posixpath
import socket
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import SplitResult, unquote, urlsplit

from numpy.typing import NDArray

from bluesky_powder.errors import FramesUnavailable
from bluesky_powder.frames.files.hdf5 import Hdf5Files
from bluesky_powder.frames.frame import Images, NotHeld
from bluesky_powder.frames.images.remote import RemoteFrames, RemoteImages
from bluesky_powder.frames.patience import Patience

WAY_OUT = (
    "mount its folder here, name the one that has it (root_map), or give a server to ask (remote=TiledFrames(...))"
)


class Reach:
    """What the readers of one run's frames share.

    Parameters
    ----------
    run
        Uid of the raw run.
    patience
        How long to wait for a file.
    root_map
        Folder as the documents have it -> the same folder on this machine. The longest that fits counts; a file below
        one is on this machine, whatever host its URI names.
    remote
        Asked for frames whose file is not on this machine.
    """

    def __init__(
        self,
        run: str,
        patience: Patience,
        root_map: Mapping[str, str] | None = None,
        remote: RemoteFrames | None = None,
    ) -> None:
        self.run = run
        self.patience = patience
        self.remote = remote
        self.hdf5 = Hdf5Files(patience)
        roots = {posixpath.normpath(there): here for there, here in (root_map or {}).items()}
        self._roots = sorted(roots.items(), key=lambda pair: len(pair[0]), reverse=True)

    def path(self, uri: str) -> str:
        """Return the path of a URI on this machine; a trailing slash stays.

        Raises
        ------
        FramesUnavailable
            If the URI points elsewhere, and no folder for it is known here.
        """
        parts = _split(uri)
        if parts.scheme == "file":
            path = unquote(parts.path)
            here = self.mapped(path)
            if here is not None:
                return here
        return local_path(uri)

    def mapped(self, path: str) -> str | None:
        """Return the path of a file whose folder is elsewhere on this machine; None if `root_map` does not say."""
        clean = posixpath.normpath(path)
        for there, here in self._roots:
            if clean == there or clean.startswith(there.rstrip("/") + "/"):
                below = clean[len(there) :].lstrip("/")
                return posixpath.normpath(posixpath.join(here, below)) + ("/" if path.endswith("/") else "")
        return None

    def remote_images(self, stream: str, data_key: str, index: int, count: int) -> RemoteImages | None:
        """Return images as the server has them; None where there is no server to ask."""
        if self.remote is None:
            return None
        return RemoteImages(self.remote, self.patience, self.run, stream, data_key, index, count)

    def close(self) -> None:
        """Close all files."""
        self.hdf5.close()


def local_path(uri: str) -> str:
    """Return the path of a file:// URI on this machine; a trailing slash stays.

    Raises
    ------
    FramesUnavailable
        If the URI points elsewhere.
    """
    parts = _split(uri)
    if parts.scheme != "file":
        raise FramesUnavailable(f"{uri}: only file:// URIs are read here")
    if parts.netloc not in ("", "localhost", socket.gethostname()):
        raise FramesUnavailable(f"{uri}: this file is on {parts.netloc}, not on this machine; {WAY_OUT}")
    return posixpath.normpath(unquote(parts.path)) + ("/" if parts.path.endswith("/") else "")


def _split(uri: str) -> SplitResult:
    """Split the URI of a file, which has neither query nor fragment: ophyd-async does not quote what is in names."""
    return urlsplit(uri.replace("#", "%23").replace("?", "%3F"))


class Whereabouts:
    """Where the frames of one resource are read from: decided at the first frame that can be read, then kept."""

    def __init__(self) -> None:
        self.place: Literal["unknown", "here", "there"] = "unknown"
        self._plain = ""

    def choose(self, local: Images, path: str, remote: RemoteImages | None) -> Images:
        """Return the images of one event from where they are; where that is open, they find out when they are read.

        Parameters
        ----------
        local
            As the file has them.
        path
            Of the file, or of what stands before its number.
        remote
            As a server has them; None where there is none to ask.
        """
        if remote is not None and self.place == "there":
            return remote
        kind = "file" if path == self._plain else _kind(path)
        if kind == "special":
            return NoFile(path)
        if kind == "file":
            self._plain = path  # asked once, however many frames it holds
        if self.place == "here" or (remote is None and (kind == "file" or _folder_exists(path))):
            return local
        return PlacedImages(local, path, remote, self)


@dataclass(frozen=True, slots=True)
class NoFile(NotHeld):
    """Images that are said to be in a pipe or a device, which nobody is to wait for."""

    path: str

    def read(self) -> NDArray[Any]:
        """Raise FramesUnavailable."""
        raise FramesUnavailable(f"{self.path} is a pipe or a device, no file")


def is_special(path: str) -> bool:
    """Tell whether a path leads to a pipe or a device, where reading may never end; what is not there does not."""
    return _kind(path) == "special"


def _kind(path: str) -> Literal["file", "folder", "special", "nothing"]:
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return "nothing"
    if stat.S_ISREG(mode):
        return "file"
    return "folder" if stat.S_ISDIR(mode) else "special"


@dataclass(frozen=True, slots=True)
class PlacedImages(NotHeld):
    """Images of one event in a file, or where that is not on this machine, from a server; see `Whereabouts.choose`."""

    local: Images
    path: str
    remote: RemoteImages | None
    whereabouts: Whereabouts

    def read(self) -> NDArray[Any]:
        """Return the images, (k, rows, columns).

        Raises
        ------
        FrameSkipped
            If they cannot be had; the message is the reason, and where the file is missing the way out.
        """
        if self.remote is not None and self._is_there():
            return self._read_there(self.remote)
        try:
            images = self.local.read()
        except FramesUnavailable as reason:
            if os.access(self.path, os.R_OK):
                raise
            if self.remote is not None:
                return self._read_there(self.remote)
            if _folder_exists(self.path):
                raise
            folder = os.path.dirname(self.path)
            raise FramesUnavailable(f"{reason}; {folder} is not on this machine: {WAY_OUT}") from reason
        self.whereabouts.place = "here"
        return images

    def _is_there(self) -> bool:
        place = self.whereabouts.place
        return place == "there" or (place == "unknown" and not _folder_exists(self.path))

    def _read_there(self, remote: RemoteImages) -> NDArray[Any]:
        try:
            images = remote.read()
        except FramesUnavailable as reason:
            raise FramesUnavailable(f"{self.path} is not on this machine, and {reason}") from reason
        self.whereabouts.place = "there"
        return images


def _folder_exists(path: str) -> bool:
    """Tell whether a file has a folder on this machine, to be in or to appear in."""
    return os.path.isdir(os.path.dirname(path))
