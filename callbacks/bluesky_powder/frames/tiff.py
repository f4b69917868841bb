"""Images in TIFF files: one file a frame, one an event, or pages of one file."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from bluesky_powder.errors import FrameSkipped, FramesUnavailable
from bluesky_powder.frames.frame import as_images
from bluesky_powder.frames.patience import Patience

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
    if _PERCENT_NUMBER.search(text):
        return _PERCENT_NUMBER.sub(lambda match: match.group() % number, text)
    try:
        return text.format(number)
    except (IndexError, KeyError, ValueError) as error:
        raise FrameSkipped(f"the file name template {template!r} cannot be filled in: {error}") from error


def files_per_event(count: int, parameters: Mapping[str, Any]) -> int:
    """Return over how many files the `count` images of an event are spread, by the rules of Tiled's consolidators."""
    if given := parameters.get("files_per_datum"):
        return int(given)
    chunk = parameters.get("chunk_shape") or (1,)
    if parameters.get("join_method") == "concat":
        return max(count // int(chunk[0]), 1)
    if parameters.get("multiplier") or parameters.get("frame_per_point"):
        return count
    if len(chunk) == 3 and count % int(chunk[0]) == 0:
        return count // int(chunk[0])
    return 1


@dataclass(frozen=True, slots=True)
class TiffImages:
    """Images of one event in TIFF files.

    Attributes
    ----------
    paths
        The files, in order.
    pages
        First and last + 1 page to read of each; None for all.
    patience
        How long to wait for a file.
    """

    paths: tuple[Path, ...]
    pages: tuple[int, int] | None
    patience: Patience

    @property
    def nbytes_held(self) -> int:
        """Nothing is held."""
        return 0

    def read(self) -> NDArray[Any]:
        """Return the images, (k, rows, columns).

        Raises
        ------
        FramesUnavailable
            If a file is missing, damaged, or has too few pages.
        """
        parts = [self.patience.until_read(str(path.parent), partial(self._try, path)) for path in self.paths]
        if len({part.shape[1:] for part in parts}) > 1:
            raise FrameSkipped(
                f"the files of one event differ in shape: {', '.join(str(part.shape) for part in parts)}"
            )
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _try(self, path: Path) -> NDArray[Any]:
        try:
            with tifffile.TiffFile(path) as file:
                if self.pages is None:
                    return as_images(file.asarray())
                first, stop = self.pages
                if len(file.pages) < stop:
                    raise FramesUnavailable(f"{path} has {len(file.pages)} pages, number {stop - 1} is not there")
                return as_images(file.asarray(key=slice(first, stop)))
        except FrameSkipped:
            raise
        except FileNotFoundError:
            raise FramesUnavailable(f"{path}: there is no such file") from None
        except Exception as error:
            raise FramesUnavailable(f"{path} is no readable TIFF file: {error}") from error
