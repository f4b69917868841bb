"""Measure speed and memory: ``python -m benchmarks [--quick] [PART ...]`` prints and writes a table in Markdown."""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path

from benchmarks.quiet import quiet
from benchmarks.report import line, machine, markdown
from benchmarks.timing import REPEATS, Row

PARTS = {
    "frame": "engine:one_frame",
    "stream": "engine:stream",
    "geometry": "engine:new_geometry",
    "rejection": "rejection:rejection",
    "positions": "positions:positions",
    "hdf5": "hdf5_job:hdf5_job",
    "reading": "hdf5:comparisons",
    "bookkeeping": "engine:bookkeeping",
    "cores": "cores:cores",
    "process": "process:process",
    "documents": "documents:documents",
    "serving": "serving:serving",
    "growth": "growth:growth",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what was asked for; what is known by then is written whenever a part is done."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"all unless said: {', '.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="half the repeats")
    parser.add_argument("--output", type=Path, default=Path("bench.md"), help="file to write (bench.md)")
    asked = parser.parse_args(arguments)
    unknown = sorted(set(asked.parts) - set(PARTS))
    if unknown:
        parser.error(f"no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    repeats = (REPEATS + 1) // 2 if asked.quick else REPEATS
    about = f"{machine()}; {repeats} repeats"
    rows: list[Row] = []
    start = time.perf_counter()
    with quiet():
        for part in asked.parts or PARTS:
            for row in measured(part, repeats):
                rows.append(row)
                say(f"[{time.perf_counter() - start:4.0f} s] {part}: {line(row)}")
            asked.output.write_text(markdown(rows, about), encoding="utf-8")
    sys.stdout.write(markdown(rows, about))
    say(f"[{time.perf_counter() - start:4.0f} s] written to {asked.output}")


def measured(part: str, repeats: int) -> Iterator[Row]:
    """Yield what a part measures, as soon as it is known."""
    module, _, function = PARTS[part].partition(":")
    yield from getattr(import_module(f"benchmarks.{module}"), function)(repeats)


def say(text: str) -> None:
    """Tell at once, beside the table, so that a long measurement is seen to go on."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main()
