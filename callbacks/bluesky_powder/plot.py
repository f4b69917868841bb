"""Figures of a derived run: patterns, their merge, and how spottiness falls. matplotlib is imported when one is made.

Everything comes from the run's own arrays, so a stored run draws as a live one does. Figures are plain
:class:`matplotlib.figure.Figure` objects: nothing is shown, no global state is touched, no display is needed.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from azimuthal.units import radial_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

Floats = npt.NDArray[np.float64]
Columns = Mapping[str, Any]

# Okabe and Ito's palette, safe for the colour-blind.
_BLACK, _DARK, _GREY = "#000000", "#555555", "#7F7F7F"
_BLUE, _SKY, _VERMILLION = "#0072B2", "#56B4E9", "#D55E00"
_GRADES = ((0.0, 0.05, "smooth"), (0.05, 0.15, "mild"), (0.15, np.inf, "strong"))
_GRADE_SHADES = ("#FFFFFF", "#F1F1F1", "#E2E2E2")
_GAP = "#B8C4CC"
# More positions than this are drawn as a map, fewer as lines.
_MOST_LINES = 12
_MAP_COLUMNS = 1000
_SHIFT = 0.6
_INSET_BINS = 36


@dataclass(frozen=True)
class FirstFrame:
    """The frame that a figure opens with.

    Attributes
    ----------
    counts
        (rows, columns).
    gaps
        True where there is no pixel.
    two_theta
        Scattering angle of each pixel, degrees; some of its contours are drawn.
    caption
        What it is.
    """

    counts: npt.NDArray[Any]
    gaps: npt.NDArray[np.bool_]
    two_theta: Floats
    caption: str


def run_figure(
    streams: Mapping[str, Columns],
    *,
    unit: str,
    position: str | None = None,
    position_label: str | None = None,
    position_units: str = "",
    intensity_units: str = "arb. units",
    title: str = "",
    first_frame: FirstFrame | None = None,
    still: Collection[float] = (),
) -> Figure:
    """Draw a derived run.

    Parameters
    ----------
    streams
        The run's streams by name (`axes`, `primary`, `cumulative`, `merged`), each a mapping of data keys to arrays
        with one entry per event: ``{name: run[name].read() for name in ...}``, or columns made of event documents.
    unit
        Name of the radial unit, such as ``"2th_deg"``.
    position
        Data key of `primary` by which frames are grouped; None takes them as one group.
    position_label, position_units
        What to call it, and its units.
    intensity_units
        Units of the merged pattern.
    title
        Above all.
    first_frame
        Shown first when given.
    still
        Positions at which the sample is known not to have moved; marked as such.

    Returns
    -------
    matplotlib.figure.Figure
        To be saved with ``savefig``; 10 inches wide.
    """
    from matplotlib.figure import Figure

    radial = _one(streams["axes"]["radial"])
    label = radial_unit(unit).label
    groups = _Groups(streams["primary"], position, position_label or position or "", position_units, tuple(still))
    figure = Figure(figsize=(10, 8), dpi=150, layout="constrained")
    rows: Any = figure.subfigures(2, 1, hspace=0.02)
    upper, lower = rows
    panels = [upper.subplots()] if first_frame is None else list(upper.subplots(1, 2, width_ratios=(0.86, 1)))
    if first_frame is not None:
        _draw_frame(panels[0], first_frame)
    _draw_patterns(panels[-1], radial, groups, label)
    merged, spots = lower.subfigures(1, 2, wspace=0.02)
    panels.append(_draw_merged(merged, radial, streams["merged"], label, intensity_units))
    panels.append(spots.subplots())
    _draw_spottiness(panels[-1], groups, streams["cumulative"])
    _add_letters(panels)
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


class _Groups:
    """The frames of a run by position, in the order in which positions came."""

    def __init__(self, primary: Columns, position: str | None, name: str, units: str, still: Sequence[float]) -> None:
        self.primary = primary
        self.position = position
        self.name = name
        self.intensity = np.asarray(primary["intensity"], dtype=np.float64)
        number = len(self.intensity)
        self.values = np.zeros(number) if position is None else _column(primary, position)
        self.places = list(dict.fromkeys(self.values.tolist()))
        self._units = units
        self._still = still

    def label(self, place: float) -> str:
        """Return a position with its units; without a position there is nothing to say."""
        return "" if self.position is None else f"{place:g}{self._units}"

    def is_still(self, place: float) -> bool:
        """Return whether the sample stayed where it was."""
        return place in self._still

    def visits(self) -> list[tuple[int, int, float]]:
        """Return (first frame, last frame, position), counted from 1, of each stay at a position."""
        changes = np.flatnonzero(np.diff(self.values)) + 1
        starts = [0, *changes.tolist()]
        return [
            (begin + 1, end, float(self.values[begin]))
            for begin, end in zip(starts, [*starts[1:], len(self.values)], strict=True)
        ]


def _draw_frame(axes: Axes, frame: FirstFrame) -> None:
    from matplotlib import colormaps
    from matplotlib.colors import LogNorm

    counts = np.ma.array(frame.counts.astype(np.float64), mask=frame.gaps)
    top = max(float(np.percentile(counts.compressed(), 99.97)), 5.0)
    # Half a count of offset keeps pixels without counts on the logarithmic scale.
    colours = colormaps["inferno"].with_extremes(bad=_GAP)
    image = axes.imshow(counts + 0.5, norm=LogNorm(0.5, top), cmap=colours, origin="lower")
    bar = axes.figure.colorbar(image, ax=axes, pad=0.015, fraction=0.05, aspect=32)
    bar.set_label("counts + ½", fontsize=9)
    bar.ax.tick_params(labelsize=9)
    _draw_contours(axes, frame.two_theta)
    _name(axes, frame.caption, "column (pixel)", "row (pixel)")


def _draw_contours(axes: Axes, two_theta: Floats) -> None:
    """Draw some round angles, labelled where they cross a column well inside the frame."""
    low, high = two_theta.min(), two_theta.max()
    step = _round_step((high - low) / 5)
    column = int(0.8 * two_theta.shape[1])
    along = two_theta[:, column]
    levels, places = [], []
    for level in np.arange(math.ceil(low / step) * step, high, step):
        row = int(np.argmin(np.abs(along - level)))
        if 0 < row < len(along) - 1:
            levels.append(level)
            places.append((column, row))
    if levels:
        lines = axes.contour(two_theta, levels, colors="white", linewidths=0.6, linestyles="dotted")
        axes.clabel(lines, fmt=lambda angle: f"{angle:g}°", fontsize=8.5, manual=places)


def _round_step(rough: float) -> float:
    """Return the first of 1, 2, 5, 10 ... (and 0.5, 0.2 ...) that is not below a rough step."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)


