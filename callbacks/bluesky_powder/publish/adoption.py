"""Runs that an earlier process has left on disk."""

import logging
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bluesky_powder.publish.journal import SUFFIX, Journal
from bluesky_powder.publish.run import Run

logger = logging.getLogger("bluesky_powder.publish")


def left_behind(folder: Path) -> Iterator[Run]:
    """Yield the runs whose journals no living process has, oldest first; they are this process's from now on.

    A run that had not ended when its process did gets a stop document that says so.

    Parameters
    ----------
    folder
        Of the journals.
    """
    for path in sorted(folder.glob(f"*{SUFFIX}"), key=_age):
        try:
            found = Journal.left_behind(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            logger.warning("%s, left by an earlier process, cannot be read: %s", path, error)
            continue
        if found is None:
            continue
        journal, names, start = found
        run = Run(str(start["uid"]), journal=journal, written=len(names), adopted=True)
        try:
            if "stop" not in names:
                journal.append("stop", _stop(run.uid))
                run.written += 1
        except OSError as error:
            logger.warning("%s, left by an earlier process, cannot be completed: %s", path, error)
            journal.close()
            continue
        run.stopped = True
        logger.warning("run %s was left by an earlier process; its %d documents go to Tiled now", run.uid, run.written)
        yield run


def _age(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _stop(run: str) -> dict[str, Any]:
    return {
        "uid": str(uuid.uuid4()),
        "time": time.time(),
        "run_start": run,
        "exit_status": "fail",
        "reason": "the process that made this run ended before the run did; a replay can complete it",
    }
