"""``bluesky-powder replay`` on real servers and files."""

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
from functools import partial

import event_model
import pytest
import tiled.profiles
import yaml

from bluesky_powder.client import columns, connect
from bluesky_powder.client.find import earlier_runs
from bluesky_powder.server import PowderServer
from command_line import run_command
from raw_runs import Derived, copied, images, inline_run, recipe_in
from stored_runs import store

UID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
LINE = re.compile(rf"raw run ({UID}) -> derived run ({UID})(?: \((\w+)\))?: (.*)")


@pytest.fixture
def run(monkeypatch, capsys):
    return partial(run_command, monkeypatch, capsys)


def told(outcome):
    """Return what is said of each run: (raw uid, derived uid, detector, frames)."""
    return LINE.findall(outcome.out)


def uid_of(documents):
    return documents[0][1]["uid"]


def write_jsonl(path, *runs):
    pairs = [pair for documents in runs for pair in documents]
    path.write_text("".join(json.dumps([n, event_model.sanitize_doc(d)]) + "\n" for n, d in copied(pairs)))
    return path


@pytest.fixture(scope="module")
def raw():
    """Two runs, and one whose frames have another name."""
    one, two = inline_run(images(3)), inline_run(images(2, seed=2))
    other = json.loads(json.dumps([(n, event_model.sanitize_doc(d)) for n, d in inline_run(images(1))]))
    for name, document in other:
        for part in ("data", "timestamps", "data_keys"):
            if part in document:
                document[part]["camera"] = document[part].pop("det")
        if name == "start":
            document["scan_id"] = 8
    return one, two, other


@pytest.fixture(scope="module")
def folder(tmp_path_factory, raw):
    """Return the folder of a server that has the first two of the raw runs."""
    folder = tmp_path_factory.mktemp("served")
    with PowderServer(folder) as server:
        client = server.client()
        for documents in raw[:2]:
            store(client, documents, batch_size=100)
        client.context.close()
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory, raw):
    """Return a server that has the raw runs, and wants a key."""
    with PowderServer(tmp_path_factory.mktemp("server"), api_key="sesame") as server:
        client = server.client()
        for documents in raw:
            store(client, documents, batch_size=100)
        client.context.close()
        yield server


@pytest.fixture
def recipe(tmp_path):
    recipe_in(tmp_path)
    return tmp_path / "recipe.yaml"


def test_runs_of_a_folder_are_replayed_into_it(run, folder, raw, recipe):
    one, two, _ = raw
    outcome = run("replay", uid_of(one), uid_of(two)[:9], "--recipe", recipe, "--directory", folder)
    assert outcome.code == 0, outcome
    lines = told(outcome)
    assert [(line[0], line[3]) for line in lines] == [
        (uid_of(one), "3 frames reduced"),
        (uid_of(two), "2 frames reduced"),
    ]
    assert f"2 derived runs in {folder}" in outcome.out
    again = run("replay", uid_of(one), "-r", recipe, "-d", folder)
    assert again.code == 0, again
    program = textwrap.dedent("\n".join(line for line in again.out.splitlines() if line.startswith("    ")))
    with contextlib.redirect_stdout(io.StringIO()) as said:
        exec(program, {})
    assert "intensity" in said.getvalue()
    with PowderServer(folder) as server:
        client = server.client()
        first, second = (client[told(which)[0][1]] for which in (outcome, again))
        assert second.metadata["start"]["supersedes"] == [first.metadata["start"]["uid"]]
        for stream in ("primary", "cumulative", "merged"):
            before, after = columns(first, stream), columns(second, stream)
            assert before.keys() == after.keys()
            numbers = {key for key in before if before[key].dtype.kind in "fi" and not key.startswith("ts_")}
            assert "intensity" in numbers
            for key in numbers - {"time"}:
                assert before[key].tobytes() == after[key].tobytes(), (stream, key)
        client.context.close()