def _draw_patterns(axes: Axes, radial: Floats, groups: _Groups, label: str) -> None:
    if len(groups.places) > _MOST_LINES or (len(groups.places) == 1 and len(groups.intensity) > 1):
        _draw_map(axes, radial, groups.intensity, label)
        return
    from matplotlib import colormaps

    colours = colormaps["viridis"](np.linspace(0.0, 0.85, len(groups.places)))
    means = [_nanmean(groups.intensity[groups.values == place]) for place in groups.places]
    finite = np.concatenate([mean[np.isfinite(mean)] for mean in means])
    scale = np.percentile(finite, 99.7) if finite.size else 1.0
    for level, (place, mean, colour) in enumerate(zip(groups.places, means, colours, strict=True)):
        height = np.sqrt(np.clip(mean / scale, 0, None)) + _SHIFT * level
        axes.plot(radial, height, color=colour, linewidth=0.8)
        seen = np.flatnonzero(np.isfinite(mean))
        if seen.size:
            # At the level of what is typical at the end, not on top of a ring that happens to be there.
            end = np.median(height[seen[-max(seen.size // 10, 1) :]])
            _say(axes, groups.label(place), (radial[seen[-1]], end), (4, 0), color=colour, va="center")
    axes.set_yticks([])
    axes.margins(x=0.07, y=0.03)
    _name(
        axes,
        f"patterns by {groups.name}" if groups.position else "pattern",
        label,
        "√ intensity, shifted (arb. units)",
    )


def _draw_map(axes: Axes, radial: Floats, intensity: Floats, label: str) -> None:
    from matplotlib import colormaps

    finite = intensity[np.isfinite(intensity)]
    top = np.percentile(finite, 99.5) if finite.size else 1.0
    extent = (float(radial[0]), float(radial[-1]), 0.5, len(intensity) + 0.5)
    # No more columns than there is room for, each with the highest of its bins: thin rings stay to be seen.
    columns = np.arange(0, intensity.shape[1], -(-intensity.shape[1] // _MAP_COLUMNS))
    highest = np.fmax.reduceat(intensity, columns, axis=1)
    shown = np.ma.masked_invalid(np.sqrt(np.clip(highest / top, 0, None)))
    colours = colormaps["inferno"].with_extremes(bad=_GAP)
    image = axes.imshow(
        shown, cmap=colours, vmin=0, vmax=1, aspect="auto", interpolation="nearest", origin="lower", extent=extent
    )
    bar = axes.figure.colorbar(image, ax=axes, pad=0.01)
    bar.set_label("√ intensity (arb. units)", fontsize=9)
    bar.ax.tick_params(labelsize=9)
    _name(axes, "patterns, frame by frame", label, "frame number")


def _draw_merged(figure: SubFigure, radial: Floats, merged: Columns, label: str, units: str) -> Axes:
    """Draw the pattern, logarithmic, over its relative error; return the upper panel."""
    intensity = np.asarray(merged["intensity"], dtype=np.float64)[-1]
    sem = np.asarray(merged["sem"], dtype=np.float64)[-1]
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3.2, 1))
    _draw_band(upper, radial, intensity, sem)
    positive = intensity[intensity > 0]
    if positive.size:
        upper.set_yscale("log")
        # Room above for the inset.
        upper.set_ylim(0.7 * np.percentile(positive, 0.5), 12 * positive.max())
        _draw_inset(upper, radial, intensity, sem)
    with np.errstate(divide="ignore", invalid="ignore"):
        percent = 100 * sem / intensity
    lower.plot(radial, percent, color=_BLUE, linewidth=0.7)
    finite = percent[np.isfinite(percent)]
    # The outermost bins hold a few corner pixels; they would flatten everything else.
    lower.set_ylim(0, 1.3 * np.percentile(finite, 99) if finite.size else 1)
    upper.margins(x=0.01)
    _name(upper, "merged pattern", "", f"intensity ({units})")
    _name(lower, "", label, "sem (%)")
    return upper


def _draw_band(axes: Axes, radial: Floats, intensity: Floats, sem: Floats) -> None:
    axes.fill_between(radial, intensity - sem, intensity + sem, color=_SKY, alpha=0.6, linewidth=0)
    axes.plot(radial, intensity, color=_BLUE, linewidth=0.8)


def _draw_inset(axes: Axes, radial: Floats, intensity: Floats, sem: Floats) -> None:
    """Show the least certain clear ring from near by: there the error band can be seen."""
    margin = max(len(radial) // 10, _INSET_BINS // 2)
    if len(radial) < 2 * margin + _INSET_BINS:
        return
    level, error = np.nan_to_num(intensity), np.nan_to_num(sem)
    inner = np.arange(margin, len(radial) - margin)
    rings = inner[(level[inner] > level[inner - 1]) & (level[inner] >= level[inner + 1])]
    rings = rings[level[rings] > 3 * np.median(level[inner])]
    if not rings.size:
        return
    peak = int(rings[np.argmax(error[rings] / level[rings])])
    near = slice(peak - _INSET_BINS // 2, peak + _INSET_BINS // 2 + 1)
    inset = axes.inset_axes((0.52, 0.6, 0.45, 0.36))
    _draw_band(inset, radial[near], intensity[near], sem[near])
    inset.set_xlim(radial[near][0], radial[near][-1])
    inset.set_ylim(0, 1.25 * level[peak])
    inset.tick_params(labelsize=8)
    inset.locator_params(axis="x", nbins=4)
    inset.set_yticks([])
    _say(inset, "± sem", (1, 1), (-4, -4), coordinates="axes fraction", color=_BLUE, ha="right", va="top")


def _draw_spottiness(axes: Axes, groups: _Groups, cumulative: Columns) -> None:
    plain, excess = _column(groups.primary, "spottiness"), _column(groups.primary, "spottiness_excess")
    union = _column(cumulative, "union_spottiness_excess")
    mean_frame = _column(cumulative, "mean_frame_spottiness_excess")
    number = np.arange(1, len(excess) + 1)
    guide = next((value for value in excess if value > 0), np.nan) / np.sqrt(number)
    axes.set_yscale("log")
    axes.plot(number, plain, "o", markersize=4, markerfacecolor="none", color=_GREY, label="each frame, plain")
    axes.plot(number, excess, "o", markersize=4, color=_GREY, label="each frame, excess")
    axes.plot(number, mean_frame, "-", color=_BLUE, linewidth=1.8, label="mean frames so far, excess")
    axes.plot(number, union, "-", color=_VERMILLION, linewidth=1.8, label="union so far, excess")
    axes.plot(number, guide, "--", color=_BLACK, linewidth=1, label="first frame / √N")
    values = np.concatenate([plain, excess, union, mean_frame, guide])
    values = values[np.isfinite(values) & (values > 0)]
    if values.size:
        axes.set_ylim(0.8 * values.min(), 2.6 * values.max())
    axes.set_xlim(0.4, len(number) + 0.6)
    _draw_grades(axes)
    _draw_visits(axes, groups)
    _plain_log_ticks(axes)
    axes.legend(
        fontsize=8.5,
        frameon=False,
        loc="upper center",
        bbox_to_anchor=(0.48, -0.16),
        ncols=3,
        handlelength=1.5,
        columnspacing=1.2,
    )
    still = "; still: sample not moved" if any(map(groups.is_still, groups.places)) else ""
    _name(axes, f"spottiness{still}", "frame number N", "spottiness (relative)")


def _draw_grades(axes: Axes) -> None:
    low, high = axes.get_ylim()
    for (begin, end, name), shade in zip(_GRADES, _GRADE_SHADES, strict=True):
        bottom, top = max(begin, low), min(end, high)
        if bottom < top:
            axes.axhspan(bottom, top, color=shade, linewidth=0, zorder=0)
            middle = math.sqrt(bottom * top)
            where = ("axes fraction", "data")
            _say(axes, name, (1.0, middle), (4, 0), coordinates=where, color=_DARK, va="center", rotation=270)


def _draw_visits(axes: Axes, groups: _Groups) -> None:
    """Mark where the position changes, and say above the frames which it was."""
    if groups.position is None:
        return
    visits = groups.visits()
    for first, last, place in visits:
        if first > 1:
            axes.axvline(first - 0.5, color="white", linewidth=1.2, zorder=1)
        if len(visits) <= _MOST_LINES:
            text = groups.label(place) + ("\nstill" if groups.is_still(place) else "")
            middle = (first + last) / 2
            _say(axes, text, (middle, 1.0), (0, -3), coordinates=("data", "axes fraction"), ha="center", va="top")


def _plain_log_ticks(axes: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _add_letters(panels: Sequence[Axes]) -> None:
    for letter, axes in zip("abcd", panels, strict=False):
        axes.set_title(f"{letter}   {axes.get_title(loc='left')}", fontsize=10, loc="left")


def _say(
    axes: Axes,
    text: str,
    where: tuple[float, float],
    offset: tuple[float, float],
    coordinates: Any = "data",
    **style: Any,
) -> None:
    """Write a small remark, some points away from a place."""
    axes.annotate(text, where, offset, xycoords=coordinates, textcoords="offset points", fontsize=8.5, **style)


def _name(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_xlabel(x, fontsize=10)
    axes.set_ylabel(y, fontsize=10)
    axes.tick_params(labelsize=9)


def _one(column: Any) -> Floats:
    """Return the array of a stream with one event, with or without the leading axis of events."""
    array = np.asarray(column, dtype=np.float64)
    return array[-1] if array.ndim > 1 else array


def _column(columns: Columns, key: str) -> Floats:
    return np.asarray(columns[key], dtype=np.float64).ravel()


def _nanmean(rows: Floats) -> Floats:
    """Return the mean of the finite values of each column, NaN where there is none; never a warning."""
    finite = np.isfinite(rows)
    number = finite.sum(axis=0)
    total = np.where(finite, rows, 0.0).sum(axis=0)
    return np.divide(total, number, out=np.full(rows.shape[1], np.nan), where=number > 0)
