"""``bluesky-powder demo``: the whole way once, on a simulated beamline."""

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import unquote, urlsplit

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from bluesky_powder.cli._ending import told_to_end
from bluesky_powder.errors import BlueskyPowderError

if TYPE_CHECKING:
    from bluesky_powder.plot import FirstFrame
    from bluesky_powder.server import PowderServer
    from bluesky_powder.sim import Beamline

POSITIONS = (12.0, 18.0, 24.0, 30.0, 36.0, 42.0)
# Where the sample is left alone: there the mean frame does not get better, whatever the union says.
STILL_AT = (24.0, 36.0)
POSITION = "pos"
NPT = 2500
ARM_SPEED = 20.0
# Seconds that reducing, then storing, may lag behind the scan; a first run compiles the engine meanwhile.
PATIENCE = 300.0
_INTERRUPTED = 130

_HEADER = (
    "                each frame     union so far   mean frame so far",
    "frame   arm    plain excess    plain excess    plain excess  grade  sample",
)


class DemoError(BlueskyPowderError, RuntimeError):
    """The demonstration did not end as it should."""


def demo(
    frames: Annotated[int, typer.Option(min=1, help="How many frames, spread over six positions of the arm.")] = 30,
    directory: Annotated[Path, typer.Option(help="Where everything goes.")] = Path("bluesky-powder-demo"),
    keep_serving: Annotated[bool, typer.Option("--keep-serving", help="Serve the runs until Ctrl-C.")] = False,
    detector: Annotated[str, typer.Option(help="Any flat detector that is known by name.")] = "Eiger2 CdTe 1M",
) -> None:
    """Scan a simulated beamline, reduce it live, serve it, draw it.

    A spotty CeO2 powder, a detector on a two-theta arm, a RunEngine: frames go to HDF5, patterns and spottiness come
    out as documents while the scan runs, and Tiled serves both.
    """
    console = Console(highlight=False)
    directory = directory.expanduser().resolve()
    with ExitStack() as stack:
        stage = _set_up(console, stack, directory, detector)
        record = _scan(stage, frames)
        _summarize(stage, record)
        if keep_serving:
            _say_how_to_read(_lines_for_client(stage.server, record.uid), f"Served at {stage.server.uri}")
            ended = told_to_end()
            typer.echo("Ctrl-C ends it.")
            while stage.server.running and not ended.wait(1.0):
                pass
    if not keep_serving:
        _say_how_to_read(_lines_for_later(directory, record.uid), "The server has stopped; everything is on disk")
        typer.echo(f"or serve it to others: bluesky-powder serve --directory {directory}")


@dataclass
class _Stage:
    """What takes part in the demonstration."""

    console: Console
    directory: Path
    run_engine: Any
    beamline: "Beamline"
    server: "PowderServer"
    reduction: Any
    publisher: Any


@dataclass
class _Record:
    """What the derived documents said, column by column, and where the raw frames are."""

    on_frame: Callable[["_Record", int], None]
    uid: str = ""
    stop: dict[str, Any] = field(default_factory=dict)
    columns: dict[str, dict[str, list[Any]]] = field(default_factory=dict)
    raw_file: dict[str, Any] = field(default_factory=dict)
    _streams: dict[str, str] = field(default_factory=dict)

    def __call__(self, name: str, doc: dict[str, Any]) -> None:
        """Take a derived document."""
        if name == "start":
            self.uid = doc["uid"]
        elif name == "descriptor":
            self._streams[doc["uid"]] = doc["name"]
            self.columns[doc["name"]] = {key: [] for key in doc["data_keys"]}
        elif name == "event":
            stream = self._streams[doc["descriptor"]]
            for key, value in doc["data"].items():
                self.columns[stream][key].append(value)
            if stream == "cumulative":
                self.on_frame(self, doc["seq_num"])
        elif name == "stop":
            self.stop = doc

    def raw(self, name: str, doc: dict[str, Any]) -> None:
        """Take a raw document."""
        if name == "stream_resource":
            self.raw_file = doc

    def last(self, stream: str, key: str) -> Any:
        """Return the newest value of a column."""
        return self.columns[stream][key][-1]


