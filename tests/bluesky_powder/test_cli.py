"""The frame of the command line: what becomes of errors."""

import subprocess
import sys

import pytest

from azimuthal.errors import UnitError
from bluesky_powder import cli
from bluesky_powder.errors import DerivedRunError, RecipeError


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (UnitError("unit 'furlong' does not exist"), "unit 'furlong' does not exist"),
        (
            RecipeError("recipe.yaml, line 3: bins.npt: 0 bins are none"),
            "recipe.yaml, line 3: bins.npt: 0 bins are none",
        ),
        (DerivedRunError("no run begins with 12ab"), "no run begins with 12ab"),
        (FileNotFoundError(2, "No such file or directory", "frames.h5"), "frames.h5"),
        (ModuleNotFoundError("No module named 'matplotlib'", name="matplotlib"), "pip install 'bluesky-powder[live]'"),
        (ModuleNotFoundError("No module named 'x'", name="ophyd_async.core"), "pip install 'bluesky-powder[sim]'"),
    ],
)
def test_main_tells_known_errors_in_one_line(monkeypatch, capsys, error, told):
    def fail():
        raise error

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    output = capsys.readouterr().err
    assert output.startswith("bluesky-powder: ")
    assert told in output
    assert output.count("\n") == 1


@pytest.mark.parametrize("error", [KeyError("a mistake of ours"), ModuleNotFoundError("x", name="numpy")])
def test_main_does_not_hide_mistakes(monkeypatch, error):
    def fail():
        raise error

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(type(error)):
        cli.main()


def test_command_line_lists_its_commands():
    command = [sys.executable, "-m", "bluesky_powder", "--help"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    for name in ("demo", "ingest", "show", "range", "serve"):
        assert f" {name} " in result.stdout


def test_command_line_starts_without_what_only_commands_need():
    heavy = ("matplotlib", "ophyd_async", "bluesky_tiled_plugins", "uvicorn", "numba", "tiled.server")
    code = f"import sys, bluesky_powder.cli; print([m for m in {heavy} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.stdout.strip() == "[]", result.stderr
