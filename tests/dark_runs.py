"""Raw runs with darks made by hand, and what their reduction must give by the engine alone."""

import event_model
import numpy as np

import azimuthal as az
from raw_runs import SHAPE, images

DARKS = np.random.default_rng(5).poisson(30, (4, *SHAPE)).astype(np.uint16)
FRAMES = (images(6) + 30).astype(np.uint16)


class MixedRun:
    """Composes an inline run of several streams, event by event; each event is a second later than the one before."""

    def __init__(self, **metadata):
        self._run = event_model.compose_run(metadata=metadata)
        self._bundles = {}
        self._time = 1.7e9
        self.documents = [("start", self._run.start_doc)]

    @property
    def uid(self):
        return self._run.start_doc["uid"]

    def add(self, stream, images, seq_num=None, time=None, **numbers):
        """Add an event; return its uid."""
        if stream not in self._bundles:
            shape, dtype = list(images.shape), images.dtype.str
            keys = {"det": {"dtype": "array", "shape": shape, "source": "det", "dtype_numpy": dtype}}
            keys |= {name: {"dtype": "number", "shape": [], "source": name} for name in numbers}
            self._bundles[stream] = self._run.compose_descriptor(name=stream, data_keys=keys, time=self._time)
            self.documents.append(("descriptor", self._bundles[stream].descriptor_doc))
        self._time = self._time + 1 if time is None else time
        data = {"det": images, **numbers}
        more = {} if seq_num is None else {"seq_num": seq_num}
        event = self._bundles[stream].compose_event(
            data=data, timestamps=dict.fromkeys(data, self._time), time=self._time, validate=False, **more
        )
        self.documents.append(("event", event))
        return event["uid"]

    def stop(self):
        """Return all documents, with a stop."""
        if self.documents[-1][0] != "stop":
            self.documents.append(("stop", self._run.compose_stop()))
        return list(self.documents)


def filed_run(uri, streams, *, flown=()):
    """Return a run whose images are in one file, image by image in the stream that `streams` names for it.

    Those of the streams in `flown` come in flights, without events; others with a StreamDatum and an event each.
    """
    run = event_model.compose_run(time=1.7e9)
    documents, bundles, seq_nums = [("start", run.start_doc)], {}, {}
    for stream in dict.fromkeys(streams):
        key = {"dtype": "array", "shape": [1, *SHAPE], "source": uri, "dtype_numpy": "<u2", "external": "STREAM:"}
        bundles[stream] = run.compose_descriptor(name=stream, data_keys={"det": key}, time=1.7e9, validate=False)
        documents.append(("descriptor", bundles[stream].descriptor_doc))
    resource = run.compose_stream_resource(
        mimetype="application/x-hdf5",
        parameters={"dataset": "/entry/data/data", "chunk_shape": [1, *SHAPE]},
        data_key="det",
        uri=uri,
    )
    documents.append(("stream_resource", resource.stream_resource_doc))
    for index, stream in enumerate(streams):
        seq_num = seq_nums[stream] = seq_nums.get(stream, 0) + 1
        datum = resource.compose_stream_datum({"start": index, "stop": index + 1})
        datum |= {"descriptor": bundles[stream].descriptor_doc["uid"]}
        datum |= {"seq_nums": {"start": seq_num, "stop": seq_num + 1}}
        documents.append(("stream_datum", datum))
        if stream not in flown:
            at = 1.7e9 + 10 + index
            event = bundles[stream].compose_event(data={}, timestamps={}, seq_num=seq_num, time=at, validate=False)
            documents.append(("event", event))
    return [*documents, ("stop", run.compose_stop())]


def expected_pattern(recipe, frame, dark, dark_variance, mask=None, monitor=1.0):
    """Return what the engine gives for one frame with a dark."""
    integrator = az.Integrator(recipe.geometry.at({}, SHAPE), recipe.bins.radial_bins(), **recipe.integrator_keywords())
    return integrator.integrate(frame, dark=dark, dark_variance=dark_variance, mask=mask, monitor=monitor)


def mean_and_variance(darks, gain=1.0, read_noise=0.0):
    """Return the mean of dark images, and its variance by counting statistics and read noise."""
    mean = np.mean(np.asarray(darks, np.float64), axis=0)
    return mean, (gain * np.maximum(mean, 0) + read_noise**2) / len(darks)


def assert_pattern(data, pattern):
    assert np.array_equal(data["intensity"], pattern.intensity, equal_nan=True)
    assert np.array_equal(data["sem"], pattern.sem, equal_nan=True)
    assert data["total_counts"] == pattern.sum_signal.sum()
    assert data["masked_pixels"] == pattern.masked_pixels
