"""The hostile corpus: malformed and nasty document streams (tests/documents/hostile), live and replayed.

Whatever comes, nothing is raised, memory and time stay bounded, what is wrong is said, what was reduced is kept,
derived documents are valid, and the next run is reduced as if nothing had happened.

A file of the corpus is JSON: `what` it is; `reason`, parts of what the derived stop document must say ("" where nothing
is wrong), and `log`, of what the log must say; `reduced`, the seq_nums that must be reduced all the same; `derived`,
how many derived runs come of it (1); `recipe`, what the recipe says differently; and the `documents`, (name, document)
pairs. ``{folder}`` stands for the folder of frames; an object whose key begins with ``$`` for what JSON does not have,
see `revive`.
"""

import contextlib
import json
import logging
import math
import os
import random
import re
import resource
import threading
from pathlib import Path

import event_model
import h5py
import numpy as np
import pytest
import yaml

from bluesky_powder import PowderReduction
from bluesky_powder.cli._jobs import jobs_in_files
from bluesky_powder.errors import ReplayError
from bluesky_powder.recipe import Recipe
from bluesky_powder.replay.run import Replay
from bluesky_powder.replay.source import place_of_files
from raw_runs import ARM, Derived, copied

CORPUS = Path(__file__).parents[1] / "documents" / "hostile"
CASES = sorted(path.stem for path in CORPUS.glob("*.json"))
SHAPE = (4, 5)
MOST_BYTES = 2**30
LONGEST_REASON = 5000
pytestmark = pytest.mark.timeout(120)


class Unprintable:
    """Raises whatever is done with it."""

    def _raise(self, *_, **__):
        raise RuntimeError("hands off")

    __repr__ = __str__ = __float__ = __len__ = __iter__ = __getitem__ = __array__ = __eq__ = __bool__ = _raise
    __hash__ = None


def revive(value, folder):
    """Return what a value of the corpus stands for."""
    if isinstance(value, str):
        return value.replace("{folder}", str(folder))
    if isinstance(value, list):
        return [revive(item, folder) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) <= 2 and next(iter(value), "").startswith("$"):
        return _special(**{key.removeprefix("$"): item for key, item in value.items()})
    return {key: revive(item, folder) for key, item in value.items()}


def _special(dtype=None, **one):
    ((kind, value),) = one.items()
    if kind == "array":
        return np.array(value, dtype)
    if kind == "zeros":  # occupies no memory, whatever its shape
        return np.broadcast_to(np.zeros((), dtype), value)
    if kind == "nested":
        nested = []
        for _ in range(value):
            nested = [nested]
        return nested
    if kind == "cycle":
        cycle = []
        cycle.append(cycle)
        return cycle
    return {"bytes": lambda: value.encode(), "object": Unprintable}[kind]()


