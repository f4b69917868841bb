"""Several frames in one event: each reduced, or their sum, with the monitor of each."""

import numpy as np
import pytest

import azimuthal as az
from bluesky_powder.errors import FrameSkipped
from bluesky_powder.frames import Frame
from bluesky_powder.frames.images.inline import InlineImages
from bluesky_powder.reduction.patterns import Exposure, FrameReducer
from bluesky_powder.replay import replay
from raw_runs import SHAPE, Derived, assert_same_bits, images, inline_run, recipe_in, stream_run, write_hdf5


def reduced(documents, recipe):
    derived = Derived()
    replay(documents, recipe, derived)
    return derived


K = 3
SHARED = images(2 * K, seed=4).reshape(2, K, *SHAPE)


def integrator_of(recipe, **more):
    keywords = recipe.integrator_keywords() | more
    return az.Integrator(recipe.geometry.at({}, SHAPE), recipe.bins.radial_bins(), **keywords)


def test_sum_of_frames_is_integrated_once(tmp_path):
    recipe = recipe_in(tmp_path, frames_per_event="sum", corrections={"monitor": "i0"})
    derived = reduced(inline_run(SHARED, monitors=[10.0, 20.0]), recipe)
    each = reduced(inline_run(SHARED, monitors=[10.0, 20.0]), recipe_in(tmp_path, corrections={"monitor": "i0"}))
    for at, monitor in enumerate((10.0, 20.0)):
        data = derived.events["primary"][at]["data"]
        total = SHARED[at].sum(axis=0, dtype=np.int64)
        pattern = integrator_of(recipe).integrate(total, monitor=K * monitor)
        assert np.array_equal(data["intensity"], pattern.intensity, equal_nan=True)
        assert np.array_equal(data["sem"], pattern.sem, equal_nan=True)
        assert data["total_counts"] == pattern.sum_signal.sum()
        assert data["monitor"] == K * monitor
        others = each.events["primary"][at]["data"]
        assert data.keys() == others.keys()
        assert data["intensity"] == pytest.approx(others["intensity"], rel=1e-12, nan_ok=True)
        assert data["spottiness"] < others["spottiness"] * np.sqrt(K)
    assert derived.stop["frames_seen"] == derived.stop["frames_reduced"] == 2 * K
    assert derived.latest("cumulative", "frames") == {1: 1, 2: 2}


def test_sum_of_frames_from_a_file_is_the_same(tmp_path):
    recipe = recipe_in(tmp_path, frames_per_event="sum")
    inline = reduced(inline_run(SHARED), recipe)
    uri = write_hdf5(tmp_path, SHARED.reshape(-1, *SHAPE))
    assert_same_bits(reduced(stream_run(uri, 2, per_event=K), recipe), inline)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32, np.uint64])
def test_sum_of_frames_masks_what_any_of_them_lacks(tmp_path, dtype):
    recipe = recipe_in(tmp_path, frames_per_event="sum", corrections={"dummy": 7})
    frames = np.full((1, K, *SHAPE), 9, dtype)
    frames[0, 1, 5:9, 10] = 7
    frames[0, :, 20, 20] = (1, 2, 4)  # their sum looks like a dummy and is none
    data = reduced(inline_run(frames), recipe).events["primary"][0]["data"]
    mask = np.zeros(SHAPE, bool)
    mask[5:9, 10] = True
    total = frames[0].sum(axis=0).astype(np.float64)
    expected = integrator_of(recipe, dummy=None).integrate(total, mask=mask, monitor=K)
    assert data["masked_pixels"] == 4
    assert data["intensity"] == pytest.approx(expected.intensity, rel=1e-14, nan_ok=True)


def test_sum_of_frames_does_not_overflow(tmp_path):
    recipe = recipe_in(tmp_path, frames_per_event="sum", integration={"solid_angle": None, "polarization": None})
    frames = np.full((1, K, *SHAPE), 2**32 - 2, np.uint32)
    data = reduced(inline_run(frames), recipe).events["primary"][0]["data"]
    assert np.nanmax(data["intensity"]) == pytest.approx(2**32 - 2)


