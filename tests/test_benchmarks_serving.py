"""The benchmark of storing and serving, with few patterns: it runs, and its numbers make sense."""

import math
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import serving
from benchmarks.timing import Figure, Table


def test_serving_tells_how_soon_how_fast_and_how_large(monkeypatch):
    monkeypatch.setattr(serving, "PACE", 0.1)
    rows = list(serving.serving(1, live=5, paced=12, counts=(10, 12), read=10))
    assert len({row.name for row in rows}) == len(rows) == 10
    figures = [row for row in rows if isinstance(row, Figure)]
    assert all(math.isfinite(row.value) and row.value > 0 for row in figures)
    assert len([row for row in figures if row.target is not None]) == 8
    (table,) = [row for row in rows if isinstance(row, Table)]
    assert [cells[0] for cells in table.rows] == ["10", "12"]
    visible, slowest = [row.value for row in figures if "visible" in row.name][:2]
    assert visible <= slowest
