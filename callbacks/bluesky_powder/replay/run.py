"""Reducing runs that are over: the same callback, fed with stored documents."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self
from uuid import uuid4

from bluesky_powder.client.find import earlier_runs
from bluesky_powder.errors import RecipeError
from bluesky_powder.recipe import AnyRecipe, Recipe
from bluesky_powder.reduction import PowderReduction
from bluesky_powder.reduction.tally import STANDS_IN
from bluesky_powder.replay.choose import OpenRuns, Pair
from bluesky_powder.replay.files import DocumentsBreakOffError
from bluesky_powder.replay.source import Place, source_of

LOGGER = logging.getLogger("bluesky_powder.replay")

Document = Mapping[str, Any]
STILL_OPEN = "the run may still be going on"
INTERRUPTED = "the replay was interrupted"


def replay(
    run_or_documents: Any,
    recipe: AnyRecipe,
    *subscribers: Callable[[str, dict[str, Any]], Any],
    catalog: Any = None,
    progress: Callable[[str, Document], Any] | None = None,
    **options: Any,
) -> list[str]:
    """Reduce stored runs as if they took place now; the arrays that come out are the same, bit for bit.

    Frames are read from their files. Where these are not on this machine, those of a run in Tiled come from its
    server. What was reduced until documents break off, or until Ctrl-C, ends in a derived run that says so.

    Parameters
    ----------
    run_or_documents
        A run of a Tiled catalog (``client[uid]``), a run or header of databroker (``db[uid]``, v1 or v2), the path of
        a file of documents, or (name, document) pairs; the latter two may hold several runs.
    recipe
        What to do.
    *subscribers
        Called with (name, document) of every derived document.
    catalog
        Tiled client of the container that the derived runs go into. The runs that were derived there from the same
        raw run and detector are named in the new run's start document, as `supersedes`.
    progress
        Called with (name, document) of every raw document, once it is dealt with.
    **options
        As for `PowderReduction`.

    Returns
    -------
    list of str
        Uids of the derived runs: one for each raw run, or for each of its detectors, that has frames for the recipe.

    Raises
    ------
    RecipeError
        If the recipe is not right, or stands where the run belongs.
    ReplayError
        If there are no documents to be had, or no more before their run is over.
    """
    if _is_recipe(run_or_documents):
        raise RecipeError(f"replay takes the run first and the recipe second; {_kind(run_or_documents)} came first")
    source = source_of(run_or_documents)
    with Replay(recipe, *subscribers, place=source.place, catalog=catalog, **options) as replayed:
        return replayed(source.documents(), progress)


def documents_of(run_or_documents: Any) -> Iterator[tuple[str, Document]]:
    """Yield the documents of whatever has some; the empty stop document of a run that is still open is left out.

    Parameters
    ----------
    run_or_documents
        As for `replay`.

    Raises
    ------
    ReplayError
        If there are no documents to be had.
    """
    return source_of(run_or_documents).documents()


class Replay:
    """A reduction that is fed with the documents of one run after the other, and keeps what it knows of geometries.

    Parameters
    ----------
    recipe, *subscribers, catalog, **options
        As for `replay`.
    place
        Where all the runs are.
    """

    def __init__(
        self,
        recipe: AnyRecipe,
        *subscribers: Callable[[str, dict[str, Any]], Any],
        place: Place,
        catalog: Any = None,
        **options: Any,
    ) -> None:
        self._reduction = PowderReduction(recipe, pace="replay", **{**_asked_for(place, catalog), **options})
        self._uids: list[str] = []
        for subscriber in (self._note, *subscribers):
            self._reduction.subscribe(subscriber)

    def __call__(self, documents: Iterable[Pair], progress: Callable[[str, Document], Any] | None = None) -> list[str]:
        """Reduce documents; see `replay`. Runs that do not end by themselves are ended, with the reason."""
        self._uids = []
        open_runs = OpenRuns()
        try:
            for name, document in documents:
                open_runs.note(name, document)
                self._reduction(name, document)
                if progress is not None:
                    progress(name, document)
        except DocumentsBreakOffError as error:
            if not open_runs.uids:  # else their derived runs say so
                LOGGER.warning("%s", error)
            self._end(open_runs, "abort", str(error))
        except KeyboardInterrupt:
            self._end(open_runs, "abort", INTERRUPTED)
            raise
        except Exception as error:
            self._end(open_runs, "fail", str(error))
            raise
        self._end(open_runs, "abort", STILL_OPEN)
        return self._uids

    def __enter__(self) -> Self:
        """Return itself; the end of the block closes it."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close."""
        self._reduction.close()

    def _note(self, name: str, document: Mapping[str, Any]) -> None:
        if name == "start":
            self._uids.append(document["uid"])

    def _end(self, open_runs: OpenRuns, status: Literal["abort", "fail"], reason: str) -> None:
        for uid in list(open_runs.uids):
            about = {"run_start": uid, "exit_status": status, "reason": reason, STANDS_IN: True}
            stop = {"uid": str(uuid4()), "time": time.time(), **about}
            open_runs.note("stop", stop)
            self._reduction("stop", stop)


def _is_recipe(given: Any) -> bool:
    """Tell whether something that should be a run is plainly a recipe."""
    if isinstance(given, list | tuple):
        return any(isinstance(one, Recipe) for one in given)
    if isinstance(given, str | Path):
        return Path(given).suffix.lower() in (".yaml", ".yml")
    return isinstance(given, Recipe) or (isinstance(given, dict) and ("geometry" in given or "detectors" in given))


def _kind(given: Any) -> str:
    return repr(str(given)) if isinstance(given, str | Path) else f"a {type(given).__name__}"


def _asked_for(place: Place, catalog: Any) -> dict[str, Any]:
    """Return what the reduction may ask for, as far as there is somebody to ask."""
    return {
        "remote": place.remote,
        "runs": place.runs,
        "supersedes": None if catalog is None else partial(earlier_runs, catalog),
    }
