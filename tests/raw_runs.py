"""Raw runs made by hand, one scan told in every way that Bluesky has, and a checking taker of derived documents."""

import copy
import json
from collections import defaultdict
from pathlib import Path

import event_model
import h5py
import numpy as np
import tifffile
import yaml
from event_model import DocumentNames, schema_validators

from bluesky_powder.recipe import Recipe

SHAPE = (40, 50)
PONI = """\
poni_version: 2.1
Detector: Detector
Detector_config: {"pixel1": 1e-3, "pixel2": 1e-3, "max_shape": [40, 50], "orientation": 3}
Distance: 0.1
Poni1: 0.02
Poni2: 0.001
Rot1: 0.0
Rot2: 0.0
Rot3: 0.0
Wavelength: 1e-10
"""
ARM = {
    "content": "Goniometer calibration v2",
    "detector": "Detector",
    "detector_config": {"pixel1": 1e-3, "pixel2": 1e-3, "max_shape": list(SHAPE), "orientation": 3},
    "wavelength": 1e-10,
    "param": [0.1, 0.02, 0.001, 0.017453292519943295],
    "param_names": ["dist", "poni1", "poni2", "scale"],
    "pos_names": ["pos"],
    "trans_function": {
        "content": "GeometryTransformation",
        "param_names": ["dist", "poni1", "poni2", "scale"],
        "pos_names": ["pos"],
        "dist_expr": "dist",
        "poni1_expr": "poni1",
        "poni2_expr": "poni2",
        "rot1_expr": "pos * scale",
        "rot2_expr": "0.0",
        "rot3_expr": "0.0",
        "constants": {"pi": 3.141592653589793},
    },
}


def recipe_in(folder, *, moving=False, **sections):
    """Write a recipe with its geometry file and return it."""
    (folder / "detector.poni").write_text(PONI)
    (folder / "arm.json").write_text(json.dumps(ARM))
    fixed = {"poni": "detector.poni"}
    arm = {"goniometer": "arm.json", "motors": {"pos": "two_theta"}}
    content = {
        "frames": "det",
        "geometry": arm if moving else fixed,
        "bins": {"unit": "2th_deg", "npt": 60, "range": [1, 60]},
        "integration": {"splitting": "bbox"},
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(content | sections))
    return Recipe.load(path)


def images(n, seed=1, dtype=np.uint32):
    """Return n frames of rings with spots and counting noise, (n, rows, columns)."""
    rng = np.random.default_rng(seed)
    y, x = np.indices(SHAPE)
    radius = np.hypot(y - 19.5, x)
    rings = 20 + 200 * np.exp(-(((radius % 12) - 6) ** 2) / 4)
    spots = rng.gamma(8, 1 / 8, (n, *SHAPE))
    return rng.poisson(rings * spots).astype(dtype)


def _start(**metadata):
    return event_model.compose_run(metadata={"scan_id": 7, "plan_name": "scan", "sample": "LaB6", **metadata})


def _numbers(positions, monitors):
    keys = {}
    if positions is not None:
        keys["two_theta"] = {"dtype": "number", "shape": [], "source": "motor", "dtype_numpy": "<f8", "units": "deg"}
    if monitors is not None:
        keys["i0"] = {"dtype": "number", "shape": [], "source": "scaler", "dtype_numpy": "<f8"}
    return keys


def _values(at, positions, monitors):
    values = {}
    if positions is not None:
        values["two_theta"] = float(positions[at])
    if monitors is not None:
        values["i0"] = monitors[at]
    return values


def _event(bundle, seq_num, data, filled=None):
    stamp = 1.7e9 + seq_num
    return bundle.compose_event(
        data=data,
        timestamps=dict.fromkeys(data, stamp),
        seq_num=seq_num,
        time=stamp,
        filled=filled or {},
        validate=False,
    )


def _frames_key(frames, **more):
    shape = list(frames.shape[1:])
    return {"dtype": "array", "shape": shape, "source": "det", "dtype_numpy": frames.dtype.str, **more}


