"""Work in a process of its own, timed there: for memory, for threads, and for what only a fresh process shows.

The child is ``python -m benchmarks.worker MODULE:FUNCTION ARGUMENT...``. The function returns its tasks by name; each
line on standard input names one to run, and is answered by a line of JSON.
"""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Self

from benchmarks.quiet import quiet
from benchmarks.timing import SETTLE, seconds

ROOT = Path(__file__).resolve().parents[1]
Tasks = Mapping[str, Callable[[], object]]


@dataclass(frozen=True)
class Answer:
    """Of a task.

    Attributes
    ----------
    seconds
        That it took.
    peak
        Largest resident memory of the process so far, bytes.
    """

    seconds: float
    peak: float


class Worker:
    """A process that has some tasks ready.

    Parameters
    ----------
    tasks
        "module:function" that returns them.
    *arguments
        Of the function; it gets them as text.
    environment
        Variables besides those of this process.
    """

    def __init__(self, tasks: str, *arguments: object, environment: Mapping[str, str] | None = None) -> None:
        command = [sys.executable, "-m", "benchmarks.worker", tasks, *map(str, arguments)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **(environment or {})}, **pipes)

    def run(self, task: str) -> Answer:
        """Run a task, when whatever ran before has settled; its process has nothing else to do meanwhile."""
        time.sleep(SETTLE)
        stdin, stdout = self._process.stdin, self._process.stdout
        try:
            stdin.write(task + "\n")
            stdin.flush()
        except BrokenPipeError:
            pass
        line = stdout.readline()
        if not line:
            raise RuntimeError(f"the process for {task!r} ended with {self._process.wait()}; see above")
        return Answer(**json.loads(line))

    def __enter__(self) -> Self:
        """Return itself; the end of the block ends the process."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        self._process.communicate()


def peak_memory() -> int:
    """Return the largest resident memory of this process so far, bytes.

    Linux begins `ru_maxrss` of a child with its parent's memory; what it tells in /proc begins with the program.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return next(1024 * int(line.split()[1]) for line in status.read_text().splitlines() if "VmHWM" in line)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main() -> None:
    """Answer until the input ends."""
    module, _, name = sys.argv[1].partition(":")
    answers = sys.stdout
    with redirect_stdout(sys.stderr), quiet():
        tasks: Tasks = getattr(import_module(module), name)(*sys.argv[2:])
        for line in sys.stdin:
            took = seconds(tasks[line.strip()])
            answers.write(json.dumps({"seconds": took, "peak": peak_memory()}) + "\n")
            answers.flush()


if __name__ == "__main__":
    main()
