"""One run's way into Tiled, from its first document on, and again from the first when Tiled was away."""

import logging
import math
from pathlib import Path
from typing import Any

import numpy as np

from bluesky_powder.publish.filing import Filing
from bluesky_powder.publish.obstacles import NotServedError, RowsDoubledError, in_one_line, is_refused
from bluesky_powder.publish.storage import Choice, Storage, Stored, is_derived, shared_folder
from bluesky_powder.publish.writer import writer_of_one_run

logger = logging.getLogger("bluesky_powder.publish")

_DOUBLED = "may be duplicated"

MOST_BYTES = 2**19
"""Bytes of one array that are written to Tiled at once: its subscribers give up at a message of 1 MB."""
MOST_EVENTS = 500
"""Events that are written at once."""


class Delivery:
    """Writes the documents of one run with bluesky-tiled-plugins' writer, arrays of fast runs by way of a file.

    Parameters
    ----------
    client
        Tiled client of the container that runs go into.
    run
        Uid of the run.
    storage
        Where arrays are to go.
    folder
        Of the pattern files; None takes the one that the server has for the run, if it is on this machine.
    """

    def __init__(self, client: Any, run: str, storage: Storage = "events", folder: Path | None = None) -> None:
        self._client, self._run, self._folder = client, run, folder
        self._documents, self._writer = writer_of_one_run(client)
        self._choice = Choice(storage)
        self._filing: Filing | None = None
        self._settled = self._served = self._derived = False
        self._held: list[tuple[str, dict[str, Any]]] = []
        self._numbers: dict[str, dict[str, type]] = {}
        self._cached = self._cached_bytes = 0

    @property
    def held(self) -> int:
        """How many documents are kept back until it is known where the run's arrays go."""
        return len(self._held)

    @property
    def cached(self) -> int:
        """How many events are taken but not written."""
        return self._cached

    @property
    def is_full(self) -> bool:
        """Whether enough is taken to be written."""
        return self._cached >= MOST_EVENTS or (self._filing is None and self._cached_bytes >= MOST_BYTES)

    @property
    def stored(self) -> Stored | None:
        """Where the run's arrays go; None where that is not decided yet."""
        if self._choice.made is None or self._held:
            return None
        return "events" if self._filing is None else "file"

    def write(self, name: str, document: dict[str, Any], stamp: float) -> None:
        """Take one document; events are written at `flush`, or before the run's stop.

        Parameters
        ----------
        name, document
            The document.
        stamp
            When it came, in seconds of `time.time`.

        Raises
        ------
        RowsDoubledError
            At the end of a run in which an answer of Tiled's was lost.
        NotServedError
            If Tiled does not find the file, or does not let this key register files.
        OSError
            If the disk of the file is full.
        Exception
            Whatever the writer meets.
        """
        if name == "start":
            self._derived = is_derived(document)
            self._choice.start(document)
            self._filing = None if self._choice.made == "events" else Filing(self._folder or Path(), document)
        self._choice.take(name, document, stamp)
        if self._filing is not None:
            self._filing.learn_axes(name, document)
        begins = name == "descriptor" and document.get("name") != "axes"
        if self._filing is not None and (self._held or (begins and not self._settled)):
            self._held.append((name, document))
            self.settle(stamp)
        else:
            self._pass_on(name, document)

    def settle(self, now: float) -> None:
        """Let go of what is kept back, if it is decided where arrays go, or no longer waited for."""
        self._choice.settle(now)
        if self._choice.made is None or not self._held:
            return
        self._settled = True
        if self._choice.made == "file":
            self.flush()
            self._find_folder()
        else:
            self._filing = None
        held, self._held = self._held, []
        for name, document in held:
            self._pass_on(name, document)

    def is_due(self, now: float) -> bool:
        """Tell whether `settle` has something to do."""
        return bool(self._held) and self._choice.is_due(now)

    def flush(self) -> None:
        """Write the events that were taken, all that belongs to them first.

        Raises
        ------
        NotServedError, OSError, Exception
            As `write`.
        """
        try:
            if self._filing is not None:
                # A stream is told of before the next is put on disk: readers wait for the first.
                for stream, told in self._filing.flush():
                    for name, document in told:
                        self._documents(name, document)
                    self._writer.flush(stream)
            self._writer.flush()
        except Exception as error:
            if self._filing is not None and is_refused(error):
                raise NotServedError(f"Tiled does not let this key register files ({in_one_line(error)})") from error
            raise
        self._cached = self._cached_bytes = 0
        if self._filing is not None and self._filing.newest is not None:
            self._check_once(self._filing, *self._filing.newest)

    def close(self) -> None:
        """Close the run's files."""
        if self._filing is not None:
            self._filing.close()

    def discard(self) -> None:
        """Delete the run's files, as it is written anew."""
        if self._filing is not None:
            self._filing.discard()

    def _pass_on(self, name: str, document: dict[str, Any]) -> None:
        if self._filing is not None:
            name, document = self._filing.take(name, document)
        if name == "descriptor":
            self._numbers[document["uid"]] = _scalar_types(document["data_keys"])
        elif name == "event":
            document = {**document, "data": dict(document["data"])}
            _set_types(document["data"], self._numbers.get(document["descriptor"], {}))
            self._cached_bytes += max((getattr(value, "nbytes", 0) for value in document["data"].values()), default=0)
        elif name == "stop":
            self.flush()
            # Closed first, so that whoever sees the run's end finds whole files.
            self.close()
        self._cached += name in ("event", "event_page", "stream_datum")
        if name == "event" and self._derived:
            # As the writer wants it already; to copy and validate it would take longer than all else here.
            self._writer.event(document)
        else:
            self._documents(name, document)
        if name == "stop" and any(_DOUBLED in note for note in self._client[self._run].metadata.get("notes", ())):
            raise RowsDoubledError("an answer of Tiled's was lost, so a row may have been stored twice")

    def _find_folder(self) -> None:
        assert self._filing is not None  # noqa: S101 - where arrays may go to a file there is one
        axes = (self._writer.array("axes", key) for key in ("radial", "radial_edges"))
        folder = self._folder or shared_folder([each for each in axes if each is not None], self._run)
        if folder is None:
            logger.info("run %s: the server's storage is not on this machine, so its arrays stay in events", self._run)
            self._filing = None
        else:
            self._filing.folder = folder

    def _check_once(self, filing: Filing, stream: str, key: str, row: int) -> None:
        """Hold the first row that Tiled gives to the one in the file."""
        if self._served:
            return
        node = self._writer.array(stream, key)
        # Not by the client's own way, which would try a server's refusal for 45 s.
        answer = node.context.http_client.get(
            node.item["links"]["full"], params={"slice": str(row)}, headers={"Accept": "application/octet-stream"}
        )
        if answer.is_error:
            raise NotServedError(f"the server does not read {filing.folder}; start it with --read {filing.folder}")
        if answer.content != filing.value(stream, key, row).tobytes():
            raise NotServedError(f"the server has another file at {filing.folder}")
        self._served = True


