"""Raw runs whose positions and monitors stand elsewhere than in the frames' events: in files, or in other streams."""

import h5py
import numpy as np

from raw_runs import SHAPE, write_hdf5

RUN = "raw-run"
FRAMES = "frames-descriptor"
_NUMBER = {"dtype": "number", "source": "", "dtype_numpy": "<f8"}


def number_key(shape=(), **about):
    """Return a data key of numbers."""
    return {**_NUMBER, "shape": list(shape), **about}


def descriptor(name, keys, uid=FRAMES, configuration=None):
    """Return a descriptor document."""
    document = {"uid": uid, "name": name, "run_start": RUN, "time": 1.7e9, "data_keys": keys}
    return "descriptor", document | {"configuration": configuration or {}}


def event(seq_num, data=None, time=None, of=FRAMES):
    """Return an event document; its time is 1.7e9 + seq_num unless said."""
    stamp = 1.7e9 + (seq_num if time is None else time)
    data = data or {}
    about = {"timestamps": dict.fromkeys(data, stamp), "filled": {}}
    return "event", {
        "uid": f"{of}-{seq_num}-{stamp}",
        "descriptor": of,
        "seq_num": seq_num,
        "time": stamp,
        "data": data,
        **about,
    }


def resource(uid, key, uri, dataset="/entry/data/data", **parameters):
    """Return a StreamResource document of an HDF5 file."""
    about = {"mimetype": "application/x-hdf5", "parameters": {"dataset": dataset, **parameters}}
    return "stream_resource", {"uid": uid, "data_key": key, "uri": uri, "run_start": RUN, **about}


def datum(resource, start, stop, *, seq_num=None, of=FRAMES):
    """Return a StreamDatum document of the indices from start to before stop."""
    first = start + 1 if seq_num is None else seq_num
    span = {"indices": {"start": start, "stop": stop}, "seq_nums": {"start": first, "stop": first + stop - start}}
    return "stream_datum", {"uid": f"{resource}/{start}", "stream_resource": resource, "descriptor": of, **span}


def frames_key(per_event=1, shape=SHAPE):
    """Return the data key of frames in a file."""
    about = {"dtype": "array", "shape": [per_event, *shape], "source": "", "dtype_numpy": "<u4"}
    return {**about, "external": "STREAM:"}


def write_columns(folder, name="panda.h5", **columns):
    """Write columns and return the URI of the file."""
    with h5py.File(folder / name, "w", libver="latest") as file:
        for key, values in columns.items():
            file[key] = values
    return f"file://localhost{folder / name}"


class Lanes:
    """Documents of one run as lanes: those of one lane keep their order, lanes may come in any.

    Frames are in a file, and so are the columns, (n,) or (n, k) each; event_data are (n,) lists. Unless given, frames
    are 2 x 3 pixels that hold their number.
    """

    def __init__(self, folder, n, *, columns=None, event_data=None, per_event=1, units=None, frames=None, **more_keys):
        columns, event_data, units = columns or {}, event_data or {}, units or {}
        self.n = n
        if frames is None:
            frames = np.arange(n * per_event, dtype=np.uint32)[:, None, None] + np.zeros((1, 2, 3), np.uint32)
        uri = write_hdf5(folder, frames)
        keys = {"det": frames_key(per_event, frames.shape[1:]), **more_keys}
        file = write_columns(folder, **columns)
        self.resources = [resource("r-det", "det", uri)]
        self.frames = [datum("r-det", at, at + 1) for at in range(n)]
        self.flights = [datum("r-det", 0, n // 2), datum("r-det", n // 2, n)]
        self.rows, self.flown_rows = {}, {}
        for key, values in columns.items():
            shape = [len(values) // n * int(np.prod(np.shape(values)[1:]))]
            keys[key] = number_key(shape, external="STREAM:", units=units.get(key))
            self.resources.append(resource(f"r-{key}", key, file, f"/{key}"))
            self.rows[key] = [datum(f"r-{key}", at, at + 1) for at in range(n)]
            self.flown_rows[key] = [datum(f"r-{key}", 0, n // 2), datum(f"r-{key}", n // 2, n)]
        for key in event_data:
            keys[key] = number_key(np.shape(event_data[key])[1:], units=units.get(key))
        self.events = [event(at + 1, {key: values[at] for key, values in event_data.items()}) for at in range(n)]
        self.head = [descriptor("primary", keys)]

    def live(self):
        """Return the documents of a step scan as they come."""
        told = [*self.head, *self.resources]
        for at in range(self.n):
            told += [self.frames[at], *(rows[at] for rows in self.rows.values()), self.events[at]]
        return told

    def flown(self):
        """Return the documents of a flight as they come."""
        return [
            *self.head,
            *self.resources,
            *(d for pair in zip(self.flights, *self.flown_rows.values(), strict=True) for d in pair),
        ]

    def each(self):
        """Return the lanes of a step scan, after what comes first."""
        return [self.frames, self.events, *self.rows.values()]
