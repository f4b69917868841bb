"""What devices look at: the beam, the specimen in it, and what a camera sees of them, all by one seed."""

import math
import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from azimuthal.geometry import Geometry
from bluesky_powder.sim.image import View
from bluesky_powder.sim.specimen import Specimen

POLARIZATION = 0.99
_VIEWS_KEPT = 3
_NOISE, _BEAM, _DARK_RATE, _DARK = 1, 2, 3, 4
# Pixels differ in their dark current; a gamma distribution of this shape.
_DARK_SHAPE = 4.0

ShutterState = Literal["open", "closed"]


@dataclass(frozen=True, slots=True)
class Moment:
    """How the beamline stands while a frame is taken.

    Attributes
    ----------
    arm
        Two theta arm, degrees.
    sample
        Sample motor, mm.
    shutter
        Closed, nothing but dark current reaches the detector.
    """

    arm: float
    sample: float
    shutter: ShutterState


@dataclass(frozen=True, slots=True)
class Exposure:
    """One frame.

    Attributes
    ----------
    frame
        Counts, uint32, (rows, columns).
    monitor
        Counts of the monitor meanwhile; 0 behind a closed shutter.
    moment
        When it was.
    """

    frame: npt.NDArray[np.uint32]
    monitor: float
    moment: Moment


class World:
    """One beam on one specimen; safe to use from several threads.

    Parameters
    ----------
    geometry_at
        Arm position in degrees -> where the detector is.
    specimen
        What stands in the beam.
    monitor_rate
        Counts per second of the monitor; frames scale with it.
    dark_current
        Mean counts per pixel and second that a detector adds by itself.
    seed
        Whence everything comes that looks like chance.
    """

    def __init__(
        self,
        geometry_at: Callable[[float], Geometry],
        specimen: Specimen,
        *,
        monitor_rate: float,
        dark_current: float,
        seed: int,
    ) -> None:
        self._geometry_at = geometry_at
        self._specimen = specimen
        self._monitor_rate = monitor_rate
        self._dark_current = dark_current
        self._seed = seed
        self._lock = threading.Lock()
        self._views: OrderedDict[float, View] = OrderedDict()

    def monitor(self, number: int, exposure_time: float) -> float:
        """Return the counts of the monitor during the light frame of a number, whole, as a float."""
        beam = np.random.default_rng([self._seed, _BEAM, number])
        # A ring current that decays, and a monochromator that trembles.
        flux = math.exp(-number / 500) * (1 + 0.02 * beam.standard_normal())
        return float(round(self._monitor_rate * exposure_time * max(flux, 0.1)))

    def light(self, moment: Moment, monitor: float, noise: np.random.Generator) -> npt.NDArray[np.uint32]:
        """Return a frame without dark counts, (rows, columns)."""
        with self._lock:
            view = self._view(moment.arm)
            crystallites = self._specimen.at(moment.sample)
        return view.expose(crystallites, monitor, noise)

    def dark(self, shutter: ShutterState, number: int, exposure_time: float) -> npt.NDArray[np.uint32] | None:
        """Return the dark counts in a frame, (rows, columns); None where the detector has none."""
        if self._dark_current <= 0:
            return None
        shape = self._geometry_at(0.0).shape
        rate = np.random.default_rng([self._seed, _DARK_RATE]).gamma(
            _DARK_SHAPE, self._dark_current / _DARK_SHAPE, shape
        )
        noise = np.random.default_rng([self._seed, _DARK, int(shutter == "closed"), number])
        return noise.poisson(rate * exposure_time).astype(np.uint32)

    def noise(self, *key: int) -> np.random.Generator:
        """Return the generator of the counting noise of one light frame."""
        return np.random.default_rng([self._seed, _NOISE, *key])

    def gaps(self) -> npt.NDArray[np.bool_]:
        """Return where the detector has no pixels, (rows, columns)."""
        return np.asarray(self._geometry_at(0.0).detector.mask)

    def _view(self, arm: float) -> View:
        if arm not in self._views:
            self._views[arm] = View(self._geometry_at(arm), self._specimen, POLARIZATION)
            while len(self._views) > _VIEWS_KEPT:
                self._views.popitem(last=False)
        self._views.move_to_end(arm)
        return self._views[arm]


class Camera:
    """Takes the frames of one detector, numbered from 1.

    Light and dark frames have numbers of their own: a scan gives the same frames whether darks are taken in it or not.

    Parameters
    ----------
    world
        What it looks at.
    name
        Cameras of different names have different counting noise; "" is the first one of a beamline.
    """

    def __init__(self, world: World, name: str = "") -> None:
        self._world = world
        self._key = (zlib.crc32(name.encode()),) if name else ()
        self._lock = threading.Lock()
        self._numbers: dict[ShutterState, int] = {"open": 0, "closed": 0}

    def expose(self, moment: Moment, exposure_time: float) -> Exposure:
        """Take the next frame, given s."""
        with self._lock:
            self._numbers[moment.shutter] += 1
            number = self._numbers[moment.shutter]
        dark = self._world.dark(moment.shutter, number, exposure_time)
        if moment.shutter == "open":
            monitor = self._world.monitor(number, exposure_time)
            frame = self._world.light(moment, monitor, self._world.noise(number, *self._key))
        else:
            monitor, gaps = 0.0, self._world.gaps()
            frame = np.where(gaps, np.iinfo(np.uint32).max, np.uint32(0)).astype(np.uint32)
        if dark is not None:
            good = ~self._world.gaps()
            frame[good] += dark[good]
        return Exposure(frame, monitor, moment)
