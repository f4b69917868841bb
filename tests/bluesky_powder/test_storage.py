"""Where patterns are stored, and what a killed server, a killed process and a full disk leave of them."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest
import tiled.client.utils
from tiled.client import from_uri

import gsasii
from bluesky_powder.publish import TiledPublisher, read_journal
from bluesky_powder.publish.filing import Filing
from bluesky_powder.publish.journal import Journal
from bluesky_powder.publish.pattern_file import PatternFile
from bluesky_powder.publish.storage import Choice, shared_folder
from bluesky_powder.replay import replay
from bluesky_powder.server import PowderServer
from pattern_runs import documents_of, pattern
from raw_runs import Derived, images, inline_run, recipe_in

patterns_of = partial(documents_of, streams=("cumulative",))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with PowderServer(tmp_path_factory.mktemp("served")) as server:
        yield server


@pytest.fixture(scope="module")
def client(server):
    return server.client()


@pytest.fixture(scope="module")
def stored(client, tmp_path_factory):
    """Documents of a run that is whole in Tiled."""
    documents = list(patterns_of(range(1, 9)))
    with TiledPublisher(client, spool=tmp_path_factory.mktemp("spool"), storage="events") as publisher:
        publish(publisher, documents)
        assert publisher.wait(120)
        assert publisher.failures == ()
    return documents


@pytest.fixture
def small_disk(tmp_path):
    """Return a folder with room for 8 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("a small disk can be mounted by root only")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def publish(publisher, documents):
    documents = list(documents)
    for name, document in documents:
        publisher(name, document)
    return documents[0][1]["uid"]


def stored_as(client, uid, stream="primary"):
    (source,) = client[uid, stream].base["intensity"].include_data_sources().data_sources()
    return "file" if source.mimetype == "application/x-hdf5" else "events"


def rows(client, uid, stream="primary"):
    return client[uid, stream].base["internal"].read()["seq_num"].tolist()


def assert_whole(client, uid, seq_nums, npt=200):
    read, sums = client[uid, "primary"].read(), client[uid, "primary"].base["sums"].read()
    assert rows(client, uid) == list(seq_nums)
    for row, number in enumerate(seq_nums):
        made = pattern(number, npt)
        np.testing.assert_array_equal(sums[row], made.sums)
        np.testing.assert_array_equal(read["intensity"][row], made.intensity)
        np.testing.assert_array_equal(read["sem"][row], made.sem)
    assert client[uid, "cumulative"].read()["intensity"].shape == (len(list(seq_nums)), npt)
    assert client[uid].metadata["stop"]["exit_status"] == "success"


def files_of(folder, uid):
    return sorted(path.name.split(".")[-2] for path in folder.rglob(f"{uid}.*.h5"))


def decided(stamps, wanted="auto", **start):
    choice = Choice(wanted)
    choice.start({"analysis_stage": "powder", **start})
    choice.take("descriptor", {"name": "primary", "uid": "d"}, stamps[0])
    for stamp in stamps:
        choice.take("event", {"descriptor": "d"}, stamp)
    return choice


@pytest.mark.parametrize(
    ("rate", "start", "made"),
    [
        (9.0, {}, "events"),
        (11.0, {}, "file"),
        (1.0, {"raw_num_points": 500}, "file"),
        (1.0, {"raw_num_points": None}, "events"),
        (1000.0, {"analysis_stage": "raw"}, "events"),
    ],
)
def test_choice_goes_by_the_rate_of_the_first_patterns_and_the_length_announced(rate, start, made):
    assert decided(100.0 + np.arange(6) / rate, **start).made == made


def test_choice_waits_half_a_second_and_no_longer():
    choice = decided([100.0, 100.01])
    choice.settle(100.49)
    assert (choice.made, choice.is_due(100.49)) == (None, False)
    choice.settle(100.5)
    assert choice.made == "events"
    assert decided([100.0], wanted="file").made == "file"
    assert decided(100.0 + np.arange(6) / 100, wanted="events").made == "events"