def test_sum_of_frames_takes_dark_and_read_noise_of_each(tmp_path):
    np.save(tmp_path / "dark.npy", dark := np.full(SHAPE, 3))
    recipe = recipe_in(
        tmp_path,
        frames_per_event="sum",
        corrections={"dark": "dark.npy", "dark_variance": 0.5},
        integration={"splitting": "no", "error_model": "poisson", "read_noise": 2.0},
    )
    data = reduced(inline_run(SHARED[:1]), recipe).events["primary"][0]["data"]
    total = SHARED[0].sum(axis=0, dtype=np.float64)
    variance = total + K * 2.0**2 + K**2 * 0.5
    expected = integrator_of(recipe).integrate(total, dark=K * dark, variance=variance, monitor=K)
    expected = expected.with_errors("poisson")
    assert data["intensity"] == pytest.approx(expected.intensity, rel=1e-14, nan_ok=True)
    assert data["sem"] == pytest.approx(expected.sem, rel=1e-13, nan_ok=True)
    noisy = recipe_in(tmp_path, frames_per_event="sum", integration={"error_model": "poisson", "read_noise": 2.0})
    data = reduced(inline_run(SHARED[:1]), noisy).events["primary"][0]["data"]
    expected = integrator_of(noisy).integrate(total, variance=total + K * 4.0, monitor=K).with_errors("poisson")
    assert data["sem"] == pytest.approx(expected.sem, rel=1e-13, nan_ok=True)


def test_sum_of_frames_after_a_pause_leaves_no_trace(tmp_path):
    recipe = recipe_in(tmp_path, frames_per_event="sum")
    documents = inline_run(SHARED)
    again = inline_run(SHARED[::-1])
    descriptor = documents[1][1]["uid"]
    paused = [*documents[:-1], *((name, doc | {"descriptor": descriptor}) for name, doc in again[2:-1]), documents[-1]]
    derived, expected = reduced(paused, recipe), reduced(again, recipe)
    last, want = derived.events["cumulative"][-1]["data"], expected.events["cumulative"][-1]["data"]
    for key, value in want.items():
        assert np.array_equal(np.asarray(last[key]), np.asarray(value), equal_nan=not isinstance(value, str)), key


def shared_frame(monitors, problem=""):
    """Return a frame of K images with a monitor value for each."""
    mean = float(np.mean(monitors))
    return Frame("run", "primary", 1, K, InlineImages(SHARED[0]), {}, mean, problem, "uid", 0.0, monitors)


def test_monitors_of_each_image_normalize_each_image(tmp_path):
    monitors = (1.0, 2.0, 6.0)
    recipe = recipe_in(tmp_path, corrections={"monitor": "i0"})
    each = FrameReducer(recipe).reduce_one(Exposure(shared_frame(monitors)))
    assert each.monitor == 3.0
    for image, monitor, pattern in zip(SHARED[0], monitors, each.patterns, strict=True):
        expected = integrator_of(recipe).integrate(image, monitor=monitor)
        assert np.array_equal(pattern.sums, expected.sums)
    summing = recipe_in(tmp_path, corrections={"monitor": "i0"}, frames_per_event="sum")
    total = FrameReducer(summing).reduce_one(Exposure(shared_frame(monitors)))
    assert total.monitor == 9.0
    assert total.count == K
    assert total.pattern.intensity == pytest.approx(each.pattern.intensity, rel=1e-12, nan_ok=True)


def test_monitors_that_are_bad_or_too_few_skip_the_event(tmp_path):
    recipe = recipe_in(tmp_path, corrections={"monitor": "i0"})
    with pytest.raises(FrameSkipped, match="2 monitor values came for 3 images"):
        FrameReducer(recipe).reduce_one(Exposure(shared_frame((1.0, 2.0))))
    with pytest.raises(FrameSkipped, match="the shutter was closed"):
        FrameReducer(recipe).reduce_one(Exposure(shared_frame((1.0, 0.0, 2.0), "the shutter was closed")))
    lenient = recipe_in(tmp_path, corrections={"monitor": "i0", "bad_monitor": "unnormalised"})
    assert FrameReducer(lenient).reduce_one(Exposure(shared_frame((1.0, 0.0, 2.0)))).monitors == (1.0,) * K
