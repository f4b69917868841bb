"""Fixtures shared by all tests."""

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest


def pytest_collection_finish() -> None:
    """Spare the garbage collector all modules: each time it went through them took it a tenth of a second and more."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    """Let it see them again: what plugins import at the end may ask it who holds what."""
    gc.unfreeze()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real frames that stands beside a checkout; skip where there is none."""
    return _beside_the_checkout("data", "real frames")


@pytest.fixture(scope="session")
def shared_reference() -> Path:
    """Return the folder of reference files that stands beside a checkout; skip where there is none."""
    return _beside_the_checkout("reference", "reference files")


@pytest.fixture
def process_that_used_v2() -> Iterator[None]:
    """Do what asking any catalog of runs for its ``v2`` does: all clients of the process give other classes then."""
    from bluesky_tiled_plugins.clients.bluesky_run import BlueskyRunV2
    from tiled.client.container import DEFAULT_STRUCTURE_CLIENT_DISPATCH, Container

    Container.discover_clients_from_entrypoints()
    clients = DEFAULT_STRUCTURE_CLIENT_DISPATCH["numpy"]
    usual = clients["BlueskyRun"]
    clients.set("BlueskyRun", lambda: BlueskyRunV2)
    yield
    clients.set("BlueskyRun", lambda: usual)


def _beside_the_checkout(name: str, what: str) -> Path:
    folder = Path(__file__).resolve().parents[2] / "shared" / name
    if not folder.is_dir():
        pytest.skip(f"{what} are not on this machine (looked for ../shared/{name} beside the checkout)")
    return folder
