"""What endpoints depend on is found out once, and each app keeps what it has put in a dependency's place."""

import asyncio
from typing import Annotated

import httpx
from fastapi import Depends, FastAPI
from fastapi.dependencies import utils

from bluesky_powder.server import PowderServer, signatures
from bluesky_powder.server.signatures import Remembered, remember_signatures


def nobody():
    return "nobody"


def greeting(name: Annotated[str, Depends(nobody)]):
    return f"hello {name}"


def app_for(name):
    app = FastAPI()

    @app.get("/")
    def greet(text: Annotated[str, Depends(greeting)]):
        return text

    app.dependency_overrides[nobody] = lambda: name
    return app


def answer_of(app):
    async def ask():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as client:
            return (await client.get("/")).json()

    return asyncio.run(ask())


def test_answers_are_remembered_by_all_keywords_and_the_oldest_forgotten(monkeypatch):
    monkeypatch.setattr(signatures, "MOST", 2)
    asked = []

    def function(**keywords):
        asked.append(keywords)
        return dict(keywords)

    remembered = Remembered(function)
    first = remembered(path="/a", scopes=["read"])
    assert remembered(scopes=["read"], path="/a") is first
    assert remembered(path="/a", scopes=["write"]) == {"path": "/a", "scopes": ["write"]}
    assert remembered(path="/a", scopes=None) == {"path": "/a", "scopes": None}
    assert len(asked) == 3
    assert remembered(path="/a", scopes=["read"]) == first
    assert len(asked) == 4
    assert remembered(path={}) == remembered(path={}) == {"path": {}}
    assert len(asked) == 6


def test_apps_keep_their_own_dependencies_also_when_they_change():
    remember_signatures()
    apps = {name: app_for(name) for name in ("Ada", "Emmy")}
    for name, app in apps.items():
        assert [answer_of(app) for _ in range(2)] == [f"hello {name}"] * 2
        app.dependency_overrides[nobody] = lambda: "all"
        assert answer_of(app) == "hello all"
        app.dependency_overrides.clear()
        assert answer_of(app) == "hello nobody"


def test_server_reads_no_signature_twice(tmp_path, monkeypatch):
    with PowderServer(tmp_path) as server:
        context = server.client().context
        for _ in range(2):
            context.http_client.get(f"{context.api_uri}metadata/").raise_for_status()
        read, remembered = [], utils.get_dependant
        assert isinstance(remembered, Remembered)
        found_out = remembered.function
        monkeypatch.setattr(remembered, "function", lambda **about: read.append(about) or found_out(**about))
        answer = context.http_client.get(f"{context.api_uri}metadata/")
        assert answer.status_code == 200
        assert read == []
        assert context.http_client.get(f"{context.api_uri}metadata/", headers={"Authorization": ""}).status_code == 401
        context.http_client.get(f"{context.api_uri}search/").raise_for_status()
        assert read  # what is asked first is found out
