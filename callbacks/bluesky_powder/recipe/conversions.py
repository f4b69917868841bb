"""Units of what motors and counters report, and what turns one into another."""

import math
from typing import Literal

Kind = Literal["angle", "length", "time"]

_SIZES: dict[Kind, dict[str, float]] = {
    "angle": {
        "rad": 1.0,
        "mrad": 1e-3,
        "urad": 1e-6,
        "nrad": 1e-9,
        "deg": math.pi / 180,
        "mdeg": math.pi / 180e3,
        "arcmin": math.pi / 10_800,
        "arcsec": math.pi / 648_000,
    },
    "length": {"m": 1.0, "cm": 1e-2, "mm": 1e-3, "um": 1e-6, "nm": 1e-9, "pm": 1e-12, "angstrom": 1e-10},
    "time": {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9, "min": 60.0, "h": 3600.0},
}
_OTHER_NAMES = {
    "degree": "deg",
    "degrees": "deg",
    "°": "deg",
    "radian": "rad",
    "radians": "rad",
    "µrad": "urad",
    "metre": "m",
    "meter": "m",
    "micron": "um",
    "microns": "um",
    "µm": "um",
    "å": "angstrom",
    "sec": "s",
    "second": "s",
    "seconds": "s",
    "msec": "ms",
    "millisecond": "ms",
    "milliseconds": "ms",
    "µs": "us",
    "usec": "us",
    "microsecond": "us",
    "microseconds": "us",
    "minute": "min",
    "minutes": "min",
    "hour": "h",
    "hours": "h",
}


def unit_name(text: str) -> str:
    """Return the name under which a unit is known here: ``degrees`` is ``deg``.

    Raises
    ------
    ValueError
        If it is not known.
    """
    stripped = text.strip().replace("\u03bc", "\u00b5")  # mu and the micro sign look alike
    for name in (stripped, stripped.lower()):
        name = _OTHER_NAMES.get(name, name)
        if any(name in sizes for sizes in _SIZES.values()):
            return name
    known = "; ".join(f"{kind}s: {', '.join(sizes)}" for kind, sizes in _SIZES.items())
    raise ValueError(f"{text!r} is no unit that is known here ({known})")


def factor(unit: str, to_unit: str) -> float:
    """Return what a number in `unit` is multiplied by to be in `to_unit`; exactly 1 where they are the same.

    Raises
    ------
    ValueError
        If one is not known, or the two do not measure the same.
    """
    one, other = unit_name(unit), unit_name(to_unit)
    if one == other:
        return 1.0
    for sizes in _SIZES.values():
        if one in sizes and other in sizes:
            return sizes[one] / sizes[other]
    raise ValueError(f"{unit!r} is no {_kind(other)}, and cannot become {to_unit!r}")


def kind_of(unit: object) -> Kind | None:
    """Return what a unit measures; None where it is none that is known here."""
    try:
        return _kind(unit_name(unit)) if isinstance(unit, str) else None
    except ValueError:
        return None


def _kind(name: str) -> Kind:
    return next(kind for kind, sizes in _SIZES.items() if name in sizes)
