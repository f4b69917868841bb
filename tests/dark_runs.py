"""Raw runs with darks made by hand, and what their reduction must give by the engine alone."""

import event_model
import numpy as np

import azimuthal as az
from raw_runs import SHAPE


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


def expected_pattern(recipe, frame, dark, dark_variance, mask=None, monitor=1.0):
    """Return what the engine gives for one frame with a dark."""
    integrator = az.Integrator(recipe.geometry.at({}, SHAPE), recipe.bins.radial_bins(), **recipe.integrator_keywords())
    return integrator.integrate(frame, dark=dark, dark_variance=dark_variance, mask=mask, monitor=monitor)


def mean_and_variance(darks, gain=1.0, read_noise=0.0):
    """Return the mean of dark images, and its variance by counting statistics and read noise."""
    mean = np.mean(np.asarray(darks, np.float64), axis=0)
    return mean, (gain * np.maximum(mean, 0) + read_noise**2) / len(darks)
