"""The README's code, run as it stands: in a folder with its recipe, against a simulated beamline and a real server."""

import re
from pathlib import Path

import numpy as np
import pytest
from bluesky import RunEngine

from bluesky_powder import PowderServer, Recipe, TiledPublisher
from bluesky_powder.client import find
from bluesky_powder.sim import Beamline

README = Path(__file__).parents[1] / "README.md"
ADDRESS = "http://localhost:8000"


def blocks(language):
    """Return the README's code blocks of one language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture
def beamline(tmp_path, monkeypatch):
    """Return a simulated beamline in the current folder, with the README's recipe beside its goniometer file."""
    monkeypatch.chdir(tmp_path)
    engine = RunEngine()
    devices = Beamline(tmp_path, detector="Eiger2 500k", exposure_time=0.05)
    (recipe,) = blocks("yaml")
    (tmp_path / "recipe.yaml").write_text(recipe, encoding="utf-8")
    return engine, devices


def test_readme_code_does_what_it_says(beamline, tmp_path):
    engine, devices = beamline
    plan, after, anywhere, alone = blocks("python")
    with PowderServer(tmp_path / "served", readable=[tmp_path]) as server:
        raw = TiledPublisher(server.uri, api_key=server.api_key, spool=tmp_path / "spool")
        started = []
        engine.subscribe(raw)
        engine.subscribe(lambda _, document: started.append(document["uid"]), "start")
        scope = {
            "api_key": server.api_key,
            "RE": engine,
            "eiger": devices.detector,
            "i0": devices.i0,
            "two_theta": devices.arm,
        }

        def run(block):
            exec(compile(block.replace(ADDRESS, server.uri), "README.md", "exec"), scope)
            if "client" in scope:
                clients.append(scope.pop("client"))

        clients = [client := server.client()]
        run(plan)
        raw.wait(120)
        live = find(client, started[0])
        scope |= {"raw_uid": started[0], "derived_uid": live.metadata["start"]["uid"]}
        run(anywhere)
        assert scope["patterns"]["intensity"].shape == (4, 2000)
        assert scope["merged"]["intensity"].shape[1] == 2000
        assert scope["radial"].shape == (1, 2000)

        run(after)
        scope["publisher"].wait(120)
        replayed = [
            node
            for uid, node in client.items()
            if node.metadata["start"].get("raw_uid") == started[0] and uid != scope["derived_uid"]
        ]
        assert len(replayed) == 1
        np.testing.assert_array_equal(
            replayed[0]["primary"].read()["intensity"], scope["patterns"]["intensity"], strict=True
        )
        frames = client[started[0]]["primary"]["eiger"].read().reshape(4, *devices.geometry(0).shape)
        arm = client[started[0]]["primary"].read()["two_theta"]
        scope["reduction"].close()
        scope["publisher"].close()
        raw.close()
        for one in clients:
            one.context.close()

    scope["frames"] = list(zip(np.asarray(arm), frames, strict=True))
    run(alone)
    assert (tmp_path / "merged.xye").stat().st_size > 10_000


@pytest.mark.usefixtures("beamline")
def test_readme_recipe_is_one(tmp_path):
    recipe = Recipe.load(tmp_path / "recipe.yaml")
    assert recipe.frames == "eiger"
    assert recipe.integration.solid_angle == "absolute"


def test_readme_shell_commands_exist():
    from typer.testing import CliRunner

    from bluesky_powder.cli import app

    commands = set(re.findall(r"(?:^|`)bluesky-powder ([a-z]+)", README.read_text(encoding="utf-8"), re.MULTILINE))
    assert commands >= {"ingest", "show", "range"}
    for command in commands:
        assert CliRunner().invoke(app, [command, "--help"]).exit_code == 0, command