def test_fast_run_goes_to_files_that_read_back_bit_for_bit_and_suit_gsas_ii(server, client, tmp_path):
    # Event 4 was skipped, and 6 taken again after a pause.
    seq_nums = [1, 2, 3, 5, 6, 6, 7, 8, 9, 10]
    with TiledPublisher(server.uri, api_key=server.api_key, spool=tmp_path) as publisher:
        uid = publish(publisher, documents_of(seq_nums, merges=True))
        assert publisher.wait(120)
        assert publisher.failures == ()
        assert str(publisher.state) == "all is in Tiled"
    assert stored_as(client, uid) == stored_as(client, uid, "merged") == "file"
    assert_whole(client, uid, seq_nums)
    assert files_of(server.directory, uid) == ["cumulative", "merged", "primary"]
    (path,) = server.directory.rglob(f"{uid}.primary.h5")
    histograms = gsasii.read_nxazint(path)
    assert [histogram.sample["Time"] for histogram in histograms] == list(range(10))
    for number, histogram in zip(seq_nums, histograms, strict=True):
        made = pattern(number)
        np.testing.assert_allclose(histogram.x, made.radial, rtol=1e-12)
        np.testing.assert_array_equal(histogram.y, np.where(made.filled, made.intensity, 0.0))
        np.testing.assert_allclose(histogram.w[3:], 1 / made.sem[3:] ** 2)
        assert histogram.w[2] == 0
    with h5py.File(path) as file:
        np.testing.assert_allclose(file["entry/data/norm"], np.mean([pattern(n).count for n in seq_nums], axis=0))
        assert file["entry/sample/name"][()] == b"LaB6"


def test_growing_file_is_seen_by_readers_elsewhere_pattern_by_pattern(server, client, tmp_path):
    documents = list(patterns_of(range(1, 31)))
    uid = documents[0][1]["uid"]
    program = f"""
import sys, h5py
sys.path[:0] = {sys.path!r}
with h5py.File(sys.argv[1], "r", libver="latest", swmr=True) as file:
    print(len(file["entry/data/I"]), len(file["entry/stream/sums"]), file["entry/definition"][()].decode())
"""
    with TiledPublisher(client, spool=tmp_path, storage="file") as publisher:
        for name, document in documents[:20]:
            publisher(name, document)
        assert publisher.wait(120)
        events = sum(name == "event" and "sums" in document["data"] for name, document in documents[:20])
        # Before the run has ended:
        assert client[uid, "primary"].read()["intensity"].shape == (events, 200)
        (path,) = server.directory.rglob(f"{uid}.primary.h5")
        read = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True)
        assert read.stdout.split() == [str(events), str(events), "NXazint1d"]
        for name, document in documents[20:]:
            publisher(name, document)
        assert publisher.wait(120)
    assert_whole(client, uid, range(1, 31))


def test_first_pattern_is_registered_with_its_row_and_told_before_the_next_stream(server, tmp_path):
    asked, client = [], server.client()
    client.context.http_client.event_hooks["request"].append(
        lambda request: asked.append(f"{request.method} {request.url.path}")
    )
    with TiledPublisher(client, spool=tmp_path, storage="file") as publisher:
        documents = list(patterns_of([1]))
        for document in documents[:-1]:
            publisher(*document)
        assert publisher.wait(60)
        uid = documents[0][1]["uid"]
        assert not [each for each in asked if "/data_source/" in each]
        registered = [at for at, each in enumerate(asked) if "/register/" in each]
        row = asked.index(f"PATCH /api/v1/table/partition//{uid}/primary/internal")
        assert [at < row for at in registered] == [True] * 3 + [False] * 2
        assert client[uid, "primary"].base["sums"].read().tobytes() == pattern(1).sums.tobytes()
        assert rows(client, uid) == [1]
        publisher(*documents[-1])
    assert_whole(client, uid, [1])


