"""How spotty is my powder, and did rotating or moving the sample help? ESRF's "spotty powder data" tutorial in one go.

    python spotty_tutorial.py eiger_0000.h5 --poni detector.poni

Reads the first frames of an HDF5 file one by one and draws one picture: the averaged frame, its pattern with and
without the spots, how spotty every single frame is, and how spottiness falls as frames add up.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401 - lets h5py read bitshuffle-LZ4
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from rich.console import Console
from rich.progress import track
from rich.table import Table

import azimuthal as az

Patterns = list[az.Pattern]
BLACK, BLUE, RED, GREY = "#000000", "#0072B2", "#D55E00", "#7F7F7F"


def find_frames(file: h5py.File, shape: tuple[int, int]) -> h5py.Dataset:
    """Return the largest dataset (frames, rows, columns) of the detector's shape; every beamline names it otherwise."""
    found = []
    file.visititems(lambda _, item: found.append(item) if getattr(item, "shape", ())[1:] == shape else None)
    if not found:
        raise SystemExit(f"{file.filename}: no frames of {shape[0]} x {shape[1]} pixels, which the PONI file asks for")
    return max(found, key=lambda dataset: dataset.size)


def reduce_frames(
    dataset: h5py.Dataset, count: int, integrator: az.Integrator, dummy: int
) -> tuple[np.ndarray, Patterns, Patterns, Patterns]:
    """Return the averaged frame, and frame by frame: its pattern, all patterns merged, the mean frame's pattern."""
    total, seen = np.zeros(integrator.shape), np.zeros(integrator.shape)
    single, merged, mean_frame = [], [], []
    with az.MeanFrames() as mean:
        for number in track(range(count), "integrating"):
            frame = dataset[number]
            single.append(integrator.integrate(frame))
            merged.append(merged[-1] | single[-1] if merged else single[-1])
            mean.add(integrator, frame)
            mean_frame.append(mean.pattern)
            total += np.where(frame == dummy, 0, frame)
            seen += frame != dummy
    average = np.divide(total, seen, out=np.full(total.shape, np.nan), where=seen > 0)
    return average, single, merged, mean_frame


def draw_average(panel: Axes, average: np.ndarray, detector: az.Detector) -> None:
    """Draw the averaged frame as the sample sees it."""
    height, width = average.shape[0] * detector.pixel1 * 1e3, average.shape[1] * detector.pixel2 * 1e3
    low, high = np.nanpercentile(average, (2, 99.9))
    norm = LogNorm(max(low, 1e-4 * high), high, clip=True)
    image = panel.imshow(average, norm=norm, extent=(0, width, 0, height), origin="lower", cmap="magma")
    panel.set_facecolor("#B8C4CC")  # where nothing was ever measured
    panel.set(xlabel="x (mm)", ylabel="y (mm)")
    panel.set_title("(a) averaged frame", loc="left", fontsize=10)
    panel.figure.colorbar(image, ax=panel, label="counts per pixel and frame", shrink=0.85)


def draw_outliers(panel: Axes, patterns: dict[str, az.Pattern]) -> None:
    """Draw the averaged frame's pattern with and without outliers."""
    for (name, pattern), colour in zip(patterns.items(), (BLACK, BLUE, RED), strict=True):
        panel.plot(pattern.radial, pattern.intensity, color=colour, lw=0.8, label=name)
    panel.set(yscale="log", xlabel=az.radial_unit(pattern.unit).label, ylabel="intensity (counts per pixel and frame)")
    panel.margins(x=0.01)
    panel.set_title("(b) its pattern, with the spots and without", loc="left", fontsize=10)
    panel.legend(frameon=False)


def draw_series(panel: Axes, single: Patterns) -> None:
    """Draw the spottiness of every frame."""
    number = np.arange(1, len(single) + 1)
    plain, excess = (np.array([pattern.spottiness(excess=kind) for pattern in single]) for kind in (False, True))
    error = np.array([pattern.spottiness_error() for pattern in single]) / np.maximum(2 * excess, 1e-9)
    panel.plot(number, plain, ".-", color=BLACK, lw=0.8, label="plain")
    panel.plot(number, excess, ".-", color=BLUE, lw=0.8, label="excess over counting noise, ± its error")
    panel.fill_between(number, np.maximum(excess - error, 0), excess + error, color=BLUE, alpha=0.2, lw=0)
    top = 1.3 * np.nanmax(plain)
    for low, high, grade in ((0, 0.05, "smooth"), (0.05, 0.15, "mild"), (0.15, np.inf, "strong")):
        if low < 0.9 * top:
            panel.axhline(low, color=GREY, lw=0.8, ls=":")
            place = {"transform": panel.get_yaxis_transform(), "rotation": 90, "va": "center"}
            panel.text(1.01, (low + min(high, top)) / 2, grade, color=GREY, **place)
    panel.set(xlabel="frame", ylabel="spottiness", ylim=(0, top))
    panel.xaxis.get_major_locator().set_params(integer=True)
    panel.set_title("(c) frame by frame", loc="left", fontsize=10)
    panel.legend(frameon=False, ncols=2)


