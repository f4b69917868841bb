"""Images of a TIFF file: all of it, or some of its pages."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tifffile
from numpy.typing import NDArray

from bluesky_powder.errors import FrameSkipped, FramesUnavailable

_COLOUR = ("RGB", "PALETTE", "CMYK", "YCBCR", "CIELAB", "ICCLAB", "ITULAB")


def load(path: Path) -> NDArray[Any]:
    """Return all images of a file, (rows, columns) or (k, rows, columns).

    Raises
    ------
    FrameSkipped
        If they are in colour, differ in shape, or are compressed as only a package undoes that is not installed.
    """
    with _saying_what_to_install(path), tifffile.TiffFile(path) as file:
        _check_grey(path, file)
        if len(file.series) == 1:
            return file.series[0].asarray()
        shapes = {page.shape for page in file.pages}
        if len(shapes) > 1:
            raise FrameSkipped(f"{path}: its pages differ in shape: {', '.join(map(str, sorted(shapes)))}")
        return file.asarray(key=slice(None))


def load_pages(path: Path, first: int, stop: int) -> NDArray[Any]:
    """Return some images of a file, (stop - first, rows, columns).

    Raises
    ------
    FrameSkipped
        If they are in colour, or are compressed as only a package undoes that is not installed.
    FramesUnavailable
        If the file has fewer.
    """
    with _saying_what_to_install(path), tifffile.TiffFile(path) as file:
        _check_grey(path, file)
        if len(file.pages) == 1 and len(file.series[0].shape) > 2:
            # A stack written in one go may have one page only, which does not tell of the images behind it.
            images = file.series[0].asarray(out="memmap")
            images = images.reshape(-1, *images.shape[-2:])
            _check_length(path, len(images), stop)
            return images[first:stop].copy()
        _check_length(path, len(file.pages), stop)
        return file.asarray(key=slice(first, stop))


@contextlib.contextmanager
def _saying_what_to_install(path: Path) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        if "imagecodecs" not in str(error):
            raise
        raise FrameSkipped(f"{path} cannot be decompressed: {error}; pip install imagecodecs") from error


def _check_grey(path: Path, file: tifffile.TiffFile) -> None:
    page = file.pages.first
    if page.photometric is not None and page.photometric.name in _COLOUR:
        raise FrameSkipped(
            f"{path} is an image in colour ({page.photometric.name}), not counts; have the detector write grey frames"
        )


def _check_length(path: Path, length: int, stop: int) -> None:
    if length < stop:
        raise FramesUnavailable(f"{path} has {length} pages, number {stop - 1} is not there")
