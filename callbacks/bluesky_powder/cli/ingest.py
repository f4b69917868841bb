"""``bluesky-powder ingest``: files that are there already become a raw run and, on the way, a derived one."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bluesky_powder.cli import _table
from bluesky_powder.cli._catalog import Catalog, DirectoryOption, KeyOption, TiledOption, open_catalog
from bluesky_powder.errors import IngestError, PublishError

# Seconds without a single document taken after which Tiled is thought to be stuck.
_STUCK = 120.0
_RAW_BATCH = 10_000


def ingest(
    files: Annotated[
        list[str], typer.Argument(help="TIFF files of one frame each, or HDF5 files (file.h5::/path/in/file).")
    ],
    recipe: Annotated[Path, typer.Option("--recipe", "-r", help="What to do with the frames.")],
    directory: DirectoryOption = None,
    tiled: TiledOption = None,
    api_key: KeyOption = None,
    position: Annotated[
        list[str] | None,
        typer.Option(help="A goniometer position (or any other number): one for all frames, one each, or @file."),
    ] = None,
    monitor: Annotated[str | None, typer.Option(help="Monitor counts: 1e5 | 1e5,1.1e5,... | @file.")] = None,
    exposure: Annotated[str | None, typer.Option(help="Exposure times, likewise, if the recipe has them.")] = None,
    mask_negative: Annotated[
        bool, typer.Option("--mask-negative", help="Leave out, in all frames, what is negative in any of them.")
    ] = False,
    sample: Annotated[str | None, typer.Option(help="What was measured.")] = None,
) -> None:
    """Make a run of detector files and reduce it; the frames are not copied."""
    from bluesky_powder.ingest import columns_for, open_series, raw_documents
    from bluesky_powder.recipe import Recipe

    console = Console(highlight=False)
    loaded = Recipe.load(recipe)
    series = open_series(files)
    columns = columns_for(loaded, series.frames, position or [], monitor, exposure)
    rows, width = series.shape
    plural = "s" if series.frames > 1 else ""
    console.print(f"{series.frames} frame{plural}, {rows}×{width} {series.dtype.name}")
    bars = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with ExitStack() as stack:
        stack.enter_context(_short_log())
        catalog = stack.enter_context(open_catalog(directory, tiled, api_key, readable=series.folders))
        with Progress(*bars, console=console, transient=True) as progress:
            if mask_negative:
                loaded = _without_negative(loaded, series, catalog, progress)
            metadata = {"sample": sample} if sample else {}
            documents = raw_documents(series, loaded.frames, columns, metadata)
            record = _reduce(documents, loaded, catalog, progress, series.frames)
        _check_readable(record, catalog, loaded.frames, series.folders)
    _say_how_it_went(record, catalog, console)


@dataclass
class _Record:
    """What the derived documents say.

    Attributes
    ----------
    on_frame
        Called with a frame's number and its values, once all are there.
    """

    on_frame: Callable[[int, dict[str, Any]], None]
    uid: str = ""
    raw_uid: str = ""
    positions: list[str] = field(default_factory=list)
    stop: dict[str, Any] = field(default_factory=dict)
    _streams: dict[str, str] = field(default_factory=dict)
    _primary: dict[str, Any] = field(default_factory=dict)

    def __call__(self, name: str, doc: dict[str, Any]) -> None:
        """Take a derived document."""
        if name == "start":
            self.uid, self.raw_uid = doc["uid"], doc["raw_uid"]
        elif name == "descriptor":
            self._streams[doc["uid"]] = doc["name"]
            self.positions += [key for key, about in doc["data_keys"].items() if "goniometer_position" in about]
        elif name == "event" and self._streams[doc["descriptor"]] == "primary":
            self._primary = doc["data"]
        elif name == "event" and self._streams[doc["descriptor"]] == "cumulative":
            self.on_frame(doc["seq_num"], {**doc["data"], **self._primary})
        elif name == "stop":
            self.stop = doc


@contextmanager
def _short_log() -> Iterator[None]:
    """Leave out of the log what is printed here anyway, unless all is asked for."""
    loggers = [logging.getLogger(f"bluesky_powder.{room}") for room in ("reduction", "publish")]
    before = [logger.level for logger in loggers]
    if logging.getLogger("bluesky_powder").getEffectiveLevel() >= logging.WARNING:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def _without_negative(recipe: Any, series: Any, catalog: Catalog, progress: Progress) -> Any:
    from bluesky_powder.ingest import mask_negative

    folder = catalog.server.directory / "masks" if catalog.server is not None else Path.cwd()
    task = progress.add_task("frames looked through for negative pixels", total=series.frames)
    recipe, path = mask_negative(recipe, series, folder, lambda: progress.advance(task))
    progress.remove_task(task)
    left_out = int(recipe.corrections.mask.array.sum())
    progress.console.print(
        f"mask: {left_out} of {recipe.corrections.mask.array.size} pixels left out, {path}", soft_wrap=True
    )
    return recipe


def _reduce(
    documents: Iterator[tuple[str, dict[str, Any]]], recipe: Any, catalog: Catalog, progress: Progress, frames: int
) -> _Record:
    from bluesky_powder.publish import TiledPublisher
    from bluesky_powder.reduction import PowderReduction

    task = progress.add_task("frames reduced (a first run compiles the engine)", total=frames)

    def on_frame(seq_num: int, values: dict[str, Any]) -> None:
        if not progress.tasks[0].completed:
            for line in _table.header(record.positions):
                progress.console.print(line, style="bold", soft_wrap=True)
        progress.console.print(_table.row(seq_num, values, record.positions), soft_wrap=True)
        progress.advance(task)

    record = _Record(on_frame)
    spool = catalog.server.spool if catalog.server is not None else None
    with (
        TiledPublisher(catalog.client, spool=spool, batch_size=_RAW_BATCH) as raw,
        TiledPublisher(catalog.client, spool=spool) as derived,
    ):
        with PowderReduction(recipe, pace="replay") as reduction:
            reduction.subscribe(record)
            reduction.subscribe(derived)
            for name, document in documents:
                raw(name, document)
                reduction(name, document)
        _store(progress, raw, derived)
    return record


def _store(progress: Progress, *publishers: Any) -> None:
    """Wait until Tiled has everything.

    Raises
    ------
    PublishError
        If it does not take everything.
    """
    pending = sum(publisher.pending for publisher in publishers)
    task = progress.add_task("documents stored", total=pending)
    least, since = pending, time.monotonic()
    while pending:
        for publisher in publishers:
            publisher.wait(0.2)
        pending = sum(publisher.pending for publisher in publishers)
        progress.update(task, completed=progress.tasks[-1].total - pending)
        if pending < least:
            least, since = pending, time.monotonic()
        elif pending and time.monotonic() - since > _STUCK:
            break
    for publisher in publishers:
        publisher.close(timeout=0.0)
    failures = [failure for publisher in publishers for failure in publisher.failures]
    if failures:
        raise PublishError("; ".join(map(str, failures)))


def _check_readable(record: _Record, catalog: Catalog, data_key: str, folders: list[Path]) -> None:
    """Make sure that the server can read the files: it registers them also when it cannot.

    Raises
    ------
    PublishError
        If it cannot.
    """
    frames = catalog.client[record.raw_uid].base["primary"].base[data_key]
    # One pixel; asked for without the client's own retries, which would go on for 45 s.
    one = {"slice": "0,:1,:1", "format": "application/octet-stream"}
    if frames.context.http_client.get(frames.item["links"]["full"], params=one).is_error:
        read = " ".join(f"--read {folder}" for folder in folders)
        raise PublishError(
            f"run {record.raw_uid} and the derived run {record.uid} are in Tiled, but the server cannot read the files"
            f" with the frames: start it with {read}, on a machine that sees them"
        )


def _say_how_it_went(record: _Record, catalog: Catalog, console: Console) -> None:
    stop = record.stop
    if not stop.get("frames_reduced"):
        raise IngestError(f"no frame could be reduced: {stop.get('reason') or 'the reduction gave no reason'}")
    if stop.get("reason"):
        console.print(f"\n{stop['reason']}", style="yellow", soft_wrap=True)
    where = f"in {catalog.server.directory}" if catalog.server is not None else f"at {catalog.uri}"
    console.print(f"\nraw run      {record.raw_uid}\nderived run  {record.uid}\n{where}", soft_wrap=True)
    if catalog.server is not None:
        console.print(f"to serve it: bluesky-powder serve --directory {catalog.server.directory}", soft_wrap=True)
    console.print("\nThree lines of Python read it:\n")
    for line in catalog.lines_that_read(record.uid):
        typer.echo(f"    {line}")
    if stop.get("exit_status") != "success":
        raise typer.Exit(1)
