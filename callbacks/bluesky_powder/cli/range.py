"""``bluesky-powder range``: which radial range positions of a goniometer cover."""

import itertools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
import yaml

from bluesky_powder.errors import RecipeError

if TYPE_CHECKING:
    from azimuthal import Geometry
    from bluesky_powder.recipe import Recipe

# What lies between the ends is tried too: a goniometer may turn the other way, or pass the beam.
_STEPS = 20
_MOST = 2000


def range(
    recipe: Annotated[Path, typer.Argument(help="The recipe; its bins need no range for this.")],
    positions: Annotated[
        list[str] | None,
        typer.Option(help="0:60, 0:60:5 (step) or 0,30,60; NAME=0:60 where there are several. May be repeated."),
    ] = None,
    shape: Annotated[
        str | None, typer.Option(help="Rows and columns of a frame, 1043x981, where no file names the detector.")
    ] = None,
) -> None:
    """Print what a recipe's geometry covers at the given positions."""
    from azimuthal import RadialBins, radial_unit

    loaded = _load(recipe)
    unit = radial_unit(loaded.bins.unit)
    frame = _frame_shape(shape)
    if frame is None and loaded.geometry.detector is not None:
        frame = loaded.geometry.detector.shape
    if frame is None:
        raise RecipeError(f"{recipe}: its geometry names no detector; give the frames' --shape, such as 1043x981")
    sets = _position_sets(loaded, positions or [])
    covered = []
    for values in sets:
        geometry: Geometry = loaded.geometry.at(values, frame)
        low, high = RadialBins.covering(unit.name, 1, geometry).range or (math.nan, math.nan)
        covered.append((low, high))
        where = ", ".join(f"{name} = {value:g}" for name, value in values.items()) or "the detector"
        typer.echo(f"{where}: {low:.6g} to {high:.6g} {unit.symbol}")
    low, high = min(low for low, _ in covered), max(high for _, high in covered)
    if len(covered) > 1:
        typer.echo(f"all: {low:.6g} to {high:.6g} {unit.symbol}")
    typer.echo(
        f"in the recipe:  bins: {{unit: {unit.name}, npt: {loaded.bins.npt}, range: [{_down(low)}, {_up(high)}]}}"
    )


def _load(path: Path) -> "Recipe":
    """Load a recipe, also one whose bins have no range yet."""
    from bluesky_powder.recipe import Recipe

    try:
        return Recipe.load(path)
    except RecipeError:
        try:
            data = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError, yaml.YAMLError):
            data = None
        if not _lacks_range(data):
            raise
    bins = {**data["bins"], "range": [0.0, 1.0]}
    return Recipe.model_validate({**data, "bins": bins}, context={"folder": path.parent})


def _lacks_range(data: Any) -> bool:
    return isinstance(data, Mapping) and isinstance(data.get("bins"), Mapping) and data["bins"].get("range") is None


def _frame_shape(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    rows, _, columns = text.lower().replace("×", "x").partition("x")
    if not (rows.strip().isdecimal() and columns.strip().isdecimal() and int(rows) and int(columns)):
        raise RecipeError(f"--shape {text!r} is not rows x columns, such as 1043x981")
    return int(rows), int(columns)


def _position_sets(recipe: "Recipe", texts: list[str]) -> list[dict[str, float]]:
    """Return the goniometer's positions to try, each as a mapping."""
    motors = recipe.geometry.motors
    fixed = {name: value for name, value in motors.items() if isinstance(value, float)}
    free = [name for name in motors if name not in fixed]
    given: dict[str, list[float]] = {}
    for text in texts:
        name, equals, numbers = text.rpartition("=")
        if not equals:
            if len(free) != 1:
                which = f"say which: {free[0]}={numbers}" if free else "there are none to give"
                raise RecipeError(f"--positions {text}: the recipe has {len(free)} positions that move; {which}")
            name = free[0]
        if name not in motors:
            raise RecipeError(
                f"--positions {text}: there is no position {name!r}; the recipe has {', '.join(motors) or 'none'}"
            )
        given[name] = _numbers(text, numbers)
    missing = [name for name in free if name not in given]
    if missing:
        raise RecipeError(
            f"give --positions {'' if len(free) == 1 else missing[0] + '='}0:60 for the position {missing[0]!r}"
        )
    axes = {**{name: [value] for name, value in fixed.items()}, **given}
    count = math.prod(len(values) for values in axes.values())
    if count > _MOST:
        raise RecipeError(f"these are {count} combinations of positions; give fewer, at most {_MOST}")
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def _numbers(text: str, numbers: str) -> list[float]:
    try:
        if ":" not in numbers:
            return [float(number) for number in numbers.split(",")]
        start, stop, *rest = (float(number) for number in numbers.split(":"))
        (step,) = rest or [abs(stop - start) / _STEPS or 1.0]
    except ValueError:
        start, stop, step = math.nan, math.nan, math.nan
    if not (math.isfinite(start) and math.isfinite(stop) and math.isfinite(step) and step > 0):
        raise RecipeError(f"--positions {text}: not a range 0:60, 0:60:5 or a list 0,30,60")
    count = math.floor(abs(stop - start) / step + 1e-9) + 1
    if count > _MOST:
        raise RecipeError(f"--positions {text}: these are {count} positions; give a larger step")
    last = start + math.copysign((count - 1) * step, stop - start)
    return [float(value) for value in np.linspace(start, last, count)]


def _down(value: float) -> str:
    return f"{math.floor(value * 1e3) / 1e3:g}"


def _up(value: float) -> str:
    return f"{math.ceil(value * 1e3) / 1e3:g}"
