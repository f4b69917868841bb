"""The flight on the simulated beamline: what it prints."""

import importlib.util
import re
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def flight():
    path = Path(__file__).resolve().parents[2] / "examples" / "simulated_flight.py"
    spec = importlib.util.spec_from_file_location("simulated_flight", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_flight_prints_positions_spottiness_and_the_share_of_darks(flight, tmp_path, capsys):
    flight.main(str(tmp_path))
    printed = capsys.readouterr().out
    rows = [tuple(map(float, row)) for row in re.findall(r"^ +([\d.]+)° +(\d+) +([\d.]+) +([\d.]+)$", printed, re.M)]
    assert [row[0] for row in rows] == [4, 4, 4, 8, 8, 8, 12, 12, 12]
    assert all(0.8e6 < row[1] < 1.2e6 for row in rows)
    assert all(0.01 < row[2] < 1 for row in rows)
    assert rows[2][3] < rows[0][3]  # fresh sample: spots are averaged away
    assert "success: 9 of 9 frames reduced" in printed
    share = int(re.search(r"the darks are (\d+) %", printed)[1])
    assert 1 <= share <= 60
