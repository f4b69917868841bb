"""Frames to patterns: read, find the geometry, check, integrate."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from azimuthal import Geometry, Integrator, IntegratorCache, Pattern, RadialBins, outliers, union
from bluesky_powder.errors import FrameSkipped
from bluesky_powder.frames import Frame
from bluesky_powder.recipe import Recipe


@dataclass(frozen=True)
class Reduced:
    """What became of one frame.

    Attributes
    ----------
    images
        As read, (k, rows, columns).
    patterns
        One an image.
    pattern
        Their union: the pattern of the event.
    integrator
        That made them; it has the geometry.
    monitor
        What they were normalized by; 1 where that was nothing.
    """

    images: NDArray[Any]
    patterns: tuple[Pattern, ...]
    pattern: Pattern
    integrator: Integrator
    monitor: float

    @property
    def geometry(self) -> Geometry:
        """Where the detector was."""
        return self.integrator.geometry


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
        self._caches: dict[RadialBins, IntegratorCache] = {}
        self.dark = recipe.dark()
        self._rule = recipe.outliers.rule(recipe.integration.error_model) if recipe.outliers else None

    def reduce(self, frame: Frame, shape: tuple[int, int] | None = None) -> Reduced:
        """Integrate the images of one event.

        Images that share an event share its positions and its monitor: each is normalized by it.

        Parameters
        ----------
        frame
            What the documents say.
        shape
            (rows, columns) that frames of this run have, where it is known from earlier ones.

        Raises
        ------
        FrameSkipped
            If it cannot be reduced; the message is the reason.
        azimuthal.errors.AzimuthalError
            Likewise.
        """
        monitor = self._monitor(frame)
        images = frame.images.read()
        integrator = self.integrator(frame.positions, shape or images.shape[1:])
        if images.shape[1:] != integrator.shape:
            raise FrameSkipped(_wrong_shape(images.shape[1:], integrator))
        patterns = tuple(self._integrate(integrator, images, monitor))
        pattern = union(patterns).with_errors(self._recipe.integration.error_model)
        return Reduced(images, patterns, pattern, integrator, monitor)

    def _integrate(self, integrator: Integrator, images: NDArray[Any], monitor: float) -> list[Pattern]:
        given: dict[str, Any] = {"dark": self.dark, "monitor": monitor}
        if self._rule is None:
            patterns: list[Pattern] = integrator.integrate(images, **given)
        else:
            patterns = outliers.apply(integrator, self._rule, images, **given)
        return patterns

    def integrator(self, positions: Mapping[str, float], shape: tuple[int, int]) -> Integrator:
        """Return the integrator for goniometer positions, built at first need."""
        geometry = self._recipe.geometry.at(positions, shape)
        bins = self._bins.resolved(geometry)
        if bins not in self._caches:
            self._caches[bins] = IntegratorCache(bins, byte_budget=self._byte_budget, **self._keywords)
        return self._caches[bins].integrator(geometry)

    def _monitor(self, frame: Frame) -> float:
        if frame.monitor is None:
            return 1.0
        if math.isfinite(frame.monitor) and frame.monitor > 0:
            return frame.monitor
        if self._recipe.corrections.bad_monitor == "unnormalised":
            return 1.0
        problem = frame.monitor_problem or f"the monitor {self._recipe.corrections.monitor!r} is not above 0"
        raise FrameSkipped(f"{problem} (`bad_monitor: unnormalised` in the recipe keeps such frames)")


def _wrong_shape(shape: tuple[int, ...], integrator: Integrator) -> str:
    rows, columns = (int(n) for n in np.atleast_1d(shape)[-2:])
    want = integrator.shape
    turned = " (rows and columns are swapped)" if (columns, rows) == want else ""
    name = integrator.geometry.detector.name
    return (
        f"the frame has {rows}×{columns} pixels, the detector {name} of the recipe's geometry {want[0]}×{want[1]}"
        f"{turned}; correct `frames` or the geometry file"
    )
