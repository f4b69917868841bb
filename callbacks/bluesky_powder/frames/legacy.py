"""Images behind Resource and Datum documents, read by the handlers that the facility has installed."""

import contextlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bluesky_powder.errors import FramesUnavailable
from bluesky_powder.frames.frame import as_images
from bluesky_powder.frames.patience import Patience

ENTRY_POINTS = "databroker.handlers"


class Handlers:
    """Handlers of one run's Resource documents, made at first need.

    Parameters
    ----------
    patience
        How long to wait for a file.
    registry
        Spec -> handler class, besides those installed under the entry points "databroker.handlers".
    """

    def __init__(self, patience: Patience, registry: Mapping[str, Callable[..., Any]] | None = None) -> None:
        self._patience = patience
        self._registry = dict(registry or {})
        self._made: dict[str, Any] = {}

    def read(self, resource: Mapping[str, Any], datum_kwargs: Mapping[str, Any]) -> NDArray[Any]:
        """Return the images of one Datum, (k, rows, columns).

        Parameters
        ----------
        resource
            The Resource document.
        datum_kwargs
            Of the Datum document.

        Raises
        ------
        FramesUnavailable
            If there is no handler, or it cannot read the file.
        """
        make = self._class_of(str(resource["spec"]))
        path = _path_of(resource)

        def attempt() -> NDArray[Any]:
            try:
                handler = self._made.get(resource["uid"])
                if handler is None:
                    handler = self._made[resource["uid"]] = make(path, **resource.get("resource_kwargs", {}))
                return np.asarray(handler(**datum_kwargs))
            except Exception as error:
                self._forget(resource["uid"])
                raise FramesUnavailable(f"{path} ({resource['spec']}) cannot be read: {error}") from error

        return as_images(self._patience.until_read(path, attempt))

    def close(self) -> None:
        """Close what the handlers hold open."""
        for uid in list(self._made):
            self._forget(uid)

    def _class_of(self, spec: str) -> Callable[..., Any]:
        if spec not in self._registry:
            self._registry[spec] = _installed(spec)
        return self._registry[spec]

    def _forget(self, uid: str) -> None:
        handler = self._made.pop(uid, None)
        close = getattr(handler, "close", None)
        if callable(close):
            with contextlib.suppress(Exception):
                close()


def _installed(spec: str) -> Callable[..., Any]:
    found = [point for point in entry_points(group=ENTRY_POINTS) if point.name == spec]
    if not found:
        raise FramesUnavailable(
            f"no handler for {spec} files is installed; pip install the package that has it "
            f"(area-detector-handlers for areaDetector), or give handlers={{{spec!r}: HandlerClass}}"
        )
    try:
        return found[0].load()
    except Exception as error:
        raise FramesUnavailable(f"the handler {found[0].value} for {spec} files cannot be imported: {error}") from error


def _path_of(resource: Mapping[str, Any]) -> str:
    path, root = str(resource["resource_path"]), str(resource.get("root") or "")
    return os.path.join(root, path.removeprefix("/")) if root else path


@dataclass(frozen=True, slots=True)
class DatumImages:
    """Images of one Datum document."""

    handlers: Handlers
    resource: Mapping[str, Any]
    datum_kwargs: Mapping[str, Any]

    @property
    def nbytes_held(self) -> int:
        """Nothing is held."""
        return 0

    def read(self) -> NDArray[Any]:
        """Return the images, (k, rows, columns)."""
        return self.handlers.read(self.resource, self.datum_kwargs)
