"""The demonstration as a user runs it: a process of its own, few frames, a small detector."""

import io
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, redirect_stdout

import numpy as np
import pytest

from command_line import run_command

pytest.importorskip("matplotlib")
pytest.importorskip("ophyd_async")
pytest.importorskip("uvicorn")

from bluesky_powder.server import PowderServer

COMMAND = [sys.executable, "-m", "bluesky_powder", "demo", "--detector", "Pilatus 100k"]
FRAMES = 3
TIMEOUT = 240


def three_lines(output: str) -> str:
    lines = re.search(r"Three lines of Python.*:\n\n((?:    .*\n){3})\n", output)
    assert lines, output
    return "".join(line.removeprefix("    ") for line in lines[1].splitlines(keepends=True))


def run_python(code: str) -> tuple[str, dict]:
    """Run a program that shares no name with this one; return what it prints, and its variables."""
    variables = {}
    with redirect_stdout(io.StringIO()) as said:
        exec(code, variables)
    return said.getvalue(), variables


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("a demo")


@pytest.fixture(scope="module")
def finished(folder) -> str:
    command = [*COMMAND, "--frames", str(FRAMES), "--directory", str(folder)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_demo_prints_every_frame(finished):
    rows = re.findall(r"^ +(\d+) +(\d+)° +([\d. ]+)(smooth|mild|strong) +(fresh|still)$", finished, re.MULTILINE)
    assert [row[0] for row in rows] == [str(i + 1) for i in range(FRAMES)]
    assert [row[1] for row in rows] == ["12", "18", "24"]
    numbers = np.array([row[2].split() for row in rows], dtype=float)
    assert numbers.shape == (FRAMES, 6)
    plain, excess, union, _, mean, _ = numbers.T
    assert (excess <= plain).all()
    # After the first frame all three are the same.
    assert plain[0] == union[0] == mean[0]
    assert max(map(len, finished[: finished.index("picture:")].splitlines()[3:])) <= 80


def test_demo_leaves_a_picture_and_a_pattern(finished, folder):
    assert f"picture: {folder / 'demo.png'}" in finished
    assert (folder / "demo.png").read_bytes().startswith(b"\x89PNG")
    low, high = map(float, re.search(r"merged pattern: ([\d.]+) to ([\d.]+)°", finished).groups())
    two_theta, intensity, sem = np.loadtxt(folder / "demo.xye", comments="'").T
    assert two_theta[[0, -1]] == pytest.approx([low, high], abs=0.01)
    assert (np.diff(two_theta) > 0).all()
    assert (intensity > 0).mean() > 0.99
    assert (sem >= 0).all()


def test_demo_can_be_read_later_as_it_says(finished):
    told, _ = run_python(three_lines(finished))
    assert "xarray.Dataset" in told
    assert "spottiness_excess" in told
    assert f"time: {FRAMES}" in told


@contextmanager
def started(*arguments: str, until: str):
    """Yield the process, and what it has said, as soon as it says `until`."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1"}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen([*COMMAND, *arguments], env=environment, **streams) as demo:
        try:
            output = ""
            deadline = time.monotonic() + TIMEOUT
            while until not in output:
                line = demo.stdout.readline()
                assert line, output
                assert time.monotonic() < deadline, output
                output += line
            yield demo, output
        finally:
            demo.kill()


def interrupted(demo) -> tuple[int, str]:
    """Press Ctrl-C; return the exit code, and what is said from then on: where it stands if it does not end."""
    demo.send_signal(signal.SIGINT)
    try:
        rest, _ = demo.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        demo.send_signal(signal.SIGABRT)
        rest, _ = demo.communicate()
    return demo.returncode, rest


@pytest.mark.usefixtures("finished")  # the server's folder is there already
def test_demo_keeps_serving_until_interrupted(folder):
    arguments = ["--frames", "1", "--directory", str(folder), "--keep-serving"]
    with started(*arguments, until="Ctrl-C ends it") as (demo, output):
        told, variables = run_python(three_lines(output))
        assert "xarray.Dataset" in told
        variables["run"].context.close()
        code, rest = interrupted(demo)
    assert code == 0, rest


@pytest.mark.usefixtures("finished")
def test_demo_keeps_what_was_taken_before_an_interrupt(folder):
    with started("--frames", "200", "--directory", str(folder), until="    1   12°") as (demo, _):
        code, rest = interrupted(demo)
    assert code == 130, rest
    assert "interrupted; what was taken is being stored" in rest
    assert "Traceback" not in rest
    with PowderServer(folder) as server:
        client = server.client()
        assert [run.metadata["stop"]["exit_status"] for run in client.values()][-2:] == ["abort", "abort"]
        client.context.close()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--detector", "Eigr 1M"], "Eig"),
        (["--directory", os.devnull], os.devnull),
    ],
)
def test_demo_fails_in_one_line(monkeypatch, capsys, tmp_path, arguments, reason):
    command = ("demo", "--detector", "Pilatus 100k", "--directory", tmp_path, *arguments)
    assert reason in run_command(monkeypatch, capsys, *command).said_in_one_line


def test_demo_wants_a_frame():
    result = subprocess.run([*COMMAND, "--frames", "0"], capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert result.returncode == 2
    assert "--frames" in result.stderr
