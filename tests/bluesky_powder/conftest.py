"""Fixtures shared by the tests of the plugin."""

from collections.abc import Iterator

import pytest

from browser import Browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Return a browser of the module's own; skip where there is none."""
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()