def test_runs_of_a_server_go_back_to_it_or_elsewhere_and_are_not_replayed_themselves(
    run, server, raw, recipe, tmp_path
):
    one, _, _ = raw
    source = ("--tiled", server.uri, "--api-key", "sesame")
    with connect(server.uri, "sesame") as client:
        others = earlier_runs(client, uid_of(one))
        outcome = run("replay", uid_of(one), "--recipe", recipe, *source)
        assert outcome.code == 0, outcome
        assert f"1 derived run at {server.uri}" in outcome.out
        derived = told(outcome)[0][1]
        assert earlier_runs(client, uid_of(one)) == [*others, derived]
    again = run("replay", derived, "--recipe", recipe, *source)
    assert again.code == 1
    assert f"run {derived} is a derived run; its raw run is {uid_of(one)}" in again.out
    outcome = run("replay", uid_of(one), "--recipe", recipe, *source, "--directory", tmp_path / "other")
    assert outcome.code == 0, outcome
    assert f"1 derived run in {tmp_path / 'other'}" in outcome.out
    with PowderServer(tmp_path / "other") as other:
        client = other.client()
        start = client[told(outcome)[0][1]].metadata["start"]
        assert "supersedes" not in start  # that is about the catalog that it goes to
        client.context.close()


def test_runs_of_files_are_replayed(run, server, raw, recipe, tmp_path):
    one, two, _ = raw
    file, target = write_jsonl(tmp_path / "runs.jsonl", one, two), ("--to", server.uri, "--to-api-key", "sesame")
    outcome = run("replay", "--file", file, "--recipe", recipe, *target)
    assert outcome.code == 0, outcome
    assert f"2 derived runs at {server.uri}" in outcome.out
    assert [line[0] for line in told(outcome)] == [uid_of(one), uid_of(two)]
    outcome = run("replay", uid_of(two)[:10], "--file", file, "--file", file, "--recipe", recipe, *target)
    assert outcome.code == 0, outcome
    assert [line[0] for line in told(outcome)] == [uid_of(two)]


def test_file_that_breaks_off_is_replayed_as_far_as_it_goes(run, server, raw, recipe, tmp_path):
    file = write_jsonl(tmp_path / "runs.jsonl", raw[0])
    file.write_bytes(file.read_bytes()[:-300])
    outcome = run("replay", "--file", file, "--recipe", recipe, "--to", server.uri, "--api-key", "sesame")
    assert outcome.code == 0, outcome
    assert "ends in the middle of line" in outcome.out
    assert told(outcome)[0][3].endswith("reduced")


def test_several_detectors_give_a_derived_run_each(run, server, raw, recipe):
    content = yaml.safe_load(recipe.read_text())
    recipe.write_text(yaml.safe_dump({"detectors": {"near": content, "far": content}}))
    outcome = run("replay", uid_of(raw[0]), "--recipe", recipe, "--tiled", server.uri, "--api-key", "sesame")
    assert outcome.code == 0, outcome
    assert sorted(line[2] for line in told(outcome)) == ["far", "near"]


def test_what_fails_does_not_stop_the_others(run, server, raw, recipe):
    one, two, other = raw
    uids = ("zzzz", uid_of(one), uid_of(other), "8", "a/b", uid_of(two))
    outcome = run("replay", *uids, "--recipe", recipe, "--tiled", server.uri, "--api-key", "sesame")
    assert outcome.code == 1
    assert [line[0] for line in told(outcome) if line[3][0] != "0"] == [uid_of(one), uid_of(two)]
    assert "run zzzz: no run has a uid that is, or begins with, zzzz; the latest are" in outcome.out
    assert f"{uid_of(other)} (scan 8)" in outcome.out
    assert "the run has no data key 'det'; set `frames` in the recipe to one of: camera" in outcome.out
    assert "run a/b: 'a/b' is no uid" in outcome.out
    assert outcome.out.count(f"raw run {uid_of(other)}") == 1  # by uid and by scan id, but one run
    assert "2 derived runs at" in outcome.out


