"""Frames summed pixel by pixel, one sum per geometry: the mean frame, in which spots that stay put stay visible.

Signal, normalization and variance of the frames of one geometry are summed per pixel and then integrated; the mean
frames of several geometries merge by union (DESIGN 3). Sums of whole numbers are whole numbers, so a frame can be taken
out again exactly. What does not fit the byte budget is spooled to a scratch file, least recently used first.
"""

from collections import OrderedDict
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Self

from numpy.typing import ArrayLike, NDArray

from azimuthal.csr.vectors import WIDTH
from azimuthal.errors import FrameError, MergeError
from azimuthal.geometry import Geometry
from azimuthal.integrator import Integrator, IntegratorKey, checked_monitor
from azimuthal.integrator.frame import checked_monitors
from azimuthal.multigeometry.pixel_sums import PixelSums
from azimuthal.multigeometry.scratch import Scratch
from azimuthal.pattern import Packed, Pattern, union


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
        self._scratch = Scratch(scratch)
        self._live: OrderedDict[IntegratorKey, PixelSums] = OrderedDict()
        self._sizes: dict[int, int] = {}
        self._patterns: dict[IntegratorKey, Pattern] = {}
        self._packed: dict[IntegratorKey, Packed[Pattern]] = {}
        self._frames: dict[IntegratorKey, int] = {}
        self._closed: list[Pattern] = []
        self._closed_frames = 0
        self._others: tuple[IntegratorKey, Pattern | None] | None = None
        self._current: Integrator | None = None

    @property
    def frames(self) -> int:
        """Number of frames in the sums."""
        return self._closed_frames + sum(self._frames.values())

    @property
    def geometries(self) -> list[Geometry]:
        """The geometries that hold frames, in the order of their first frames."""
        return [geometry for geometry, _ in self._keys()]

    @property
    def nbytes(self) -> int:
        """Bytes of pixel sums in memory."""
        return sum(self._sizes.values())

    def add(
        self,
        integrator: Integrator,
        frame: ArrayLike,
        *,
        monitor: float = 1.0,
        pattern: Pattern | None = None,
        **given: Any,
    ) -> None:
        """Add a frame to the sums of the integrator's geometry.

        Parameters
        ----------
        integrator
            Of the frame's geometry; one integrator a geometry.
        frame, monitor
            As for `Integrator.integrate`.
        pattern
            The frame's own pattern, where it is at hand: it is the mean frame's as long as there is no other frame.
        **given
            dark, dark_variance, variance, mask as for `Integrator.integrate`.

        Raises
        ------
        FrameError
            If the frame does not fit; the sums are as before.
        MergeError
            If its geometry is treated otherwise than those before; likewise.
        """
        self._change(1, integrator, frame, monitor, given)
        counts = all(value is None for name, value in given.items() if name != "mask")
        if pattern is not None and counts and self._frames[integrator.key] == 1:
            self._patterns[integrator.key] = pattern

    def integrate(
        self,
        integrator: Integrator,
        frames: NDArray[Any],
        monitors: Sequence[float],
        *,
        follow: bool = False,
    ) -> tuple[list[Any], list[Any]]:
        """Integrate frames of one geometry, (n, rows, columns), and add them, eight at a time where that is possible.

        The sums, and every pattern, have the bits that `Integrator.integrate`, `add` and `pattern` give one by one.

        Parameters
        ----------
        integrator
            Of the frames' geometry.
        frames
            Counts, without dark or mask of their own.
        monitors
            One for each frame.
        follow
            Whether `pattern` is wanted as it is after each frame.

        Returns
        -------
        patterns, means
            Of each frame; and, with `follow`, `pattern` after each, else none.

        Raises
        ------
        FrameError
            If a frame does not fit; those before it are in the sums.
        MergeError
            If their geometry is treated otherwise than those before.
        """
        factors = checked_monitors(monitors, len(frames))
        patterns: list[Any] = []
        means: list[Any] = []
        while len(patterns) < len(frames):
            k = len(patterns)
            batch = frames[k : k + WIDTH], factors[k : k + WIDTH]
            together = self._in_one_pass(integrator, *batch, follow) if len(batch[0]) == WIDTH else None
            if together is not None:
                patterns += together[0]
                means += together[1]
                continue
            # The first frames of a geometry tell which pixels are dead; a batch with others goes one by one.
            for j in range(len(batch[0])):
                alone = batch[0][j : j + 1], batch[1][j : j + 1]
                one = self._in_one_pass(integrator, *alone, follow) or self._in_two_passes(integrator, *alone, follow)
                patterns += one[0]
                means += one[1]
                if k == 0 and len(patterns) == 1:
                    break
        return patterns, means

    def _in_two_passes(
        self, integrator: Integrator, frames: NDArray[Any], monitors: Sequence[float], follow: bool
    ) -> tuple[list[Any], list[Any]]:
        patterns = integrator.integrate(frames, monitor=monitors)
        for frame, monitor, pattern in zip(frames, monitors, patterns, strict=True):
            self.add(integrator, frame, monitor=monitor, pattern=pattern)
        return patterns, [self.pattern] if follow else []

    def _in_one_pass(
        self, integrator: Integrator, frames: NDArray[Any], monitors: Sequence[float], follow: bool
    ) -> tuple[list[Any], list[Any]] | None:
        key = integrator.key
        self._turn_to(integrator)
        sums = self._sums_of(integrator)
        together = sums.integrate(integrator, monitors, frames, follow)
        if together is None:
            return None
        patterns, means = together
        self._note(key, len(sums.monitors))
        if means:
            self._patterns[key] = means[-1]
            others = self._union_without(key, self._keys())
            means = means if others is None else [union((others, mean)) for mean in means]
        self._keep_to_budget(sums)
        return patterns, means

    def remove(self, integrator: Integrator, frame: ArrayLike, *, monitor: float = 1.0, **given: Any) -> None:
        """Take a frame out again, exactly; arguments as for `add`.

        Raises
        ------
        FrameError
            If the sums are not whole numbers, or the frame was never added; the sums are as before.
        """
        if not self._frames.get(integrator.key):
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
        keys = self._keys()
        if not keys:
            if self._closed:
                return union(self._closed)
            raise FrameError("mean frame: no frame was added")
        current = next((key for key in reversed(self._live) if self._frames.get(key)), keys[-1])
        others = self._union_without(current, keys)
        own = self._pattern_of(current)
        return own if others is None else union((others, own))

    def close(self) -> None:
        """Drop all sums and the scratch files."""
        for store in (self._live, self._sizes, self._patterns, self._packed, self._frames, self._closed):
            store.clear()
        self._closed_frames = 0
        self._others = self._current = None
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
        key = integrator.key
        factor = checked_monitor(monitor)
        self._turn_to(integrator)
        sums = self._sums_of(integrator)
        sums.add(integrator, sign, factor, frame, **{k: v for k, v in given.items() if v is not None})
        self._note(key, len(sums.monitors))
        self._keep_to_budget(sums)

    def _note(self, key: IntegratorKey, frames: int) -> None:
        """Note how many frames a geometry has now; its pattern is to be made anew."""
        self._others = self._others_beside(key)
        self._patterns.pop(key, None)
        self._packed.pop(key, None)
        if not self._frames.get(key):
            self._frames.pop(key, None)  # so that it goes to the end of the order
        self._frames[key] = frames

    def _others_beside(self, key: IntegratorKey) -> tuple[IntegratorKey, Pattern | None] | None:
        """Return what is to be kept of the merge of others when a geometry changes: it must not hold that one.

        Behind a new geometry it grows by the one before: merging all anew for each of thousands would take for ever.
        """
        if self._others is None or self._others[0] == key:
            return self._others
        before, others = self._others
        last = next((known for known in reversed(self._frames) if self._frames[known]), None)
        if self._frames.get(key) or before != last:
            return None
        left = self._pattern_of(before)
        return key, union((left,) if others is None else (others, left))

    def _keys(self) -> list[IntegratorKey]:
        """Return the keys of geometries that hold frames, in the order of their first frames."""
        return [key for key, frames in self._frames.items() if frames]

    def _turn_to(self, integrator: Integrator) -> None:
        """Keep one integrator only, that of the last frame: the pattern of the geometry left behind is made now.

        There may be thousands of geometries: their patterns are kept without empty bins.

        Raises
        ------
        MergeError
            If its patterns could not be merged with those of the frames so far.
        """
        if integrator is self._current:
            return
        difference = self._current.conditions.difference(integrator.conditions) if self._current is not None else None
        if difference and self.frames:  # all have those of the latest
            raise MergeError(f"mean frame: a frame of this geometry cannot be merged with those before: {difference}")
        if self._current is not None and self._frames.get(self._current.key):
            key = self._current.key
            left = self._pattern_of(key)
            if self._patterns.pop(key, None) is not None:
                self._packed[key] = Packed(left, self._current.span)
        self._current = integrator

    def _union_without(self, current: IntegratorKey, keys: list[IntegratorKey]) -> Pattern | None:
        """Return the merge of all geometries but the current one; kept until another one changes."""
        if self._others is not None and self._others[0] == current:
            return self._others[1]
        there_are = self._closed or any(g != current for g in keys)
        others = union(chain(self._closed, (self._pattern_of(g) for g in keys if g != current))) if there_are else None
        self._others = (current, others)
        return others

    def _pattern_of(self, key: IntegratorKey) -> Pattern:
        if key in self._packed:
            return self._packed[key].pattern
        if key not in self._patterns:
            if self._current is None or self._current.key != key:
                raise FrameError("mean frame: the integrator of this geometry is gone")
            self._patterns[key] = self._live[key].pattern(self._current)
        return self._patterns[key]

    def _sums_of(self, integrator: Integrator) -> PixelSums:
        key = integrator.key
        if key not in self._live:
            kept = self._scratch.take(key)
            self._live[key] = kept if kept is not None else PixelSums(integrator.shape[0] * integrator.shape[1])
        self._live.move_to_end(key)
        return self._live[key]

    def _keep_to_budget(self, changed: PixelSums) -> None:
        self._sizes[id(changed)] = changed.nbytes
        while len(self._live) > 1 and self.nbytes > self.byte_budget:
            key = next(iter(self._live))
            if self._frames.get(key):
                self._pattern_of(key)
                self._scratch.put(key, self._live[key])
            self._sizes.pop(id(self._live.pop(key)), None)
        while self._scratch.nbytes > self.scratch_budget:
            key = self._scratch.drop_oldest()
            self._closed = [union([*self._closed, self._pattern_of(key)])]
            self._patterns.pop(key, None)
            self._packed.pop(key, None)
            self._closed_frames += self._frames.pop(key)
            self._others = None
