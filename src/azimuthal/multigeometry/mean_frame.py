"""Frames summed pixel by pixel, one sum per geometry: the mean frame, in which spots that stay put stay visible.

Signal, normalization and variance of the frames of one geometry are summed per pixel and then integrated; the mean
frames of several geometries merge by union (DESIGN 3). Sums of whole numbers are whole numbers, so a frame can be taken
out again exactly. What does not fit the byte budget is spooled to a scratch file, least recently used first.
"""

import math
import shutil
import tempfile
import weakref
from collections import OrderedDict
from itertools import count
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from azimuthal.errors import FrameError
from azimuthal.geometry import Geometry
from azimuthal.integrator import Integrator, checked_monitor
from azimuthal.pattern import Pattern, union


class PixelSums:
    """The sums of one geometry's frames, pixel by pixel.

    Attributes
    ----------
    signal
        (pixels,) int64 while every signal was a whole number, else float64.
    variance
        (pixels,) float64; None while it equals ``gain * signal`` (counts, no dark).
    missing
        (pixels,) float64, monitors of the frames in which the pixel was left out; None while there is none.
    monitors
        Monitor of every frame.
    masked_pixels
        Left out pixels, summed over the frames.
    """

    ARRAYS = ("signal", "variance", "missing")

    def __init__(self, integrator: Integrator) -> None:
        self.integrator = integrator
        n = integrator.shape[0] * integrator.shape[1]
        self.signal: NDArray[Any] = np.zeros(n, np.int64)
        self.variance: NDArray[np.float64] | None = None
        self.missing: NDArray[np.float64] | None = None
        self.monitors: list[float] = []
        self.masked_pixels = 0

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return sum(array.nbytes for array in self.arrays().values())

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that there are, by name."""
        return {name: getattr(self, name) for name in self.ARRAYS if getattr(self, name) is not None}

    def set_arrays(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Set the arrays, None where there is none."""
        for name in self.ARRAYS:
            setattr(self, name, arrays.get(name))

    def add(self, sign: int, monitor: float, frame: ArrayLike, **given: Any) -> None:
        """Add a frame (`sign` 1) or take it out again (-1).

        Raises
        ------
        FrameError
            If it cannot be taken out exactly, or was never in.
        """
        signal, variance = self.integrator.prepare(frame, **given)
        signal, variance = signal.ravel(), variance.ravel()
        left_out = ~np.isfinite(signal) | ~np.isfinite(variance)
        signal[left_out] = 0.0
        variance[left_out] = 0.0
        whole = self._is_whole(signal, given)
        if sign < 0:
            self._check_removable(monitor, whole, bool(left_out.any()))
        self._add_variance(sign, variance, counts=bool(whole and (signal >= 0).all() and set(given) <= {"mask"}))
        if not whole and self.signal.dtype != np.float64:
            self.signal = self.signal.astype(np.float64)
        self.signal += sign * (signal if self.signal.dtype == np.float64 else signal.astype(np.int64))
        if left_out.any():
            if self.missing is None:
                self.missing = np.zeros(signal.size)
            self.missing[left_out] += sign * monitor
        if sign > 0:
            self.monitors.append(monitor)
        else:
            self.monitors.remove(monitor)
        lost = int(np.count_nonzero(left_out & self.integrator.used_pixels))
        self.masked_pixels += sign * (self.integrator.masked_pixels + lost)

    def pattern(self) -> Pattern:
        """Integrate the sums."""
        total = math.fsum(self.monitors)
        monitor = np.array([total]) if self.missing is None else total - self.missing
        if self.missing is not None:
            # What was never seen is exactly 0, whatever the order in which monitors were added.
            monitor[self.missing >= total * (1.0 - 1e-12)] = 0.0
        noise = len(self.monitors) * self.integrator.read_noise**2
        variance = self.variance
        if variance is None:
            variance = self.integrator.gain * self.signal + noise
        return self.integrator.integrate_sums(self.signal, variance, monitor, self.masked_pixels)

    def _add_variance(self, sign: int, variance: NDArray[np.float64], counts: bool) -> None:
        """Keep an array of variance only once it says more than the counts do."""
        if self.variance is None and not counts:
            noise = len(self.monitors) * self.integrator.read_noise**2
            self.variance = self.integrator.gain * self.signal.astype(np.float64) + noise
        if self.variance is not None:
            self.variance += sign * variance

    def _is_whole(self, signal: NDArray[np.float64], given: dict[str, Any]) -> bool:
        dark = given.get("dark")
        if dark is not None and np.asarray(dark).dtype.kind == "f":
            return False
        return bool((signal == np.rint(signal)).all()) and bool(np.abs(signal).max(initial=0.0) < 2.0**53)

    def _check_removable(self, monitor: float, whole: bool, left_out: bool) -> None:
        if monitor not in self.monitors:
            raise FrameError(f"remove: no frame with monitor {monitor!r} was added for this geometry")
        exact = whole and self.signal.dtype == np.int64
        exact_monitor = not left_out or float(monitor).is_integer()
        exact_variance = self.variance is None or (
            float(self.integrator.gain).is_integer() and float(self.integrator.read_noise**2).is_integer()
        )
        if not (exact and exact_monitor and exact_variance):
            raise FrameError(
                "remove: these sums are not whole numbers, so a frame cannot be taken out exactly; add the rest afresh"
            )