def test_storage_can_be_forced_and_changes_no_number(client, stored, tmp_path):
    with TiledPublisher(client, spool=tmp_path, storage="file") as publisher:
        slow = publish(publisher, patterns_of(range(1, 3)))
        assert publisher.wait(120)
    fast = stored[0][1]["uid"]
    for uid, storage, seq_nums in ((fast, "events", range(1, 9)), (slow, "file", range(1, 3))):
        assert stored_as(client, uid) == storage
        assert_whole(client, uid, seq_nums)


@pytest.mark.usefixtures("process_that_used_v2")
@pytest.mark.parametrize("storage", ["events", "file"])
def test_runs_are_stored_and_read_whichever_version_of_runs_the_process_uses(client, tmp_path, storage):
    with TiledPublisher(client, spool=tmp_path, storage=storage) as publisher:
        uid = publish(publisher, documents_of(range(1, 4), merges=True))
        assert publisher.wait(120)
        assert publisher.failures == ()
    assert_whole(client, uid, range(1, 4))
    np.testing.assert_array_equal(client[uid].pattern(3).sums, pattern(3).sums)


def test_files_follow_what_the_documents_say_of_their_patterns(tmp_path):
    documents = list(patterns_of(range(1, 3)))
    (about,) = [
        document["data_keys"]["sums"]
        for name, document in documents
        if name == "descriptor" and document["name"] == "primary"
    ]
    about["gain"] = 4.0
    about["conditions"] = {**about["conditions"], "splitting": "no", "outliers": "sigma_clip 5"}
    filing = Filing(tmp_path, documents[0][1])
    kinds = []
    for name, document in documents:
        filing.learn_axes(name, document)
        filing.take(name, document)
        kinds.append(filing.kind)
    list(filing.flush())
    filing.close()
    assert kinds[0] is None
    assert (kinds[-1].gain, kinds[-1].conditions.splitting, kinds[-1].conditions.outliers) == (
        4.0,
        "no",
        "sigma_clip 5",
    )
    for stream in ("primary", "cumulative"):
        with h5py.File(tmp_path / f"{documents[0][1]['uid']}.{stream}.h5") as file:
            assert "/entry/data/I_errors" in file


def test_folder_that_the_server_may_not_read_leaves_the_run_with_events(client, tmp_path, caplog):
    with TiledPublisher(client, spool=tmp_path / "spool", folder=tmp_path / "elsewhere") as publisher:
        uid = publish(publisher, patterns_of(range(1, 9)))
        assert publisher.wait(120)
        assert publisher.failures == ()
    assert f"--read {tmp_path / 'elsewhere'}" in caplog.text
    assert stored_as(client, uid) == "events"
    assert files_of(tmp_path, uid) == []
    assert_whole(client, uid, range(1, 9))


def test_storage_on_another_machine_is_not_taken_for_ours(client, stored, monkeypatch):
    uid = stored[0][1]["uid"]
    arrays = [client[uid, "axes"].base["radial"].include_data_sources()]
    assert shared_folder(arrays, uid).name == uid
    monkeypatch.setattr(Path, "exists", lambda _: False)
    assert shared_folder(arrays, uid) is None