def test_broken_files_do_not_stop_the_others(run, server, raw, recipe, tmp_path):
    good, bad = write_jsonl(tmp_path / "good.jsonl", raw[0]), tmp_path / "bad.jsonl"
    bad.write_text("nonsense\n")
    half = write_jsonl(tmp_path / "half.jsonl", raw[1])
    lines = half.read_text().splitlines()
    half.write_text("\n".join([*lines[:-1], "{oops}", lines[-1], ""]))
    files = [part for path in (bad, tmp_path / "nowhere.json", half, good) for part in ("--file", path)]
    target = ("--to", server.uri, "--api-key", "sesame")
    outcome = run("replay", "abc", *files, "--recipe", recipe, *target)
    assert outcome.code == 1
    assert f"run abc: no run has a uid that is, or begins with, abc; there are {uid_of(raw[1])}" in outcome.out
    outcome = run("replay", *files, "--recipe", recipe, *target)
    assert outcome.code == 1
    assert f"{bad}: {bad}: record 1 is no Bluesky document" not in outcome.out  # the file once
    assert f"{bad}: record 1 is no Bluesky document" in outcome.out
    assert "nowhere.json cannot be read: No such file" in outcome.out
    assert f"{half}, line {len(lines)} is not JSON" in outcome.out
    assert [line[0] for line in told(outcome)] == [uid_of(raw[1]), uid_of(raw[0])]


def test_file_given_as_a_uid_says_how_to_give_it(run, server, recipe):
    outcome = run("replay", recipe, "--tiled", server.uri, "--api-key", "sesame", "--recipe", recipe)
    assert outcome.code == 1
    assert "is no uid; one consists of letters, digits and hyphens; --file is for files of documents" in outcome.out


def test_malformed_documents_in_a_file_cost_themselves_only(run, server, raw, recipe, tmp_path):
    (start, descriptor, first, *rest, stop), other = raw[0], raw[1]
    nonsense = [("start", {}), ("descriptor", {}), ("event", {"data": {}}), ("datum", {}), ("stop", {})]
    counted = ("stop", {**stop[1], "num_events": {"primary": "many"}})
    file = write_jsonl(tmp_path / "run.jsonl", [start, descriptor, first, start, *nonsense, *rest, counted], other)
    outcome = run("replay", "--file", file, "--recipe", recipe, "--to", server.uri, "--api-key", "sesame")
    assert outcome.code == 0, outcome
    assert [(line[0], line[3]) for line in told(outcome)] == [
        (uid_of(raw[0]), "3 frames reduced"),
        (uid_of(other), "2 frames reduced"),
    ]
    assert "an event document was not understood (it has no descriptor)" in outcome.out


def test_a_run_that_is_ambiguous_says_which_there_are(run, server, tmp_path, recipe):
    runs = [inline_run(images(1)) for _ in range(2)]
    for number, documents in enumerate(runs):
        for name, document in documents:
            document["uid" if name == "start" else "run_start"] = f"abcdef-{number}"
    file = write_jsonl(tmp_path / "runs.jsonl", *runs)
    with connect(server.uri, "sesame") as client:
        for documents in runs:
            store(client, [documents[0], documents[-1]])
    for source in (("--file", file, "--to", server.uri), ("--tiled", server.uri)):
        outcome = run("replay", "abc", *source, "--recipe", recipe, "--api-key", "sesame")
        assert outcome.code == 1
        assert re.search(r"abc fits 2 runs: abcdef-\d, abcdef-\d; give more of it", outcome.out), outcome


def test_bad_input_is_told_in_one_line(run, server, folder, recipe, tmp_path):
    recipe_and_folder = ("-r", recipe, "-d", folder)
    for arguments, says in (
        (("abc", "-r", recipe), "say where the derived runs go"),
        (("abc", "-r", recipe, "--to", "http://127.0.0.1:1"), "say where the raw runs are"),
        (recipe_and_folder, "say which runs"),
        (("abc", *recipe_and_folder, "--to", "http://127.0.0.1:1"), "give one of --directory and --to"),
        (
            ("abc", *recipe_and_folder, "--tiled", "http://x", "--file", "y"),
            "give one of --tiled, --catalog and --file",
        ),
        (("abc", "-r", recipe, "-d", tmp_path / "nowhere"), "is no folder of a server"),
        (("abc", "-r", tmp_path / "none.yaml", "-d", folder), "none.yaml"),
        (("abc", *recipe_and_folder, "--tiled", "http://127.0.0.1:1"), "no Tiled server answers at http://127.0.0.1:1"),
        (("abc", *recipe_and_folder, "--tiled", server.uri, "--api-key", "wrong"), "API key"),
        (("abc", *recipe_and_folder, "--tiled", server.uri), "API key"),
        (("abc", *recipe_and_folder, "--catalog", "nobody-knows"), "no catalog 'nobody-knows' is registered"),
    ):
        assert says in run("replay", *arguments).said_in_one_line, arguments