def inline_run(frames, positions=None, monitors=None, *, pages=False, lists=False, configuration=None, **metadata):
    """Frames in the events themselves, (n, rows, columns) or (n, k, rows, columns)."""
    run = _start(**metadata)
    keys = {"det": _frames_key(frames), **_numbers(positions, monitors)}
    bundle = run.compose_descriptor(name="primary", data_keys=keys, configuration=configuration, time=1.7e9)
    events = [
        _event(bundle, at + 1, {"det": frame.tolist() if lists else frame, **_values(at, positions, monitors)})
        for at, frame in enumerate(frames)
    ]
    told = [("event_page", event_model.pack_event_page(*events))] if pages else [("event", e) for e in events]
    return [
        ("start", run.start_doc),
        ("descriptor", bundle.descriptor_doc),
        *told,
        ("stop", run.compose_stop()),
    ]


def datum_run(folder, frames, positions=None, monitors=None, *, pages=False):
    """Frames in .npy files behind Resource and Datum."""
    run = _start()
    keys = {"det": _frames_key(frames, external="FILESTORE:"), **_numbers(positions, monitors)}
    bundle = run.compose_descriptor(name="primary", data_keys=keys, time=1.7e9)
    resource = run.compose_resource(spec="NPY_SEQ", root=str(folder), resource_path="frames", resource_kwargs={})
    datums, events = [], []
    for at, frame in enumerate(frames):
        np.save(folder / f"frames_{at}.npy", frame)
        datum = resource.compose_datum(datum_kwargs={"index": at})
        datums.append(datum)
        data = {"det": datum["datum_id"], **_values(at, positions, monitors)}
        events.append(_event(bundle, at + 1, data, {"det": False}))
    if pages:
        told = [
            ("datum_page", event_model.pack_datum_page(*datums)),
            ("event_page", event_model.pack_event_page(*events)),
        ]
    else:
        told = [pair for d, e in zip(datums, events, strict=True) for pair in (("datum", d), ("event", e))]
    return [
        ("start", run.start_doc),
        ("descriptor", bundle.descriptor_doc),
        ("resource", resource.resource_doc),
        *told,
        ("stop", run.compose_stop()),
    ]


def write_hdf5(folder, frames, name="frames.h5"):
    """Write (n, rows, columns) frames, n of all events, and return the URI."""
    path = folder / name
    with h5py.File(path, "w", libver="latest") as file:
        file.create_dataset(
            "entry/data/data", data=frames, chunks=(1, *frames.shape[1:]), maxshape=(None, *frames.shape[1:])
        )
    return f"file://localhost{path}"


def stream_run(uri, n, positions=None, monitors=None, *, order="live", per_event=1, shape=SHAPE, **resource):
    """Frames in a file behind StreamResource and StreamDatum: a step scan, or one flight, in the order asked for.

    "live": each StreamDatum before its event. "tiled": events first, then one StreamDatum for all. "fly": ranges, no
    events. "events_first": each event before its StreamDatum.
    """
    run = _start()
    key = {"dtype": "array", "shape": [per_event, *shape], "source": uri, "dtype_numpy": "<u4", "external": "STREAM:"}
    bundle = run.compose_descriptor(
        name="primary", data_keys={"det": key, **_numbers(positions, monitors)}, time=1.7e9, validate=False
    )
    source = {
        "mimetype": "application/x-hdf5",
        "parameters": {"dataset": "/entry/data/data", "chunk_shape": [1, *shape]},
        "data_key": "det",
        "uri": uri,
        **resource,
    }
    made = run.compose_stream_resource(**source)
    resource_doc = ("stream_resource", made.stream_resource_doc)

    def datum(start, stop):
        document = made.compose_stream_datum({"start": start, "stop": stop})
        document |= {"descriptor": bundle.descriptor_doc["uid"], "seq_nums": {"start": start + 1, "stop": stop + 1}}
        return ("stream_datum", document)

    events = [("event", _event(bundle, at + 1, _values(at, positions, monitors))) for at in range(n)]
    if order == "live":
        told = [resource_doc, *(doc for at in range(n) for doc in (datum(at, at + 1), events[at]))]
    elif order == "events_first":
        told = [resource_doc, *(doc for at in range(n) for doc in (events[at], datum(at, at + 1)))]
    elif order == "tiled":
        told = [*events, resource_doc, datum(0, n)]
    else:
        half = (n + 1) // 2
        told = [resource_doc, datum(0, half), datum(half, n)]
    return [("start", run.start_doc), ("descriptor", bundle.descriptor_doc), *told, ("stop", run.compose_stop())]


