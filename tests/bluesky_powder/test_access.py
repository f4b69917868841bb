"""Access: what a user may not see of a raw run, the user does not see of what is derived from it.

A real server with three users and Tiled's access policy by tags: two proposals, and who takes and reduces the data.
"""

import asyncio
from types import SimpleNamespace

import httpx
import pytest
import yaml
from tiled.access_control.access_tags import AccessTagsCompiler
from tiled.access_control.scopes import SCOPES
from tiled.client import from_uri
from tiled.queries import Key
from tiled.server.connection_pool import close_database_connection_pool
from tiled.server.settings import DatabaseSettings

from bluesky_powder import PowderReduction
from bluesky_powder.publish import TiledPublisher
from bluesky_powder.replay import replay
from configured import CONFIG, tiled_serve_config
from pattern_runs import documents_of
from raw_runs import Derived, images, inline_run, recipe_in
from users import PATIENCE, key_of

READ = ["read:metadata", "read:data"]
WRITE = [*READ, "write:metadata", "write:data", "create:node", "delete:node", "register"]
TAGS = {
    "tags": {
        "facility": {
            "users": [
                {"name": "alice", "scopes": READ},
                {"name": "bob", "scopes": READ},
                {"name": "beamline", "scopes": WRITE},
            ]
        },
        "proposal-a": {"users": [{"name": "alice", "scopes": READ}, {"name": "beamline", "scopes": WRITE}]},
        "proposal-b": {"users": [{"name": "bob", "scopes": READ}, {"name": "beamline", "scopes": WRITE}]},
    },
    "tag_owners": {name: {"users": [{"name": "beamline"}]} for name in ("facility", "proposal-a", "proposal-b")},
}


def with_users(folder):
    """Write the ready configuration, with users and the access policy by tags added."""
    config = yaml.safe_load(CONFIG.read_text())
    config["trees"][0]["args"]["top_level_access_tags"] = ["facility"]
    config["authentication"] = {
        "providers": [
            {
                "provider": "toy",
                "authenticator": "tiled.authenticators:DictionaryAuthenticator",
                "args": {"users_to_passwords": {name: f"{name}-secret" for name in ("alice", "bob", "beamline")}},
            }
        ],
        "secret_keys": ["0123456789abcdef"],
    }
    config["database"] = {"uri": f"sqlite:///{folder}/users.db", "init_if_not_exists": True}
    config["access_control"] = {
        "access_policy": "tiled.access_control.access_policies:TagBasedAccessPolicy",
        "args": {"provider": "toy", "access_tags_parser": "tiled.access_control.access_tags:AccessTagsParser"},
    }
    file = folder / "config.yml"
    file.write_text(yaml.safe_dump(config))
    return file


async def define_tags(catalog):
    settings = DatabaseSettings(uri=f"sqlite+aiosqlite:///{catalog}", pool_size=2, max_overflow=2, pool_pre_ping=False)
    compiler = AccessTagsCompiler(SCOPES, TAGS, settings, lambda _: [])
    compiler.load_tag_config()
    await compiler.compile()
    await close_database_connection_pool(settings)


def taken(publisher, *, only=None, **metadata):
    """Write a raw run, or only documents of some names; return them."""
    raw = [
        (name, document)
        for name, document in inline_run(images(2, 1), (0.0, 10.0), **metadata)
        if only is None or name in only
    ]
    for name, document in raw:
        publisher(name, document)
    return raw


def reduced(publisher, folder, raw):
    """Write what is derived from a run by the callback that saw it; return its uid."""
    derived = Derived()
    with PowderReduction(recipe_in(folder, moving=True)) as reduction:
        reduction.subscribe(derived)
        reduction.subscribe(publisher)
        for name, document in raw:
            reduction(name, document)
        assert reduction.wait(120)
    return derived.start["uid"]


@pytest.fixture(scope="module")
def beamline(tmp_path_factory):
    folder = tmp_path_factory.mktemp("access")
    with tiled_serve_config(folder, config=with_users(folder)) as (uri, _):
        asyncio.run(define_tags(folder / "served" / "catalog.db"))
        keys = {user: key_of(uri, user) for user in ("alice", "bob", "beamline")}
        with TiledPublisher(uri, api_key=keys["beamline"], spool=folder / "spool") as publisher:
            raw = taken(publisher, tiled_access_tags=["proposal-a"], data_session="pass-1")
            a = raw[0][1]["uid"], reduced(publisher, folder, raw)
            b = taken(publisher, only=("start", "stop"), tiled_access_tags=["proposal-b"])[0][1]["uid"]
            untagged = taken(publisher)[0][1]["uid"]
            assert publisher.wait(200)
            assert publisher.failures == ()
        clients = {user: from_uri(uri, api_key=key) for user, key in keys.items()}
        yield SimpleNamespace(uri=uri, keys=keys, clients=clients, a=a, b=b, untagged=untagged, folder=folder)
        for client in clients.values():
            client.context.close()