def is_complete(client: Any, run: str) -> bool:
    """Tell whether a run is in Tiled, up to its stop document, and no row twice."""
    if run not in client:
        return False
    metadata = client[run].metadata
    return bool(metadata.get("stop")) and not any(_DOUBLED in note for note in metadata.get("notes", ()))


def remove_partial(client: Any, run: str) -> None:
    """Remove what an earlier try has left of a run."""
    if run in client:
        logger.info("removing the incomplete run %s from Tiled, to write it anew", run)
        client.delete_contents(run, recursive=True, external_only=False)


def _scalar_types(data_keys: dict[str, dict[str, Any]]) -> dict[str, type]:
    """Return the Python type of each scalar number.

    A table's columns get the types of its first row; a motor that starts at the integer 0 would forbid 0.5 ever after.
    """
    types: dict[str, type] = {}
    for key, entry in data_keys.items():
        if entry.get("external") or entry.get("dtype") not in ("number", "integer", "boolean"):
            continue
        types[key] = {"number": float, "integer": int, "boolean": bool}[entry["dtype"]]
        declared = entry.get("dtype_numpy")
        if isinstance(declared, str):
            types[key] = {"f": float, "i": int, "u": int, "b": bool}.get(np.dtype(declared).kind, types[key])
    return types


def _set_types(data: dict[str, Any], types: dict[str, type]) -> None:
    for key, kind in types.items():
        value = data.get(key)
        if value is None and kind is float and key in data:
            data[key] = math.nan
        elif isinstance(value, int | float) and (kind is float or math.isfinite(value)) and kind(value) == value:
            # What does not fit the declaration (0.5 for an integer) is kept, not cut.
            data[key] = kind(value)
