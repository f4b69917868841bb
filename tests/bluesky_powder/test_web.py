"""The pages' routes, without a browser: what is served, to whom, and how the key travels."""

import asyncio
import http.client
import json
import re
from urllib.parse import urlsplit

import httpx
import pytest
import yaml
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from bluesky_powder.publish import TiledPublisher
from bluesky_powder.server import PowderServer
from bluesky_powder.web.files import static_files
from bluesky_powder.web.relay import relayed
from bluesky_powder.web.settings import VARIABLE, VIEW, ui_settings, with_view
from configured import CONFIG
from derived_runs import derived_run
from users import PATIENCE

KEY = {"tiled_api_key": "sesame"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with PowderServer(tmp_path_factory.mktemp("web"), api_key="sesame") as server:
        yield server


@pytest.fixture(scope="module")
def uid(server, tmp_path_factory):
    documents = list(derived_run(3, npt=20))
    with TiledPublisher(server.client(), spool=tmp_path_factory.mktemp("spool")) as publisher:
        for name, document in documents:
            publisher(name, document)
    return documents[0][1]["uid"]


def get(server, path, cookies=None, **keywords):
    with httpx.Client(base_url=server.uri, cookies=cookies, timeout=PATIENCE) as client:
        return client.get(path, **keywords)


def get_as_it_is(server, path):
    """Return the status of a path that clients would tidy up before asking."""
    connection = http.client.HTTPConnection(urlsplit(server.uri).netloc, timeout=PATIENCE)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.parametrize("path", ["/custom/powder/", "/custom/powder/run/abc", "/custom/powder/static/view.js"])
def test_everything_comes_from_this_server_only(server, path):
    answer = get(server, path)
    assert answer.status_code == 200
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["connect-src"] == policy["style-src"] == "'self'"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"


def test_no_file_names_another_host_nor_needs_one():
    namespace = "http://www.w3.org/2000/svg"
    for name, file in static_files().items():
        if not name.startswith("uPlot"):
            text = file.content.decode().replace(namespace, "")
            assert re.findall(r"https?://[\w.]+", text) == [], name
            assert "style=" not in text, f"{name}: the policy forbids inline styles"
            assert not re.search(r"<script(?![^>]*src=)", text), name


def test_each_file_has_its_type_and_is_sent_again_only_when_it_has_changed(server):
    types = {"js": "text/javascript", "css": "text/css", "html": "text/html", "svg": "image/svg+xml"}
    for name in static_files():
        answer = get(server, f"/custom/powder/static/{name}")
        assert answer.headers["content-type"].startswith(types.get(name.rsplit(".", 1)[1], "text/plain")), name
        again = get(server, f"/custom/powder/static/{name}", headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b""), name
    assert "MIT" in get(server, "/custom/powder/static/uPlot.LICENSE.txt").text


@pytest.mark.parametrize(
    "name",
    [
        "../routes.py",
        "..%2froutes.py",
        "%2e%2e/routes.py",
        "..%2f..%2f__init__.py",
        "view.js%00",
        "%2fetc%2fpasswd",
        "",
        ".",
    ],
)
def test_nothing_but_the_listed_files_is_served(server, name):
    assert get_as_it_is(server, f"/custom/powder/static/{name}") == 404


def test_address_without_its_slash_leads_to_the_page_with_its_query(server):
    answer = get(server, "/custom/powder?path=a")
    assert (answer.status_code, answer.headers["location"]) == (307, "powder/?path=a")


@pytest.mark.parametrize(("path", "up"), [("a", "../"), ("a/b", "../../"), ("a/b/c", "../../../")])
def test_page_of_a_run_finds_its_files_at_any_depth(server, path, up):
    answer = get(server, f"/custom/powder/run/{path}")
    assert f'src="{up}static/run.js"' in answer.text
    assert f'href="{up}static/.."' in answer.text
    assert httpx.URL(f"{server.uri}/custom/powder/run/{path}").join(f"{up}static/run.js").path.count("run.js") == 1


def test_key_in_the_address_moves_to_a_cookie_that_scripts_cannot_read(server):
    answer = get(server, "/custom/powder/?api_key=sesame")
    cookie = next(c for c in answer.headers.get_list("set-cookie") if c.startswith("tiled_api_key="))
    assert "sesame" in cookie
    assert "httponly" in cookie.lower()
    assert "sesame" not in answer.text
    assert get(server, "/api/v1/metadata/", KEY).status_code == 200


def test_key_in_a_header_moves_to_a_cookie_too_and_is_forgotten_again(server):
    with httpx.Client(base_url=f"{server.uri}/custom/powder/", timeout=PATIENCE) as browser:
        assert browser.get("about.json").json() == {"key": "none", "tables_may_grow": True}
        taken = browser.get("key", headers={"Authorization": "Apikey sesame"})
        assert "httponly" in taken.headers["set-cookie"].lower()
        assert "samesite=lax" in taken.headers["set-cookie"].lower()
        assert browser.get("about.json").json()["key"] == "given"
        assert browser.get(f"{server.uri}/api/v1/metadata/").status_code == 200
        assert browser.get("key", headers={"X-Powder": "forget"}).status_code == 204
        assert browser.get("about.json").json()["key"] == "none"
        assert browser.get(f"{server.uri}/api/v1/metadata/").status_code == 401


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer sesame"}, {"Authorization": "Apikey a;b"}])
def test_what_is_no_key_is_not_taken(server, headers):
    answer = get(server, "/custom/powder/key", headers=headers)
    assert answer.status_code == 400
    assert "tiled_api_key" not in str(answer.headers)


def test_wrong_key_is_told_from_none(server):
    wrong = {"tiled_api_key": "wrong"}
    assert get(server, "/custom/powder/about.json", wrong).json()["key"] == "given"
    assert get(server, "/api/v1/metadata/", wrong).status_code == 401


def stream(server, path, **headers):
    uri = server.uri.replace("http", "ws", 1) + f"/custom/powder/stream/{path}?envelope_format=json&start=1"
    return connect(uri, additional_headers=headers, open_timeout=PATIENCE, proxy=None)


def test_browser_with_the_cookie_gets_the_live_stream(server, uid):
    with stream(server, f"{uid}/primary", Cookie="tiled_api_key=sesame", Origin=server.uri) as socket:
        assert json.loads(socket.recv(timeout=PATIENCE))["type"] == "container-schema"
        told = [json.loads(text)["key"] for text in socket]
    assert set(told) >= {"intensity", "sem", "internal"}


@pytest.mark.parametrize("origin", ["http://elsewhere.example", "null", None])
def test_page_of_another_site_gets_nothing_with_the_cookie(server, uid, origin):
    headers = {"Cookie": "tiled_api_key=sesame"} | ({"Origin": origin} if origin else {})
    with stream(server, uid, **headers) as socket, pytest.raises(TimeoutError):
        socket.recv(timeout=0.7)


def test_stream_takes_a_users_first_message_where_there_is_no_cookie(server, uid):
    with stream(server, uid, Origin=server.uri) as socket:
        socket.send('{"type": "auth", "api_key": "sesame"}')
        assert json.loads(socket.recv(timeout=PATIENCE))["type"] == "container-schema"
    with stream(server, uid, Origin=server.uri) as socket:
        socket.send('{"type": "auth", "api_key": "wrong"}')
        with pytest.raises(ConnectionClosed, match="4003"):
            socket.recv(timeout=PATIENCE)


def test_relay_keeps_the_path_before_the_server_and_replaces_what_was_claimed():
    headers = [(b"host", b"h:1"), (b"origin", b"https://h:1"), (b"authorization", b"Apikey other")]
    scope = {"type": "websocket", "root_path": "/tiled", "headers": headers, "path_params": {"path": "a"}, "route": 1}
    given = relayed(scope, "a b/c", "key")
    assert given["path"] == "/tiled/api/v1/stream/single/a b/c"
    assert given["raw_path"] == b"/tiled/api/v1/stream/single/a%20b/c"
    assert given["headers"] == [*headers[:2], (b"authorization", b"Apikey key")]
    assert "path_params" not in given
    assert "route" not in given
    assert relayed(scope, "a", None)["headers"] == headers


def test_tiled_is_told_of_our_view_beside_its_own_settings(server):
    settings = get(server, "/tiled-ui-settings").json()
    assert settings["spec_views"] == [VIEW]
    assert settings["api_url"] == "/api/v1"
    assert settings["structure_families"]["array"]["formats"]
    assert get(server, VIEW["url"]).status_code == 200


def test_view_that_a_facility_has_named_stays():
    own = {"spec_views": [{"spec": "PowderRun", "url": "/own.js"}]}
    assert with_view(own) == own
    assert with_view({"spec_views": [{"spec": "X", "url": "/x.js"}]})["spec_views"][1] == VIEW


def test_settings_begin_with_what_the_environment_names_and_leave_it_as_it_was(tmp_path, monkeypatch):
    named, written = tmp_path / "own.yml", tmp_path / "written.yml"
    named.write_text("api_url: /elsewhere\n")
    monkeypatch.setenv(VARIABLE, str(named))
    with ui_settings(written):
        assert yaml.safe_load(written.read_text()) == {"api_url": "/elsewhere", "spec_views": [VIEW]}
    assert named.read_text() == "api_url: /elsewhere\n"
    monkeypatch.setenv(VARIABLE, "")  # something else serves them
    written.unlink()
    with ui_settings(written):
        assert not written.exists()


def test_facility_adds_one_line_to_its_configuration(tmp_path):
    from tiled.server.app import build_app_from_config

    config = yaml.safe_load(
        f"""
        trees:
          - path: /
            tree: catalog
            args:
              uri: "sqlite:///{tmp_path}/catalog.db"
              writable_storage: ["{tmp_path}/data"]
        authentication: {{allow_anonymous_access: true}}
        routers: ["bluesky_powder.web:router"]
        """
    )
    app = build_app_from_config(config)
    assert "static/runs.js" in asked(app, "/custom/powder/").text
    # This server's tables are not known to bear being read while they grow.
    assert asked(app, "/custom/powder/about.json").json() == {"key": "none", "tables_may_grow": False}


@pytest.mark.parametrize("paths", [["/"], ["/powder"], ["/powder", "/others"]])
def test_tables_of_the_ready_configuration_are_read_while_they_grow(tmp_path, paths):
    from tiled.server.app import build_app_from_config

    config = yaml.safe_load(CONFIG.read_text())
    tree = config["trees"][0]
    tree["args"]["directory"] = str(tmp_path / "served")
    config["trees"] = [{**tree, "path": paths[0]}]
    if len(paths) > 1:
        others = {"uri": f"sqlite:///{tmp_path}/others.db", "writable_storage": [f"duckdb:///{tmp_path}/others.duckdb"]}
        config["trees"].append({"path": paths[1], "tree": "catalog", "args": others})
    config["authentication"] = {"allow_anonymous_access": True}
    app = build_app_from_config({name: config[name] for name in ("trees", "authentication", "routers")})
    # Tiled's own catalog beside ours: what one page reads may be in either.
    assert asked(app, "/custom/powder/about.json").json()["tables_may_grow"] == (len(paths) == 1)


def asked(app, path):
    """Return an app's answer, without a server."""

    async def ask():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://facility") as client:
            return await client.get(path)

    return asyncio.run(ask())
