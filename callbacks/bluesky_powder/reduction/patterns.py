"""Frames to patterns: read, find the geometry, check, add up what is summed, integrate, in stacks where they fit."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from azimuthal import Geometry, Integrator, IntegratorCache, MeanFrames, Pattern, RadialBins, outliers, union
from azimuthal.pattern import ErrorModel
from bluesky_powder.errors import FrameSkipped
from bluesky_powder.frames import Frame
from bluesky_powder.frames.darks.dark import Dark, DarkSource
from bluesky_powder.frames.darks.mean import NoData
from bluesky_powder.frames.images.together import EventReader
from bluesky_powder.recipe import Recipe
from bluesky_powder.recipe.sources import key_of
from bluesky_powder.reduction.stack import Stack

MOST_STACKED = 64
"""Images that are integrated together."""
STACK_BYTES = 2**28
"""What they may occupy."""
LEAST_MONITOR, MOST_MONITOR = 1e-100, 1e100
"""Squares of the monitor are added up; beyond this they would spoil the sums of all other frames."""
SUM_NO_DATA = -(2**62)
"""What stands for no data in sums of images: no sum of counts is this."""


MeanFor = Callable[[Sequence[int]], MeanFrames | None]
"""Seq_nums of events -> the mean frame that they may be added to."""


@dataclass(frozen=True, slots=True)
class Exposure:
    """The images of one raw event and what is subtracted from them.

    Attributes
    ----------
    frame
        What the documents say.
    dark
        Where the dark can be read; None where nothing is subtracted.
    """

    frame: Frame
    dark: DarkSource | None = None


@dataclass(frozen=True)
class Reduced:
    """What became of one exposure.

    Attributes
    ----------
    images
        As integrated, (k, rows, columns): those that were read, or their sum.
    monitors
        What each was normalized by; 1 where that was nothing.
    patterns
        One an image.
    pattern
        Their union: the pattern of the event.
    integrator
        That made them; it has the geometry.
    given
        dark, dark_variance and mask, as far as there are any.
    count
        How many images were read.
    dark_uid
        Of the event or run of the dark; "" where there is none.
    mean
        Pattern of the run's mean frame with these images, where they were added to it as they were integrated.
    """

    images: NDArray[Any]
    monitors: tuple[float, ...]
    patterns: tuple[Pattern, ...]
    pattern: Pattern
    integrator: Integrator
    given: Mapping[str, Any]
    count: int
    dark_uid: str
    mean: Pattern | None = None

    @property
    def geometry(self) -> Geometry:
        """Where the detector was."""
        return self.integrator.geometry

    @property
    def monitor(self) -> float:
        """The mean of the monitors."""
        return math.fsum(self.monitors) / len(self.monitors)


@dataclass(frozen=True)
class _Ready:
    """An exposure that was read."""

    exposure: Exposure
    images: NDArray[Any]
    monitors: tuple[float, ...]
    integrator: Integrator
    count: int

    def goes_with(self, other: "_Ready") -> bool:
        """Tell whether both can be integrated at once."""
        return (
            self.integrator is other.integrator
            and self.exposure.dark is other.exposure.dark
            and self.count == other.count
            and self.images.dtype == other.images.dtype
        )


class _Group:
    """Exposures that are integrated together."""

    def __init__(self) -> None:
        self.members: list[_Ready] = []
        self.stack = Stack(MOST_STACKED, STACK_BYTES)

    def takes(self, ready: _Ready) -> bool:
        """Tell whether one more fits."""
        return not self.members or (ready.goes_with(self.members[0]) and self.stack.has_room_for(ready.images))

    def add(self, ready: _Ready) -> None:
        """Add one; its images move into the stack."""
        self.members.append(replace(ready, images=self.stack.put(ready.images)))


class FrameReducer:
    """Reduces frames by a recipe; integrators are kept for geometries that come again.

    Parameters
    ----------
    recipe
        What to do.
    byte_budget
        What kept integrators may occupy.
    """

    def __init__(self, recipe: Recipe, *, byte_budget: int = 2**30) -> None:
        self._recipe = recipe
        self._bins = recipe.bins.radial_bins()
        self._byte_budget = byte_budget
        self._keywords = recipe.integrator_keywords()
        self._no_data = NoData(recipe)
        self._reader = EventReader(STACK_BYTES)
        self._sums = recipe.frames_per_event == "sum"
        if self._sums:
            # Dummies are found image by image; a sum that happens to equal one is none.
            self._keywords |= {"dummy": float(SUM_NO_DATA), "delta_dummy": None}
        self._caches: dict[RadialBins, IntegratorCache] = {}
        self._resolved: tuple[Geometry, RadialBins] | None = None
        self._latest: tuple[dict[str, float], tuple[int, int], Integrator] | None = None
        self._rule = recipe.outliers.rule(recipe.integration.error_model) if recipe.outliers else None

    def reduce(
        self, exposures: Sequence[Exposure], shape: tuple[int, int] | None = None, mean_for: MeanFor | None = None
    ) -> Iterator[Reduced | Exception]:
        """Integrate the images of some events; yield, in their order, what became of each, or why nothing did.

        Images that share an event share its positions. Those of one geometry, dtype and dark are integrated as stacks
        of at most `MOST_STACKED` images and `STACK_BYTES` bytes, which changes no bit.

        Parameters
        ----------
        exposures
            One an event.
        shape
            (rows, columns) that frames of this run have, where it is known from earlier ones.
        mean_for
            Returns what events with these seq_nums may be added to as they are integrated; None where they may not.
        """
        group = _Group()
        for exposure, images in zip(exposures, self._read(exposures), strict=True):
            try:
                ready = self._made_ready(exposure, images, shape)
            except Exception as reason:
                yield from self._results(group, mean_for)
                group = _Group()
                yield reason
                continue
            shape = ready.integrator.shape
            if not group.takes(ready):
                yield from self._results(group, mean_for)
                group = _Group()
            group.add(ready)
        yield from self._results(group, mean_for)

    def reduce_one(self, exposure: Exposure, shape: tuple[int, int] | None = None) -> Reduced:
        """Integrate the images of one event.

        Raises
        ------
        FrameSkipped
            If it cannot be reduced; the message is the reason.
        azimuthal.errors.AzimuthalError
            Likewise.
        """
        (result,) = self.reduce([exposure], shape)
        if isinstance(result, Exception):
            raise result
        return result

    def integrator(self, positions: Mapping[str, float], shape: tuple[int, int]) -> Integrator:
        """Return the integrator for goniometer positions, built at first need."""
        if self._latest is None or self._latest[:2] != (positions, shape):
            self._latest = dict(positions), shape, self._integrator(self._recipe.geometry.at(positions, shape))
        return self._latest[2]

    def _integrator(self, geometry: Geometry) -> Integrator:
        if self._resolved is None or self._resolved[0] != geometry:
            self._resolved = geometry, self._bins.resolved(geometry)
        bins = self._resolved[1]
        if bins not in self._caches:
            self._caches[bins] = IntegratorCache(bins, byte_budget=self._byte_budget, **self._keywords)
        return self._caches[bins].integrator(geometry)

    def _read(self, exposures: Sequence[Exposure]) -> Iterator[NDArray[Any] | Exception]:
        """Yield the images of each exposure, or why there are none; those with a bad monitor are not even read."""
        reasons = [self._why_not(exposure.frame) for exposure in exposures]
        good = [exposure.frame.images for exposure, reason in zip(exposures, reasons, strict=True) if reason is None]
        read = self._reader.read(good)
        yield from (next(read) if reason is None else reason for reason in reasons)

    def _why_not(self, frame: Frame) -> FrameSkipped | None:
        try:
            self._monitors(frame)
        except FrameSkipped as reason:
            return reason
        return None

    def _made_ready(
        self, exposure: Exposure, images: NDArray[Any] | Exception, shape: tuple[int, int] | None
    ) -> _Ready:
        if isinstance(images, Exception):
            raise images
        frame = exposure.frame
        integrator = self.integrator(frame.positions, shape or images.shape[1:])
        if images.shape[1:] != integrator.shape:
            raise FrameSkipped(_wrong_shape(images.shape[1:], integrator))
        count = len(images)
        factors = _one_an_image(self._monitors(frame), count)
        if self._sums:
            images, factors = self._summed(images), (math.fsum(factors),)
        return _Ready(exposure, images, factors, integrator, count)

    def _results(self, group: _Group, mean_for: MeanFor | None = None) -> Iterator[Reduced | Exception]:
        """Yield what became of a group; where that fails, of each of it by itself."""
        try:
            results: list[Reduced | Exception] = list(self._together(group, mean_for)) if group.members else []
        except Exception as reason:
            if len(group.members) == 1 and mean_for is None:
                results = [reason]
            else:  # each by itself; what only the mean frame has against one costs no pattern
                results = [result for ready in group.members for result in self._results(_alone(ready))]
        yield from results

    def _together(self, group: _Group, mean_for: MeanFor | None) -> Iterator[Reduced]:
        first = group.members[0]
        given = self._given(first.exposure.dark, first.count, first.integrator.shape)
        patterns, means = self._integrate(group, given, mean_for)
        dark_uid = first.exposure.dark.uid if first.exposure.dark else ""
        stop = 0
        for ready in group.members:
            start, stop = stop, stop + len(ready.images)
            own = tuple(patterns[start:stop])
            yield Reduced(
                images=ready.images,
                monitors=ready.monitors,
                patterns=own,
                pattern=_of_event(own, self._recipe.integration.error_model),
                integrator=ready.integrator,
                given=given,
                count=ready.count,
                dark_uid=dark_uid,
                mean=means[stop - 1] if means else None,
            )

    def _integrate(
        self, group: _Group, given: dict[str, Any], mean_for: MeanFor | None
    ) -> tuple[list[Pattern], list[Pattern]]:
        """Return the pattern of each image and, if they were added to it, of the mean frame after each."""
        integrator, images = group.members[0].integrator, group.stack.images
        monitors = [monitor for ready in group.members for monitor in ready.monitors]
        if self._rule is not None:
            return outliers.apply(integrator, self._rule, images, **given, monitor=monitors), []
        if images.dtype.kind in "ui" and not given and mean_for is not None:
            mean = mean_for([ready.exposure.frame.seq_num for ready in group.members])
            if mean is not None:
                return mean.integrate(integrator, images, monitors, follow=True)
        return integrator.integrate(images, **given, monitor=monitors), []

    def _given(self, source: DarkSource | None, count: int, shape: tuple[int, int]) -> dict[str, Any]:
        """Return what the engine is given besides images and monitors."""
        dark = source.read() if source is not None else None
        if dark is not None and np.ndim(dark.values) and np.shape(dark.values) != shape:
            rows, columns = np.shape(dark.values)
            raise FrameSkipped(f"the dark has {rows}×{columns} pixels, the frame {shape[0]}×{shape[1]}")
        if not self._sums or count == 1:
            return dark.keywords() if dark is not None else {}
        return _for_sum(dark, count, self._recipe.integration.read_noise)

    def _summed(self, images: NDArray[Any]) -> NDArray[Any]:
        """Return the sum of images, (1, rows, columns) int64 or float64; no data in one is no data in the sum."""
        whole = images.dtype.kind in "bui" and images.dtype != np.uint64
        total = images.sum(axis=0, dtype=np.int64 if whole else np.float64)
        for image in images:
            total[self._no_data.where(image)] = SUM_NO_DATA
        return total[np.newaxis]

    def _monitors(self, frame: Frame) -> tuple[float, ...]:
        """Return what each image is divided by, or one factor for all."""
        if frame.monitor is None:
            return (1.0,)
        monitors = frame.monitors or (frame.monitor,)
        if all(LEAST_MONITOR < monitor < MOST_MONITOR for monitor in monitors):
            return monitors
        if self._recipe.corrections.bad_monitor == "unnormalised":
            return (1.0,)
        problem = frame.monitor_problem or self._wrong_with(monitors)
        raise FrameSkipped(f"{problem} (`bad_monitor: unnormalised` in the recipe keeps such frames)")

    def _wrong_with(self, monitors: tuple[float, ...]) -> str:
        source = self._recipe.corrections.monitor
        what = f"the monitor {key_of(source) or source!r}"
        if all(monitor > 0 for monitor in monitors):
            return f"{what} is beyond what sums can hold, {LEAST_MONITOR:g} to {MOST_MONITOR:g}"
        return f"{what} is not above 0"


def _of_event(patterns: tuple[Pattern, ...], error_model: ErrorModel) -> Pattern:
    """Return the union of an event's patterns; a lone one as it is, with what was computed of it already."""
    whole = patterns[0] if len(patterns) == 1 else union(patterns)
    return whole if whole.error_model == error_model else whole.with_errors(error_model)


