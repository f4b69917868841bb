"""``bluesky-powder show`` on a stored run."""

from functools import partial

import pytest

from bluesky_powder.replay import replay
from bluesky_powder.server import PowderServer
from command_line import run_command
from derived_runs import derived_run
from raw_runs import SHAPE, Derived, images, inline_run, recipe_in
from served_runs import publish


@pytest.fixture
def run(monkeypatch, capsys):
    return partial(run_command, monkeypatch, capsys)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A folder with derived runs: whole, only begun, of shared events, and one that saw nothing; and their uids."""
    folder = tmp_path_factory.mktemp("stored")
    # What has begun ends before its first pattern is described: the publisher would keep that back, and wait for one.
    whole, begun = list(derived_run(3, npt=20, raw_uid="aaaa")), list(derived_run(3, npt=20, raw_uid="bbbb"))[:3]
    shared, unseen = Derived(), Derived()
    replay(inline_run(images(6).reshape(2, 3, *SHAPE)), recipe_in(folder), shared)
    beyond = {"unit": "2th_deg", "npt": 20, "range": [100, 140]}
    replay(inline_run(images(2)), recipe_in(folder, bins=beyond), unseen)
    with PowderServer(folder) as server:
        publish(server, whole, begun, shared.documents, unseen.documents, batch_size=None)
    return folder, whole[0][1]["uid"], begun[0][1]["uid"], shared.start["uid"], unseen.start["uid"]


def test_show_prints_the_table_and_saves_the_plot_from_a_folder_and_over_http_alike(run, stored, tmp_path):
    pytest.importorskip("matplotlib")
    folder, uid, *_ = stored
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


def test_show_counts_images_where_events_have_several(run, stored, tmp_path):
    pytest.importorskip("matplotlib")
    outcome = run("show", stored[3], "--directory", stored[0], "--plot", tmp_path / "run.png")
    (told,) = [line.split() for line in outcome.out.splitlines() if line.startswith("independent frames:")]
    assert 1 < float(told[2]) < 6
    assert told[3:] == ["of", "6"]


def test_show_of_a_run_that_saw_nothing_says_so(run, stored, tmp_path):
    pytest.importorskip("matplotlib")
    outcome = run("show", stored[4], "--directory", stored[0], "--plot", tmp_path / "run.png")
    assert outcome.code == 0, outcome
    assert "no bin of 100 to 140 2th_deg saw a pixel; the detector covers 0 to 27.89" in outcome.out
    assert "mean frame: no ring saw counts" in outcome.out
    assert "nan" not in outcome.out.partition("mean frame:")[2].partition("\n")[0]


def test_bad_input_is_told_in_one_line(run, stored, tmp_path):
    folder, uid, begun, *_ = stored
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