# --- catalogs by name


@pytest.fixture
def profiles(tmp_path, monkeypatch):
    """Return a function that registers catalogs."""
    monkeypatch.setattr(tiled.profiles, "paths", [tmp_path / "profiles"])
    (tmp_path / "profiles").mkdir()

    def register(**content):
        (tmp_path / "profiles" / "profiles.yml").write_text(yaml.safe_dump(content))
        tiled.profiles.load_profiles.cache_clear()

    tiled.profiles.load_profiles.cache_clear()
    yield register
    tiled.profiles.load_profiles.cache_clear()


def test_runs_of_a_registered_catalog_are_replayed(run, profiles, server, raw, recipe):
    profiles(beamline={"uri": server.uri}, dead={"uri": "http://127.0.0.1:1"})
    target = ("--recipe", recipe, "--to", server.uri, "--to-api-key", "sesame")
    outcome = run("replay", uid_of(raw[0]), "--catalog", "beamline", "--api-key", "sesame", *target)
    assert outcome.code == 0, outcome
    assert told(outcome)[0][0] == uid_of(raw[0])
    wrong = run("replay", "abc", "--catalog", "beamline", "--api-key", "wrong", *target).said_in_one_line
    assert f"cannot connect to Tiled at {server.uri}" in wrong
    assert "API key" in wrong
    away = run("replay", "abc", "--catalog", "dead", *target).said_in_one_line
    assert "no Tiled server answers at http://127.0.0.1:1" in away
    unknown = run("replay", "abc", "--catalog", "beam", *target).said_in_one_line
    assert "no catalog 'beam' is registered on this machine; there are beamline, dead" in unknown


def test_part_raw_of_a_registered_catalog_is_taken(run, profiles, server, recipe):
    with connect(server.uri, "sesame") as client:
        part = client.create_container("raw")
        inner = inline_run(images(1, seed=9))
        store(part, inner)
    profiles(beamline={"uri": server.uri})
    target = ("--api-key", "sesame", "--recipe", recipe, "--to", server.uri)
    outcome = run("replay", uid_of(inner), "--catalog", "beamline", *target)
    assert outcome.code == 0, outcome
    assert told(outcome)[0][0] == uid_of(inner)
    with connect(server.uri, "sesame") as client:
        client.delete_contents("raw", recursive=True, external_only=False)


# --- Ctrl-C


def test_ctrl_c_ends_in_order_and_says_what_was_done(recipe, tmp_path):
    runs = [inline_run(images(3, seed=seed)) for seed in range(60)]
    file, target = write_jsonl(tmp_path / "runs.jsonl", *runs), tmp_path / "target"
    command = [sys.executable, "-m", "bluesky_powder", "replay", "--file", file, "-r", recipe, "-d", target]
    environment = {**os.environ, "COLUMNS": "200", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        first = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=200)
    assert process.returncode == 130, (out, err)
    assert "interrupted; what was reduced is being stored" in out
    assert "Traceback" not in err
    done = LINE.findall(first + out)
    assert 1 <= len(done) < len(runs)
    left = re.findall(UID, re.search("not begun: (.*)", out)[1])
    assert [line[0] for line in done] + left == [uid_of(documents) for documents in runs]
    with PowderServer(target) as server:
        client = server.client()
        for _, derived, _, _ in done:
            assert client[derived].metadata["stop"]["exit_status"] in ("success", "abort")
        assert len(client) == len(done)
        client.context.close()


def test_run_that_is_interrupted_says_so(tmp_path):
    from bluesky_powder import replay

    derived = Derived()

    def interrupt(name, _):
        if name == "event":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replay(inline_run(images(3)), recipe_in(tmp_path), derived, progress=interrupt)
    assert derived.stop["exit_status"] == "abort"
    assert "the replay was interrupted" in derived.stop["reason"]
    assert derived.stop["frames_reduced"] == 1