def _one_an_image(monitors: tuple[float, ...], count: int) -> tuple[float, ...]:
    """Return a monitor for each of `count` images."""
    if len(monitors) == 1:
        return monitors * count
    if len(monitors) != count:
        raise FrameSkipped(f"{len(monitors)} monitor values came for {count} images")
    return monitors


def _alone(ready: _Ready) -> _Group:
    group = _Group()
    group.add(ready)
    return group


def _for_sum(dark: Dark | None, count: int, read_noise: float) -> dict[str, Any]:
    """Return what belongs to the sum of `count` images; the engine counts the read noise of one of them."""
    if dark is None and read_noise == 0.0:
        return {}
    total = dark.times(count) if dark is not None else Dark(0.0)
    variance = (0.0 if total.variance is None else total.variance) + (count - 1) * read_noise**2
    return replace(total, variance=variance).keywords()


def _wrong_shape(shape: tuple[int, ...], integrator: Integrator) -> str:
    rows, columns = (int(n) for n in np.atleast_1d(shape)[-2:])
    want = integrator.shape
    turned = " (rows and columns are swapped)" if (columns, rows) == want else ""
    name = integrator.geometry.detector.name
    return (
        f"the frame has {rows}×{columns} pixels, the detector {name} of the recipe's geometry {want[0]}×{want[1]}"
        f"{turned}; correct `frames` or the geometry file"
    )
