"""Patterns as files, by plain HTTP from a real server."""

import csv
import hashlib
import io
import json

import h5py
import httpx
import numpy as np
import pytest

import azimuthal as az
from bluesky_powder.server import PowderServer
from bluesky_powder.server.exports import in_media_type
from raw_runs import ARM, images
from served_runs import POSITIONS, publish, reduced
from users import PATIENCE

NAMES = ("xye", "chi", "fxye", "nxazint", "csv")


def abort(documents):
    """End a run after its third event."""
    *told, (_, stop) = documents
    return [*told[:-1], ("stop", {**stop, "exit_status": "abort", "reason": "the beam was lost"})]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recipes")
    return {
        "whole": reduced(folder, metadata={"sample": "CeO₂ + Ångström"}),
        "aborted": reduced(folder, change=abort),
        "over q": reduced(folder, bins={"unit": "q_A^-1", "npt": 50, "range": [0.5, 5.0]}, frames=1),
        "empty": reduced(folder, frames=1, geometry={"goniometer": "arm.json", "motors": {"pos": "nowhere"}}),
        "open": reduced(folder),
        "begun": reduced(folder),
    }


@pytest.fixture(scope="module")
def server(tmp_path_factory, runs):
    with PowderServer(tmp_path_factory.mktemp("served"), api_key="sesame") as server:
        of_open = runs["open"].documents
        third = [at for at, (_, document) in enumerate(of_open) if document.get("seq_num") == 3][0]
        publish(server, *(runs[name].documents for name in ("whole", "aborted", "over q", "empty")), batch_size=100)
        publish(server, of_open[:third], runs["begun"].documents[:1], batch_size=None)
        yield server


@pytest.fixture(scope="module")
def http(server):
    with httpx.Client(
        base_url=server.uri, headers={"Authorization": f"Apikey {server.api_key}"}, timeout=PATIENCE
    ) as http:
        yield http


@pytest.fixture
def get(http, runs):
    def get(run, **query):
        return http.get(f"/api/v1/container/full/{runs[run].start['uid']}", params=query)

    return get


@pytest.fixture(scope="module")
def truth(tmp_path_factory):
    """The patterns of the frames as the engine gives them, without documents and Tiled."""
    path = tmp_path_factory.mktemp("arm") / "arm.json"
    path.write_text(json.dumps(ARM))
    arm = az.Goniometer.from_json(path)
    bins = az.RadialBins("2th_deg", 60, (1, 60))
    options = {"splitting": "bbox", "solid_angle": "absolute", "polarization": 0.99}
    return [
        az.Integrator(arm.geometry(pos=position), bins, **options).integrate(frame)
        for position, frame in zip(POSITIONS, images(len(POSITIONS)), strict=True)
    ]


def written(folder, name, pattern, comments):
    """Return what the engine's own writer makes of a pattern."""
    path = folder / f"pattern.{name}"
    getattr(az, f"write_{name}")(path, pattern, comments)
    return path.read_bytes()


def head(run, words):
    text = hashlib.sha256(json.dumps(ARM).encode()).hexdigest()[:12]
    return [
        f"sample {run.start['sample']}",
        words,
        f"geometry arm.json (SHA-256 {text})",
        f"raw run {run.start['raw_uid']}",
        f"derived run {run.start['uid']}",
    ]


@pytest.mark.parametrize("name", ["xye", "chi", "fxye"])
def test_files_are_those_of_the_engine_byte_for_byte(get, runs, truth, tmp_path, name):
    run = runs["whole"]
    answers = {
        "merged pattern of 4 frames": (get("whole", format=name), az.union(truth)),
        "frame 2": (get("whole", format=name, which="frame", frame=2), truth[1]),
        "union of 3 frames, the last of them 3": (
            get("whole", format=name, which="cumulative", frame=3),
            az.union(truth[:3]),
        ),
    }
    for words, (answer, pattern) in answers.items():
        assert answer.status_code == 200, answer.text
        assert answer.content == written(tmp_path, name, pattern, head(run, words)), words


def test_head_tells_sample_wavelength_geometry_and_runs(get, runs):
    text = get("whole", format="xye").text
    assert text.startswith("' sample CeO")
    for told in (
        "1 A (12.3984 keV)",
        "geometry arm.json (SHA-256",
        *(runs["whole"].start[k] for k in ("uid", "raw_uid")),
    ):
        assert told.replace("q", "Q") in text, told
    assert get("whole", format="xye").headers["content-type"].startswith("text/x-xye")


