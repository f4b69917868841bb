"""``bluesky-powder show`` on a stored run."""

from functools import partial

import pytest

from bluesky_powder.server import PowderServer
from command_line import run_command
from derived_runs import derived_run
from served_runs import publish


@pytest.fixture
def run(monkeypatch, capsys):
    return partial(run_command, monkeypatch, capsys)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A folder with one derived run, and one that has only begun; and the uids."""
    folder = tmp_path_factory.mktemp("stored")
    # What has begun ends before its first pattern is described: the publisher would keep that back, and wait for one.
    whole, begun = list(derived_run(3, npt=20, raw_uid="aaaa")), list(derived_run(3, npt=20, raw_uid="bbbb"))[:3]
    with PowderServer(folder) as server:
        publish(server, whole, begun, batch_size=None)
    return folder, whole[0][1]["uid"], begun[0][1]["uid"]


def test_show_prints_the_table_and_saves_the_plot_from_a_folder_and_over_http_alike(run, stored, tmp_path):
    pytest.importorskip("matplotlib")
    folder, uid, _ = stored
    outcome = run("show", uid[:8], "--directory", folder, "--plot", tmp_path / "run.png")
    assert outcome.code == 0, outcome
    assert uid in outcome.out
    rows = [line.split() for line in outcome.out.splitlines() if line.lstrip()[:1] in ("1", "2", "3") and "." in line]
    assert [row[:3] for row in rows[-3:]] == [
        ["1", "1", "0.0010000"],
        ["2", "2", "0.0020000"],
        ["3", "1.5", "0.0030000"],
    ]
    assert "mean frame: smooth, S = 0.0060000" in outcome.out
    assert "independent frames: unknown" in outcome.out
    assert (tmp_path / "run.png").read_bytes().startswith(b"\x89PNG")
    with PowderServer(folder, api_key="sesame") as server:
        there = ("--tiled", server.uri, "--api-key", "sesame")
        assert run("show", "aaaa", *there, "--plot", tmp_path / "run.png").out == outcome.out


def test_bad_input_is_told_in_one_line(run, stored, tmp_path):
    folder, uid, begun = stored
    for arguments, told in (
        (("0000", "-d", folder), "no powder run"),
        (("a/b", "-d", folder), "is no uid"),
        ((uid,), "give one of --directory"),
        ((uid, "-d", tmp_path), "is no folder of a server"),
        ((uid, "--tiled", "http://127.0.0.1:1"), "no Tiled server answers"),
        ((uid, "--tiled", "nonsense"), "is no address"),
        ((begun, "-d", folder), "has no stream 'primary' yet"),
        ((uid, "-d", folder, "--plot", tmp_path / "plot.xyz"), "cannot be saved"),
        ((uid, "-d", folder, "--plot", tmp_path / "nowhere" / "plot.png"), "No such file or directory"),
    ):
        assert told in run("show", *arguments).said_in_one_line
