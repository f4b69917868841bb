"""Mistakes in a recipe: each told by its key and line, with the way out, all of them at once."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from bluesky_powder.errors import RecipeError

Key = tuple[str | int, ...]


@dataclass(frozen=True)
class Mistake:
    """One thing that is wrong in a recipe.

    Attributes
    ----------
    key
        Path of the key at fault, () for the file as a whole.
    problem
        What is wrong, and the way out.
    line
        Line of the file, counted from 1; None where there is no file.
    """

    key: Key
    problem: str
    line: int | None = None

    def __str__(self) -> str:
        """Return one line of text."""
        where = [f"line {self.line}"] if self.line else []
        if self.key:
            where.append(dotted(self.key))
        return f"{', '.join(where)}: {self.problem}" if where else self.problem


def dotted(key: Key) -> str:
    """Write a key path as a scientist would say it, bins.range[1]."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in key)
    return text.removeprefix(".")


def recipe_error(source: str, mistakes: Iterable[Mistake]) -> RecipeError:
    """Return the error that tells all mistakes, in the order of the file."""
    ordered = sorted(mistakes, key=lambda mistake: mistake.line or 0)
    if len(ordered) == 1:
        text = f"{source}, {ordered[0]}" if ordered[0].line or ordered[0].key else f"{source}: {ordered[0]}"
        return RecipeError(text)
    return RecipeError("\n  ".join([f"{source}: {len(ordered)} mistakes", *(str(mistake) for mistake in ordered)]))


def at_keys(*found: tuple[Key, str]) -> ValidationError:
    """Return an error that pydantic merges with those of other keys; raise it in a validator."""
    return ValidationError.from_exception_data(
        "recipe",
        [
            InitErrorDetails(type=PydanticCustomError("recipe", "{text}", {"text": t}), loc=k, input=None)
            for k, t in found
        ],
    )


def translate(error: ValidationError, model: type[BaseModel], lines: Mapping[Key, int]) -> list[Mistake]:
    """Return pydantic's findings as mistakes, in words that a scientist can act on."""
    found = []
    for detail in error.errors(include_url=False):
        key = tuple(detail["loc"])
        found.append(Mistake(key, _problem(model, key, detail), _line_of(key, lines)))
    return found


def placed(mistakes: Iterable[Mistake], lines: Mapping[Key, int]) -> list[Mistake]:
    """Return the mistakes with the lines on which their keys stand."""
    return [replace(mistake, line=_line_of(mistake.key, lines)) for mistake in mistakes]


def _line_of(key: Key, lines: Mapping[Key, int]) -> int | None:
    """Return the line of the key, or of the closest key above it that the file has."""
    for length in range(len(key), -1, -1):
        if key[:length] in lines:
            return lines[key[:length]] if length or not key else lines.get(key[:length])
    return None


def _problem(model: type[BaseModel], key: Key, detail: Any) -> str:
    kind, given = detail["type"], detail.get("input")
    if kind == "extra_forbidden":
        return _unknown_key(model, key)
    if kind == "missing":
        return _missing_key(model, key)
    if kind == "recipe":
        return str(detail["msg"])
    if kind == "value_error":
        return str(detail["ctx"]["error"])
    if kind == "literal_error":
        return f"{given!r} is not possible; choose {detail['ctx']['expected']}"
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return f"{given!r} is no section; write its keys below it, indented"
    message = str(detail["msg"]).removeprefix("Input should be ").removeprefix("a ").removeprefix("valid ")
    return f"{given!r} is not possible; give {message}"


def _unknown_key(model: type[BaseModel], key: Key) -> str:
    name, section = str(key[-1]), _section(model, key[:-1])
    known = list(section.model_fields) if section else []
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f"unknown key; did you mean {near[0]!r}?"
    for other in model.model_fields:
        inner = _section(model, (other,))
        if inner and name in inner.model_fields:
            return f"belongs under {other!r}"
    return f"unknown key; here can stand: {', '.join(known)}"


def _missing_key(model: type[BaseModel], key: Key) -> str:
    section = _section(model, key[:-1])
    field = section.model_fields.get(str(key[-1])) if section else None
    says = f" ({field.description})" if field and field.description else ""
    example = f"; for example `{key[-1]}: {field.examples[0]}`" if field and field.examples else ""
    return f"missing{says}{example}"


def _section(model: type[BaseModel], key: Key) -> type[BaseModel] | None:
    section: Any = model
    for part in key:
        field = section.model_fields.get(str(part))
        section = field.annotation if field else None
        if not (isinstance(section, type) and issubclass(section, BaseModel)):
            return None
    return section