def test_nxazint_has_the_pattern_with_its_errors_and_origin(get, runs, truth):
    answer = get("whole", format="nxazint", frame=4)
    with h5py.File(io.BytesIO(answer.content)) as file:
        entry = file["entry"]
        filled = truth[3].filled
        np.testing.assert_array_equal(entry["data/I"][0][filled], truth[3].intensity[filled])
        assert (entry["data/I_errors"][0][filled] > 0).any()
        assert runs["whole"].start["raw_uid"] in entry["reduction/note"].asstr()[()]
        assert "Goniometer calibration" in entry["reduction/input/poni"].asstr()[()]
        assert entry["instrument/monochromator/wavelength"][()] == pytest.approx(1.0)


def test_csv_has_every_bin_in_the_unit_of_the_run(get, truth):
    lines = get("whole", format="csv", frame=1).text.splitlines()
    rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    for name, values in (("2th_deg", truth[0].radial), ("intensity", truth[0].intensity), ("sem", truth[0].sem)):
        read = [float(row[name] or "nan") for row in rows]
        np.testing.assert_array_equal(read, values)
    over_q = get("over q", format="csv").text.splitlines()
    assert "q_A^-1,intensity,sem,count" in over_q


def test_run_that_is_open_or_was_aborted_gives_what_there_is_and_says_so(get):
    opened = get("open", format="xye")
    assert opened.status_code == 200, opened.text
    assert "' union of 2 frames, the last of them 2 of a run that is still open" in opened.text
    aborted = get("aborted", format="xye").text
    assert (
        "merged pattern of 3 frames (it ended with abort: the raw run ended with 'abort': the beam was lost" in aborted
    )


def test_media_type_alone_says_it_all_to_any_tiled(http, runs):
    path = f"/api/v1/container/full/{runs['whole'].start['uid']}"
    by_query = http.get(path, params={"format": "xye", "which": "frame", "frame": 3})
    by_type = http.get(path, params={"format": "text/x-xye;which=frame;frame=3"})
    by_header = http.get(path, headers={"Accept": "text/x-xye;which=frame;frame=3"})
    assert by_query.content == by_type.content == by_header.content


def test_download_menu_of_tiled_knows_the_formats(http):
    about = http.get("/api/v1/").json()
    assert {"text/x-xye", "text/x-chi", "text/x-fxye", "application/x-nxazint", "text/csv"} <= set(
        about["formats"]["PowderRun"]
    )
    assert about["aliases"]["PowderRun"]["text/x-xye"] == ["xye"]


@pytest.mark.parametrize(
    ("run", "query", "status", "told"),
    [
        ("whole", {"format": "xye", "which": "frame", "frame": 9}, 404, "no frame 9: it has 1 to 4"),
        ("whole", {"format": "xye", "which": "frame"}, 400, "needs the number"),
        ("whole", {"format": "xye", "which": "frame", "frame": "x"}, 400, "'x' is no number"),
        ("whole", {"format": "xye", "which": "best"}, 400, "choose merged, cumulative or frame"),
        ("whole", {"format": "xye", "which": "merged", "frame": 1}, 400, "leave frame out"),
        ("whole", {"format": "text/x-xye;frames=1"}, 400, "there is no such parameter"),
        ("whole", {"format": "docx"}, 406, "Supported"),
        ("open", {"format": "xye", "frame": 3}, 404, "no frame 3: it has 1 to 2 yet; it is still open"),
        ("begun", {"format": "xye"}, 404, "has no frames yet; it is still open"),
        ("empty", {"format": "xye"}, 404, "has no frames (it ended with fail"),
        ("over q", {"format": "fxye"}, 406, "no constant step in 2theta"),
    ],
)
def test_what_cannot_be_had_is_told(get, run, query, status, told):
    answer = get(run, **query)
    assert answer.status_code == status, answer.text
    assert told in answer.json()["detail"]
    assert "/tmp" not in answer.text


def test_stack_of_patterns_is_no_xye_and_a_wrong_key_gets_nothing(http, server, runs):
    uid = runs["whole"].start["uid"]
    stack = http.get(f"/api/v1/array/full/{uid}/primary/intensity", params={"format": "xye"})
    assert stack.status_code == 406
    assert "Supported" in stack.json()["detail"]
    wrong = {"Authorization": "Apikey wrong"}
    whole = f"{server.uri}/api/v1/container/full/{uid}"
    answer = httpx.get(whole, params={"format": "xye"}, headers=wrong, timeout=PATIENCE)
    assert answer.status_code == 401


def test_query_moves_into_the_media_type_of_our_formats_only():
    assert in_media_type("format=xye&which=frame&frame=3&filename=a.xye") == (
        "filename=a.xye&format=text%2Fx-xye%3Bwhich%3Dframe%3Bframe%3D3"
    )
    for query in ("format=json&which=frame", "format=xye", "which=frame", "", "format=xye&which=frame%3Bframe%3D1"):
        assert in_media_type(query) == query
