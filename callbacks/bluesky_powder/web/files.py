"""The files of the pages, read once: what is not among them is not served."""

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

_TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}


@dataclass(frozen=True)
class StaticFile:
    """A file as it is sent.

    Attributes
    ----------
    content
        Its bytes.
    media_type
        Of the content.
    etag
        Tells versions of the content apart, quoted as HTTP wants it.
    """

    content: bytes
    media_type: str
    etag: str


@cache
def static_files() -> dict[str, StaticFile]:
    """Return all files that may be served, by name; there are no folders among them."""
    found = {}
    for entry in files("bluesky_powder.web").joinpath("static").iterdir():
        media_type = _TYPES.get("." + entry.name.rpartition(".")[2])
        if entry.is_file() and media_type is not None:
            content = entry.read_bytes()
            found[entry.name] = StaticFile(content, media_type, f'"{hashlib.sha256(content).hexdigest()[:20]}"')
    return found
