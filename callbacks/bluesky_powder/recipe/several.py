"""Several detectors in one recipe file: a recipe each.

Below the top-level key ``detectors`` stand names, below each name a recipe. Keys beside ``detectors`` are defaults for
all; the sections bins, integration and corrections are filled up key by key, any other key is taken from one place.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bluesky_powder.errors import RecipeError
from bluesky_powder.recipe.lines import Lined
from bluesky_powder.recipe.mistakes import Key, Mistake, placed, recipe_error
from bluesky_powder.recipe.model import Recipe, check_is_recipe, read_recipe_file

DETECTORS = "detectors"
FILLED_UP = ("bins", "integration", "corrections")

OneOrAll = Recipe | Mapping[str, Any] | str | Path
"""What stands for one recipe, or for all of a file."""
AnyRecipe = OneOrAll | Iterable[OneOrAll]
"""What stands for one recipe or several."""


def recipes_of(recipe: AnyRecipe) -> tuple[Recipe, ...]:
    """Return the recipes that a file, a mapping or recipes themselves stand for: one for each detector.

    Parameters
    ----------
    recipe
        A `Recipe`, the path of a recipe file, or a mapping; or several of them, each with a `detector` of its own.

    Raises
    ------
    RecipeError
        With every mistake, each by its key and line; or if it is nothing of the kind.
    """
    if isinstance(recipe, Iterable) and not isinstance(recipe, Recipe | Mapping | str | bytes):
        return _told_apart(tuple(each for one in recipe for each in _of_one(one)))
    return _of_one(recipe)


def _of_one(recipe: object) -> tuple[Recipe, ...]:
    if isinstance(recipe, Recipe):
        return (recipe,)
    if isinstance(recipe, str | Path):
        path = Path(recipe)
        return _each(read_recipe_file(path), str(path), path.parent)
    if isinstance(recipe, Mapping):
        return _each(Lined(recipe), "recipe", Path())
    text, kind = repr(recipe), type(recipe).__name__
    shown = text if len(text) <= 60 else f"{text[:57]}..."
    raise RecipeError(f"{shown} ({kind}) is no recipe; give a Recipe, a file's path, a mapping, or several of these")


def _told_apart(recipes: tuple[Recipe, ...]) -> tuple[Recipe, ...]:
    names = [one.detector for one in recipes]
    if not recipes or (len(recipes) > 1 and (None in names or len(set(names)) < len(names))):
        raise RecipeError(f"several recipes need a `detector` each, all different; these have {names}")
    return recipes


def _each(lined: Lined, source: str, folder: Path) -> tuple[Recipe, ...]:
    check_is_recipe(lined, source)
    mistakes = list(lined.mistakes)
    if lined.value is None or DETECTORS not in lined.value:
        recipe, found = Recipe.examine(lined, folder)
        if recipe is None or found:
            raise recipe_error(source, found)
        return (recipe,)
    recipes: list[Recipe] = []
    for detector in _detectors(lined, mistakes):
        recipe, found = Recipe.examine(detector.lined, folder)
        mistakes.extend(mistake for mistake in detector.told(found) if mistake not in mistakes)
        if recipe is not None:
            recipes.append(recipe)
    if mistakes:
        raise recipe_error(source, mistakes)
    return tuple(recipes)


def _detectors(lined: Lined, mistakes: list[Mistake]) -> Iterator["_Detector"]:
    """Yield each detector's part; what is wrong with the parts as such goes to `mistakes`."""
    named = lined.value[DETECTORS]
    if not isinstance(named, Mapping) or not named:
        text = "give each detector a name, and below it its recipe, indented"
        mistakes.extend(placed([Mistake((DETECTORS,), text)], lined.lines))
        return
    shared = {key: value for key, value in lined.value.items() if key != DETECTORS}
    for name, own in named.items():
        given = {} if own is None else own
        if not isinstance(given, Mapping):
            text = f"{given!r} is no recipe; write its keys below the name, indented"
            mistakes.extend(placed([Mistake((DETECTORS, name), text)], lined.lines))
        else:
            yield _Detector(str(name), (DETECTORS, name), given, shared, lined.lines)


class _Detector:
    """One detector's recipe, put together, that remembers where each key of it stands in the file."""

    def __init__(
        self, name: str, place: Key, own: Mapping[str, Any], shared: Mapping[str, Any], lines: Mapping[Key, int]
    ) -> None:
        filled = {key: {**shared[key], **own[key]} for key in FILLED_UP if _are_sections(key, own, shared)}
        self._place = place
        self._lines = lines
        self._shared = {
            path: value
            for path, value in _paths(shared)
            if path[0] not in own or (path[0] in filled and len(path) > 1 and path[1] not in own[path[0]])
        }
        self.lined = Lined({**shared, **own, **filled, "detector": name})

    def told(self, mistakes: Sequence[Mistake]) -> list[Mistake]:
        """Return mistakes with their keys and lines as they are in the file."""
        return placed([Mistake(self._in_file(mistake.key), mistake.problem) for mistake in mistakes], self._lines)

    def _in_file(self, key: Key) -> Key:
        """Return where a key stands; one that is missing from a shared section is missing from the detector's own."""
        above = next((key[:n] for n in range(len(key), 0, -1) if key[:n] in self._shared), None)
        is_shared = above is not None and (above == key or not isinstance(self._shared[above], Mapping))
        return key if is_shared else (*self._place, *key)


def _are_sections(key: str, *places: Mapping[str, Any]) -> bool:
    return all(isinstance(place.get(key), Mapping) for place in places)


def _paths(value: Any, above: Key = ()) -> Iterator[tuple[Key, Any]]:
    """Yield every key path of nested mappings with its value."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield (*above, key), inner
            yield from _paths(inner, (*above, key))