def test_run_left_by_a_killed_process_is_adopted_once_under_its_uid(client, tmp_path):
    program = f"""
import os, sys, time
sys.path[:0] = {sys.path!r}
from bluesky_powder.publish import TiledPublisher
from pattern_runs import documents_of
publisher = TiledPublisher("http://127.0.0.1:1", spool=sys.argv[1])
for run in range(2):
    documents = list(documents_of(range(1, 4), streams=["cumulative"]))
    print(documents[0][1]["uid"])
    for name, document in documents[: len(documents) - run]:
        publisher(name, document)
while publisher.pending < 2 * len(documents) - 1 or publisher.state.queued:
    time.sleep(0.01)
sys.stdout.flush()
os.kill(os.getpid(), 9)
"""
    killed = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    ended, cut = killed.stdout.split()
    # Killed in the middle of writing a document, too.
    with next(tmp_path.glob(f"{cut}*.journal")).open("ab") as journal:
        journal.write(b"\0\0\0\0\0\0\1")
    assert len(list(tmp_path.glob("*.journal"))) == 2
    with TiledPublisher(client, spool=tmp_path) as publisher:
        assert publisher.wait(120)
        assert publisher.failures == ()
        assert set(publisher.state.adopted) == {ended, cut}
    assert_whole(client, ended, range(1, 4))
    assert rows(client, cut) == [1, 2, 3]
    stop = client[cut].metadata["stop"]
    assert stop["exit_status"] == "fail"
    assert "ended before the run did" in stop["reason"]
    assert list(tmp_path.glob("*.journal")) == []


def test_journal_of_a_run_that_is_whole_in_tiled_is_dropped_and_one_in_use_left_alone(client, stored, tmp_path):
    uid = stored[0][1]["uid"]
    left, in_use = Journal.new(tmp_path, uid), Journal.new(tmp_path, "other")
    for name, document in stored:
        left.append(name, document)
    left.close()
    with TiledPublisher(client, spool=tmp_path) as publisher:
        assert publisher.wait(120)
        assert publisher.failures == ()
        assert publisher.state.adopted == (uid,)
    assert list(tmp_path.glob("*.journal")) == [in_use.path]
    in_use.remove()
    assert_whole(client, uid, range(1, 9))


def test_server_killed_in_the_middle_of_a_run_has_it_whole_after_its_restart(tmp_path, monkeypatch):
    # Tiled's client would try each request for 45 s before it gives in.
    monkeypatch.setattr(tiled.client.utils, "TILED_RETRY_ATTEMPTS", 1)
    documents = {storage: list(patterns_of(range(1, 13))) for storage in ("file", "events")}
    serving = Serving(tmp_path / "served")
    try:
        publishers = {
            storage: TiledPublisher(serving.uri, api_key="secret", spool=tmp_path / storage, storage=storage)
            for storage in documents
        }
        for storage, publisher in publishers.items():
            for name, document in documents[storage][:18]:
                publisher(name, document)
            assert publisher.wait(120)
            for name, document in documents[storage][18:-3]:
                publisher(name, document)
        serving.kill()
        for storage, publisher in publishers.items():
            for name, document in documents[storage][-3:]:
                publisher(name, document)
        for publisher in publishers.values():
            assert not publisher.wait(0.5)
        serving.start()
        for publisher in publishers.values():
            assert publisher.wait(120), publisher.state
            assert publisher.failures == ()
            publisher.close()
        client = from_uri(serving.uri, api_key="secret")
        for storage in documents:
            uid = documents[storage][0][1]["uid"]
            assert stored_as(client, uid) == storage
            assert_whole(client, uid, range(1, 13))
        client.context.close()
    finally:
        serving.kill()


