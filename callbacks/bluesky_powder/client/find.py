"""Finding a derived run by its uid, the raw run's, or the beginning of either; or several by what they are of."""

from collections.abc import Iterable
from typing import Any, get_args

from azimuthal.pattern import Grade
from bluesky_powder.client.connection import asking
from bluesky_powder.errors import DerivedRunError

SPEC = "PowderRun"
_MOST_SHOWN = 5


def find(client: Any, uid: str) -> Any:
    """Return a derived run.

    Parameters
    ----------
    client
        Tiled client of the container that holds the runs.
    uid
        Uid of the derived run, or of the raw run that it was made from, or the beginning of either. Of several derived
        from one raw run, the latest that has patterns is taken, or the latest if none has.

    Returns
    -------
    bluesky_powder.client.powder_run.PowderRun
        The run (another Bluesky run client, where this package's entry point is not installed).

    Raises
    ------
    DerivedRunError
        If there is none, the run has no derived one, or the beginning fits several.
    """
    uid = uid.strip()
    if not uid or not all(letter.isalnum() or letter == "-" for letter in uid):
        raise DerivedRunError(f"{uid!r} is no uid; one consists of letters, digits and hyphens")
    with asking(f"look for run {uid}"):
        return _exactly(client, uid) or _beginning_with(client, uid)


def search(
    client: Any,
    *,
    raw_uid: str | None = None,
    sample: str | None = None,
    grade: Grade | None = None,
    detector: str | None = None,
) -> Any:
    """Return the derived runs that fit all that is given; the server looks them up.

    Parameters
    ----------
    client
        Tiled client of the container that holds the runs.
    raw_uid
        Whole uid of the raw run.
    sample
        As the raw run's start document has it.
    grade
        smooth, mild or strong: how spotty the mean frame was at the end of the run; open runs have no grade yet.
    detector
        Name of the detector, of recipes that have several.

    Returns
    -------
    tiled.client.container.Container
        Of the runs, by uid; to be searched further, such as by
        ``Key("stop.spottiness.mean_frame_spottiness") < 0.1`` from `tiled.queries`.

    Raises
    ------
    DerivedRunError
        If there is no such grade.
    """
    from tiled.queries import Key, SpecsQuery

    if grade is not None and grade not in get_args(Grade):
        raise DerivedRunError(f"grade: {grade!r} does not exist; choose {', '.join(get_args(Grade))}")
    wanted = {
        "start.raw_uid": raw_uid,
        "start.sample": sample,
        "stop.spottiness.grade": grade,
        "start.detector": detector,
    }
    found = client.search(SpecsQuery(include=[SPEC]))
    for key, value in wanted.items():
        if value is not None:
            found = found.search(Key(key) == value)
    return found


def earlier_runs(client: Any, raw_uid: str, detector: str | None = None) -> list[str]:
    """Return the uids of the runs that were derived from a raw run, oldest first.

    Parameters
    ----------
    client
        Tiled client of the container that holds them.
    raw_uid
        Of the raw run.
    detector
        Name of the detector in recipes that have several; None for the runs of recipes that have one.

    Raises
    ------
    DerivedRunError
        If Tiled refuses or does not answer.
    """
    from tiled.queries import Key

    with asking(f"look for runs that were derived from {raw_uid}"):
        runs = sorted(_derived(client, Key("start.raw_uid") == raw_uid), key=_time)
    starts = [run.metadata["start"] for run in runs]
    return [str(start["uid"]) for start in starts if start.get("detector") == detector]


def _exactly(client: Any, uid: str) -> Any:
    from tiled.queries import Key

    if uid in client:
        run = client[uid]
        if _is_derived(run):
            return run
        derived = _derived(client, Key("start.raw_uid") == uid)
        if not derived:
            raise DerivedRunError(f"run {uid} is there, but no powder run was derived from it")
        return max(derived, key=_rank)
    # The raw run may be in another catalog.
    return max(_derived(client, Key("start.raw_uid") == uid), key=_rank, default=None)


def _beginning_with(client: Any, uid: str) -> Any:
    from tiled.queries import Like

    runs = _derived(client, Like("start.uid", f"{uid}%"))
    if not runs:
        by_raw = _derived(client, Like("start.raw_uid", f"{uid}%"))
        latest = {raw: max(same, key=_rank) for raw, same in _grouped(by_raw).items()}
        runs = list(latest.values())
    if not runs:
        raise DerivedRunError(f"no powder run, and no raw run of one, has a uid that is or begins with {uid}")
    if len(runs) > 1:
        shown = ", ".join(run.metadata["start"]["uid"] for run in runs[:_MOST_SHOWN])
        more = f" and {len(runs) - _MOST_SHOWN} more" if len(runs) > _MOST_SHOWN else ""
        raise DerivedRunError(f"{uid} fits {len(runs)} powder runs: {shown}{more}; give more of it")
    return runs[0]


def _derived(client: Any, query: Any) -> list[Any]:
    from tiled.queries import SpecsQuery

    return list(client.search(query).search(SpecsQuery(include=[SPEC])).values())


def _is_derived(run: Any) -> bool:
    return any(spec.name == SPEC for spec in run.specs)


def _rank(run: Any) -> tuple[bool, float]:
    """Return what the better run has more of: any patterns, then time."""
    stop = run.metadata.get("stop") or {}
    return stop.get("frames_reduced") != 0, _time(run)


def _time(run: Any) -> float:
    return float(run.metadata["start"].get("time", 0.0))


def _grouped(runs: Iterable[Any]) -> dict[str, list[Any]]:
    groups: dict[str, list[Any]] = {}
    for run in runs:
        groups.setdefault(run.metadata["start"]["raw_uid"], []).append(run)
    return groups
