"""Numbers that go with the frames: positions, monitor and exposure time, one each a frame."""

import math
from collections.abc import Sequence
from pathlib import Path

from bluesky_powder.errors import IngestError
from bluesky_powder.recipe import Recipe
from bluesky_powder.recipe.sources import key_of


def parse_numbers(text: str, frames: int) -> list[float]:
    """Return one number for each frame.

    Parameters
    ----------
    text
        ``1.5`` for all frames, ``1,2,3`` for each, or ``@file.txt``: a text file with a number on each line.
    frames
        How many there are.

    Raises
    ------
    IngestError
        If something is no number, or there are too many or too few.
    """
    try:
        parts = _lines(Path(text[1:]).expanduser()) if text.startswith("@") else text.split(",")
        numbers = [float(part) for part in parts]
    except (OSError, UnicodeDecodeError) as error:
        raise IngestError(f"cannot read the numbers in {text[1:]}: {error}") from error
    except ValueError as error:
        raise IngestError(f"{text!r} is no list of numbers: {error}") from None
    if not all(map(math.isfinite, numbers)):
        raise IngestError(f"{text!r} is no list of numbers: they have to be finite")
    if len(numbers) == 1:
        return numbers * frames
    if len(numbers) != frames:
        raise IngestError(f"{text!r} gives {len(numbers)} numbers for {frames} frames; give one, or one for each")
    return numbers


def columns_for(
    recipe: Recipe, frames: int, positions: Sequence[str], monitor: str | None = None, exposure: str | None = None
) -> dict[str, list[float]]:
    """Return the data keys that go with the frames, and their values.

    Parameters
    ----------
    recipe
        Says which data keys positions, monitor and exposure come from.
    frames
        How many there are.
    positions
        ``NAME=NUMBERS``; the name is the goniometer position's, or any data key. Numbers as `parse_numbers` takes them.
    monitor, exposure
        Numbers; None where there are none.

    Raises
    ------
    IngestError
        If one is malformed, or one that the recipe needs is missing.
    """
    motors = recipe.geometry.motors
    columns: dict[str, list[float]] = {}
    for text in positions:
        name, equals, numbers = text.partition("=")
        if not name.isidentifier() or not equals:
            raise IngestError(f"{text!r} is no position; one looks like pos=1,2,3")
        columns[key_of(motors.get(name)) or name] = parse_numbers(numbers, frames)
    for name, source in motors.items():
        key = key_of(source)
        if key is not None and key not in columns:
            raise IngestError(f"the recipe's goniometer needs the position {name!r}: give --position {name}=NUMBERS")
    factors = (("monitor", "i0", monitor), ("exposure", "exposure_time", exposure))
    for what, example, numbers_given in factors:
        key = key_of(getattr(recipe.corrections, what))
        if numbers_given is not None and key is None:
            raise IngestError(f"the recipe uses no {what}; add one to it, such as `corrections: {{{what}: {example}}}`")
        if numbers_given is not None and key is not None:
            columns[key] = parse_numbers(numbers_given, frames)
        if key is not None and key not in columns:
            raise IngestError(f"the recipe normalizes to the {what} {key!r}: give --{what} NUMBERS")
    if recipe.frames in columns:
        raise IngestError(f"{recipe.frames!r} is the data key of the frames; a position cannot have it too")
    return columns


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8").replace(",", "\n").split("\n") if line.strip()]
