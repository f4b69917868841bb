"""What the descriptors of a derived run say of its data keys."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from functools import cache
from typing import Any

from azimuthal import Pattern, radial_unit
from azimuthal.pattern import SUMS
from bluesky_powder.recipe import Recipe
from bluesky_powder.recipe.conversions import kind_of
from bluesky_powder.recipe.darks import DarkFromRun, DarkFromStream
from bluesky_powder.recipe.sources import KeySource
from bluesky_powder.reduction.raw_units import RawUnits

Keys = dict[str, dict[str, Any]]

SOURCE = "bluesky-powder"
KINDS = ("", "_weighted", "_excess", "_excess_weighted", "_excess_error")
"""Suffixes of the five spottiness numbers."""
_TAKEN = frozenset(
    (
        "intensity",
        "sem",
        "sums",
        "total_counts",
        "masked_pixels",
        "monitor",
        "raw_event_uid",
        "dark_uid",
        "time",
        "seq_num",
    )
)


@cache
def spottiness_names(prefix: str = "") -> tuple[str, ...]:
    """Return the data keys of the five spottiness numbers."""
    return tuple(f"{prefix}spottiness{kind}" for kind in KINDS)


def position_keys(names: Iterable[str]) -> dict[str, str]:
    """Return the data key for each goniometer position, all different.

    What a data key may not have becomes an underscore; one that is taken gets a prefix, and a number if need be.
    """
    found: dict[str, str] = {}
    # Those that can stay as they are come first: `a_b` keeps its name also beside `a.b`.
    for name in sorted(names, key=lambda name: _free(name) != name):
        key = _free(name)
        if key in found.values():
            key = f"position_{_cleaned(name)}"
        first, number = key, 2
        while key in found.values():
            key, number = f"{first}_{number}", number + 1
        found[name] = key
    return found


def _free(name: str) -> str:
    """Return the data key for a goniometer position, were it the only one."""
    clean = _cleaned(name)
    return f"position_{clean}" if clean in _TAKEN or clean.startswith("spottiness") else clean


def _cleaned(name: str) -> str:
    return name.replace(".", "_").replace("/", "_")


class DataKeys:
    """The data keys of each derived stream.

    Parameters
    ----------
    recipe
        What is done.

    Attributes
    ----------
    positions
        Goniometer position -> its data key.
    with_dark
        Whether events name their dark.
    """

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._raw = RawUnits()
        keys = position_keys(recipe.geometry.motors)
        self.positions = {name: keys[name] for name in recipe.geometry.motors}
        self.with_dark = isinstance(recipe.corrections.dark, DarkFromStream | DarkFromRun)

    def describe(self, raw_descriptor: Mapping[str, Any]) -> None:
        """Take what a raw descriptor says of positions and monitor; the first one is that of the frames."""
        self._raw.describe(raw_descriptor)

    def axes(self, pattern: Pattern) -> Keys:
        """Return those of the stream `axes`."""
        unit = radial_unit(pattern.unit)
        about = {
            "units": unit.symbol,
            "radial_unit": unit.name,
            "label": unit.label,
            "wavelength": pattern.wavelength,
            "wavelength_units": "m",
        }
        return {
            "radial": _array(pattern.npt, dims=["radial"], **about),
            "radial_edges": _array(pattern.npt + 1, dims=["radial_edge"], **about),
        }

    def primary(self, pattern: Pattern) -> Keys:
        """Return those of the stream `primary`."""
        motors = self._recipe.geometry.motors
        return {
            **self._curve(pattern),
            "sums": self._sums(pattern),
            **_spottiness(),
            "total_counts": _number("counts"),
            "masked_pixels": _integer("pixels"),
            "monitor": self._monitor(),
            **{
                key: {**self._raw_number(motors[name]), "goniometer_position": name}
                for name, key in self.positions.items()
            },
            "raw_event_uid": _text(64, "raw:event"),
            **({"dark_uid": _text(64, "raw:dark")} if self.with_dark else {}),
        }

    def cumulative(self, pattern: Pattern) -> Keys:
        """Return those of the stream `cumulative`."""
        return {
            **self._curve(pattern),
            "frames": _integer("frames"),
            **_spottiness("union_"),
            **_spottiness("mean_frame_"),
            "independent_frames": _number("frames"),
            "reason": _text(512, SOURCE),
        }

    def merged(self, pattern: Pattern) -> Keys:
        """Return those of the stream `merged`."""
        return {
            **self._curve(pattern),
            "sums": self._sums(pattern),
            "count": _array(pattern.npt, dims=["radial"], units="pixels"),
            "geometries": _integer(),
        }

    def _curve(self, pattern: Pattern) -> Keys:
        corrections = self._recipe.corrections
        units = "counts/sr" if self._recipe.integration.solid_angle == "absolute" else "counts"
        common = {"dims": ["radial"], "units": units, "normalized_by": _plain(corrections.monitor)}
        if corrections.exposure is not None:
            common["exposure"] = _plain(corrections.exposure)
        return {
            "intensity": _array(pattern.npt, **common),
            "sem": _array(pattern.npt, error_model=self._recipe.integration.error_model, **common),
        }

    def _sums(self, pattern: Pattern) -> dict[str, Any]:
        """Return that of all that a pattern is; with the axes, it can be merged and graded again by what is in it."""
        made = pattern.conditions
        polarization = None if made.polarization is None else list(made.polarization)
        return {
            "dtype": "array",
            "shape": [len(SUMS), pattern.npt],
            "dtype_numpy": "<f8",
            "source": SOURCE,
            "dims": ["sum", "radial"],
            "sums": list(SUMS),
            "conditions": {**asdict(made), "polarization": polarization},
            "gain": pattern.gain,
            "error_model": self._recipe.integration.error_model,
        }

    def _raw_number(self, source: str | float | KeySource | None) -> dict[str, Any]:
        """Return that of a number that comes from the raw run, with its units there or those it is put into."""
        units = None if source is None or isinstance(source, float) else self._raw.of(source)
        if isinstance(source, KeySource) and source.to_unit is not None:
            units = source.to_unit
        return _number(units, source=f"raw:{source}")

    def _monitor(self) -> dict[str, Any]:
        """Return that of what frames are divided by; with an exposure time it is a product."""
        corrections = self._recipe.corrections
        if corrections.exposure is None:
            return self._raw_number(corrections.monitor)
        if corrections.monitor is None:
            return self._exposure(corrections.exposure)
        return _number(source=f"raw:{corrections.monitor} * {corrections.exposure}")

    def _exposure(self, source: str | float | KeySource) -> dict[str, Any]:
        """Return that of an exposure time: whatever is known to be a time was put into seconds."""
        about = self._raw_number(source)
        is_time = isinstance(source, float) or kind_of(about["units"]) == "time"
        return {**about, "units": "s"} if is_time else about


def _plain(source: str | float | KeySource | None) -> str | float | None:
    return str(source) if isinstance(source, KeySource) else source


def _spottiness(prefix: str = "") -> Keys:
    return {name: _number("") for name in spottiness_names(prefix)}


def _array(size: int, **about: Any) -> dict[str, Any]:
    return {"dtype": "array", "shape": [size], "dtype_numpy": "<f8", "source": SOURCE, **about}


def _number(units: str | None = None, source: str = SOURCE) -> dict[str, Any]:
    return {"dtype": "number", "shape": [], "dtype_numpy": "<f8", "source": source, "units": units}


def _integer(units: str | None = None) -> dict[str, Any]:
    return {"dtype": "integer", "shape": [], "dtype_numpy": "<i8", "source": SOURCE, "units": units}


def _text(size: int, source: str) -> dict[str, Any]:
    return {"dtype": "string", "shape": [], "dtype_numpy": f"<U{size}", "source": source}
