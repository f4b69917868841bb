"""Rows of measurements as Markdown tables."""

import datetime
import platform
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path

from azimuthal.threads import thread_count
from benchmarks.timing import Comparison, Figure, Row, Table, Unit

PACKAGES = ("bluesky-powder", "numpy", "numba", "h5py", "hdf5plugin", "pyFAI")
SCALE: dict[Unit, float] = {"ms": 1e3, "µs": 1e6, "MB": 1e-6, "%": 100.0}
CONDITIONS = (
    "Eiger2 CdTe 4M (2162 × 2068, uint32), 2000 bins, solid angle, polarization and azimuthal errors unless said; "
    "all seven sums and masks that differ by the frame. Ours and pyFAI in turn on the same frames: "
    "medians, and the median ratio of the pairs."
)


def machine() -> str:
    """Return what this machine is, and what is installed."""
    about = Path("/proc/cpuinfo")
    lines = about.read_text().splitlines() if about.exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    today = datetime.datetime.now().astimezone().date().isoformat()
    where = f"{model or platform.processor()} ({platform.machine()}), {thread_count()} cores, {platform.system()}"
    return f"{today}: {where}; Python {platform.python_version()}, {packages}"


def markdown(rows: Iterable[Row], about: str) -> str:
    """Return everything that was measured."""
    rows = list(rows)
    parts = [about, CONDITIONS]
    comparisons = [row for row in rows if isinstance(row, Comparison)]
    figures = [row for row in rows if isinstance(row, Figure)]
    if comparisons:
        head = ("beside pyFAI csr/cython", "times better", "target", "stretch", "met", "ours", "pyFAI")
        parts.append(_table(head, map(comparison_cells, comparisons)))
    if figures:
        parts.append(_table(("by itself", "measured", "target", "stretch", "met"), map(figure_cells, figures)))
    for table in rows:
        if isinstance(table, Table):
            parts += [f"{table.name[:1].upper()}{table.name[1:]}:", _table(table.columns, table.rows)]
    return "\n\n".join(parts) + "\n"


def comparison_cells(row: Comparison) -> tuple[str, ...]:
    """Return the cells of a comparison."""
    amounts = (amount(row.ours, row.unit), amount(row.reference, row.unit))
    return (row.name, digits(row.ratio), _goal(row.target), _goal(row.stretch), row.met, *amounts)


def figure_cells(row: Figure) -> tuple[str, ...]:
    """Return the cells of a figure."""
    goals = ("-" if goal is None else amount(goal, row.unit) for goal in (row.target, row.stretch))
    return (row.name, amount(row.value, row.unit), *goals, row.met)


def line(row: Row) -> str:
    """Return a measurement in a line, for those who wait."""
    if isinstance(row, Table):
        return f"{row.name}: {len(row.rows)} rows"
    if isinstance(row, Comparison):
        name, ratio, target, _, met, ours, theirs = comparison_cells(row)
        return f"{name}: {ratio} ({ours} beside {theirs}), target {target}: {met}"
    name, value, target, _, met = figure_cells(row)
    return f"{name}: {value}, target {target}: {met}"


def amount(value: float, unit: Unit) -> str:
    """Return a value in a unit."""
    return f"{digits(value * SCALE.get(unit, 1.0))} {unit}".rstrip()


def digits(value: float) -> str:
    """Return a number in three digits, or all of them before the point."""
    return f"{value:.0f}" if abs(value) >= 100 or float(value).is_integer() else f"{value:#.3g}".rstrip(".")


def _goal(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    return "\n".join(_lines(tuple(head), rows))


def _lines(head: tuple[str, ...], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|---" * len(head) + "|"
    for cells in rows:
        yield "| " + " | ".join(cells) + " |"