def _set_up(console: Console, stack: ExitStack, directory: Path, detector: str) -> _Stage:
    console.print("starting a simulated beamline and a Tiled server")
    with console.status("loading"):
        from bluesky import RunEngine

        from bluesky_powder.publish import TiledPublisher
        from bluesky_powder.reduction import PowderReduction
        from bluesky_powder.server import PowderServer
        from bluesky_powder.sim import Beamline

        run_engine = RunEngine()
        beamline = Beamline(directory / "raw", detector=detector, arm_speed=ARM_SPEED)
        recipe = beamline.recipe(POSITIONS, npt=NPT)
    with console.status("starting the server"):
        server = stack.enter_context(PowderServer(directory, readable=[beamline.directory]))
    publisher = stack.enter_context(TiledPublisher(server.uri, api_key=server.api_key, spool=server.spool))
    reduction = stack.enter_context(PowderReduction(recipe))
    reduction.subscribe(publisher)
    run_engine.subscribe(publisher)
    run_engine.subscribe(reduction)
    console.print(f"simulated beamline: {beamline.geometry(0).detector.name} on an arm, coarse CeO2 powder")
    console.print(f"Tiled serves {directory} at {server.uri}", soft_wrap=True)
    return _Stage(console, directory, run_engine, beamline, server, reduction, publisher)


def _scan(stage: _Stage, frames: int) -> _Record:
    """Run the scan; a line is printed for each frame as soon as its derived events are there."""
    from bluesky_powder.sim import arm_scan

    numbers = [len(part) for part in np.array_split(np.arange(frames), len(POSITIONS))]
    visited = [(position, number) for position, number in zip(POSITIONS, numbers, strict=True) if number]
    positions, exposures = [p for p, _ in visited], [n for _, n in visited]
    bars = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*bars, console=stage.console, transient=True) as progress:
        taken = progress.add_task("frames taken", total=frames)
        reduced = progress.add_task("frames reduced (a first run compiles the engine)", total=frames)
        record = _Record(lambda record, seq_num: _print_frame(progress, reduced, record, seq_num))
        stage.reduction.subscribe(record)
        stage.run_engine.subscribe(lambda _name, _doc: progress.advance(taken), "event")
        stage.run_engine.subscribe(record.raw, "stream_resource")
        for line in _HEADER:
            progress.console.print(line, style="bold")
        _run(stage, arm_scan(stage.beamline, positions, exposures, still_at=STILL_AT))
        _wait(stage, record, progress)
    return record


def _run(stage: _Stage, plan: Any) -> None:
    """Run a plan; Ctrl-C aborts it in good order, so that what was taken is reduced and stored."""
    from bluesky.utils import RunEngineInterrupted

    try:
        stage.run_engine(plan)
    except RunEngineInterrupted:
        # Bluesky logs an abort with a traceback.
        logging.getLogger("bluesky").setLevel(logging.CRITICAL)
        stage.run_engine.abort("interrupted at the keyboard")
        typer.echo("interrupted; what was taken is being stored", err=True)
        raise typer.Exit(_INTERRUPTED) from None


def _print_frame(progress: Progress, task: TaskID, record: _Record, seq_num: int) -> None:
    from azimuthal import grade

    position = record.last("primary", POSITION)
    each = [record.last("primary", key) for key in ("spottiness", "spottiness_excess")]
    so_far = [
        record.last("cumulative", f"{kind}_{key}")
        for kind in ("union", "mean_frame")
        for key in ("spottiness", "spottiness_excess")
    ]
    sample = "still" if position in STILL_AT else "fresh"
    numbers = "   ".join(f"{plain:.4f} {excess:.4f}" for plain, excess in (each, so_far[:2], so_far[2:]))
    progress.console.print(f"{seq_num:5d}  {position:3.0f}°   {numbers}  {grade(so_far[3]):6s} {sample}")
    progress.advance(task)


