"""``bluesky-powder export`` on a stored run."""

from functools import partial

import h5py
import pytest

from bluesky_powder.server import PowderServer
from command_line import run_command
from served_runs import publish, reduced


@pytest.fixture
def run(monkeypatch, capsys):
    return partial(run_command, monkeypatch, capsys)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A folder with one derived run, and one that has only begun; and their uids."""
    folder = tmp_path_factory.mktemp("stored")
    whole, begun = (reduced(tmp_path_factory.mktemp("recipe"), frames=2) for _ in range(2))
    with PowderServer(folder) as server:
        publish(server, whole.documents, batch_size=100)
        publish(server, begun.documents[:1])
    return folder, whole.start["uid"], begun.start["uid"]


def test_pattern_is_written_from_a_folder_and_from_a_server_alike(run, stored, tmp_path, monkeypatch):
    folder, uid, _ = stored
    monkeypatch.chdir(tmp_path)
    outcome = run("export", uid[:8], "--format", "fxye", "-d", folder)
    assert (outcome.code, outcome.out) == (0, f"powder-{uid[:8]}.fxye\n"), outcome
    assert run("export", uid, "--frame", "2", "-d", folder, "-o", "b.h5").code == 0
    with h5py.File("b.h5") as file:
        assert "frame 2" in file["entry/reduction/note"].asstr()[()]
    with PowderServer(folder, api_key="sesame") as server:
        there = ("--tiled", server.uri, "--api-key", "sesame")
        assert run("export", uid, "-o", "c.fxye", *there).code == 0
        assert run("export", uid, *there, "--api-key", "wrong").said_in_one_line.endswith("or another one")
    assert (tmp_path / "c.fxye").read_bytes() == (tmp_path / f"powder-{uid[:8]}.fxye").read_bytes()


def test_bad_input_is_told_in_one_line(run, stored, tmp_path):
    folder, uid, begun = stored
    for arguments, told in (
        ((uid, "--format", "docx"), "choose one of xye, chi, fxye, nxazint, csv"),
        ((uid, "-o", tmp_path / "a.png"), "'.png' does not exist; choose one of"),
        ((uid, "--which", "frame"), "needs the number of the frame"),
        ((uid, "--which", "merged", "--frame", "1"), "leave frame out"),
        ((uid, "--frame", "3"), "has no frame 3: it has 1 to 2"),
        ((uid, "-o", tmp_path / "nowhere" / "a.xye"), "there is no such folder"),
        ((begun,), "has no frames yet; it is still open"),
        (("00000000",), "no powder run"),
    ):
        assert told in run("export", *arguments, "-d", folder).said_in_one_line
    assert "give one of --directory" in run("export", uid).said_in_one_line
    assert not list(tmp_path.iterdir())
