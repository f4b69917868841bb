"""``bluesky-powder ingest`` on files, with real servers."""

import re
import textwrap
from functools import partial

import h5py
import numpy as np
import pytest
import tifffile
import yaml

from azimuthal import Integrator, RadialBins
from bluesky_powder.client import connect, find, spottiness
from bluesky_powder.server import PowderServer
from command_line import run_command
from raw_runs import SHAPE, images, recipe_in

# The columns of ../shared/data/README.md: S, S_I, S excess, S_I excess; union S, excess; mean frame S, excess.
DAC_MAP = {
    "01": (0.02969, 0.01190, 0.02948, 0.01174, 0.02969, 0.02948, 0.02969, 0.02948),
    "02": (0.02958, 0.01177, 0.02946, 0.01162, 0.02101, 0.02082, 0.02951, 0.02946),
    "03": (0.02963, 0.01175, 0.02945, 0.01161, 0.01715, 0.01700, 0.02946, 0.02945),
    "06": (0.02960, 0.01191, 0.02946, 0.01173, 0.01484, 0.01473, 0.02943, 0.02945),
    "07": (0.02965, 0.01190, 0.02943, 0.01174, 0.01328, 0.01318, 0.02942, 0.02944),
    "08": (0.02955, 0.01184, 0.02946, 0.01166, 0.01214, 0.01202, 0.02941, 0.02944),
}
CEO2 = (0.15130, 0.22211, 0.14949, 0.22199)
LAST_DIGIT = 1.001e-5


