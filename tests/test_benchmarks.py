"""The benchmarks on small detectors: each part runs, what it compares is the same work, and its numbers make sense."""

import importlib
import json
import math
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import __main__ as command
from benchmarks import cores, documents, engine, growth, hdf5, hdf5_job, positions, process, rejection, timing
from benchmarks.quiet import quiet
from benchmarks.report import amount, digits, line, markdown
from benchmarks.scene import Scene, pyfai_frame
from benchmarks.timing import Comparison, Figure, Table, compare, in_turn, quicker
from benchmarks.worker import Worker, peak_memory

SMALL = "Pilatus 100k"


@pytest.fixture(autouse=True)
def _quiet():
    with quiet():
        yield


def check(rows, count):
    """Check that there are so many rows, with names of their own and numbers that can be."""
    rows = list(rows)
    assert len({row.name for row in rows}) == len(rows) == count
    for row in rows:
        assert row.name in line(row)
        if isinstance(row, Table):
            assert row.rows
            assert all(len(cells) == len(row.columns) for cells in row.rows)
        else:
            assert row.met in ("stretch", "yes", "no", "-")
            numbers = (row.ours, row.reference, row.ratio) if isinstance(row, Comparison) else (row.value,)
            assert all(map(math.isfinite, numbers))
            if isinstance(row, Comparison):
                assert min(numbers) > 0
    assert all(row.name[:30].lower() in markdown(rows, "about").lower() for row in rows)
    return rows


def test_parts_of_the_engine_yield_a_line_for_each_splitting():
    scene = Scene(SMALL, 200)
    check(engine.one_frame(1, scene), 3)
    check(engine.stream(1, scene, count=8), 2)
    check(engine.new_geometry(1, scene), 2)
    check(engine.bookkeeping(1, scene, count=8), 6)
    check(rejection.rejection(1, scene), 2)


def test_both_sides_integrate_the_same_pixels():
    scene = Scene(SMALL, 200)
    (image,) = scene.frames(1)
    assert (image == np.iinfo(np.uint32).max).any()
    for splitting in ("no", "full"):
        ours = scene.integrator(splitting).integrate(image)
        theirs = pyfai_frame(scene.pyfai(), image, splitting, scene.npt)
        assert ours.sum_signal.sum() == pytest.approx(theirs.sum_signal.sum(), rel=1e-6)
        assert ours.sum_normalization.sum() == pytest.approx(theirs.sum_normalization.sum(), rel=1e-6)


def test_a_turned_detector_is_another_geometry_on_both_sides():
    scene = Scene(SMALL)
    assert scene.geometry(1e-3).rot2 == pytest.approx(scene.pyfai(1e-3).rot2)
    assert scene.geometry() != scene.geometry(1e-6)


def test_frames_of_a_scene_differ_but_for_their_dead_pixels():
    frames = Scene(SMALL).frames(3)
    dead = frames == np.iinfo(np.uint32).max
    assert dead[0].any()
    assert (dead == dead[0]).all()
    assert (frames[0] != frames[1]).mean() > 0.5


def test_positions_are_merged_alike_on_both_sides(tmp_path):
    arm = positions.Arm(positions.arm_file(tmp_path), (5.0, 6.0, 7.5), 300)
    ours = arm.merge(arm.merger("no"))
    theirs = arm.pyfai_first("no", "csr")
    inner = np.isfinite(ours) & (np.arange(300) > 5) & (np.arange(300) < 295)
    assert inner.sum() > 200
    assert np.allclose(ours[inner], theirs[inner], rtol=1e-3)
    check(positions.positions(1, (5.0, 6.0), 100), 4)


def test_the_arm_is_the_one_that_was_calibrated(shared_reference):
    told = json.loads((shared_reference / "goniometers" / "ROBL_v1.json").read_text())
    assert told == positions.ARM


def test_hdf5_job_tells_frames_a_second_and_memory_of_both_sides():
    job, rate, memory = check(hdf5_job.hdf5_job(1, SMALL, 8), 3)
    assert rate.value == job.ours
    assert 2e7 < memory.ours < 4e9
    assert memory.ratio == pytest.approx(memory.reference / memory.ours)


def test_reading_is_compared_with_h5py():
    check(hdf5.comparisons(1, SMALL, 8), 3)


def test_a_worker_answers_and_tells_what_went_wrong(capfd):
    with Worker("benchmarks.cores:tasks", SMALL) as worker:
        first, second = worker.run(cores.NAMES[0]), worker.run(cores.NAMES[0])
        assert first.peak <= second.peak
        with pytest.raises(RuntimeError, match="ended with 1"):
            worker.run("no such task")
    assert "KeyError: 'no such task'" in capfd.readouterr().err
    assert peak_memory() > 1e7


def test_cores_compare_two_processes():
    check(cores.cores(1, SMALL), 6)


def test_a_fresh_process_is_timed_and_compiles_nothing_again(monkeypatch):
    monkeypatch.setattr(process, "compare", partial(compare, warmups=0))
    check([process.import_time("import azimuthal", 1, 0.5), process.first_pattern(1, SMALL)], 2)
    compiled, number, table = check(process.specialisations(("uint32",)), 3)
    assert compiled.value == 0
    assert number.value == sum(int(count) for _, count in table.rows)
    kernels = dict(table.rows)
    assert int(kernels["azimuthal.csr.kernels.add_batch"]) > 0


