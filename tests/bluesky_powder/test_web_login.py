"""The pages for users who log in at Tiled, on a server started from our ready configuration with users added."""

import pytest
import yaml

from bluesky_powder.publish import TiledPublisher
from browser import until
from configured import CONFIG, tiled_serve_config
from pattern_runs import documents_of
from users import key_of

POWDER = "/custom/powder/"


def with_users(folder):
    """Write the ready configuration with two users."""
    config = yaml.safe_load(CONFIG.read_text())
    passwords = {"alice": "alice-secret", "beamline": "beamline-secret"}
    toy = {
        "provider": "toy",
        "authenticator": "tiled.authenticators:DictionaryAuthenticator",
        "args": {"users_to_passwords": passwords},
    }
    config["authentication"] = {"providers": [toy], "secret_keys": ["0123456789abcdef"]}
    config["database"] = {"uri": f"sqlite:///{folder}/users.db", "init_if_not_exists": True}
    file = folder / "config.yml"
    file.write_text(yaml.safe_dump(config))
    return file


@pytest.fixture(scope="module")
def uri(tmp_path_factory, browser):  # noqa: ARG001 - nothing is started where there is no browser
    folder = tmp_path_factory.mktemp("facility")
    with tiled_serve_config(folder, config=with_users(folder)) as (uri, _):
        yield uri


def test_user_who_logged_in_at_tiled_sees_runs_grow_and_downloads_them(browser, uri, tmp_path):
    keys = pytest.importorskip("selenium.webdriver.common.keys").Keys
    documents = list(documents_of(range(1, 7)))
    uid = documents[0][1]["uid"]
    middle = [k for k, (name, document) in enumerate(documents) if name == "event" and "sums" in document["data"]][3]
    with TiledPublisher(uri, api_key=key_of(uri, "beamline"), spool=tmp_path / "spool") as publisher:
        for name, document in documents[:middle]:
            publisher(name, document)
        assert publisher.wait(120)
        browser.open(f"{uri}{POWDER}run/{uid}")
        assert "wants a key or a login" in until(lambda: browser.text(".banner"))
        browser.click("main a")
        name = until(lambda: browser.driver.find_elements("css selector", "input[type=text]"))[0]
        name.send_keys("alice")
        browser.driver.find_element("css selector", "input[type=password]").send_keys("alice-secret", keys.ENTER)
        until(lambda: browser.js("localStorage.getItem('tiled_access_token')"))
        browser.open(f"{uri}{POWDER}")
        until(lambda: browser.data("status") == "live" and browser.data("runs") == "1")
        browser.click("tbody a")
        until(lambda: browser.data("status") == "live" and browser.data("frames") == "3")
        until(lambda: browser.data("numbers") == "3")
        for name, document in documents[middle:]:
            publisher(name, document)
        until(lambda: browser.data("status") == "complete" and browser.data("frames") == "6")
        browser.download_to(tmp_path / "downloads")
        until(lambda: browser.js("document.querySelector('.downloads a')"))
        browser.click(".downloads a")
        (file,) = until(lambda: list((tmp_path / "downloads").glob("*.xye")))
        assert "derived run" in until(file.read_text)
        # A token that has run out is renewed; a login that has ended is told.
        browser.js("localStorage.setItem('tiled_access_token', 'outdated')")
        browser.open(f"{uri}{POWDER}run/{uid}")
        until(lambda: browser.data("status") == "complete")
        assert browser.js("localStorage.getItem('tiled_access_token')") != "outdated"
        browser.js("localStorage.setItem('tiled_access_token', 'outdated')")
        browser.js("localStorage.setItem('tiled_refresh_token', 'outdated')")
        browser.open(f"{uri}{POWDER}run/{uid}")
        assert "your login has ended" in until(lambda: browser.text(".banner"))
    assert browser.faults() == []
