"""Images behind Resource and Datum documents, read by the handlers that the facility has installed, or by our own."""

import contextlib
import itertools
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bluesky_powder.errors import FrameSkipped, FramesUnavailable
from bluesky_powder.frames.frame import Images, NotHeld, as_images
from bluesky_powder.frames.images.reach import Reach, Whereabouts
from bluesky_powder.frames.images.specs import own_handlers
from bluesky_powder.frames.joining.recent import Recent
from bluesky_powder.frames.legal import whole_path

ENTRY_POINTS = "databroker.handlers"
MOST_OPEN = 16
"""Handlers kept, with the files that they hold open; the least recently used is closed first."""
MOST_IMAGES = 100_000
"""Images taken from a handler that yields them one by one."""

MakeHandler = Callable[..., Any]


class Handlers:
    """Handlers of one run's Resource documents, made at first need.

    A spec's handler is, in this order: the one given, one installed under the entry points "databroker.handlers", one
    of the package area_detector_handlers, one of our own.

    Parameters
    ----------
    reach
        What the readers of the run share.
    registry
        Spec -> handler class.
    """

    def __init__(self, reach: Reach, registry: Mapping[str, MakeHandler] | None = None) -> None:
        self._reach = reach
        self._registry = dict(registry or {})
        self._own = own_handlers(reach.hdf5)
        self._missing: dict[str, str] = {}
        self._made: OrderedDict[str, Any] = OrderedDict()
        self._places: Recent[str, Whereabouts] = Recent()

    def images(
        self, resource: Mapping[str, Any], datum_kwargs: Mapping[str, Any], stream: str, data_key: str, seq_num: int
    ) -> Images:
        """Return the images of one Datum.

        Parameters
        ----------
        resource
            The Resource document.
        datum_kwargs
            Of the Datum document.
        stream, data_key, seq_num
            Of the event; what a server knows the images by.
        """
        row = datum_kwargs.get("point_number")
        row = row if isinstance(row, int) else seq_num - 1
        remote = self._reach.remote_images(stream, data_key, row, _frames_per_point(resource))
        local = DatumImages(self, resource, datum_kwargs)
        try:
            self._class_of(str(resource["spec"]))
        except FramesUnavailable:
            return remote or local
        uid = str(resource["uid"])
        where = self._places[uid] = self._places.get(uid) or Whereabouts()
        return where.choose(local, self._path_of(resource), remote)

    def read(self, resource: Mapping[str, Any], datum_kwargs: Mapping[str, Any]) -> NDArray[Any]:
        """Read the images of one Datum, (k, rows, columns); parameters as of `images`.

        Raises
        ------
        FramesUnavailable
            If there is no handler, or it cannot read the file.
        """
        make = partial(
            self._class_of(str(resource["spec"])), self._path_of(resource), **(resource.get("resource_kwargs") or {})
        )
        attempt = partial(self._try, make, resource, datum_kwargs)
        return self._reach.patience.until_read(self._path_of(resource), attempt)

    def close(self) -> None:
        """Close what the handlers hold open."""
        for uid in list(self._made):
            self._forget(uid)

    def _try(self, make: MakeHandler, resource: Mapping[str, Any], datum_kwargs: Mapping[str, Any]) -> NDArray[Any]:
        """Read once; and once more if the handler was made earlier, for many do not see that a file has grown."""
        uid = str(resource["uid"])
        is_new = uid not in self._made
        try:
            images = _images_of(self._handler(uid, make)(**datum_kwargs))
            if len(images) < _frames_per_point(resource):
                raise FramesUnavailable(f"{len(images)} of {_frames_per_point(resource)} images are there")
            return images
        except Exception as error:
            self._forget(uid)
            if not is_new:
                return self._try(make, resource, datum_kwargs)
            if isinstance(error, FrameSkipped) and not isinstance(error, FramesUnavailable):
                raise
            what = f"{self._path_of(resource)} ({resource['spec']})"
            raise FramesUnavailable(f"{what} cannot be read: {type(error).__name__}: {error}") from error

    def _handler(self, uid: str, make: MakeHandler) -> Any:
        if uid not in self._made:
            self._made[uid] = make()
        self._made.move_to_end(uid)
        while len(self._made) > MOST_OPEN:
            self._forget(next(iter(self._made)))
        return self._made[uid]

    def _class_of(self, spec: str) -> MakeHandler:
        if spec in self._missing:
            raise FramesUnavailable(self._missing[spec])
        if spec not in self._registry:
            try:
                self._registry[spec] = _installed(spec, self._own)
            except FramesUnavailable as reason:
                self._missing[spec] = str(reason)
                raise
        return self._registry[spec]

    def _path_of(self, resource: Mapping[str, Any]) -> str:
        whole = whole_path(str(resource.get("root") or ""), str(resource["resource_path"]))
        here = self._reach.mapped(whole)
        return whole if here is None else here

    def _forget(self, uid: str) -> None:
        handler = self._made.pop(uid, None)
        close = getattr(handler, "close", None)
        if callable(close):
            with contextlib.suppress(Exception):
                close()


def _frames_per_point(resource: Mapping[str, Any]) -> int:
    given = (resource.get("resource_kwargs") or {}).get("frame_per_point")
    return given if isinstance(given, int) and given > 0 else 1


def _installed(spec: str, own: Mapping[str, MakeHandler]) -> MakeHandler:
    """Return the handler of a spec.

    Raises
    ------
    FramesUnavailable
        If there is none, or it cannot be imported.
    """
    for point in entry_points(group=ENTRY_POINTS, name=spec):
        try:
            return point.load()
        except Exception as error:
            raise FramesUnavailable(
                f"the handler {point.value} for {spec} files cannot be imported: {error}"
            ) from error
    found = _of_area_detector(spec) or own.get(spec)
    if found is None:
        raise FramesUnavailable(
            f"no handler for {spec} files is installed; pip install the package that has it "
            f"(area-detector-handlers for areaDetector), or give handlers={{{spec!r}: HandlerClass}}"
        )
    return found


def _of_area_detector(spec: str) -> MakeHandler | None:
    """Return the handler of the package area_detector_handlers, where it can be imported but is not registered."""
    try:
        module = import_module("area_detector_handlers.handlers")
    except Exception:
        return None
    return next((each for each in vars(module).values() if spec in getattr(each, "specs", ())), None)


def _images_of(returned: Any) -> NDArray[Any]:
    """Return what a handler returned as images: an array (also of dask), a sequence of images, or a generator."""
    if not hasattr(returned, "__array__") and isinstance(returned, Iterable):
        returned = [np.asarray(each) for each in itertools.islice(returned, MOST_IMAGES)]
        if returned and all(each.ndim > 2 for each in returned):
            returned = np.concatenate(returned)
    return as_images(np.asarray(returned))


@dataclass(frozen=True, slots=True)
class DatumImages(NotHeld):
    """Images of one Datum document."""

    handlers: Handlers
    resource: Mapping[str, Any]
    datum_kwargs: Mapping[str, Any]

    def read(self) -> NDArray[Any]:
        """Return the images, (k, rows, columns)."""
        return self.handlers.read(self.resource, self.datum_kwargs)