def test_documents_are_timed_live_and_replayed():
    held, *replayed = check(documents.documents(1, "Eiger2 CdTe 500k", 32, 32), 15)
    assert held.value > 0
    for everything, *parts in (replayed[:7], replayed[7:]):
        whole = [p for p in parts if "processor time" in p.name and ("beyond" in p.name or "documents" in p.name)]
        assert everything.value > max(part.value for part in whole)
        assert np.isfinite([part.value for part in parts]).all()  # differences of times: of neighbours too


def test_growth_is_told_in_tables():
    check(
        [growth.with_pixels(1, (SMALL,)), growth.with_bins(1, SMALL, (50, 100)), growth.with_geometries(1, (1, 2))], 3
    )


def test_rounds_go_in_turn_and_the_ratio_is_that_of_pairs():
    called = []
    rounds = in_turn([lambda: called.append("a"), lambda: called.append("b")], repeats=2, warmups=1)
    assert called == ["a", "b"] * 3
    assert len(rounds) == 2

    ticks = iter([0.0, 1.0, 1.0, 4.0, 4.0, 6.0, 6.0, 14.0])
    assert in_turn([int, int], repeats=2, warmups=0, clock=lambda: next(ticks)) == [(1.0, 3.0), (2.0, 8.0)]


def test_medians_are_those_of_one_frame_and_ratios_those_of_pairs(monkeypatch):
    monkeypatch.setattr(timing, "in_turn", lambda *_, **__: [(1.0, 8.0), (2.0, 4.0), (4.0, 12.0)])
    row = compare("x", int, int, frames=2, target=3.0)
    assert (row.ours, row.reference, row.ratio, row.met) == (1.0, 4.0, 3.0, "yes")
    assert quicker(int, int) == 0
    monkeypatch.setattr(timing, "in_turn", lambda *_, **__: [(1.0, 8.0), (2.0, 0.5)])
    assert quicker(int, int) == 1


@pytest.mark.parametrize(
    ("ratio", "target", "stretch", "met"),
    [(5.9, 6, 10, "no"), (6, 6, 10, "yes"), (10, 6, 10, "stretch"), (1, None, None, "-"), (9, 6, None, "yes")],
)
def test_what_a_comparison_has_met(ratio, target, stretch, met):
    assert Comparison("x", 1.0, ratio, ratio, target, stretch).met == met


@pytest.mark.parametrize(
    ("value", "better", "met"),
    [(0.3, "least", "no"), (0.2, "least", "yes"), (0.1, "least", "stretch"), (0.1, "most", "no"), (0.2, "most", "yes")],
)
def test_what_a_figure_has_met(value, better, met):
    stretch = 0.1 if better == "least" else 0.4
    assert Figure("x", value, "s", 0.2, stretch, better).met == met


def test_amounts_are_told_in_three_digits():
    assert [digits(x) for x in (0.001234, 1.5, 12.34, 100.4, 1234.0, 0.0)] == [
        "0.00123",
        "1.50",
        "12.3",
        "100",
        "1234",
        "0",
    ]
    assert amount(0.0123, "ms") == "12.3 ms"
    assert amount(5e8, "MB") == "500 MB"
    assert amount(0.05, "%") == "5 %"
    assert amount(3, "") == "3"


def test_rows_become_tables_by_their_kind():
    rows = [
        Comparison("a frame", 0.005, 0.05, 10.0, 6, 10),
        Figure("an import", 0.25, "s", 0.5),
        Table("growth", ("n", "cost"), (("1", "2"),)),
    ]
    text = markdown(rows, "a machine")
    assert text.startswith("a machine\n\n")
    assert "| a frame | 10 | 6 | 10 | stretch | 5 ms | 50 ms |" in text
    assert "| an import | 0.250 s | 0.500 s | - | yes |" in text
    assert "Growth:\n\n| n | cost |\n|---|---|\n| 1 | 2 |" in text


def test_the_command_writes_what_it_measured(tmp_path, monkeypatch, capsys):
    asked = []

    def measured(part, repeats):
        asked.append((part, repeats))
        yield Figure(f"number of {part}", 1.0, "s")

    monkeypatch.setattr(command, "measured", measured)
    path = tmp_path / "bench.md"
    command.main(["--quick", "--output", str(path), "growth", "frame"])
    assert asked == [("growth", 4), ("frame", 4)]
    told = capsys.readouterr()
    assert path.read_text() == told.out
    assert "| number of growth | 1 s |" in told.out
    assert "frame: number of frame: 1 s" in told.err
    asked.clear()
    command.main(["--output", str(path)])
    assert asked == [(part, 7) for part in command.PARTS]
    with pytest.raises(SystemExit):
        command.main(["no such part"])
    assert "no part no such part; there are frame" in capsys.readouterr().err


def test_every_part_is_there():
    for part in command.PARTS.values():
        module, _, function = part.partition(":")
        assert callable(getattr(importlib.import_module(f"benchmarks.{module}"), function))
