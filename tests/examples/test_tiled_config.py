"""The ready configuration, started by Tiled's own command."""

import threading
from functools import partial

import httpx
import numpy as np
import pytest
from tiled.client import from_uri

from bluesky_powder.publish import TiledPublisher
from configured import KEY, tiled_serve_config
from served_runs import reduced
from users import PATIENCE

get = partial(httpx.get, timeout=PATIENCE)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with tiled_serve_config(tmp_path_factory.mktemp("config"), "--api-key", KEY) as (uri, lines):
        yield uri, lines


@pytest.fixture(scope="module")
def run(served, tmp_path_factory):
    run = reduced(tmp_path_factory.mktemp("recipe"))
    with TiledPublisher(served[0], api_key=KEY, spool=tmp_path_factory.mktemp("spool")) as publisher:
        for name, document in run.documents:
            publisher(name, document)
        assert publisher.wait(120)
        assert publisher.failures == ()
    return run


def test_derived_run_goes_in_and_comes_out(served, run):
    client = from_uri(served[0], api_key=KEY)
    back = client[run.start["uid"]]
    assert type(back).__name__ == "PowderRun"
    stored = [event["data"]["intensity"] for event in run.events["primary"]]
    np.testing.assert_array_equal(back["primary"].read()["intensity"], stored)
    assert back.metadata["stop"]["exit_status"] == "success"
    assert [name for name, _ in back.documents()].count("event") == sum(name == "event" for name, _ in run.documents)
    client.context.close()


def test_exports_and_pages_are_there(served, run):
    key = {"Authorization": f"Apikey {KEY}"}
    full = f"{served[0]}/api/v1/container/full/{run.start['uid']}"
    for kind in ("xye", "chi", "fxye", "nxazint", "csv"):
        answer = get(full, params={"format": kind}, headers=key)
        assert answer.status_code == 200, (kind, answer.text)
        assert len(answer.content) > 1000
    assert get(full, params={"format": "xye"}).status_code == 401
    assert "<html" in get(f"{served[0]}/custom/powder/").text


def test_key_in_an_address_stays_out_of_the_log(served):
    uri, lines = served
    assert get(f"{uri}/api/v1/metadata/", params={"api_key": KEY, "here": "1"}).status_code == 200
    assert get(f"{uri}/api/v1/metadata/?api_key=wrong456&there=1").status_code == 401
    for _ in range(100):
        said = "".join(lines)
        if "there=1" in said:
            break
        threading.Event().wait(0.05)
    assert "/api/v1/metadata/?api_key=<hidden>&here=1" in said
    assert "/api/v1/metadata/?api_key=<hidden>&there=1" in said
    assert KEY not in said
    assert "wrong456" not in said