def draw_accumulation(panel: Axes, merged: Patterns, mean_frame: Patterns, independent: float) -> None:
    """Draw how spottiness falls: 1/sqrt(N) when every frame shows fresh grains, not at all when none does."""
    number = np.arange(1, len(merged) + 1)
    averaged, excess = ([pattern.spottiness(excess=kind) for pattern in mean_frame] for kind in (False, True))
    union = [pattern.spottiness() for pattern in merged]
    panel.loglog(number, averaged, ".-", color=RED, lw=0.8, label="frames averaged: spots that stay, stay")
    panel.loglog(number, excess, ".-", color=BLUE, lw=0.8, label="frames averaged, excess")
    panel.loglog(number, union, ".-", color=BLACK, lw=0.8, label="patterns merged")
    panel.loglog(number, union[0] / np.sqrt(number), "--", color=GREY, label=r"$1/\sqrt{N}$")
    for axis, ticks in ((panel.xaxis, (1, 2, 5)), (panel.yaxis, (1, 2, 3, 5, 7))):
        axis.set_major_locator(LogLocator(subs=ticks))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(NullFormatter())
    bottom = min(value for value in (*union, *excess) if value > 0)
    panel.set(xlabel="number of frames, $N$", ylabel="spottiness", ylim=(0.4 * bottom, None))  # room for the legend
    found = f": {len(merged)} count as {independent:.1f} independent ones" if independent > 0 else ""
    panel.set_title(f"(d) frames added up{found}", loc="left", fontsize=10)
    panel.legend(frameon=False, loc="lower left", fontsize=9)


def main(arguments: Sequence[str] | None = None) -> None:
    """Reduce, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="HDF5 file with the frames")
    parser.add_argument("--poni", type=Path, required=True, help="geometry of the detector, as pyFAI writes it")
    parser.add_argument("--npt", type=int, default=2000, help="radial bins (2000)")
    parser.add_argument("--dummy", type=int, default=65535, help="counts that stand for no data (65535)")
    parser.add_argument("--frames", type=int, default=200, help="how many frames, from the first (200)")
    parser.add_argument("--output", type=Path, default="spotty.png", help="the picture (spotty.png)")
    options = parser.parse_args(arguments)

    geometry = az.Geometry.from_poni(options.poni)
    integrator = az.Integrator(geometry, az.RadialBins("2th_deg", options.npt), splitting="no", dummy=options.dummy)
    with h5py.File(options.file) as file:
        dataset = find_frames(file, geometry.shape)
        count = min(options.frames, len(dataset))
        average, single, merged, mean_frame = reduce_frames(dataset, count, integrator, options.dummy)
    clipped, median = integrator.sigma_clip(average, threshold=3.0), integrator.median(average)
    independent = az.independent_frames(single, mean_frame[-1])

    table = Table("", "spottiness", "excess", "grade")
    for name, p in (("first frame", single[0]), ("averaged frame", mean_frame[-1]), ("merged patterns", merged[-1])):
        table.add_row(name, f"{p.spottiness():.5f}", f"{p.spottiness(excess=True):.5f}", p.grade or "no rings")
    console = Console()
    console.print(table)
    if independent > 0:
        console.print(f"{count} frames count as {independent:.2f} independent ones")

    figure = Figure(figsize=(11, 8), dpi=150)
    figure.set_layout_engine("constrained", w_pad=0.08, h_pad=0.06)
    figure.suptitle(f"{options.file.name}: the first {count} frames", fontsize=11)
    upper, lower = figure.subfigures(2, 1)
    panels = [*upper.subplots(1, 2, width_ratios=(1, 1.7)), *lower.subplots(1, 2, width_ratios=(1.25, 1))]
    draw_average(panels[0], average, geometry.detector)
    draw_outliers(panels[1], {"plain": mean_frame[-1], "sigma-clipped": clipped, "median": median})
    draw_series(panels[2], single)
    draw_accumulation(panels[3], merged, mean_frame, independent)
    figure.savefig(options.output)
    console.print(f"picture: {options.output}", soft_wrap=True)


if __name__ == "__main__":
    main()
