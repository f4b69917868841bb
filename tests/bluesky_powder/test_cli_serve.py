"""``bluesky-powder serve`` as its users run it: a process of its own."""

import contextlib
import re
import signal
import socket
import stat
import subprocess
import sys

import httpx
import pytest

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
    return httpx.get(f"{uri}/api/v1/metadata/", headers=headers).status_code


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


def test_public_server_may_be_read_by_anyone(tmp_path):
    with serving("-d", tmp_path, "--public", "--api-key", "sesame", "--read", tmp_path) as (process, told, uri):
        assert "anyone who reaches this address may read" in told
        assert "sesame" not in told
        assert status(uri) == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_bad_input_is_told_in_one_line(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for arguments, told in (
            (("-d", tmp_path, "--read", tmp_path / "none"), "there is no such folder"),
            (("-d", tmp_path, "--port", port), "Address already in use"),
            (("-d", tmp_path, "--api-key", "a b"), "letters and digits"),
            (("-d", tmp_path, "--host", "no.such.host.invalid"), "cannot listen at no.such.host.invalid"),
        ):
            result = subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, check=False)
            assert result.returncode == 1
            assert told in result.stderr
            assert result.stderr.count("\n") == 1, result.stderr
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}")
