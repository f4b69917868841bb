"""Reducing a run that is over: the same callback, fed with stored documents."""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from bluesky_powder.errors import ReplayError
from bluesky_powder.recipe import Recipe
from bluesky_powder.reduction import PowderReduction

__all__ = ["ReplayError", "documents_of", "replay"]

Document = Mapping[str, Any]


def replay(
    documents_or_run: Any,
    recipe: Recipe | Mapping[str, Any] | str | Path,
    *subscribers: Callable[[str, dict[str, Any]], Any],
    progress: Callable[[str, Document], Any] | None = None,
    **options: Any,
) -> list[str]:
    """Reduce stored documents as if their run took place now; the arrays that come out are the same, bit for bit.

    Parameters
    ----------
    documents_or_run
        A run of a Tiled catalog (``client[uid]``), or (name, document) pairs.
    recipe
        What to do.
    *subscribers
        Called with (name, document) of every derived document.
    progress
        Called with (name, document) of every raw document, once it is dealt with.
    **options
        As for `PowderReduction`: file_timeout, byte_budget, handlers, scratch.

    Returns
    -------
    list of str
        Uids of the derived runs.

    Raises
    ------
    RecipeError
        If the recipe is not right.
    ReplayError
        If there are no documents to be had.
    """
    uids: list[str] = []

    def note(name: str, document: Mapping[str, Any]) -> None:
        if name == "start":
            uids.append(document["uid"])

    with PowderReduction(recipe, pace="replay", **options) as reduction:
        for subscriber in (note, *subscribers):
            reduction.subscribe(subscriber)
        for name, document in documents_of(documents_or_run):
            reduction(name, document)
            if progress is not None:
                progress(name, document)
    return uids


def documents_of(documents_or_run: Any) -> Iterator[tuple[str, Document]]:
    """Yield the documents of whatever has some; the empty stop document of a run that is still open is left out.

    Parameters
    ----------
    documents_or_run
        A run of a Tiled catalog, or (name, document) pairs, or mappings with the keys name and doc.

    Raises
    ------
    ReplayError
        If there are no documents to be had.
    """
    if hasattr(documents_or_run, "documents"):
        from bluesky_powder.replay.tiled import documents_of_run

        pairs: Iterable[Any] = documents_of_run(documents_or_run)
    elif isinstance(documents_or_run, Iterable) and not isinstance(documents_or_run, str | bytes | Mapping):
        pairs = documents_or_run
    else:
        raise ReplayError(
            f"{documents_or_run!r} has no documents; give a run of a Tiled catalog, or (name, document) pairs"
        )
    for item in pairs:
        name, document = _pair(item)
        if name != "stop" or document:
            yield name, document


def _pair(item: Any) -> tuple[str, Document]:
    if isinstance(item, Mapping) and {"name", "doc"} <= item.keys():
        item = item["name"], item["doc"]
    if isinstance(item, tuple | list) and len(item) == 2 and isinstance(item[1], Mapping):
        return str(item[0]), item[1]
    shown = repr(item)
    raise ReplayError(f"{shown[:80]} is no (name, document) pair")


class _Room(ModuleType):
    """A room that can be called: ``bluesky_powder.replay`` is the function, also where Python puts the room there."""

    def __call__(self, *arguments: Any, **options: Any) -> list[str]:
        """Call the function."""
        return replay(*arguments, **options)


sys.modules[__name__].__class__ = _Room