def _wait(stage: _Stage, record: _Record, progress: Progress) -> None:
    """Wait until everything is reduced and stored; say so if that fails."""
    deadline = time.monotonic() + PATIENCE
    if not stage.reduction.wait(PATIENCE):
        raise DemoError(f"the reduction is not done {PATIENCE:.0f} s after the scan")
    if record.stop.get("exit_status") != "success" or record.stop.get("frames_skipped"):
        raise DemoError(f"the reduction failed: {record.stop.get('reason') or 'no stop document came'}")
    publisher = stage.publisher
    pending = publisher.pending
    progress.console.print(f"\nall reduced; Tiled has {pending} documents still to write")
    stored = progress.add_task("documents stored", total=pending)
    while not publisher.wait(0.5):
        progress.update(stored, completed=pending - publisher.pending)
        if time.monotonic() > deadline:
            raise DemoError(f"Tiled has not taken everything {PATIENCE:.0f} s after the scan")
    if publisher.failures:
        raise DemoError(f"Tiled did not take everything: {publisher.failures[0]}")


def _summarize(stage: _Stage, record: _Record) -> None:
    """Say what the merged pattern is, draw the run, write the pattern."""
    from azimuthal.files import write_xye_columns

    radial = np.asarray(record.last("axes", "radial"))
    intensity = np.asarray(record.last("merged", "intensity"))
    filled = np.isfinite(intensity)
    number = record.last("cumulative", "frames")
    independent, reason = record.last("cumulative", "independent_frames"), record.last("cumulative", "reason")
    known = f"{independent:.1f} of {number}" if np.isfinite(independent) else reason
    say = stage.console.print
    say(
        f"merged pattern: {radial[filled][0]:.2f} to {radial[filled][-1]:.2f}° of 2θ, {filled.sum()} of {filled.size}"
        f" bins filled, {record.last('merged', 'geometries')} geometries"
    )
    say(f"independent frames: {known} (positions overlap in part, and at some the sample stood still)")
    with stage.console.status("drawing"):
        picture = stage.directory / "demo.png"
        _draw(stage, record).savefig(picture)
    pattern = stage.directory / "demo.xye"
    comments = ["CeO2, simulated", f"derived run {record.uid}", "azimuthal standard errors"]
    write_xye_columns(pattern, radial, intensity, record.last("merged", "sem"), comments)
    say(f"picture: {picture}\npattern: {pattern}", soft_wrap=True)


def _draw(stage: _Stage, record: _Record) -> Any:
    from bluesky_powder.plot import run_figure

    return run_figure(
        record.columns,
        unit="2th_deg",
        position=POSITION,
        position_label="arm",
        position_units="°",
        intensity_units="counts / sr / i0",
        first_frame=_first_frame(stage.beamline, record),
        still=STILL_AT,
    )


def _first_frame(beamline: "Beamline", record: _Record) -> "FirstFrame":
    import h5py
    import hdf5plugin  # noqa: F401 - registers the filter that frames are compressed with

    from bluesky_powder.plot import FirstFrame

    position = record.columns["primary"][POSITION][0]
    geometry = beamline.geometry(position)
    path = unquote(urlsplit(record.raw_file["uri"]).path)
    with h5py.File(path, "r", swmr=True, libver="latest") as file:
        counts = file[record.raw_file["parameters"]["dataset"]][0]
    two_theta = np.rad2deg(geometry.two_theta())
    return FirstFrame(counts, geometry.detector.mask, two_theta, f"first frame: CeO₂, arm at {position:g}°")


def _lines_for_client(server: "PowderServer", uid: str) -> Sequence[str]:
    return (
        "from tiled.client import from_uri",
        f'run = from_uri("{server.uri}", api_key="{server.api_key}")["{uid}"]',
        'print(run["primary"].read())',
    )


def _lines_for_later(directory: Path, uid: str) -> Sequence[str]:
    return (
        "from bluesky_powder.server import PowderServer",
        f"with PowderServer({str(directory)!r}) as server:",
        f'    print(server.client()["{uid}"]["primary"].read())',
    )


def _say_how_to_read(lines: Sequence[str], where: str) -> None:
    typer.echo(f"\n{where}. Three lines of Python read the derived run:\n")
    for line in lines:
        typer.echo(f"    {line}")
    typer.echo()
