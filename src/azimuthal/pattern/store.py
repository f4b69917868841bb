"""Patterns in HDF5 files, whole: every sum and every field, so that what is read back is what was saved.

Layout, version 1: the root's attributes ``content`` = "azimuthal pattern", ``version`` and ``kind`` ("Pattern", "Cake"
or "Difference"). A pattern or cake has the datasets ``edges``, (``azimuthal_edges``) and, in the group ``sums``, one
for each sum, all float64, and the attributes ``unit``, ``error_model``, ``gain``, ``masked_pixels``, (``wavelength``,
metres) and ``conditions`` (JSON). A difference has the groups ``sample`` and ``background``, each such a pattern with
its ``kind``, and the attribute ``scale``.
"""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from azimuthal.errors import AzimuthalError, FileFormatError
from azimuthal.pattern.cake import Cake
from azimuthal.pattern.difference import Difference
from azimuthal.pattern.powder import Pattern
from azimuthal.pattern.sums import SUMS, BinnedSums, Conditions

if TYPE_CHECKING:
    import h5py

CONTENT = "azimuthal pattern"
VERSION = 1
HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
KINDS: dict[str, type[BinnedSums]] = {"Pattern": Pattern, "Cake": Cake}


def save_pattern(pattern: BinnedSums | Difference[Any], path: str | Path) -> None:
    """Write a pattern, cake or difference; the file appears whole or not at all.

    Raises
    ------
    OSError
        If the file cannot be written; an existing one is then as before.
    """
    import h5py

    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with h5py.File(part, "w") as file:
            file.attrs.update({"content": CONTENT, "version": VERSION})
            if isinstance(pattern, Difference):
                file.attrs.update({"kind": "Difference", "scale": pattern.scale})
                _write(file.create_group("sample"), pattern.sample)
                _write(file.create_group("background"), pattern.background)
            else:
                _write(file, pattern)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def load_pattern(path: str | Path) -> Any:
    """Read what `save` wrote.

    Returns
    -------
    Pattern, Cake or Difference

    Raises
    ------
    FileFormatError
        If the file is none of ours, of a later version, truncated or damaged.
    OSError
        If it cannot be read at all.
    """
    import h5py

    path = Path(path)
    with path.open("rb") as raw:
        if raw.read(len(HDF5_SIGNATURE)) != HDF5_SIGNATURE:
            raise FileFormatError(f"{path}: no HDF5 file; load_pattern reads what pattern.save wrote")
    try:
        with h5py.File(path, "r") as file:
            _check_content(file, path)
            if file.attrs["kind"] == "Difference":
                return Difference(_read(file["sample"]), _read(file["background"]), float(file.attrs["scale"]))
            return _read(file)
    except FileFormatError:
        raise
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, AzimuthalError) as error:
        raise FileFormatError(f"{path}: damaged or truncated: {error}") from error


def _check_content(file: "h5py.File", path: Path) -> None:
    if file.attrs.get("content") != CONTENT:
        raise FileFormatError(f"{path}: an HDF5 file, but none that pattern.save wrote")
    version = int(file.attrs["version"])
    if version > VERSION:
        raise FileFormatError(f"{path}: layout version {version} is newer than what is known here ({VERSION})")


def _write(group: "h5py.Group", pattern: BinnedSums) -> None:
    group.attrs.update(
        {
            "kind": type(pattern).__name__,
            "unit": pattern.unit,
            "error_model": pattern.error_model,
            "gain": pattern.gain,
            "masked_pixels": pattern.masked_pixels,
            "conditions": json.dumps(asdict(pattern.conditions)),
        }
    )
    if pattern.wavelength is not None:
        group.attrs["wavelength"] = pattern.wavelength
    group["edges"] = pattern.edges
    if isinstance(pattern, Cake):
        group["azimuthal_edges"] = pattern.azimuthal_edges
    sums = group.create_group("sums")
    for name, row in zip(SUMS, pattern.sums, strict=True):
        sums[name] = row


def _read(group: "h5py.Group") -> BinnedSums:
    attributes = group.attrs
    conditions = json.loads(attributes["conditions"])
    if conditions["polarization"] is not None:
        conditions["polarization"] = tuple(conditions["polarization"])
    fields = {
        "unit": str(attributes["unit"]),
        "edges": group["edges"][()],
        "sums": np.array([group["sums"][name][()] for name in SUMS]),
        "conditions": Conditions(**conditions),
        "error_model": str(attributes["error_model"]),
        "gain": float(attributes["gain"]),
        "masked_pixels": int(attributes["masked_pixels"]),
        "wavelength": float(attributes["wavelength"]) if "wavelength" in attributes else None,
    }
    kind = KINDS[attributes["kind"]]
    if kind is Cake:
        fields["azimuthal_edges"] = group["azimuthal_edges"][()]
    return kind(**fields)
