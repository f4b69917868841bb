"""Fixtures shared by the tests of the plugin."""

from collections.abc import Iterator

import pytest

from browser import Browser


@pytest.fixture(scope="module")
def fresh_files_stay_fresh() -> Iterator[None]:
    """Let no file seem finished because a test takes its time, only those that were made to look old."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bluesky_powder.frames.files.handles.SETTLED_AFTER", 1e6)
        yield


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Return a browser of the module's own; skip where there is none."""
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()
