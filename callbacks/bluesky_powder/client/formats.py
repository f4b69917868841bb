"""Patterns as files for refinement programs: names, media types, what stands in their heads, and their bytes."""

import hashlib
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from azimuthal.errors import FileFormatError
from azimuthal.files import write_chi, write_fxye, write_nxazint, write_xye
from azimuthal.files.axis import describe, describe_wavelength
from azimuthal.files.whole import plain_lines, write_lines
from azimuthal.pattern import Pattern
from bluesky_powder.errors import ExportError


@dataclass(frozen=True)
class Heading:
    """What the head of a file tells.

    Attributes
    ----------
    sample
        Its name, "" where unknown.
    geometry
        Name of the PONI or goniometer file, and the beginning of its SHA-256.
    geometry_text
        Its whole text.
    lines
        All there is to say, a line each.
    """

    sample: str
    geometry: str
    geometry_text: str
    lines: tuple[str, ...]

    @classmethod
    def of(cls, metadata: Mapping[str, Any], words: str) -> "Heading":
        """Return what is told of a pattern of a derived run; `words` say which pattern it is."""
        start = metadata["start"]
        sample = _name(start.get("sample"))
        source = _source(start.get("recipe", {}).get("geometry", {}))
        text = str(source.get("text", ""))
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        geometry = f"{source['file']} (SHA-256 {digest})" if source else "unknown"
        lines = (
            *((f"sample {sample}",) if sample else ()),
            words,
            f"geometry {geometry}",
            f"raw run {start['raw_uid']}",
            f"derived run {start['uid']}",
        )
        return cls(sample, geometry, text, lines)


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Attributes
    ----------
    name
        As users give it.
    media_type
        As HTTP gives it.
    extension
        Of files.
    write
        Takes path, pattern and heading.
    """

    name: str
    media_type: str
    extension: str
    write: Callable[[Path, Pattern, Heading], None]


def write_csv(path: Path, pattern: Pattern, heading: Heading) -> None:
    """Write comments after ``#``, then radial position in the pattern's own unit, intensity, sem and count, as CSV.

    Every bin has a line; what an empty bin has not is left empty.
    """
    comments = [*heading.lines, describe(pattern)]
    if pattern.wavelength is not None:
        comments.append(describe_wavelength(pattern.wavelength))
    lines = [*(f"# {line}" for line in plain_lines(comments)), f"{pattern.unit},intensity,sem,count"]
    rows = zip(pattern.radial, pattern.intensity, pattern.sem, pattern.count, strict=True)
    lines += [",".join(repr(float(value)) if np.isfinite(value) else "" for value in row) for row in rows]
    write_lines(path, lines)


def _write_nxazint(path: Path, pattern: Pattern, heading: Heading) -> None:
    write_nxazint(path, pattern, sample=heading.sample or "sample", poni=heading.geometry_text, comments=heading.lines)


FORMATS: Mapping[str, Format] = {
    each.name: each
    for each in (
        Format("xye", "text/x-xye", ".xye", lambda path, pattern, head: write_xye(path, pattern, head.lines)),
        Format("chi", "text/x-chi", ".chi", lambda path, pattern, head: write_chi(path, pattern, head.lines)),
        Format("fxye", "text/x-fxye", ".fxye", lambda path, pattern, head: write_fxye(path, pattern, head.lines)),
        Format("nxazint", "application/x-nxazint", ".h5", _write_nxazint),
        Format("csv", "text/csv", ".csv", write_csv),
    )
}

EXTENSIONS: Mapping[str, str] = {kind.extension: kind.name for kind in FORMATS.values()} | {".hdf": "nxazint"}
"""Extension of a file -> name of its format."""


def format_of(name: str) -> Format:
    """Return a format by its name, with or without a point, or by its media type.

    Raises
    ------
    ExportError
        If there is no such format.
    """
    found = FORMATS.get(name.lower().removeprefix("."))
    if found is None:
        found = next((each for each in FORMATS.values() if each.media_type == name), None)
    if found is None:
        raise ExportError(f"format: {name!r} does not exist; choose one of {', '.join(FORMATS)}")
    return found


def rendered(pattern: Pattern, kind: Format, heading: Heading) -> bytes:
    """Return a pattern as the bytes of a file.

    Raises
    ------
    ExportError
        If the format cannot hold the pattern.
    """
    with tempfile.TemporaryDirectory(prefix="bluesky-powder-") as folder:
        path = Path(folder, f"pattern{kind.extension}")
        try:
            kind.write(path, pattern, heading)
        except FileFormatError as error:
            raise ExportError(f"{kind.name}: {str(error).removeprefix(f'{path}: ')}") from error
        return path.read_bytes()


def _name(sample: Any) -> str:
    if isinstance(sample, Mapping):
        sample = sample.get("name") or sample.get("sample_name")
    return "" if sample is None else str(sample)


def _source(geometry: Mapping[str, Any]) -> Mapping[str, Any]:
    return geometry.get("poni") or geometry.get("goniometer") or {}