class MeanFrames:
    """Mean frames of several geometries under a byte budget.

    Parameters
    ----------
    byte_budget
        What pixel sums may occupy in memory; the least recently used geometry goes to a scratch file beyond it.
    scratch
        Folder for scratch files; None makes one in the system's place for temporary files when it is needed.
    scratch_budget
        What scratch files may occupy. Beyond it the oldest geometry is closed: its mean frame stays in the merge, and
        further frames of it start a new mean frame.

    Notes
    -----
    The merge adds the geometries in the order of their first frames, the current one last, whatever happened before:
    two runs that end with the same frames have the same bits.
    """

    def __init__(
        self,
        *,
        byte_budget: int = 2**30,
        scratch: str | Path | None = None,
        scratch_budget: int = 2**34,
    ) -> None:
        self.byte_budget = byte_budget
        self.scratch_budget = scratch_budget
        self._scratch = _Scratch(scratch)
        self._live: OrderedDict[Geometry, PixelSums] = OrderedDict()
        self._patterns: dict[Geometry, Pattern] = {}
        self._frames: dict[Geometry, int] = {}
        self._closed: list[Pattern] = []
        self._closed_frames = 0
        self._others: tuple[Geometry, Pattern | None] | None = None

    @property
    def frames(self) -> int:
        """Number of frames in the sums."""
        return self._closed_frames + sum(self._frames.values())

    @property
    def geometries(self) -> list[Geometry]:
        """The geometries that hold frames, in the order of their first frames."""
        return [geometry for geometry, frames in self._frames.items() if frames]

    @property
    def nbytes(self) -> int:
        """Bytes of pixel sums in memory."""
        return sum(sums.nbytes for sums in self._live.values())

    def add(self, integrator: Integrator, frame: ArrayLike, *, monitor: float = 1.0, **given: Any) -> None:
        """Add a frame to the sums of the integrator's geometry.

        Parameters
        ----------
        integrator
            Of the frame's geometry; one integrator a geometry.
        frame, monitor
            As for `Integrator.integrate`.
        **given
            dark, dark_variance, variance, mask as for `Integrator.integrate`.

        Raises
        ------
        FrameError
            If the frame does not fit; the sums are as before.
        """
        self._change(1, integrator, frame, monitor, given)

    def remove(self, integrator: Integrator, frame: ArrayLike, *, monitor: float = 1.0, **given: Any) -> None:
        """Take a frame out again, exactly; arguments as for `add`.

        Raises
        ------
        FrameError
            If the sums are not whole numbers, or the frame was never added; the sums are as before.
        """
        if not self._frames.get(integrator.geometry):
            raise FrameError("remove: no frame of this geometry is in the sums")
        self._change(-1, integrator, frame, monitor, given)

    @property
    def pattern(self) -> Pattern:
        """Union of the geometries' mean frames.

        Raises
        ------
        FrameError
            If there is no frame in the sums.
        """
        geometries = self.geometries
        if not geometries:
            if self._closed:
                return union(self._closed)
            raise FrameError("mean frame: no frame was added")
        current = next(geometry for geometry in reversed(self._live) if self._frames[geometry])
        others = self._union_without(current, geometries)
        own = self._pattern_of(current)
        return own if others is None else union((others, own))

    def close(self) -> None:
        """Drop all sums and the scratch files."""
        for store in (self._live, self._patterns, self._frames, self._closed):
            store.clear()
        self._closed_frames = 0
        self._others = None
        self._scratch.close()

    def __enter__(self) -> Self:
        """Return itself; scratch files go at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def _change(
        self, sign: int, integrator: Integrator, frame: ArrayLike, monitor: float, given: dict[str, Any]
    ) -> None:
        geometry = integrator.geometry
        sums = self._sums_of(integrator)
        sums.add(sign, checked_monitor(monitor), frame, **{k: v for k, v in given.items() if v is not None})
        self._patterns.pop(geometry, None)
        if not self._frames.get(geometry):
            self._frames.pop(geometry, None)  # so that it goes to the end of the order
        self._frames[geometry] = len(sums.monitors)
        if sign < 0:
            self._others = None
        self._keep_to_budget()

    def _union_without(self, current: Geometry, geometries: list[Geometry]) -> Pattern | None:
        """Return the merge of all geometries but the current one; kept until the current one changes."""
        if self._others is not None and self._others[0] == current:
            return self._others[1]
        parts = [*self._closed, *(self._pattern_of(g) for g in geometries if g != current)]
        others = union(parts) if parts else None
        self._others = (current, others)
        return others

    def _pattern_of(self, geometry: Geometry) -> Pattern:
        if geometry not in self._patterns:
            self._patterns[geometry] = self._live[geometry].pattern()
        return self._patterns[geometry]

    def _sums_of(self, integrator: Integrator) -> PixelSums:
        geometry = integrator.geometry
        if geometry not in self._live:
            kept = self._scratch.take(geometry)
            self._live[geometry] = kept if kept is not None else PixelSums(integrator)
        self._live.move_to_end(geometry)
        return self._live[geometry]

    def _keep_to_budget(self) -> None:
        while len(self._live) > 1 and self.nbytes > self.byte_budget:
            geometry = next(iter(self._live))
            if self._frames.get(geometry):
                self._pattern_of(geometry)
                self._scratch.put(geometry, self._live[geometry])
            del self._live[geometry]
        while self._scratch.nbytes > self.scratch_budget:
            geometry = self._scratch.drop_oldest()
            self._closed = [union([*self._closed, self._patterns.pop(geometry)])]
            self._closed_frames += self._frames.pop(geometry)
            self._others = None


class _Scratch:
    """Pixel sums on disk, in a folder of their own that is made at first need."""

    def __init__(self, parent: str | Path | None) -> None:
        self._parent = parent
        self._folder: Path | None = None
        self._kept: dict[Geometry, tuple[PixelSums, Path]] = {}
        self._numbers = count()
        self.nbytes = 0

    def put(self, geometry: Geometry, sums: PixelSums) -> None:
        """Write the arrays of `sums` to a file and forget them in memory."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="azimuthal-mean-frames-", dir=self._parent))
            self._forget = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        path = self._folder / f"{next(self._numbers)}.npz"
        np.savez(path, allow_pickle=False, **sums.arrays())
        self.nbytes += path.stat().st_size
        sums.set_arrays({})
        self._kept[geometry] = (sums, path)

    def take(self, geometry: Geometry) -> PixelSums | None:
        """Return the sums of `geometry` with their arrays, and delete the file; None where there is none."""
        if geometry not in self._kept:
            return None
        sums, path = self._kept.pop(geometry)
        with np.load(path) as arrays:
            sums.set_arrays(dict(arrays))
        self._delete(path)
        return sums

    def drop_oldest(self) -> Geometry:
        """Delete the file that was written first and return its geometry."""
        geometry = next(iter(self._kept))
        self._delete(self._kept.pop(geometry)[1])
        return geometry

    def close(self) -> None:
        """Delete everything."""
        self._kept.clear()
        self.nbytes = 0
        if self._folder is not None:
            self._forget()
            self._folder = None

    def _delete(self, path: Path) -> None:
        self.nbytes -= path.stat().st_size
        path.unlink()
