"""Files that are there whole or not at all, and text that no parser trips over."""

import errno
import os
import secrets
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

_PLAIN = {"°": " deg", "⁻": "-", "−": "-", "–": "-", "’": "'", "\t": " "}


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give the name of a scratch file beside `path`, which takes its place when the block ends well.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    """
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "there is no such folder", str(target.parent))
    scratch = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        yield scratch
        os.replace(scratch, target)
    finally:
        scratch.unlink(missing_ok=True)


def write_lines(path: str | Path, lines: Iterable[str], end: str = "\n") -> None:
    """Write ASCII lines as a whole file."""
    with replacing(path) as scratch:
        scratch.write_bytes("".join(line + end for line in lines).encode("ascii"))


def plain_lines(comments: Iterable[str] | str) -> list[str]:
    """Return comments as lines of printable ASCII: programs open these files in every encoding there is."""
    given = [comments] if isinstance(comments, str) else comments
    lines = [line for comment in given for line in str(comment).splitlines()]
    return ["".join(map(_plain, line)).rstrip() for line in lines]


def _plain(letter: str) -> str:
    """Return a letter in printable ASCII: without its accents, spelled out where it is Greek, else a question mark."""
    if letter in _PLAIN:
        return _PLAIN[letter]
    base = unicodedata.normalize("NFKD", letter)[0]
    case, _, name = unicodedata.name(base, "").removeprefix("GREEK ").partition(" LETTER ")
    if case in ("SMALL", "CAPITAL"):
        word = name.split()[0].lower().replace("lamda", "lambda")
        return word if case == "SMALL" else word.capitalize()
    return base if " " <= base <= "~" else "?"
