"""``bluesky-powder serve`` as its users run it: a process of its own."""

import contextlib
import os
import re
import signal
import socket
import stat
import subprocess
import sys

import httpx
import pytest

from bluesky_powder.cli.serve import _warn
from bluesky_powder.server import PowderServer
from command_line import run_command
from users import PATIENCE

COMMAND = [sys.executable, "-m", "bluesky_powder", "serve", "--port", "0"]


@contextlib.contextmanager
def serving(*arguments):
    process = subprocess.Popen(
        [*COMMAND, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        try:
            lines = []
            for line in process.stdout:
                lines.append(line)
                if "Ctrl-C ends" in line:
                    break
            told = "".join(lines)
            yield process, told, re.search(r"at (http://\S+)", told)[1]
        finally:
            process.kill()


def status(uri, **headers):
    return httpx.get(f"{uri}/api/v1/metadata/", headers=headers, timeout=PATIENCE).status_code


def test_server_is_closed_to_those_without_the_key_and_ends_on_ctrl_c(tmp_path):
    with serving("-d", tmp_path / "served") as (process, told, uri):
        file = tmp_path / "served" / "api-key"
        key = file.read_text().strip()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert key not in told
        assert uri.startswith("http://127.0.0.1:")
        assert (status(uri), status(uri, Authorization=f"Apikey {key}")) == (401, 200)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert process.stderr.read() == ""
    assert key not in (tmp_path / "served" / "server.log").read_text()


def test_generated_key_is_shown_once_on_a_terminal(tmp_path):
    terminal, its_end = os.openpty()
    command = [*COMMAND, "-d", str(tmp_path)]
    with subprocess.Popen(command, stdout=its_end, stderr=its_end) as process, os.fdopen(terminal, "rb", 0) as shown:
        os.close(its_end)
        told = b""
        while b"Ctrl-C ends" not in told:
            told += shown.read(4096)
        process.send_signal(signal.SIGINT)
        # The end of a terminal is an error of reading.
        with contextlib.suppress(OSError):
            while more := shown.read(4096):
                told += more
    key = (tmp_path / "api-key").read_text().strip()
    assert told.decode().count(key) == 1
    assert "warning" not in told.decode()
    assert key not in (tmp_path / "server.log").read_text()


@pytest.mark.parametrize(
    ("host", "local"), [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False)]
)
def test_addresses_of_the_network_are_warned_about(host, local, tmp_path, capsys):
    server = PowderServer(tmp_path, host=host)
    assert server.is_local is local
    _warn(server, public=False)
    with_key = capsys.readouterr().err
    _warn(server, public=True)
    public = capsys.readouterr().err
    assert ("the key crosses the network unencrypted" in with_key) is not local
    assert ("all that can reach it may read all" in public) is not local


def test_public_server_may_be_read_by_anyone(tmp_path):
    with serving("-d", tmp_path, "--public", "--api-key", "sesame", "--read", tmp_path) as (process, told, uri):
        assert "anyone who reaches this address may read" in told
        assert "sesame" not in told
        assert status(uri) == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_bad_input_is_told_in_one_line(monkeypatch, capsys, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = subprocess.run(
            [*COMMAND, "-d", str(tmp_path), "--port", str(port)], capture_output=True, text=True, check=False
        )
        assert result.returncode == 1
        assert "Address already in use" in result.stderr
        assert result.stderr.count("\n") == 1, result.stderr
        for arguments, told in (
            (("-d", tmp_path, "--read", tmp_path / "none"), "there is no such folder"),
            (("-d", tmp_path, "--api-key", "a b"), "letters and digits"),
            (("-d", tmp_path, "--database", "sqlite:///x"), "a database is given as postgresql://"),
            (("-d", tmp_path, "--streaming", "redis://:secret@127.0.0.1:1"), "Redis at redis://<hidden>@127.0.0.1:1"),
            (("-d", tmp_path, "--host", "no.such.host.invalid"), "cannot listen at no.such.host.invalid"),
        ):
            assert told in run_command(monkeypatch, capsys, "serve", "--port", "0", *arguments).said_in_one_line
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}")
