"""Fixtures shared by all tests."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real frames that stands beside a checkout; skip where there is none."""
    return _beside_the_checkout("data", "real frames")


@pytest.fixture(scope="session")
def shared_reference() -> Path:
    """Return the folder of reference files that stands beside a checkout; skip where there is none."""
    return _beside_the_checkout("reference", "reference files")


def _beside_the_checkout(name: str, what: str) -> Path:
    folder = Path(__file__).resolve().parents[2] / "shared" / name
    if not folder.is_dir():
        pytest.skip(f"{what} are not on this machine (looked for ../shared/{name} beside the checkout)")
    return folder
