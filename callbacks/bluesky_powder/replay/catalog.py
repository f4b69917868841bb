"""Finding raw runs: in a catalog by uid, its beginning or scan id, and a catalog by its registered name."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bluesky_powder.client.connection import connect
from bluesky_powder.client.find import SPEC
from bluesky_powder.errors import ReplayError, ServerError
from bluesky_powder.frames.run import NOT_FRAMES
from bluesky_powder.publish.obstacles import in_one_line
from bluesky_powder.replay.choose import MOST_SHOWN, matching

_LONGEST_SCAN_ID = 7


def find_run(catalog: Any, text: str) -> Any:
    """Return a raw run of a catalog.

    Parameters
    ----------
    catalog
        Tiled client of the container of the runs, or a catalog of databroker.
    text
        Uid, the beginning of one, or a scan id (the latest run that has it).

    Raises
    ------
    ReplayError
        If there is none, there are several, it is a derived run, or the catalog does not answer.
    """
    text = text.strip()
    if not hasattr(catalog, "context") and hasattr(catalog, "reg"):
        catalog = catalog.v2  # a Broker of databroker v1
    if not text or not all(letter.isalnum() or letter == "-" for letter in text):
        way_out = "; --file is for files of documents" if Path(text).is_file() else ""
        raise ReplayError(f"{text!r} is no uid; one consists of letters, digits and hyphens{way_out}")
    try:
        runs = list(_candidates(catalog, text))
        raw = [run for run in runs if not _is_derived(run)]
        if not raw:
            raise ReplayError(_nothing(catalog, text, runs))
    except ReplayError:
        raise
    except Exception as error:
        raise ReplayError(f"the catalog cannot be asked for {text}: {in_one_line(error)}") from error
    if len(raw) > 1:
        matching(text, [_start(run)["uid"] for run in raw])  # tells them
    return raw[0]


def expected_events(stop: Any, stream: str | None) -> int | None:
    """Return how many events with frames a run had, for a progress bar; None where its stop document does not say.

    Parameters
    ----------
    stop
        Stop document; None where there is none.
    stream
        Name of the stream of the frames; None where that is not known before.
    """
    counts = (stop or {}).get("num_events")
    told = counts.items() if isinstance(counts, Mapping) else ()
    numbers = {name: count for name, count in told if name not in NOT_FRAMES and isinstance(count, int)}
    return numbers.get(stream) if stream else max(numbers.values(), default=None)


@contextmanager
def named_catalog(name: str, api_key: str | None = None) -> Iterator[Any]:
    """Open a catalog that is registered on this machine.

    Parameters
    ----------
    name
        Of a Tiled profile (which is what databroker's catalogs are by now), or of a catalog that an older databroker
        knows. As in ``Broker.named``, its part ``raw`` is taken where there is one.
    api_key
        For a profile that names a server.

    Yields
    ------
    object
        Tiled client, or catalog; a Tiled client is closed on leaving.

    Raises
    ------
    ReplayError
        If there is none of this name.
    ServerError
        If its server does not answer, or refuses.
    """
    from tiled.profiles import load_profiles

    profiles = load_profiles()
    if name not in profiles:
        yield _raw_part(_of_databroker(name, sorted(profiles)))
        return
    _, profile = profiles[name]
    if profile.get("verify", True) and profile.keys() <= {"uri", "verify"}:
        with connect(profile["uri"], api_key) as client:
            yield _raw_part(client)
        return
    client = _of_profile(name, api_key)
    try:
        yield _raw_part(client)
    finally:
        client.context.close()


def _of_profile(name: str, api_key: str | None) -> Any:
    from tiled.client import from_profile

    try:
        return from_profile(name, **({"api_key": api_key} if api_key else {}))
    except Exception as error:
        raise ServerError(f"the catalog {name!r} cannot be opened: {in_one_line(error)}") from error


def _of_databroker(name: str, profiles: list[str]) -> Any:
    try:
        import databroker
    except ImportError:
        known = profiles
    else:
        if name in databroker.catalog:
            return databroker.catalog[name]
        known = sorted({*profiles, *databroker.catalog})
    there = (
        f"there are {', '.join(known)}" if known else "there is none; `tiled profile create URL --name NAME` makes one"
    )
    raise ReplayError(f"no catalog {name!r} is registered on this machine; {there}")


def _raw_part(catalog: Any) -> Any:
    try:
        part = catalog["raw"]
    except (KeyError, ValueError):
        return catalog
    return part if not hasattr(part, "metadata") or "start" not in part.metadata else catalog


def _candidates(catalog: Any, text: str) -> Iterator[Any]:
    """Yield the run of this uid, else those whose uid begins so, else the latest of this scan id."""
    if not hasattr(catalog, "context") or not getattr(catalog, "is_sql", True):
        yield from _as_databroker_finds(catalog, text)
        return
    from tiled.queries import Key, Like

    exact = list(catalog.search(Key("start.uid") == text).values())
    runs = exact or list(catalog.search(Like("start.uid", f"{text}%")).values())
    if not runs and _may_be_scan_id(text):
        found = catalog.search(Key("start.scan_id") == int(text)).values()
        runs = sorted((run for run in found if not _is_derived(run)), key=lambda run: _start(run)["time"])[-1:]
    yield from runs


def _as_databroker_finds(catalog: Any, text: str) -> Iterator[Any]:
    keys: list[Any] = [text, int(text)] if _may_be_scan_id(text) else [text]
    for key in keys:
        try:
            run = catalog[key]
        except KeyError:
            continue
        except ValueError as error:  # too short, or several
            if key is keys[-1]:
                raise ReplayError(str(error)) from error
            continue
        yield run
        return


def _may_be_scan_id(text: str) -> bool:
    return text.isdecimal() and len(text) <= _LONGEST_SCAN_ID and int(text) > 0


def _nothing(catalog: Any, text: str, derived: Iterable[Any]) -> str:
    """Say that there is no raw run, and what there is instead."""
    for run in derived:
        start = _start(run)
        return f"run {start['uid']} is a derived run; its raw run is {start.get('raw_uid')}"
    return f"no run has a uid that is, or begins with, {text}{_newest(catalog)}"


def _newest(catalog: Any) -> str:
    """Say what the latest raw runs are."""
    if not hasattr(catalog, "context"):
        return ""
    ordered = catalog.sort(("start.time", -1)) if getattr(catalog, "is_sql", True) else catalog
    views = ordered.values()
    runs = views.head(4 * MOST_SHOWN) if ordered is not catalog else reversed(views.tail(MOST_SHOWN))
    starts = [_start(run) for run in runs if not _is_derived(run)][:MOST_SHOWN]
    shown = [f"{start['uid']} (scan {start['scan_id']})" if "scan_id" in start else start["uid"] for start in starts]
    return f"; the latest are {', '.join(shown)}" if shown else "; there are no runs at all"


def _is_derived(run: Any) -> bool:
    return any(spec.name == SPEC for spec in getattr(run, "specs", ())) or "raw_uid" in _start(run)


def _start(run: Any) -> Any:
    return run.metadata.get("start") or {}
