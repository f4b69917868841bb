"""``bluesky-powder replay``: runs that are over, reduced again or for the first time."""

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from bluesky_powder.cli._board import Board
from bluesky_powder.cli._catalog import Catalog, DirectoryOption, KeyOption, TiledOption, open_catalog
from bluesky_powder.cli._jobs import Job, jobs_in_catalog, jobs_in_files
from bluesky_powder.cli.ingest import _short_log, _store
from bluesky_powder.errors import BlueskyPowderError, PublishError, ReplayError

if TYPE_CHECKING:
    from bluesky_powder.replay.run import Replay

_INTERRUPTED = 130
# Nobody waits for single patterns of a run that is over, and Tiled takes many rows nearly as fast as one.
_BATCH = 100

Opener = Callable[..., AbstractContextManager[Catalog]]


def replay(
    recipe: Annotated[Path, typer.Option("--recipe", "-r", help="What to do with the frames.")],
    uids: Annotated[
        list[str] | None,
        typer.Argument(
            help="Raw runs: uids, their beginnings, or, in a catalog, scan ids. All runs of a --file unless given."
        ),
    ] = None,
    tiled: TiledOption = None,
    catalog: Annotated[
        str | None,
        typer.Option(
            help="Registered catalog that has the raw runs: a Tiled profile, or databroker's.", metavar="NAME"
        ),
    ] = None,
    file: Annotated[
        list[Path] | None,
        typer.Option(help="File of documents that has the raw runs (msgpack, JSON lines, JSON). May be repeated."),
    ] = None,
    directory: DirectoryOption = None,
    to: Annotated[
        str | None, typer.Option(help="Address of the Tiled server that the derived runs go to.", metavar="URL")
    ] = None,
    api_key: KeyOption = None,
    to_api_key: Annotated[
        str | None, typer.Option(help="The key of --to, where that has another one.", metavar="KEY")
    ] = None,
) -> None:
    """Reduce stored runs.

    Raw runs come from --tiled, --catalog or --file, or else from --directory.

    Derived runs go to --directory or --to, or else to --tiled.
    """
    from bluesky_powder.recipe import recipes_of
    from bluesky_powder.replay.catalog import named_catalog
    from bluesky_powder.replay.run import Replay
    from bluesky_powder.replay.source import place_of, place_of_files

    _check_options(uids or [], tiled, catalog, file or [], directory, to)
    recipes = recipes_of(recipe)
    streams = [one.stream for one in recipes]
    opener = partial(open_catalog, directory, to, to_api_key or api_key)
    with ExitStack() as stack:
        stack.enter_context(_short_log())
        if file:
            jobs, place = jobs_in_files(file, uids or [], streams), place_of_files(file)
            target = stack.enter_context(opener())
        else:
            raw: Any
            if catalog is not None:
                raw = stack.enter_context(named_catalog(catalog, api_key))
                target = stack.enter_context(opener())
            elif tiled is not None:
                there = stack.enter_context(open_catalog(None, tiled, api_key))
                raw, target = there.client, stack.enter_context(opener()) if directory or to else there
            else:
                target = stack.enter_context(opener(there=True))
                raw = target.client
            jobs, place = jobs_in_catalog(raw, uids or [], streams), place_of(raw)
        code = _replay(jobs, partial(Replay, recipes, place=place), target)
    if code:
        raise typer.Exit(code)


def _check_options(
    uids: list[str], tiled: str | None, catalog: str | None, file: list[Path], directory: Path | None, to: str | None
) -> None:
    if sum(bool(given) for given in (tiled, catalog, file)) > 1:
        raise ReplayError("give one of --tiled, --catalog and --file: where the raw runs are")
    if directory is not None and to is not None:
        raise ReplayError("give one of --directory and --to: where the derived runs go")
    if directory is None and to is None and tiled is None:
        raise ReplayError(
            "say where the derived runs go: --directory (a folder of our own server) or --to (a server's address)"
        )
    if directory is None and not (tiled or catalog or file):
        raise ReplayError("say where the raw runs are: --tiled, --catalog or --file")
    if not uids and not file:
        raise ReplayError("say which runs: give their uids")


def _replay(jobs: Sequence[Job], make: "Callable[..., Replay]", target: Catalog) -> int:
    """Do all jobs; return the exit code."""
    from bluesky_powder.publish import TiledPublisher

    console = Console(highlight=False)
    board = Board(console, sum(len(job.events) or 1 for job in jobs))
    spool = target.server.spool if target.server is not None else None
    interrupted = False
    with board.progress, TiledPublisher(target.client, spool=spool, batch_size=_BATCH) as publisher:
        try:
            with _interrupted_between_documents() as check, make(board, publisher, catalog=target.client) as replayed:
                for job in jobs:
                    _do(job, replayed, board, check)
        except KeyboardInterrupt:
            interrupted = True
            board.progress.console.print("interrupted; what was reduced is being stored", style="yellow")
        board.end_all()
        try:
            _store(board.progress, publisher)
        except PublishError as error:
            board.fail("not all is stored", str(error))
        except KeyboardInterrupt:
            interrupted = True
            board.fail("interrupted", f"Tiled does not have {publisher.pending} documents; they are kept for later")
            publisher.close(timeout=0.0)
    if interrupted:
        begun = {outcome.raw_uid for outcome in board.outcomes}
        left = [uid for job in jobs for uid in job.events if uid not in begun]
        console.print(f"not begun: {', '.join(left) or 'none'}", style="yellow", soft_wrap=True)
    _say_where(board, target, console)
    return _INTERRUPTED if interrupted else int(board.failures > 0)


@contextmanager
def _interrupted_between_documents() -> Iterator[Callable[[], None]]:
    """Yield a function that raises KeyboardInterrupt once Ctrl-C was pressed; a second Ctrl-C raises it at once."""
    pressed = threading.Event()

    def note(*_: Any) -> None:
        if pressed.is_set():
            raise KeyboardInterrupt
        pressed.set()

    def check() -> None:
        if pressed.is_set():
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, note)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, before)


def _do(job: Job, replayed: "Replay", board: Board, check: Callable[[], None]) -> None:
    """Replay the documents of a job; what goes wrong is said, and does not stop the next."""

    def progress(name: str, document: Any) -> None:
        check()
        if name == "start" and isinstance(uid := document.get("uid"), str):
            board.begin(uid, job.events.get(uid))
        elif name == "stop":
            board.end(str(document.get("run_start")))

    check()
    if job.mistake:
        board.miss(job.what, job.mistake)
        return
    try:
        replayed(job.documents(), progress)
    except BlueskyPowderError as error:
        board.fail(job.what, str(error))
    board.end_all()


def _say_where(board: Board, target: Catalog, console: Console) -> None:
    good = [outcome for outcome in board.outcomes if outcome.stop.get("frames_reduced")]
    if not good:
        return
    where = f"in {target.server.directory}" if target.server is not None else f"at {target.uri}"
    console.print(f"{len(good)} derived run{'' if len(good) == 1 else 's'} {where}", soft_wrap=True)
    console.print("\nThree lines of Python read the last one:\n")
    for line in target.lines_that_read(good[-1].uid):
        typer.echo(f"    {line}")
