"""Which run a document belongs to."""

from collections.abc import Mapping
from typing import Any

# Name of a document -> the key of it that leads to a run, through another document or at once.
_TO_RUN = {"start": "uid", "descriptor": "run_start", "stop": "run_start"}
_BY_DESCRIPTOR = {"event": "descriptor", "event_page": "descriptor", "stream_datum": "descriptor"}
_BY_RESOURCE = {"datum": "resource", "datum_page": "resource"}


class Routes:
    """Keeps the descriptors and resources of open runs."""

    def __init__(self) -> None:
        self._owner: dict[str, str] = {}
        self._owned: dict[str, list[str]] = {}

    def run_of(self, name: str, document: Mapping[str, Any]) -> str | None:
        """Return the uid of a document's run; None for a run whose start was not seen.

        Documents have to come in order: a start before all else of its run.
        """
        if name in _TO_RUN:
            run = document.get(_TO_RUN[name])
            if name == "start":
                self._owned[str(run)] = []
            elif name == "descriptor":
                self._own(run, document["uid"])
            return run if run in self._owned else None
        if name in _BY_DESCRIPTOR:
            return self._owner.get(document[_BY_DESCRIPTOR[name]])
        if name in _BY_RESOURCE:
            return self._owner.get(document[_BY_RESOURCE[name]])
        run = document.get("run_start")
        self._own(run, document.get("uid"))
        return run if run in self._owned else None

    def forget(self, run: str) -> None:
        """Drop what is kept of a run that has ended."""
        for uid in self._owned.pop(run, ()):
            self._owner.pop(uid, None)

    def _own(self, run: str | None, uid: str | None) -> None:
        if run is not None and uid is not None and run in self._owned:
            self._owner[uid] = run
            self._owned[run].append(uid)


def snapshot(name: str, document: Mapping[str, Any]) -> dict[str, Any]:
    """Copy a document as far as others might change it; arrays are shared, documents' arrays are not written to."""
    if name in ("event", "event_page"):
        return {key: dict(value) if isinstance(value, dict) else value for key, value in document.items()}
    return {key: _copied(value) for key, value in document.items()}


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(entry) for key, entry in value.items()}
    return [_copied(entry) for entry in value] if isinstance(value, list | tuple) else value


def nbytes(document: Mapping[str, Any]) -> int:
    """Return roughly how much memory a document takes: its arrays, and something for the rest."""
    data = document.get("data")
    arrays = (getattr(value, "nbytes", 0) for value in data.values()) if isinstance(data, Mapping) else ()
    return 1000 + sum(arrays)
