"""Frames integrated without outliers, beside pyFAI."""

from collections.abc import Iterator

import numpy as np

from benchmarks.scene import POLARIZATION, UNIT, Scene
from benchmarks.timing import REPEATS, Comparison, compare

TARGET, STRETCH = 3.0, 6.0
QUANTILES = (0.1, 0.9)


def rejection(repeats: int = REPEATS, scene: Scene | None = None) -> Iterator[Comparison]:
    """Sigma clip and mean between quantiles, without splitting.

    pyFAI's sigma clip is told of the detector's dummy, which it does not know. Its quantiles sort wrongly around
    pixels that a frame leaves out, so there the frame has none on either side.
    """
    scene = scene or Scene()
    (image,) = scene.frames(1)
    integrator, ai = scene.integrator("no"), scene.pyfai()
    common = {
        "npt": scene.npt,
        "unit": UNIT,
        "method": ("no", "csr", "cython"),
        "polarization_factor": POLARIZATION,
    }
    dummy = {"dummy": float(np.iinfo(np.uint32).max - 1), "delta_dummy": 1.5}
    yield compare(
        "sigma clip, per frame",
        lambda: integrator.sigma_clip(image, threshold=5.0, max_iter=5),
        lambda: ai.sigma_clip_ng(image, error_model="azimuthal", thres=5.0, max_iter=5, **dummy, **common),
        repeats=repeats,
        target=TARGET,
        stretch=STRETCH,
    )
    (image,) = scene.frames(1, dead=0.0)
    percentile = tuple(100.0 * q for q in QUANTILES)
    yield compare(
        "quantile mean, per frame",
        lambda: integrator.quantile_mean(image, *QUANTILES),
        lambda: ai.medfilt1d_ng(image, error_model="poisson", percentile=percentile, **common),
        repeats=repeats,
        target=TARGET,
        stretch=STRETCH,
    )
