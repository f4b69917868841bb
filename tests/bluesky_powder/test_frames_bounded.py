"""Long runs: what is kept does not grow with the number of events."""

import gc
import sys

import numpy as np
import pytest

from bluesky_powder.frames import Frame, Patience, RunFrames, Skipped, Wanted
from bluesky_powder.frames.joining.recent import REMEMBERED
from bluesky_powder.recipe.sources import KeySource
from number_runs import datum, descriptor, event, frames_key, number_key, resource, write_columns

BOTH = Wanted("det", None, {"pos": "angle"}, "i0")
INLINE = {"dtype": "array", "shape": [2, 3], "source": ""}
NUMBERS = {"angle": number_key(), "i0": number_key()}
ROOM = 2000
"""Blocks of memory by which a run may grow in its second half: noise, not events."""


@pytest.fixture
def few_resources(monkeypatch):
    """Let so few resources be remembered that the first half of a run has more."""
    for where in ("recent", "stream_resource", "streamed"):
        monkeypatch.setattr(f"bluesky_powder.frames.joining.{where}.MOST_RESOURCES", REMEMBERED)


def growth(run, head, step, events):
    """Feed a run events, and return its frames and by how many blocks of memory the second half made it grow."""
    frames = 0
    for document in head:
        assert not list(run.take(*document))
    for half in (range(1, events // 2 + 1), range(events // 2 + 1, events + 1)):
        gc.collect()
        before = sys.getallocatedblocks()
        for number in half:
            for name, document in step(number):
                frames += sum(isinstance(item, Frame) for item in run.take(name, document))
    gc.collect()
    return frames, sys.getallocatedblocks() - before


def test_run_of_100000_inline_events_keeps_nothing_of_them():
    image = np.zeros((2, 3))
    run = RunFrames(BOTH, "run", Patience(0.0))
    head = [descriptor("primary", {"det": INLINE, **NUMBERS})]
    frames, grown = growth(run, head, lambda n: [event(n, {"det": image, "angle": n * 0.1, "i0": 5.0})], 100_000)
    assert frames == 100_000
    assert grown < ROOM
    assert not list(run.finish())


def test_run_of_100000_events_with_frames_in_files_keeps_the_latest_only():
    run = RunFrames(BOTH, "run", Patience(0.0))
    head = [descriptor("primary", {"det": frames_key(), **NUMBERS}), resource("r", "det", "file:///nowhere/a.h5")]
    step = lambda n: [datum("r", n - 1, n), event(n, {"angle": n * 0.1, "i0": 5.0})]  # noqa: E731
    frames, grown = growth(run, head, step, 100_000)
    assert frames == 100_000
    assert grown < ROOM
    assert not list(run.finish())


@pytest.mark.usefixtures("few_resources")
def test_run_of_one_resource_an_event_keeps_the_latest_only():
    """As detectors do that are prepared afresh for every point."""
    run = RunFrames(BOTH, "run", Patience(0.0))

    def step(n):
        yield resource(f"r{n}", "det", f"file:///nowhere/{n}.h5")
        yield resource(f"o{n}", "other", f"file:///nowhere/{n}.h5")
        yield datum(f"r{n}", 0, 1, seq_num=n)
        yield datum(f"o{n}", 0, 1, seq_num=n)
        yield event(n, {"angle": n * 0.1, "i0": 5.0})

    keys = {"det": frames_key(), "other": frames_key(), **NUMBERS}
    frames, grown = growth(run, [descriptor("primary", keys)], step, 12_000)
    assert frames == 12_000
    assert grown < ROOM


@pytest.mark.parametrize("stream", ["primary", "dark"])
def test_run_of_legacy_datums_of_several_detectors_keeps_the_latest_only(stream):
    """Also where the frames of another stream are looked for, as for darks: Datums do not say whose they are."""
    run = RunFrames(Wanted("det", stream, {}, None), "run", Patience(0.0), {"SPEC": dict})
    filed = {"dtype": "array", "shape": [2, 3], "source": "", "external": "FILESTORE:"}
    head = [
        descriptor("primary", {"det": filed, "other": filed}),
        ("resource", {"uid": "r", "spec": "SPEC", "resource_path": "/a", "root": "/", "resource_kwargs": {}}),
    ]

    def step(n):
        for key in ("det", "other"):
            yield "datum", {"datum_id": f"{key}/{n}", "resource": "r", "datum_kwargs": {}}
        yield event(n, {"det": f"det/{n}", "other": f"other/{n}"})

    frames, grown = growth(run, head, step, 12_000)
    assert frames == (12_000 if stream == "primary" else 0)
    assert grown < ROOM


@pytest.mark.usefixtures("few_resources")
def test_run_of_one_legacy_resource_an_event_keeps_the_latest_only():
    run = RunFrames(BOTH, "run", Patience(0.0), {"SPEC": dict})

    def step(n):
        yield "resource", {"uid": f"r{n}", "spec": "SPEC", "resource_path": f"/nowhere/{n}", "root": "/"}
        yield "datum", {"datum_id": f"r{n}/0", "resource": f"r{n}", "datum_kwargs": {}}
        yield event(n, {"det": f"r{n}/0", "angle": 1.0, "i0": 5.0})

    keys = {"det": {"dtype": "array", "shape": [2, 3], "source": "", "external": "FILESTORE:"}, **NUMBERS}
    frames, grown = growth(run, [descriptor("primary", keys)], step, 12_000)
    assert frames == 12_000
    assert grown < ROOM


@pytest.mark.parametrize("samples", [2, "time"])
def test_run_with_columns_and_another_stream_keeps_the_latest_only(tmp_path, samples):
    events = 9_000
    file = write_columns(tmp_path, angle=np.arange(events) * 0.1)
    keys = {"det": frames_key(), "angle": number_key([1], external="STREAM:")}
    head = [
        descriptor("primary", keys),
        descriptor("m", {"i0": number_key()}, "m"),
        resource("r", "det", "file:///nowhere/a.h5"),
        resource("a", "angle", file, "/angle"),
    ]
    wanted = Wanted("det", None, {"pos": "angle"}, KeySource(key="i0", stream="m", samples=samples))
    run = RunFrames(wanted, "run", Patience(0.0))

    def step(n):
        yield datum("r", n - 1, n)
        yield datum("a", n - 1, n)
        yield event(n)
        yield event(2 * n - 1, {"i0": 1.0}, n - 0.5, of="m")
        yield event(2 * n, {"i0": 2.0}, n, of="m")

    frames, grown = growth(run, head, step, events)
    frames += sum(isinstance(item, Frame) for item in run.finish())
    run.close()
    assert frames == events
    assert grown < ROOM  # times and values are kept in arrays, which are one block each


@pytest.mark.parametrize("missing", ["events", "stream_datums", "stream_resource", "columns", "datums", "resource"])
def test_run_whose_documents_never_meet_is_bounded(monkeypatch, missing):
    """What waits for its counterpart is told of, each event once, but not all of it is kept."""
    for where in ("join", "streamed", "held", "datums"):
        monkeypatch.setattr(f"bluesky_powder.frames.joining.{where}.MOST_WAITING", 100)
    keys = {"det": frames_key(), **NUMBERS}
    if missing == "columns":
        keys["angle"] = number_key([1], external="STREAM:")
    filed = missing in ("datums", "resource")
    if filed:
        keys["det"] = {"dtype": "array", "shape": [2, 3], "source": "", "external": "FILESTORE:"}
    head = [descriptor("primary", keys)]
    if missing != "stream_resource" and not filed:
        head.append(resource("r", "det", "file:///nowhere/a.h5"))

    def step(n):
        if filed:
            yield event(n, {"det": f"d/{n}", "angle": 1.0, "i0": 1.0})
        elif missing != "stream_datums":
            yield datum("r", n - 1, n)
        if missing == "resource":
            yield "datum", {"datum_id": f"d/{n}", "resource": "never", "datum_kwargs": {}}
        if missing in ("stream_datums", "columns"):
            yield event(n, {"angle": 1.0, "i0": 1.0} if missing == "stream_datums" else {"i0": 1.0})

    told = []
    run = RunFrames(BOTH, "run", Patience(0.0))
    take = run.take
    monkeypatch.setattr(run, "take", lambda *document: told.extend(take(*document)) or ())
    events = 10_000 if missing == "resource" else 1000  # of Datums that were asked for, 4096 are kept anyway
    _, grown = growth(run, head, step, events)
    early = len(told)
    told.extend(run.finish())
    assert sum(item.count for item in told) == events
    assert all(isinstance(item, Skipped) for item in told)
    assert grown < ROOM + 10 * early
