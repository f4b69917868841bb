"""One run's way into Tiled, from its first document on, and again from the first when Tiled was away."""

import logging
import math
from typing import Any

import numpy as np

logger = logging.getLogger("bluesky_powder.publish")

_DOUBLED = "may be duplicated"


class RowsDoubledError(RuntimeError):
    """Tiled may have stored a row twice; the run has to be written anew."""


class Delivery:
    """Writes the documents of one run with bluesky-tiled-plugins' TiledWriter.

    Parameters
    ----------
    client
        Tiled client of the container that runs go into.
    run
        Uid of the run.
    batch_size
        How many events are written at once.
    """

    def __init__(self, client: Any, run: str, batch_size: int = 1) -> None:
        from bluesky_tiled_plugins import TiledWriter

        self._client, self._run = client, run
        self._start_errors: list[Exception] = []
        # Short arrays go to zarr too: as table cells they would come back as text.
        self._writer = TiledWriter(
            client, batch_size=batch_size, max_array_size=0, normalizer=_normalizer(self._start_errors)
        )
        self._numbers: dict[str, dict[str, type]] = {}

    def write(self, name: str, document: dict[str, Any]) -> None:
        """Write one document.

        Raises
        ------
        RowsDoubledError
            At the end of a run in which an answer of Tiled's was lost.
        Exception
            Whatever TiledWriter meets.
        """
        if name == "descriptor":
            self._numbers[document["uid"]] = _scalar_types(document["data_keys"])
        elif name == "event":
            _set_types(document["data"], self._numbers.get(document["descriptor"], {}))
        self._writer(name, document)
        if self._start_errors:
            raise self._start_errors[0]
        if name == "stop" and any(_DOUBLED in note for note in self._client[self._run].metadata.get("notes", ())):
            raise RowsDoubledError("an answer of Tiled's was lost, so a row may have been stored twice")


def _normalizer(errors: list[Exception]) -> type:
    """Return TiledWriter's normalizer, with what fails at the start of a run noted.

    event-model's RunRouter makes a warning of such an error, and lets the run vanish without another word.
    """
    from bluesky_tiled_plugins.writing.tiled_writer import RunNormalizer

    class StartNoted(RunNormalizer):
        def start(self, doc: Any) -> None:
            try:
                super().start(doc)
            except Exception as error:
                errors.append(error)

    return StartNoted


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
