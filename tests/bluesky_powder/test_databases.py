"""A facility's databases: PostgreSQL for catalog and tables, Redis for live messages; real ones, started here."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest

from bluesky_powder.errors import ServerError
from bluesky_powder.server import PowderServer
from browser import until
from derived_runs import derived_run
from served_runs import publish

PASSWORD = "open-to-me"


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


def binary(name):
    """Return a program of PostgreSQL's or Redis'; skip where it is not installed."""
    found = shutil.which(name) or next(iter(sorted(map(str, Path("/usr/lib/postgresql").glob(f"*/bin/{name}")))), None)
    return found or pytest.skip(f"{name} is not installed (apt install postgresql redis-server)")


@pytest.fixture(scope="module")
def postgresql():
    """Start PostgreSQL in a folder of its own; yield the URI of a database. It does not run as root."""
    initdb, postgres = binary("initdb"), binary("postgres")
    if os.getuid() == 0:
        try:
            other = pwd.getpwnam("postgres")
        except KeyError:
            pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
        who = {"user": other.pw_uid, "group": other.pw_gid, "extra_groups": []}
    else:
        who = {}
    folder = Path(tempfile.mkdtemp(prefix="powder-postgresql-"))
    if who:
        os.chown(folder, who["user"], who["group"])
    port = free_port()
    (folder / "password").write_text(PASSWORD)
    (folder / "password").chmod(0o644)
    subprocess.run(
        [initdb, "-D", folder / "data", "-U", "me", "-A", "scram-sha-256", f"--pwfile={folder / 'password'}", "-N"],
        check=True,
        capture_output=True,
        cwd=folder,
        **who,
    )
    process = subprocess.Popen(
        [postgres, "-D", folder / "data", "-p", str(port), "-h", "127.0.0.1", "-k", folder, "-F"],
        stderr=subprocess.DEVNULL,
        cwd=folder,
        **who,
    )
    try:
        wait_for(port)
        until(lambda: "ready" in (folder / "data" / "postmaster.pid").read_text())  # it listens a little before
        yield f"postgresql://me:{PASSWORD}@127.0.0.1:{port}/postgres"
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def redis_uri(tmp_path_factory):
    port = free_port()
    process = subprocess.Popen(
        [binary("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--requirepass", PASSWORD],
        stdout=subprocess.DEVNULL,
        cwd=tmp_path_factory.mktemp("redis"),
    )
    try:
        wait_for(port)
        yield f"redis://:{PASSWORD}@127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait(30)


def wait_for(port):
    """Wait until something listens at a port."""

    def listens():
        with socket.socket() as trial:
            return trial.connect_ex(("127.0.0.1", port)) == 0

    until(listens)


def test_run_goes_into_postgresql_and_redis_and_is_there_after_a_restart(postgresql, redis_uri, tmp_path):
    import redis

    documents = list(derived_run(3, npt=20))
    uid = documents[0][1]["uid"]
    where = {"database": postgresql, "streaming": redis_uri}
    for start in ("first", "second"):
        with PowderServer(tmp_path / "served", **where) as server:
            if start == "first":
                publish(server, documents)
            run = server.client()[uid]
            np.testing.assert_array_equal(run["primary"].read()["masked_pixels"], [1, 2, 3])
            np.testing.assert_array_equal(run["primary"].read()["intensity"][:, 0], [1.0, 2.0, 3.0])
            assert run.metadata["stop"]["exit_status"] == "success"
    assert not (tmp_path / "served" / "catalog.db").exists()
    assert not (tmp_path / "served" / "storage.duckdb").exists()
    with redis.Redis.from_url(redis_uri) as kept:
        assert any(key.startswith(b"sequence:") for key in kept.keys())  # noqa: SIM118 - not a dict
    assert PASSWORD not in (tmp_path / "served" / "server.log").read_text()

    (tmp_path / "served").rename(tmp_path / "moved")
    with pytest.raises(ServerError, match=f"this folder was {tmp_path}/served when its patterns were stored"):
        PowderServer(tmp_path / "moved", **where).start()


def test_wrong_password_is_told_without_it(postgresql, tmp_path):
    with pytest.raises(ServerError, match="password authentication failed") as caught:
        PowderServer(tmp_path, database=postgresql.replace(PASSWORD, "wrong-one")).start()
    assert "wrong-one" not in str(caught.value)
