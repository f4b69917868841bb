"""Many geometries, one set of bins: merged patterns and mean frames."""

import math
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from itertools import count
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from azimuthal import threads
from azimuthal.bins import RadialBins
from azimuthal.errors import FrameError
from azimuthal.geometry import Geometry
from azimuthal.integrator.frame import as_frames, checked_monitors, of_frame
from azimuthal.multigeometry.cache import IntegratorCache
from azimuthal.multigeometry.mean_frame import MeanFrames
from azimuthal.pattern import Pattern, RunningUnion

__all__ = ["IntegratorCache", "MeanFrames", "MultiGeometry"]

PIXELS_AT_ONCE = 700_000
"""Pixels of small frames that a thread integrates before it hands the patterns on."""

_Numbered = tuple[int, Geometry, ArrayLike] | Exception


class MultiGeometry:
    """Merges frames of many geometries as they come; both kinds of merge can be read at any moment.

    Parameters
    ----------
    bins
        With a range, common to all geometries.
    solid_angle
        "absolute" by default: detectors at different distances see a pixel under different solid angles.
    byte_budget
        What integrators, and likewise pixel sums, may occupy in memory.
    scratch
        Folder for spooled pixel sums.
    **keywords
        As for `Integrator`.

    Raises
    ------
    BinningError
        If the bins have no range.
    """

    def __init__(
        self,
        bins: RadialBins,
        *,
        solid_angle: str | None = "absolute",
        byte_budget: int = 2**30,
        scratch: str | Path | None = None,
        **keywords: Any,
    ) -> None:
        self.integrators = IntegratorCache(bins, byte_budget=byte_budget, solid_angle=solid_angle, **keywords)
        self._room: dict[str, Any] = {"byte_budget": byte_budget, "scratch": scratch}
        self.mean_frames = MeanFrames(**self._room)
        self._union: RunningUnion[Any] = RunningUnion()

    def renewed(self) -> Self:
        """Return a merger without frames that shares this one's integrators: for another scan of the same positions."""
        made = copy(self)
        made.mean_frames = MeanFrames(**self._room)
        made._union = RunningUnion()  # noqa: SLF001  our own class
        return made

    def add(
        self,
        geometry: Geometry,
        frames: ArrayLike,
        *,
        monitor: float | Sequence[float] = 1.0,
        dark: ArrayLike | None = None,
        dark_variance: ArrayLike | None = None,
        variance: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        flat: ArrayLike | None = None,
    ) -> Pattern | list[Pattern]:
        """Merge one frame, (rows, columns), or a stack, (n, rows, columns), and return its own pattern(s).

        Parameters
        ----------
        geometry
            Where the detector was; detectors and wavelengths may differ between geometries.
        frames, monitor, dark, dark_variance, variance, mask
            As for `Integrator.integrate`.
        flat
            Of this geometry, in place of one for all.

        Raises
        ------
        FrameError
            If a frame does not fit; nothing of it is merged.
        MergeError
            If its geometry is treated otherwise than those before, as with parallax; nothing of it is merged.
        """
        integrator = self.integrators.integrator(geometry, flat)
        stack = as_frames(frames)
        given = {"dark": dark, "dark_variance": dark_variance, "variance": variance, "mask": mask}
        if stack.ndim in (2, 3) and all(value is None for value in given.values()):
            several = stack.ndim == 3
            factors = checked_monitors(monitor, len(stack) if several else None)
            plain, _ = self.mean_frames.integrate(integrator, stack if several else stack[np.newaxis], factors)
            for pattern in plain:
                self._union.add(pattern, integrator.span)
            return plain if several else plain[0]
        patterns = integrator.integrate(stack, monitor=monitor, **given)
        if not isinstance(patterns, list):
            self._merge(integrator, stack, monitor, patterns, given)
            return patterns
        monitors = np.broadcast_to(np.asarray(monitor, np.float64), (len(patterns),))
        for k, pattern in enumerate(patterns):
            own = dict(given)
            for name in ("variance", "mask"):
                own[name] = of_frame(given[name], k, len(patterns), name)
            self._merge(integrator, stack[k], monitors[k], pattern, own)
        return patterns

    def extend(self, exposures: Iterable[tuple[Geometry, ArrayLike]], **keywords: Any) -> list[Pattern]:
        """Merge a frame of each of many geometries, several of them at a time; what comes out is what `add` gives.

        Parameters
        ----------
        exposures
            Geometries, each with its frame, (rows, columns); they may come from a generator.
        **keywords
            As for `add`, the same for all; ``monitor`` may have one value for each.

        Returns
        -------
        list of Pattern
            Of each frame.

        Raises
        ------
        FrameError, MergeError
            As `add` does; what came before is merged.
        """
        given = dict(keywords)
        monitors, flat = given.pop("monitor", 1.0), given.pop("flat", None)
        single = np.ndim(monitors) == 0

        def integrate(exposure: _Numbered) -> tuple[Any, Any, Any, Pattern] | Exception:
            if isinstance(exposure, Exception):
                return exposure
            k, geometry, frame = exposure
            try:
                integrator = self.integrators.integrator(geometry, flat)
                monitor = monitors if single else np.asarray(monitors)[k]
                return integrator, frame, monitor, integrator.integrate(frame, monitor=monitor, **given)
            except Exception as error:
                return error  # those before it are to be merged first

        patterns: list[Pattern] = []
        for some in threads.ahead(lambda numbered: [integrate(each) for each in numbered], _pieces(exposures)):
            for done in some:
                if isinstance(done, Exception):
                    raise done
                self._merge(*done, given)
                patterns.append(done[3])
        return patterns

    @property
    def pattern(self) -> Pattern:
        """The union of all frames' patterns so far.

        Raises
        ------
        FrameError
            If no frame was added.
        """
        if not self._union.patterns:
            raise FrameError("merge: no frame was added")
        merged: Pattern = self._union.pattern
        return merged

    @property
    def mean_frame_pattern(self) -> Pattern:
        """The union of the geometries' mean frames so far."""
        return self.mean_frames.pattern

    def _merge(self, integrator: Any, frame: Any, monitor: Any, pattern: Pattern, given: dict[str, Any]) -> None:
        self.mean_frames.add(integrator, frame, monitor=float(monitor), pattern=pattern, **given)
        self._union.add(pattern, integrator.span)


def _pieces(exposures: Iterable[tuple[Geometry, ArrayLike]]) -> Iterator[list[_Numbered]]:
    """Yield numbered exposures in lists of many pixels: threads that meet after every small frame hold each other up.

    An error of the iterable comes behind all that it has given before.
    """
    piece: list[_Numbered] = []
    pixels = 0
    given = iter(exposures)
    for k in count():
        try:
            geometry, frame = next(given)
        except StopIteration:
            break
        except Exception as error:
            piece.append(error)
            break
        piece.append((k, geometry, frame))
        pixels += math.prod(geometry.shape)
        if pixels >= PIXELS_AT_ONCE:
            yield piece
            piece, pixels = [], 0
    yield piece
