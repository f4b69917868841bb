"""The table of known detectors: names, aliases, and what to build from them."""

import difflib
import json
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from azimuthal.detector.masks import Bands, Disc, MaskRule, NoMask, Tiles
from azimuthal.detector.sensor import Sensor
from azimuthal.errors import DetectorError

if TYPE_CHECKING:
    from azimuthal.detector.model import AxisLayout, Detector

GENERIC = "Detector"

Pair = tuple[int, int]


@cache
def _table() -> dict[str, dict[str, Any]]:
    text = resources.files("azimuthal.detector").joinpath("data/detectors.json").read_text(encoding="utf-8")
    content = json.loads(text)
    families = content["families"]
    return {name: families.get(entry.get("family"), {}) | entry for name, entry in content["detectors"].items()}


def _key(name: str) -> str:
    return "".join(c for c in name.casefold() if c not in " _-")


@cache
def _index() -> dict[str, str]:
    index = {_key(GENERIC): GENERIC}
    for name, entry in _table().items():
        for alias in (name, *entry.get("aliases", ())):
            index.setdefault(_key(alias), name)
    return index


def detector_names() -> tuple[str, ...]:
    """Return the names of all detectors that :meth:`Detector.from_name` knows, the generic one first."""
    return (GENERIC, *(name for name, entry in _table().items() if "refused" not in entry))


def canonical_name(name: str) -> str:
    """Return the table's name for a name or alias.

    Raises
    ------
    DetectorError
        When there is none; near names are told.
    """
    found = _index().get(_key(str(name)))
    if found is None:
        near = dict.fromkeys(_index()[k] for k in difflib.get_close_matches(_key(str(name)), _index(), n=5, cutoff=0.5))
        hint = f"near names are {', '.join(near)}" if near else "see azimuthal.detector.detector_names()"
        raise DetectorError(f"unknown detector {name!r}: {hint}; a generic one is called {GENERIC!r}")
    return found


def known_sensors(name: str) -> tuple[Sensor, ...]:
    """Return the sensors that a detector of this name is sold with; none for a name that is not in the table."""
    return tuple(Sensor(material, um / 1e6) for material, um in _table().get(name, {}).get("sensors", ()))