@pytest.fixture
def run(monkeypatch, capsys):
    return partial(run_command, monkeypatch, capsys)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server that may read nothing but its own folder."""
    with PowderServer(tmp_path_factory.mktemp("served"), api_key="sesame") as server:
        yield server


def table(output, positions=0):
    """Return the numbers of the printed table, a row for each frame, without frame and positions."""
    rows = [line.split() for line in output.splitlines() if re.match(r"\s+\d+\s+[-\d.]+\s", line)]
    return [[float(cell) for cell in row[1 + positions :]] for row in rows]


def uid_in(output, which):
    return re.search(rf"{which} run\s+([0-9a-f-]{{36}})", output)[1]


def shared_recipe(folder, poni):
    path = folder / "recipe.yaml"
    content = {
        "frames": "pilatus",
        "geometry": {"poni": str(poni)},
        "bins": {"unit": "2th_deg", "npt": 1500, "range": [0, 25]},
        "integration": {"splitting": "no", "solid_angle": "relative", "polarization": 0.99},
    }
    path.write_text(yaml.safe_dump(content))
    return path


def test_real_frames_give_the_published_table(run, shared_data, tmp_path):
    recipe = shared_recipe(tmp_path, shared_data / "dac-map.poni")
    files = [shared_data / "dac-map" / f"map_{name}.tif" for name in DAC_MAP]
    outcome = run("ingest", *files, "--recipe", recipe, "--directory", tmp_path / "served", "--mask-negative")
    assert outcome.code == 0, outcome
    np.testing.assert_allclose(table(outcome.out), list(DAC_MAP.values()), rtol=0, atol=LAST_DIGIT)
    assert "75683 of 1023183 pixels left out" in outcome.out
    raw_uid = uid_in(outcome.out, "raw")

    recipe = shared_recipe(tmp_path, shared_data / "ceo2" / "CeO2_Pilatus1M.poni")
    file = shared_data / "ceo2" / "CeO2_Pilatus1M.tif"
    outcome = run("ingest", file, "--recipe", recipe, "--directory", tmp_path / "served", "--mask-negative")
    np.testing.assert_allclose(table(outcome.out)[0][:4], CEO2, rtol=0, atol=LAST_DIGIT)

    # What was ingested first can be read after a restart, though only the second one's folder was named since.
    with PowderServer(tmp_path / "served") as server, connect(server.uri, server.api_key) as client:
        assert len(client) == 4
        first = client[raw_uid]
        np.testing.assert_array_equal(first["primary"]["pilatus"][3], tifffile.imread(files[3]))


def test_moving_detector_with_monitor_from_hdf5(run, tmp_path):
    frames = images(3)
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file["entry/data/data"] = frames
    recipe = recipe_in(tmp_path, moving=True, corrections={"monitor": "i0"})
    (tmp_path / "i0.txt").write_text("1\n2\n4\n")
    arguments = ("--position", "pos=1,5,9", "--monitor", f"@{tmp_path / 'i0.txt'}", "--sample", "LaB6")
    outcome = run("ingest", tmp_path / "scan.h5", "-r", tmp_path / "recipe.yaml", "-d", tmp_path / "served", *arguments)
    assert outcome.code == 0, outcome
    rows = table(outcome.out, positions=1)
    for row, frame, position, monitor in zip(rows, frames, (1, 5, 9), (1, 2, 4), strict=True):
        integrator = Integrator(
            recipe.geometry.at({"pos": position}, SHAPE),
            RadialBins("2th_deg", 60, (1, 60)),
            splitting="bbox",
            solid_angle="absolute",
        )
        pattern = integrator.integrate(frame, monitor=monitor)
        assert row[0] == pytest.approx(pattern.spottiness(), rel=1e-4)
        assert row[2] == pytest.approx(pattern.spottiness(excess=True), rel=1e-4)
    # The three lines that it prints do what they say.
    lines = outcome.out.partition("Three lines of Python read it:\n\n")[2]
    exec(textwrap.dedent(lines), {})
    with PowderServer(tmp_path / "served") as server, connect(server.uri, server.api_key) as client:
        derived = find(client, uid_in(outcome.out, "raw"))
        assert derived.start["uid"] == uid_in(outcome.out, "derived")
        assert derived.start["sample"] == "LaB6"
        assert spottiness(derived).columns["pos"].tolist() == [1, 5, 9]


def test_server_that_cannot_see_the_files_is_told(run, server, tmp_path):
    recipe_in(tmp_path)
    tifffile.imwrite(tmp_path / "a.tif", images(1)[0])
    arguments = ("-r", tmp_path / "recipe.yaml", "--tiled", server.uri, "--api-key", "sesame")
    outcome = run("ingest", tmp_path / "a.tif", *arguments)
    assert f"start it with --read {tmp_path}" in outcome.said_in_one_line
    assert len(table(outcome.out)) == 1


@pytest.mark.usefixtures("process_that_used_v2")
def test_frames_are_found_whichever_version_of_runs_the_process_uses(run, tmp_path):
    recipe_in(tmp_path)
    tifffile.imwrite(tmp_path / "a.tif", images(1)[0])
    outcome = run("ingest", tmp_path / "a.tif", "-r", tmp_path / "recipe.yaml", "-d", tmp_path / "served")
    assert outcome.code == 0
    assert len(table(outcome.out)) == 1


def test_frames_that_do_not_fit_the_recipe_are_told(run, tmp_path):
    recipe_in(tmp_path)
    tifffile.imwrite(tmp_path / "a.tif", images(1)[0][:, :30])
    outcome = run("ingest", tmp_path / "a.tif", "-r", tmp_path / "recipe.yaml", "-d", tmp_path / "served")
    assert re.search(r"no frame could be reduced: .*40×30 pixels", outcome.said_in_one_line)


def test_bad_input_is_told_in_one_line(run, server, tmp_path):
    recipe_in(tmp_path)
    recipe = tmp_path / "recipe.yaml"
    (tmp_path / "a.txt").write_text("text")
    tifffile.imwrite(tmp_path / "a.tif", images(1)[0])
    folder = ("-d", tmp_path / "served")
    for arguments, told in (
        ((tmp_path / "none.tif", "-r", recipe, *folder), "there is no file"),
        ((tmp_path / "a.txt", "-r", recipe, *folder), "neither a TIFF nor an HDF5"),
        ((tmp_path / "a.tif", "-r", tmp_path / "none.yaml", *folder), "cannot read the recipe"),
        ((tmp_path / "a.tif", "-r", recipe), "give one of --directory"),
        ((tmp_path / "a.tif", "-r", recipe, *folder, "--tiled", server.uri), "give one of --directory"),
        ((tmp_path / "a.tif", "-r", recipe, *folder, "--position", "pos"), "is no position"),
        ((tmp_path / "a.tif", "-r", recipe, *folder, "--monitor", "1"), "uses no monitor"),
        ((tmp_path / "a.tif", "-r", recipe, "--tiled", "http://127.0.0.1:1"), "no Tiled server answers"),
        ((tmp_path / "a.tif", "-r", recipe, "--tiled", server.uri, "--api-key", "wrong"), "API key"),
        ((tmp_path / "a.tif", "-r", recipe, "-d", tmp_path / "a.txt"), "cannot be a server's folder"),
        ((tmp_path / "a.tif", "-r", recipe, "-d", server.directory), "is served already"),
    ):
        assert told in run("ingest", *arguments).said_in_one_line
    assert not (tmp_path / "served").exists()
