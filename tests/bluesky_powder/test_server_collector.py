"""The garbage collector of a process that only serves: modules are left alone, what comes later is not."""

import gc
import weakref

import pytest

from bluesky_powder.server import PowderServer, collector
from bluesky_powder.server.collector import spare_what_stays


class Circle:
    def __init__(self):
        self.itself = self


@pytest.fixture
def callbacks():
    before = list(gc.callbacks)
    gc.unfreeze()  # what all tests spare
    yield lambda: [each for each in gc.callbacks if each not in before]
    gc.callbacks[:] = before
    gc.unfreeze()
    gc.freeze()


def test_what_is_there_is_spared_a_few_times_and_later_circles_are_collected(monkeypatch, callbacks):
    monkeypatch.setattr(collector, "LONG", 0.0)
    monkeypatch.setattr(collector, "MOST_TIMES", 2)
    spare_what_stays()
    spare_what_stays()
    (settling,) = callbacks()
    spared = gc.get_freeze_count()
    assert spared > 10_000
    later = [Circle() for _ in range(100)]
    gone = weakref.ref(later[0])
    later.clear()
    gc.collect(0)
    assert gone() is None
    assert gc.get_freeze_count() == spared  # a short one changes nothing
    gc.collect()
    assert gc.get_freeze_count() >= spared
    assert settling not in gc.callbacks
    circle = Circle()
    gone, circle = weakref.ref(circle), None
    spared = gc.get_freeze_count()
    gc.collect()
    assert gone() is None
    assert gc.get_freeze_count() <= spared


def test_short_collections_spare_nothing(monkeypatch, callbacks):
    monkeypatch.setattr(collector, "LONG", 1e9)
    before = gc.get_freeze_count()
    spare_what_stays()
    gc.collect()
    assert callbacks()
    assert gc.get_freeze_count() == before


@pytest.mark.parametrize("process", ["shared", "own"])
def test_server_leaves_a_process_alone_that_is_not_its_own(tmp_path, callbacks, process):
    with PowderServer(tmp_path, process=process):
        assert len(callbacks()) == (process == "own")