def test_users_see_the_derived_runs_of_the_raw_runs_that_they_see(beamline):
    seen = {user: set(client) for user, client in beamline.clients.items()}
    assert seen["alice"] == set(beamline.a)
    assert seen["bob"] == {beamline.b}
    assert seen["beamline"] >= {*beamline.a, beamline.b, beamline.untagged}
    raw, derived = beamline.a
    run = beamline.clients["alice"][derived]
    assert run.metadata["start"]["data_session"] == "pass-1"
    assert run["primary"].read()["intensity"].shape[0] == 2
    assert list(beamline.clients["alice"].search(Key("start.raw_uid") == raw)) == [derived]
    assert list(beamline.clients["bob"].search(Key("start.raw_uid") == raw)) == []


def test_every_node_of_a_derived_run_has_the_tags_of_the_raw_run(beamline):
    def nodes(client):
        yield client
        if hasattr(client, "base"):
            client = client.base
        if hasattr(client, "keys"):
            for name in client:
                yield from nodes(client[name])

    found = [set(node.item["attributes"]["access_tags"]) for node in nodes(beamline.clients["beamline"][beamline.a[1]])]
    assert len(found) > 10
    assert all(tags == {"proposal-a"} for tags in found)


@pytest.mark.parametrize(
    "path",
    [
        "metadata/{}",
        "metadata/{}/primary/intensity",
        "search/{}",
        "array/full/{}/primary/intensity",
        "table/full/{}/primary/internal",
        "container/full/{}?format=xye",
        "container/full/{}?format=application/json-seq",
    ],
)
def test_others_get_no_answer_by_any_route(beamline, path):
    _, derived = beamline.a
    answers = {}
    for user, key in beamline.keys.items():
        address = f"{beamline.uri}/api/v1/{path.format(derived)}"
        answers[user] = httpx.get(address, headers={"Authorization": f"Apikey {key}"}, timeout=PATIENCE)
    assert (answers["alice"].status_code, answers["beamline"].status_code) == (200, 200)
    assert answers["bob"].status_code == 404
    nobody = httpx.get(f"{beamline.uri}/api/v1/{path.format(derived)}", timeout=PATIENCE)
    assert nobody.status_code == 401


def test_what_is_derived_from_a_run_without_tags_is_its_writers_own(beamline):
    """The raw run then has a tag of its owner's, which nobody can give."""
    raw = beamline.clients["beamline"][beamline.untagged]
    assert raw.item["attributes"]["access_tags"] == ["user:beamline"]
    again = Derived()
    with TiledPublisher(beamline.uri, api_key=beamline.keys["beamline"], spool=beamline.folder / "spool") as publisher:
        replay(raw, recipe_in(beamline.folder, moving=True), again, publisher)
        assert publisher.wait(100)
        assert publisher.failures == ()
    assert again.start["tiled_access_tags"] == ["user:beamline"]
    run = beamline.clients["beamline"][again.start["uid"]]
    assert run.item["attributes"]["access_tags"] == ["user:beamline"]


def test_writer_without_the_right_to_a_tag_fails_and_leaves_nothing_open(beamline):
    raw = inline_run(images(1, 2), (0.0,), tiled_access_tags=["proposal-b"])
    with TiledPublisher(beamline.uri, api_key=beamline.keys["alice"], spool=beamline.folder / "mine") as publisher:
        for name, document in raw:
            publisher(name, document)
        publisher.wait(120)
        assert len(publisher.failures) == 1
    assert raw[0][1]["uid"] not in beamline.clients["beamline"]


def test_fast_run_of_a_user_who_may_not_register_files_goes_into_events(beamline, caplog):
    documents = list(documents_of(range(1, 21), announced=1000))
    uid = documents[0][1]["uid"]
    with TiledPublisher(beamline.uri, api_key=beamline.keys["beamline"], spool=beamline.folder / "spool") as publisher:
        for name, document in documents:
            publisher(name, document)
        assert publisher.wait(120)
        assert publisher.failures == ()
    assert "Tiled does not let this key register files" in caplog.text
    (source,) = beamline.clients["beamline"][uid, "primary"].base["sums"].include_data_sources().data_sources()
    assert source.mimetype != "application/x-hdf5"
    assert beamline.clients["beamline"][uid, "primary"].read()["sums"].shape[0] == 20
    assert not list(beamline.folder.rglob(f"{uid}*.h5"))