def build(
    cls: "type[Detector]",
    name: str,
    *,
    shape: Sequence[int] | None,
    pixel1: float | None,
    pixel2: float | None,
    orientation: int,
    binning: int | Sequence[int] | None,
    max_shape: Sequence[int] | None,
    sensor: Sensor | None,
) -> "Detector":
    """Do the work of :meth:`azimuthal.detector.Detector.from_name`."""
    from azimuthal.detector.model import length, two_counts

    name = canonical_name(name)
    pixel1 = None if pixel1 is None else length(pixel1, f"detector {name!r}: pixel1")
    pixel2 = None if pixel2 is None else length(pixel2, f"detector {name!r}: pixel2")
    wanted = None if shape is None else two_counts(shape, f"detector {name!r}: shape")
    full = None if max_shape is None else two_counts(max_shape, f"detector {name!r}: max_shape")
    bins = None if binning is None else two_counts((binning, binning) if _is_one(binning) else binning, "binning")
    if name == GENERIC:
        return _generic(cls, wanted, full, (pixel1, pixel2), bins, orientation, sensor)
    entry = _table()[name]
    if "refused" in entry:
        raise DetectorError(f"detector {name!r} cannot be done right by name: {entry['refused']}")
    own = tuple(size / 1e6 for size in entry["pixel_um"])
    if "sizes" in entry:
        frame, pixels = _by_size(name, entry, wanted or full, (pixel1, pixel2))
        full, factor = frame, (1, 1)
    else:
        full = full or (entry["shape"][0], entry["shape"][1])
        factor, pixels = _binned(entry, own, full, wanted, (pixel1, pixel2), bins)
        frame = (full[0] // factor[0], full[1] // factor[1])
    if wanted is not None and wanted != frame:
        raise DetectorError(
            f"detector {name!r} with pixels of {pixels[0]:g} x {pixels[1]:g} m (binning {factor[0]} x {factor[1]}) has "
            f"frames of {frame[0]} x {frame[1]} pixels, not {wanted[0]} x {wanted[1]}"
        )
    return cls(
        name=name,
        shape=frame,
        pixel1=pixels[0],
        pixel2=pixels[1],
        orientation=orientation,
        binning=factor,
        dummy=entry.get("dummy"),
        delta_dummy=entry.get("delta_dummy"),
        sensor=sensor,
        layout=_layout(entry),
        mask_rule=_mask_rule(entry),
        max_shape=full,
    )


def _is_one(binning: int | Sequence[int]) -> bool:
    return not hasattr(binning, "__len__")


def _generic(
    cls: "type[Detector]",
    shape: Pair | None,
    full: Pair | None,
    pixels: tuple[float | None, float | None],
    binning: Pair | None,
    orientation: int,
    sensor: Sensor | None,
) -> "Detector":
    factor = binning or (1, 1)
    told = None if full is None else (full[0] // factor[0], full[1] // factor[1])
    if shape is None and told is None:
        raise DetectorError("a generic detector has no shape of its own: give shape=(rows, columns) of its frames")
    if shape is not None and told is not None and shape != told:
        raise DetectorError(f"this detector has frames of {told[0]} x {told[1]} pixels, not {shape[0]} x {shape[1]}")
    if pixels[0] is None or pixels[1] is None:
        raise DetectorError("a generic detector has no pixel size of its own: give pixel1= and pixel2= in metres")
    frame = shape or told
    assert frame is not None  # noqa: S101  one of both is there
    return cls(
        name=GENERIC,
        shape=frame,
        pixel1=pixels[0] * factor[0],
        pixel2=pixels[1] * factor[1],
        orientation=orientation,
        binning=factor,
        sensor=sensor,
        max_shape=full,
    )


def _by_size(
    name: str, entry: dict[str, Any], shape: Pair | None, pixels: tuple[float | None, float | None]
) -> tuple[Pair, tuple[float, float]]:
    """Return shape and pixel sizes of a scanner whose round frames come in a few sizes."""
    sizes = {int(n): um / 1e6 for n, um in entry["sizes"].items()}
    given = pixels[0] or pixels[1]
    if shape is None:
        own = entry["pixel_um"][0] / 1e6
        n = int(entry["shape"][0] * own / (given or own) + 1e-6)
        shape = (n, n)
    pixel = sizes.get(shape[0]) if shape[0] == shape[1] else None
    if pixel is None or (given is not None and abs(given / pixel - 1) > 0.01):
        known = ", ".join(f"{n} x {n} of {um:g} µm" for n, um in entry["sizes"].items())
        raise DetectorError(f"detector {name!r} has no frames of {shape[0]} x {shape[1]} pixels like this: {known}")
    return shape, (pixels[0] or pixel, pixels[1] or pixel)


def _binned(
    entry: dict[str, Any],
    own: tuple[float, ...],
    full: Pair,
    shape: Pair | None,
    pixels: tuple[float | None, float | None],
    binning: Pair | None,
) -> tuple[Pair, tuple[float, float]]:
    """Return the binning and the size of a binned pixel, from whatever tells it: pixel sizes, a number, the shape."""
    usual = entry.get("binning", [1, 1])
    sized = {int(k): um / 1e6 for k, um in entry.get("binned_pixel_um", {}).items()}
    free = not entry.get("fixed_pixel", True)
    factor, size = [0, 0], [0.0, 0.0]
    for axis in (0, 1):
        pixel = pixels[axis]
        if pixel is not None:
            implied = 1 if free else max(1, round(pixel / own[axis]))
        elif binning is None and shape is not None and full[axis] % shape[axis] == 0:
            implied = full[axis] // shape[axis]
        else:
            implied = usual[axis]
        k = implied if binning is None else binning[axis]
        tabulated = sized.get(k, own[axis] * k)
        factor[axis] = k
        size[axis] = tabulated if pixel is None else pixel if k == implied else pixel * k / implied
    return (factor[0], factor[1]), (size[0], size[1])


def _layout(entry: dict[str, Any]) -> "tuple[AxisLayout, AxisLayout]":
    from azimuthal.detector.model import AxisLayout

    modules, wide, gaps = entry.get("module", [0, 0]), entry.get("wide", [1, 1]), entry.get("gap_um", [0, 0])
    first, second = (
        AxisLayout(module, float(size), gap / 1e6) for module, size, gap in zip(modules, wide, gaps, strict=True)
    )
    return first, second


def _mask_rule(entry: dict[str, Any]) -> MaskRule:
    if entry.get("disc"):
        return Disc()
    if "tiles" in entry:
        rows, columns = entry["tiles"]["size"]
        return Tiles((rows, columns), tuple((r, c) for r, c in entry["tiles"]["at"]))
    bands = [tuple((a, b, c) for a, b, c in entry.get(key, ())) for key in ("masked_rows", "masked_columns")]
    return Bands(bands[0], bands[1]) if any(bands) else NoMask()
