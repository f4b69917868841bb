"""What can be replayed, and what else its place has: frames that are not on this machine, and the runs beside it."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from event_model import DocumentNames

from bluesky_powder.errors import ReplayError
from bluesky_powder.publish.obstacles import in_one_line
from bluesky_powder.replay.choose import Pair, runs_of
from bluesky_powder.replay.files import documents_in
from bluesky_powder.replay.tiled import documents_of_run, is_tree

if TYPE_CHECKING:
    from bluesky_powder.frames.images.remote import RemoteFrames

Runs = Callable[[str], Iterable[Pair]]
_NOT_KEPT = (
    "its frames came as StreamResource documents, which databroker's MongoDB catalogs do not keep; replay it from "
    "Tiled or from a file of its documents"
)
_WAY_OUT = "give a run of a catalog (client[uid]), a file of documents, or (name, document) pairs"


@dataclass(frozen=True)
class Place:
    """Where runs are, and what it has besides their documents.

    Attributes
    ----------
    remote
        Gives frames whose file is not on this machine; None where nobody does.
    runs
        Uid -> documents of any run there; None where there are no others.
    """

    remote: "RemoteFrames | None" = None
    runs: Runs | None = None


@dataclass(frozen=True)
class Source:
    """Documents, and the place that they are from.

    Attributes
    ----------
    pairs
        (name, document), or what stands for it.
    place
        Where more can be asked for.
    """

    pairs: Iterable[Any]
    place: Place = Place()

    def documents(self) -> Iterator[Pair]:
        """Yield (name, document), without the empty stop document of a run that is still open.

        Raises
        ------
        ReplayError
            If one is no such pair, or there are no more to be had.
        """
        for item in self.pairs:
            name, document = _pair(item)
            if name != "stop" or document:
                yield name, document


def source_of(given: Any) -> Source:
    """Return what stands behind a run, a file or documents.

    Parameters
    ----------
    given
        A run of a Tiled catalog (``client[uid]``), a run or header of databroker (``db[uid]``, v1 or v2), the path of
        a file of documents, or (name, document) pairs.

    Raises
    ------
    ReplayError
        If it has no documents.
    """
    if isinstance(given, Path) or (isinstance(given, str) and Path(given).exists()):
        return Source(documents_in(given), place_of_files([Path(given)]))
    run = _entered(given)
    if is_tree(run):
        return Source(documents_of_run(run), place_of(run.parent))
    place = place_of(run.parent) if hasattr(run, "context") else Place()
    if callable(getattr(run, "canonical", None)):  # databroker 1
        return Source(
            _asked(run, lambda: run.canonical(fill="no")), place_of(given.db) if hasattr(given, "db") else place
        )
    if callable(getattr(run, "documents", None)):
        return Source(_asked(run, run.documents), place)
    if isinstance(given, Iterable) and not isinstance(given, str | bytes | Mapping):
        return Source(given)
    missing = ": there is no file of this name" if isinstance(given, str) else ""
    raise ReplayError(f"{given!r} has no documents{missing}; {_WAY_OUT}")


def place_of(catalog: Any) -> Place:
    """Return what a catalog has.

    Parameters
    ----------
    catalog
        Tiled client of the container of the runs, or a catalog of databroker 1, which has no frames to give.
    """

    def runs(uid: str) -> Iterator[Pair]:
        try:
            run = catalog[uid]
        except (KeyError, ValueError) as error:
            raise ReplayError(f"there is no run {uid} in its catalog") from error
        return source_of(run).documents()

    if not hasattr(catalog, "context"):
        return Place(None, runs)
    from bluesky_powder.frames.images.remote import TiledFrames

    return Place(TiledFrames(catalog), runs)


def place_of_files(paths: Sequence[Path]) -> Place:
    """Return what files of documents have."""
    return Place(runs=lambda uid: runs_of((pair for path in paths for pair in documents_in(path)), {uid}))


def _entered(given: Any) -> Any:
    """Return the run of a databroker header, or of an entry of an intake catalog."""
    if not hasattr(given, "context") and hasattr(given, "v2") and hasattr(given, "db"):
        return given.v2
    if callable(getattr(given, "get", None)) and hasattr(given, "describe") and not hasattr(given, "documents"):
        return given if hasattr(given, "canonical") else given.get()
    return given


def _asked(run: Any, ask: Callable[[], Iterable[Any]]) -> Iterator[Any]:
    """Yield what a catalog says, mindful of what it cannot say."""
    streamed = ended = False
    try:
        for item in ask():
            name, document = _pair(item)
            ended = name == "stop"
            if name == "descriptor":
                keys = document["data_keys"].values()
                streamed = streamed or any(str(about.get("external", "")).startswith("STREAM") for about in keys)
            yield name, document
    except ReplayError:
        raise
    except Exception as error:
        reason = _NOT_KEPT if streamed else in_one_line(error)
        raise ReplayError(f"the documents of {_name(run)} could not be had: {reason}") from error
    # A server that fails in the middle of them just hangs up.
    if not ended and (getattr(run, "metadata", None) or {}).get("stop"):
        reason = _NOT_KEPT if streamed else "the server broke off before its stop document; see the server's log"
        raise ReplayError(f"the documents of {_name(run)} could not be had: {reason}")


def _name(run: Any) -> str:
    try:
        return f"run {run.metadata['start']['uid']}"
    except Exception:
        return repr(run)


def _pair(item: Any) -> Pair:
    if isinstance(item, Mapping) and {"name", "doc"} <= item.keys():
        item = item["name"], item["doc"]
    if isinstance(item, tuple | list) and len(item) == 2 and isinstance(item[1], Mapping):
        name = item[0].value if isinstance(item[0], DocumentNames) else item[0]
        return str(name), item[1]
    shown = repr(item)
    raise ReplayError(f"{shown[:80]} is no (name, document) pair")