def tiff_run(folder, frames, positions=None, *, template="{:06d}.tif", **resource):
    """Frames in one TIFF file each."""
    for at, frame in enumerate(frames):
        tifffile.imwrite(folder / f"scan12_{at:06d}.tif", frame)
    source = {
        "mimetype": "multipart/related;type=image/tiff",
        "uri": f"file://localhost{folder}/scan12_",
        "parameters": {"template": template, "chunk_shape": [1, *frames.shape[1:]], "join_method": "stack"},
        **resource,
    }
    uri = source.pop("uri")
    return stream_run(uri, len(frames), positions, shape=frames.shape[1:], **source)


class Derived:
    """Takes derived documents, validates each, and sorts them."""

    def __init__(self):
        self.documents = []
        self.starts, self.stops = [], []
        self.descriptors = {}
        self.events = defaultdict(list)

    def __call__(self, name, document):
        schema_validators[DocumentNames[name]].validate(document)
        self.documents.append((name, document))
        if name == "start":
            self.starts.append(document)
        elif name == "stop":
            self.stops.append(document)
        elif name == "descriptor":
            assert document["run_start"] in {start["uid"] for start in self.starts}
            self.descriptors[document["uid"]] = document
        elif name == "event":
            descriptor = self.descriptors[document["descriptor"]]
            assert set(document["data"]) == set(document["timestamps"]) == set(descriptor["data_keys"])
            _check_values(document["data"], descriptor["data_keys"])
            self.events[descriptor["name"]].append(document)

    @property
    def stop(self):
        (stop,) = self.stops
        return stop

    @property
    def start(self):
        (start,) = self.starts
        return start

    def latest(self, stream, key):
        """Return the last version of a key by seq_num."""
        return {event["seq_num"]: event["data"][key] for event in self.events[stream]}

    def arrays(self):
        """Return everything that was computed, by stream, seq_num and key: what live and replay must agree in."""
        return {
            (stream, event["seq_num"], key): value
            for stream, events in self.events.items()
            for event in events
            for key, value in event["data"].items()
            if not isinstance(value, str)
        }

    def reasons(self):
        """Return the reasons of the stop document, with their counts."""
        return {entry["reason"]: entry["frames"] for entry in self.stop["skip_reasons"]}


def _check_values(data, keys):
    for key, value in data.items():
        about = keys[key]
        assert "dtype_numpy" in about, key
        if about["dtype"] == "array":
            assert isinstance(value, np.ndarray), key
            assert list(value.shape) == about["shape"], key
            assert value.dtype == np.dtype(about["dtype_numpy"]), key
        else:
            kinds = {"number": float, "integer": int, "string": str}
            assert type(value) is kinds[about["dtype"]], key


def assert_same_bits(one, other):
    """Check that two reductions agree in every number, bit for bit."""
    one, other = (each.arrays() if isinstance(each, Derived) else each for each in (one, other))
    assert one.keys() == other.keys()
    for key, value in one.items():
        assert np.asarray(value).tobytes() == np.asarray(other[key]).tobytes(), key


def copied(documents):
    """Return documents that share nothing with the given ones."""
    return copy.deepcopy(documents)


def reference_run(folder: Path, name: str):
    """Return (documents, events' probes) of a real run, as recorded."""
    entries = json.loads((folder / "documents" / f"{name}.json").read_text())
    return [(entry["name"], entry["doc"]) for entry in entries]
