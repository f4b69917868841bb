"""Saying of a file that cannot be taken in what is wrong with it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from bluesky_powder.errors import IngestError


@contextlib.contextmanager
def telling_what_is_wrong(path: Path, kind: str) -> Iterator[None]:
    """Let whatever is raised while a file is read be an IngestError; `kind` is what the file should be."""
    try:
        yield
    except IngestError:
        raise
    except Exception as error:
        raise IngestError(f"{path} is no readable {kind} file: {error}") from error
