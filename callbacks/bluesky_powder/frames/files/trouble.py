"""Saying of a file that cannot be read what is wrong with it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from bluesky_powder.errors import FrameSkipped, FramesUnavailable


@contextlib.contextmanager
def telling_what_is_wrong(path: Path, kind: str, errors: type[Exception] = OSError) -> Iterator[None]:
    """Let a file that cannot be read be one that is unavailable.

    Parameters
    ----------
    path
        The file.
    kind
        What it should be, such as "HDF5".
    errors
        What those who read it raise where it is damaged. Reasons to skip a frame pass as they are.

    Raises
    ------
    FramesUnavailable
        In place of `errors`, and of a FileNotFoundError.
    """
    try:
        yield
    except FrameSkipped:
        raise
    except FileNotFoundError:
        raise FramesUnavailable(f"{path}: there is no such file") from None
    except errors as error:
        raise FramesUnavailable(f"{path} is no readable {kind} file: {error}") from error