class Serving:
    """A server in a process of its own."""

    def __init__(self, folder):
        self.folder, self.uri, self.port = folder, "", 0
        self.start()

    def start(self):
        command = [sys.executable, "-m", "bluesky_powder", "serve", "-d", self.folder, "--port", str(self.port)]
        self.process = subprocess.Popen(
            [*command, "--api-key", "secret"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        line = self.process.stdout.readline()
        self.uri = line.split()[-1]
        self.port = int(self.uri.rpartition(":")[2])

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def filled(folder, leave):
    """Fill a disk but for so many bytes; return the file that does."""
    ballast = folder / "ballast"
    free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
    ballast.write_bytes(b"\0" * (free - leave))
    return ballast


def test_disk_of_the_journals_that_is_full_loses_nothing_that_memory_can_hold(client, small_disk, caplog):
    filled(small_disk, 60_000)
    with TiledPublisher(client, spool=small_disk, storage="events") as publisher:
        uid = publish(publisher, patterns_of(range(1, 13)))
        assert publisher.wait(120)
        assert publisher.failures == ()
    assert "no room" in caplog.text
    assert_whole(client, uid, range(1, 13))


def test_journal_on_a_disk_that_gets_room_again_is_left_whole(small_disk):
    ballast = filled(small_disk, 60_000)
    documents = list(patterns_of(range(1, 13)))
    publisher = TiledPublisher("http://127.0.0.1:1", spool=small_disk)
    publish(publisher, documents)
    while publisher.state.queued:
        time.sleep(0.01)
    (state,) = publisher.state.runs
    assert state.in_memory > 0
    assert "as the disk is full" in str(state)
    ballast.unlink()
    publisher.close(timeout=0.5)
    (failure,) = publisher.failures
    assert [name for name, _ in read_journal(failure.documents)] == [name for name, _ in documents]


def test_journal_on_a_disk_that_stays_full_tells_what_is_lost(small_disk):
    filled(small_disk, 60_000)
    publisher = TiledPublisher("http://127.0.0.1:1", spool=small_disk)
    publish(publisher, patterns_of(range(1, 13)))
    while publisher.state.queued:
        time.sleep(0.01)
    publisher.close(timeout=0.5)
    (failure,) = publisher.failures
    assert "lost, as the disk of the journals is full" in failure.reason
    assert failure.documents is None


def test_pattern_file_on_a_full_disk_waits_for_room_and_is_whole_then(tmp_path, small_disk):
    with PowderServer(tmp_path / "served", readable=[small_disk]) as server:
        client = server.client()
        ballast = filled(small_disk, 1_100_000)
        with TiledPublisher(client, spool=server.spool, folder=small_disk, storage="file") as publisher:
            uid = publish(publisher, patterns_of(range(1, 13)))
            while not publisher.state.runs or publisher.state.runs[0].trouble is None:
                time.sleep(0.01)
            assert "no room on the disk" in str(publisher.state)
            ballast.unlink()
            assert publisher.wait(120), publisher.state
            assert publisher.failures == ()
        assert stored_as(client, uid) == "file"
        assert_whole(client, uid, range(1, 13))


def test_patterns_that_nxazint_cannot_hold_are_stored_all_the_same(tmp_path):
    file = PatternFile(tmp_path / "a.h5", {"intensity": (5,)})
    file.append({"intensity": np.arange(5.0)})
    assert (file.waiting, file.flush(), file.waiting) == (1, 1, 0)
    file.close()
    with h5py.File(tmp_path / "a.h5") as read:
        np.testing.assert_array_equal(read[PatternFile.place("intensity")], [np.arange(5.0)])
        assert "data" not in read["entry"]


def test_scratch_on_a_full_disk_costs_the_mean_frame_and_no_pattern(tmp_path, small_disk):
    recipe = recipe_in(tmp_path, moving=True)
    frames, positions = images(6), [0.0, 5.0, 10.0, 15.0, 20.0, 25.0]
    whole, cramped = Derived(), Derived()
    replay(inline_run(frames, positions), recipe, whole)
    filled(small_disk, 0)
    replay(inline_run(frames, positions), recipe, cramped, scratch=small_disk, byte_budget=1)
    assert "there is no mean frame from event 2 on: [Errno 28] No space left on device" in cramped.stop["reason"]
    assert cramped.stop["frames_reduced"] == 6
    for stream, key in (("primary", "sums"), ("cumulative", "intensity"), ("cumulative", "sem")):
        for number in range(1, 7):
            np.testing.assert_array_equal(cramped.latest(stream, key)[number], whole.latest(stream, key)[number])
    merges = [derived.events["merged"][-1]["data"]["sums"] for derived in (whole, cramped)]
    np.testing.assert_array_equal(*merges)
