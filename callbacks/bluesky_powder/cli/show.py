"""``bluesky-powder show``: a derived run's spottiness table, and its plot."""

import math
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from bluesky_powder.cli import _table
from bluesky_powder.cli._catalog import DirectoryOption, KeyOption, TiledOption, open_catalog
from bluesky_powder.errors import DerivedRunError

_STREAMS = ("axes", "primary", "cumulative", "merged")


def show(
    uid: Annotated[str, typer.Argument(help="Of the derived run, of its raw run, or the beginning of either.")],
    directory: DirectoryOption = None,
    tiled: TiledOption = None,
    api_key: KeyOption = None,
    plot: Annotated[
        Path | None, typer.Option(help="Where to save the plot (.png, .pdf, .svg); powder-UID.png unless given.")
    ] = None,
) -> None:
    """Print a derived run's spottiness table and save its plot."""
    from bluesky_powder.client import find, spottiness

    console = Console(highlight=False)
    with open_catalog(directory, tiled, api_key, there=True) as catalog:
        run = find(catalog.client, uid)
        _print_heading(run, console)
        table = spottiness(run)
        for line in _table.header(table.positions):
            console.print(line, style="bold", soft_wrap=True)
        for index, seq_num in enumerate(table.seq_num):
            values = {name: column[index] for name, column in table.columns.items()}
            console.print(_table.row(int(seq_num), values, table.positions), soft_wrap=True)
        _print_verdict(table, console)
        path = plot or Path(f"powder-{_start(run)['uid'][:8]}.png")
        _draw(run, table.positions, path)
    console.print(f"plot: {path}", soft_wrap=True)


def _start(run: Any) -> dict[str, Any]:
    return dict(run.metadata["start"])


def _print_heading(run: Any, console: Console) -> None:
    start, stop = _start(run), run.metadata.get("stop")
    when = datetime.fromtimestamp(start["time"]).astimezone().isoformat(" ", "seconds")
    console.print(f"derived run  {start['uid']}\nraw run      {start['raw_uid']}", soft_wrap=True)
    sample = start.get("sample")
    console.print(f"{when}{f', {sample}' if sample else ''}", soft_wrap=True)
    if not stop:
        console.print("the run is still open", style="yellow")
    elif stop.get("reason") or stop.get("exit_status") != "success":
        console.print(f"{stop.get('exit_status')}: {stop.get('reason')}", style="yellow", soft_wrap=True)
    console.print()


def _print_verdict(table: Any, console: Console) -> None:
    from azimuthal import grade

    if not len(table):
        raise DerivedRunError("the run has no frames (yet)")
    plain = float(table.columns["mean_frame_spottiness"][-1])
    excess = float(table.columns["mean_frame_spottiness_excess"][-1])
    independent = float(table.columns["independent_frames"][-1])
    if math.isnan(plain):
        union, frames = (table.columns[name][-1] for name in ("union_spottiness", "frames"))
        # Where the union has a number, or no row has come yet, it is the mean frame that is missing.
        console.print(f"\nmean frame: {'no ring saw counts' if math.isnan(union) and frames >= 1 else 'unknown'}")
    else:
        console.print(f"\nmean frame: {grade(plain)}, S = {plain:#.5g}, {excess:#.5g} in excess of counting statistics")
    if math.isfinite(independent):
        # Of images, of which an event may have several.
        console.print(f"independent frames: {independent:.1f} of {int(table.columns['frames'][-1])}")
    else:
        reason = table.columns["reason"][-1] if "reason" in table.columns else ""
        console.print(f"independent frames: unknown{f', {reason}' if reason else ''}", soft_wrap=True)


def _draw(run: Any, positions: tuple[str, ...], path: Path) -> None:
    from bluesky_powder.client import columns
    from bluesky_powder.client.read import unit_of
    from bluesky_powder.plot import run_figure

    streams = {name: columns(run, name) for name in _STREAMS}
    start = _start(run)
    title = f"{start.get('sample') or 'powder run'}, {start['uid'][:8]}"
    position = positions[0] if positions else None
    intensity = run["primary"].metadata["data_keys"]["intensity"].get("units") or "arb. units"
    figure = run_figure(streams, unit=unit_of(run), position=position, title=str(title), intensity_units=intensity)
    try:
        figure.savefig(path)
    except ValueError as error:
        raise DerivedRunError(f"the plot cannot be saved as {path}: {error}") from error
