"""Frames in numbered files, one file a frame or one an event: names, how many make an event, and reading them.

Names and numbers follow the consolidators of bluesky-tiled-plugins, so that what Tiled can store can be read here.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from string import Formatter
from typing import Any

from numpy.typing import NDArray

from bluesky_powder.errors import FrameSkipped, FramesUnavailable
from bluesky_powder.frames.files.trouble import telling_what_is_wrong
from bluesky_powder.frames.frame import NotHeld, as_images, one_after_another
from bluesky_powder.frames.legal import shown
from bluesky_powder.frames.patience import Patience

_TOO_WIDE = re.compile(r"\d{4,}[a-zA-Z}%]")
_LONGEST_NAME = 4096
_PERCENT_NUMBER = re.compile(r"%[-+ 0#]*\d*(?:\.\d+)?d")


def file_name(template: str, filename: str, number: int) -> str:
    """Return the name of a numbered file.

    Parameters
    ----------
    template
        Old style, ``%s%s_%06d.tif`` (the first %s is `filename`, further ones are empty), or new, ``_{:06d}.tif``.
    filename
        What the template's %s stands for.
    number
        Of the file.

    Raises
    ------
    FrameSkipped
        If the template cannot be filled in.
    """
    text = template.replace("%s", filename, 1).replace("%s", "")
    if _TOO_WIDE.search(text) or len(text) > _LONGEST_NAME:
        raise FrameSkipped(f"the file name template {shown(template)} makes names that are too long")
    if _PERCENT_NUMBER.search(text):
        return _PERCENT_NUMBER.sub(lambda match: match.group() % number, text)
    try:
        fields = {field for _, field, _, _ in Formatter().parse(text) if field is not None}
        if fields - {"", "0"}:
            raise ValueError(f"it asks for {shown(sorted(fields - {'', '0'})[0])}")
        return text.format(number)
    except (AttributeError, IndexError, KeyError, ValueError) as error:
        raise FrameSkipped(f"the file name template {shown(template)} cannot be filled in: {error}") from error


def files_per_event(shape: Sequence[int], parameters: Mapping[str, Any]) -> int:
    """Return over how many files the images of an event are spread.

    Parameters
    ----------
    shape
        Of an event's images, as `bluesky_powder.frames.frame.event_shape` returns it.
    parameters
        Of the StreamResource.
    """
    if given := parameters.get("files_per_datum"):
        return max(int(given), 1)
    if len(shape) < 3:
        return 1  # the consolidators would take the rows of the image for files
    count, chunk = shape[0], tuple(int(n) for n in parameters.get("chunk_shape") or (1,))
    if parameters.get("join_method") == "concat":
        per_file = chunk[0] if count % chunk[0] == 0 else count
    elif parameters.get("multiplier") or parameters.get("frame_per_point"):
        per_file = 1
    elif chunk[1:] == tuple(shape[1:]) and count % chunk[0] == 0:
        per_file = chunk[0]
    else:
        per_file = count
    return max(count // per_file, 1)


@dataclass(frozen=True, slots=True)
class FileImages(NotHeld):
    """Images of one event in files that are read whole, one or several.

    Attributes
    ----------
    paths
        The files, in order.
    load
        Returns what one file holds: (rows, columns), or with more images (k, rows, columns).
    kind
        What the files are, for messages.
    count
        Images that the files hold together, as far as the documents say; fewer are waited for.
    patience
        How long to wait for a file.
    """

    paths: tuple[Path, ...]
    load: Callable[[Path], NDArray[Any]]
    kind: str
    count: int
    patience: Patience

    def read(self) -> NDArray[Any]:
        """Return the images, (k, rows, columns).

        Raises
        ------
        FramesUnavailable
            If a file is missing, damaged, or has too few images.
        FrameSkipped
            If what a file holds is no frame.
        """
        parts = [self.patience.until_read(str(path.parent), partial(self._try, path)) for path in self.paths]
        return one_after_another(parts, "files")

    def _try(self, path: Path) -> NDArray[Any]:
        with telling_what_is_wrong(path, self.kind, Exception):
            images = as_images(self.load(path))
        if len(images) < self.count // len(self.paths):
            raise FramesUnavailable(f"{path} has {len(images)} images, {self.count // len(self.paths)} were announced")
        return images
