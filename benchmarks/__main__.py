"""Print the table of speeds as Markdown: ``python -m benchmarks``."""

import platform
import sys
from importlib.metadata import version

from azimuthal.threads import thread_count
from benchmarks import engine


def main() -> None:
    """Measure and print, a line as soon as it is known."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("numpy", "numba", "pyFAI"))
    say(f"Python {platform.python_version()}, {packages}, {platform.machine()}, {thread_count()} processors")
    say("Eiger2 CdTe 4M, uint32, 2000 bins, solid angle, polarization, azimuthal errors; medians of 7, in alternation")
    say("")
    say("| what | times faster than pyFAI csr/cython | target | ours, ms | pyFAI, ms |")
    say("|---|---|---|---|---|")
    for line in engine.comparisons():
        target = "-" if line.target is None else f"{line.target:g}"
        say(f"| {line.name} | {line.ratio:.1f} | {target} | {1e3 * line.ours:.1f} | {1e3 * line.reference:.1f} |")


def say(text: str) -> None:
    """Print at once, so that a slow table is seen to grow."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