def good_run(uid="good", frames=3):
    """Return a run with nothing wrong, and with whatever a recipe here may ask for but a dark run."""
    rng = np.random.default_rng(5)
    key = {"dtype": "array", "shape": list(SHAPE), "source": "det", "dtype_numpy": "<u4"}
    number = {"dtype": "number", "shape": [], "source": "m"}
    keys = {"det": key, "two_theta": number, "i0": number, "t": number}

    def described(stream, **keys):
        return (
            "descriptor",
            {"uid": f"{uid}/{stream}", "run_start": uid, "time": 2.0, "name": stream, "data_keys": keys},
        )

    def event(stream, n, **data):
        common = {"descriptor": f"{uid}/{stream}", "seq_num": n, "time": 2.0 + n, "data": data}
        return ("event", {"uid": f"{uid}/{stream}/{n}", **common, "timestamps": dict.fromkeys(data, 2.0 + n)})

    def image():
        return rng.poisson(50, SHAPE).astype("<u4")

    return [
        ("start", {"uid": uid, "time": 1.0}),
        described("dark", det=key),
        event("dark", 0, det=image()),
        described("primary", **keys),
        *(event("primary", n, det=image(), two_theta=0.0, i0=100.0, t=0.5) for n in range(1, frames + 1)),
        ("stop", {"uid": f"{uid}/s", "run_start": uid, "time": 9.0, "exit_status": "success", "reason": ""}),
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with good frames, odd ones, and a pipe that nobody writes to."""
    folder = tmp_path_factory.mktemp("frames")
    frames = np.random.default_rng(3).poisson(50, (3, *SHAPE)).astype("<u4")
    for n, frame in enumerate(frames):
        np.save(folder / f"frames_{n}.npy", frame)
    with h5py.File(folder / "frames.h5", "w") as file:
        file["entry/data/data"] = frames
        file["two_theta"], file["i0"] = np.zeros(3), np.full(3, 100.0)
        file["columns/nan"], file["columns/short"] = [0.0, math.nan, 0.0], [0.0]
        file["columns/text"], file["columns/wide"] = ["a", "b", "c"], np.zeros((3, 7))
        odd = file.create_group("odd")
        odd["text"] = ["a", "b", "c"]
        odd["record"] = np.zeros((3, 4), "i4,f8")
        odd["reference"] = np.full((3, *SHAPE), file.ref, h5py.ref_dtype)
        odd["scalar"], odd["line"], odd["five"] = 5, np.arange(7), np.ones((3, 1, 1, *SHAPE))
        odd["small"], odd["complex"] = np.ones((3, 2, 3), "<u4"), np.ones((3, *SHAPE), complex)
        odd["null"] = h5py.Empty("u4")
        odd.create_dataset("empty", (0, *SHAPE), "u4", maxshape=(None, *SHAPE))
        odd["circle"] = h5py.SoftLink("/odd/circle")
        odd["outside"] = h5py.ExternalLink("nowhere.h5", "/entry")
    os.mkfifo(folder / "pipe")
    return folder


def recipe_in(folder, *, moving=False, **sections):
    detector = {"pixel1": 1e-2, "pixel2": 1e-2, "max_shape": list(SHAPE), "orientation": 3}
    poni = {"Detector": "Detector", "Detector_config": json.dumps(detector), "Distance": 0.1, "Wavelength": 1e-10}
    lines = {"poni_version": 2.1, **poni, "Poni1": 0.02, "Poni2": 0.001, "Rot1": 0, "Rot2": 0, "Rot3": 0}
    (folder / "detector.poni").write_text("".join(f"{key}: {value}\n" for key, value in lines.items()))
    (folder / "arm.json").write_text(json.dumps({**ARM, "detector_config": detector}))
    arm = {"goniometer": "arm.json", "motors": {"pos": "two_theta"}}
    content = {
        "frames": "det",
        "geometry": arm if moving else {"poni": "detector.poni"},
        "bins": {"unit": "2th_deg", "npt": 8, "range": [1, 30]},
        "integration": {"splitting": "no"},
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(content | sections))
    return Recipe.load(path)


class Outcome:
    """What the reduction of some documents, and of a good run after them, came to."""

    def __init__(self, documents, recipe, pace, *, good=True):
        self.derived, self.invalid = Derived(), []
        with PowderReduction(recipe, pace=pace, file_timeout=0.05) as reduction:
            reduction.subscribe(self._take)
            for name, document in documents:
                reduction(name, document)
            assert reduction.wait(30)
            for name, document in copied(good_run()) if good else ():
                reduction(name, document)
            assert reduction.close(30)

    def _take(self, name, document):
        try:
            self.derived(name, document)
            json.dumps(event_model.sanitize_doc(document))
        except Exception as error:
            self.invalid.append((name, document, repr(error)))

    def stops(self, *, good):
        """Return the derived stop documents of the good run, or of all others."""
        mine = {start["uid"] for start in self.derived.starts if (start["raw_uid"] == "good") == good}
        return [stop for stop in self.derived.stops if stop["run_start"] in mine]

    def events(self, *, good, stream="primary"):
        """Return the derived events of a stream, by descriptors' runs."""
        mine = {start["uid"] for start in self.derived.starts if (start["raw_uid"] == "good") == good}
        described = {uid for uid, document in self.derived.descriptors.items() if document["run_start"] in mine}
        return [event for event in self.derived.events[stream] if event["descriptor"] in described]

    @property
    def said(self):
        """All reasons of the stop documents, but for those of the good run."""
        parts = []
        for stop in self.stops(good=False):
            parts += [stop["reason"], *(entry["reason"] for entry in stop["skip_reasons"])]
        return "\n".join(parts)

    def curves(self, *, good):
        return {event["seq_num"]: event["data"]["intensity"].tobytes() for event in self.events(good=good)}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Return a function: changes to the recipe -> the curves of a good run that comes alone."""
    alone = {}

    def curves(changes):
        if (key := json.dumps(changes)) not in alone:
            recipe = recipe_in(tmp_path_factory.mktemp("good"), **changes)
            alone[key] = Outcome([], recipe, "replay").curves(good=True)
            assert alone[key].keys() == {1, 2, 3} or "run" in key
        return alone[key]

    return curves


def listed(value):
    return [value] if isinstance(value, str) else value or []


@contextlib.contextmanager
def little_memory():
    """Leave MOST_BYTES of memory beyond what is in use, where the system can do that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    status = Path("/proc/self/status")
    in_use = re.search(r"^VmData:\s+(\d+) kB", status.read_text(), re.MULTILINE) if status.exists() else None
    if in_use:
        resource.setrlimit(resource.RLIMIT_DATA, (int(in_use.group(1)) * 1024 + MOST_BYTES, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


@pytest.mark.parametrize("pace", ["replay", "live"])
@pytest.mark.parametrize("name", CASES)
def test_hostile(name, pace, folder, tmp_path, undisturbed, caplog):
    case = json.loads((CORPUS / f"{name}.json").read_text())
    changes = case.get("recipe", {})
    recipe, documents = recipe_in(tmp_path, **changes), [revive(pair, folder) for pair in case["documents"]]
    caplog.set_level(logging.DEBUG, "bluesky_powder")
    with little_memory():
        outcome = Outcome(documents, recipe, pace)
    assert "MemoryError" not in caplog.text
    assert not outcome.invalid, outcome.invalid
    stops = outcome.stops(good=False)
    assert len(stops) == case.get("derived", 1)
    if case.get("reason") == "":
        assert outcome.said.strip() == ""
    for reason in listed(case.get("reason")):
        assert reason in outcome.said
    for line in listed(case.get("log")):
        assert line in caplog.text
    assert case.get("log") or case.get("reason") is not None
    assert len(outcome.said) < LONGEST_REASON
    if case["reduced"] is not None:
        assert outcome.curves(good=False).keys() == set(case["reduced"])
    for stop in stops:
        assert stop["frames_seen"] == stop["frames_reduced"] + stop["frames_skipped"]
    assert outcome.events(good=False) == [] or outcome.events(good=False, stream="merged")
    assert outcome.curves(good=True) == undisturbed(changes)


def test_hostile_streams_one_after_the_other_through_a_full_queue(folder, tmp_path, undisturbed, caplog):
    """All of the corpus at once, most of which finds no room: the good run afterwards is as good as ever."""
    derived, release = Derived(), threading.Event()
    with little_memory(), PowderReduction(recipe_in(tmp_path), max_documents=3, file_timeout=0.05) as reduction:
        reduction.subscribe(derived)
        reduction.subscribe(lambda name, _: name == "start" and release.wait(120))
        for case in CASES:
            for pair in json.loads((CORPUS / f"{case}.json").read_text())["documents"]:
                reduction(*revive(pair, folder))
        release.set()
        assert reduction.wait(120)
        for pair in copied(good_run()):
            reduction(*pair)
            assert reduction.wait(120)
    (good,) = [start["uid"] for start in derived.starts if start["raw_uid"] == "good"]
    mine = {uid for uid, document in derived.descriptors.items() if document["run_start"] == good}
    events = [event for event in derived.events["primary"] if event["descriptor"] in mine]
    assert {event["seq_num"]: event["data"]["intensity"].tobytes() for event in events} == undisturbed({})
    assert "its queue full" in caplog.text
    assert "MemoryError" not in caplog.text
    assert "the subscriber" not in caplog.text  # which finds every derived document valid


WRITABLE = [case for case in CASES if '{"$' not in (CORPUS / f"{case}.json").read_text()]


@pytest.mark.parametrize("name", WRITABLE)
def test_hostile_streams_in_a_file(name, folder, tmp_path):
    """As the command line reads it: with the runs picked out of the file, and asked how long they are."""
    case = json.loads((CORPUS / f"{name}.json").read_text())
    path, derived = tmp_path / "run.jsonl", Derived()
    path.write_text("".join(json.dumps(revive(pair, folder)) + "\n" for pair in case["documents"]))
    broken = False
    recipe = recipe_in(tmp_path, **case.get("recipe", {}))
    with little_memory(), Replay(recipe, derived, place=place_of_files([path])) as replayed:
        for job in jobs_in_files([path], [], [None]):
            broken = broken or bool(job.mistake)
            try:
                replayed(job.documents())
            except ReplayError:  # of what does not even look like a document
                broken = True
    assert len(derived.stops) == len(derived.starts)
    reduced = {event["seq_num"] for event in derived.events["primary"]}
    assert broken or case["reduced"] is None or reduced >= set(case["reduced"])


# --- mutations ------------------------------------------------------------------------------------------------------

NASTY = (None, "x", "", -1, 0, 2**70, 1.5, math.nan, True, [], {}, [None], ["x", "y"], {"a": None}, GONE := object())
NUMBER = {"dtype": "number", "shape": [], "source": "m", "units": "deg"}


def whole_run(way, folder):
    """Return a run of three frames with everything in it that a way of handing them over has."""
    run = {"run_start": "run"}
    start = ("start", {"uid": "run", "time": 1.0, "scan_id": 1, "sample": {"name": "LaB6"}, "owner": "me"})
    stop = ("stop", {"uid": "s", **run, "time": 9.0, "exit_status": "success", "reason": "", "num_events": {}})
    image = {"dtype": "array", "shape": [1, *SHAPE], "source": "det", "dtype_numpy": "<u4"}
    about = {**run, "time": 2.0, "hints": {}, "configuration": {"det": {"data": {"e": 1}, "data_keys": {"e": NUMBER}}}}

    def event(stream, n, **data):
        stamps = dict.fromkeys(data, 2.0 + n)
        common = {"descriptor": stream, "seq_num": n, "time": 2.0 + n, "data": data, "timestamps": stamps}
        return ("event", {"uid": f"{stream}/{n}", **common, "filled": {}})

    def described(stream, **keys):
        return ("descriptor", {"uid": stream, **about, "name": stream, "data_keys": keys})

    if way == "events":
        frames = [frame.tolist() for frame in np.arange(80).reshape(4, *SHAPE) + 5]
        page = event_model.pack_event_page(event("primary", 3, det=frames[2], i0=100.0)[1])
        return [
            start,
            described("baseline", two_theta=NUMBER),
            event("baseline", 1, two_theta=0.0),
            described("dark", det=image),
            event("dark", 1, det=[[1] * 5] * 4),
            described("primary", det=image, i0=NUMBER),
            *(event("primary", n, det=frames[n], i0=100.0) for n in (1, 2)),
            ("event_page", page),
            stop,
        ]
    if way == "datums":
        made = {"spec": "NPY_SEQ", "root": str(folder), "resource_path": "frames", "resource_kwargs": {}}
        datum = {"datum_id": "res/0", "resource": "res", "datum_kwargs": {"index": 0}}
        page = {"datum_id": ["res/1", "res/2"], "resource": "res", "datum_kwargs": {"index": [1, 2]}}
        return [
            start,
            described("primary", det={**image, "external": "FILESTORE:"}, two_theta=NUMBER, i0=NUMBER),
            ("resource", {"uid": "res", **run, **made}),
            ("datum", datum),
            ("datum_page", page),
            *(event("primary", n, det=f"res/{n - 1}", two_theta=0.0, i0=100.0) for n in (1, 2, 3)),
            stop,
        ]
    external = {"external": "STREAM:"}
    keys = {"det": {**image, **external}, "two_theta": {**NUMBER, **external}, "i0": {**NUMBER, **external}}
    datasets = {"det": "/entry/data/data", "two_theta": "/two_theta", "i0": "/i0"}
    resources = [
        {
            "uid": key,
            **run,
            "data_key": key,
            "mimetype": "application/x-hdf5",
            "uri": f"file://localhost{folder}/frames.h5",
        }
        | {"parameters": {"dataset": dataset, "chunk_shape": [1]}}
        for key, dataset in datasets.items()
    ]
    spans = [
        {"uid": f"{key}/{n}", "stream_resource": key, "descriptor": "primary"}
        | {"indices": {"start": n, "stop": stop}, "seq_nums": {"start": n + 1, "stop": stop + 1}}
        for n, stop in ((0, 1), (1, 3))
        for key in datasets
    ]
    told = [("stream_resource", doc) for doc in resources] + [("stream_datum", doc) for doc in spans]
    return [start, described("primary", **keys), *told, stop]


def places(value, depth=4):
    """Yield the path of everything in a document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (key,)
        if depth > 1:
            yield from ((key, *rest) for rest in places(item, depth - 1))


def mutated(documents, at, path, nasty):
    """Return the documents with something else at one place of one of them."""
    documents = copied(documents)
    parent = documents[at][1]
    for key in path[:-1]:
        parent = parent[key]
    if nasty is GONE:
        del parent[path[-1]]
    else:
        parent[path[-1]] = nasty
    return documents


RECIPES = {
    "events": {"corrections": {"dark": "stream", "monitor": "i0"}},
    "datums": {"corrections": {"monitor": "i0"}},
    "streams": {"corrections": {"monitor": "i0"}},
}
MUTATIONS = 60


@pytest.mark.parametrize("way", RECIPES)
def test_hostile_mutations(way, folder, tmp_path, caplog):
    """Whatever stands at any place of any document: nothing is raised, it is said, and the next run is a good one."""
    recipe = recipe_in(tmp_path, moving=True, **RECIPES[way])
    documents = whole_run(way, folder)
    whole = Outcome(documents, recipe, "replay", good=False)
    assert whole.curves(good=False).keys() == {1, 2, 3}, whole.said
    assert whole.said == ""
    every = [(at, path, nasty) for at, (_, doc) in enumerate(documents) for path in places(doc) for nasty in NASTY]
    with little_memory():
        for at, path, nasty in random.Random(way).sample(every, MUTATIONS):
            where = f"{documents[at][0]} {at}, {path}: {nasty!r}"
            caplog.clear()
            outcome = Outcome(mutated(documents, at, path, nasty), recipe, "replay", good=False)
            assert not outcome.invalid, (where, outcome.invalid)
            assert "MemoryError" not in caplog.text, where
            assert outcome.curves(good=False).keys() == {1, 2, 3} or outcome.said or caplog.text, where
