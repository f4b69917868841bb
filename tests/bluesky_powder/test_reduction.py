"""The callback: one scan told in every way gives the same derived run, bit for bit, and the numbers are right."""

import numpy as np
import pytest

import azimuthal as az
from azimuthal.pattern import Conditions, Pattern
from bluesky_powder.replay import replay
from raw_runs import (
    SHAPE,
    Derived,
    assert_same_bits,
    datum_run,
    images,
    inline_run,
    recipe_in,
    stream_run,
    tiff_run,
    write_hdf5,
)

POSITIONS = [0.0, 0.0, 5.0, 5.0, 10.0, 0.0]
MONITORS = [100.0, 110.0, 90.0, 100.0, 105.0, 95.0]


def reduced(documents, recipe, **options):
    derived = Derived()
    replay(documents, recipe, derived, **options)
    return derived


@pytest.fixture
def moving(tmp_path):
    return recipe_in(tmp_path, moving=True, corrections={"monitor": "i0"})


def engine_patterns(recipe, frames):
    """Reduce the frames with the engine alone."""
    out = []
    for frame, position, monitor in zip(frames, POSITIONS, MONITORS, strict=True):
        geometry = recipe.geometry.at({"pos": position}, SHAPE)
        integrator = az.Integrator(geometry, recipe.bins.radial_bins(), **recipe.integrator_keywords())
        out.append((integrator, integrator.integrate(frame, monitor=monitor)))
    return out


def test_reduction_gives_what_the_engine_gives(moving):
    frames = images(6)
    derived = reduced(inline_run(frames, POSITIONS, MONITORS), moving)
    patterns = engine_patterns(moving, frames)
    for seq_num, (_, pattern) in enumerate(patterns, 1):
        data = derived.events["primary"][seq_num - 1]["data"]
        assert np.array_equal(data["intensity"], pattern.intensity, equal_nan=True)
        assert np.array_equal(data["sem"], pattern.sem, equal_nan=True)
        assert data["spottiness"] == pattern.spottiness()
        assert data["spottiness_weighted"] == pattern.spottiness(weighted=True)
        assert data["spottiness_excess"] == pattern.spottiness(excess=True)
        assert data["spottiness_excess_weighted"] == pattern.spottiness(weighted=True, excess=True)
        assert data["spottiness_excess_error"] == pattern.spottiness_error()
        assert data["total_counts"] == pattern.sum_signal.sum()
        assert data["monitor"] == MONITORS[seq_num - 1]
        assert data["pos"] == POSITIONS[seq_num - 1]


def test_reduction_accumulates_union_and_mean_frame(moving):
    frames = images(6)
    derived = reduced(inline_run(frames, POSITIONS, MONITORS), moving)
    patterns = engine_patterns(moving, frames)
    mean = az.MeanFrames()
    for n, (integrator, _) in enumerate(patterns, 1):
        mean.add(integrator, frames[n - 1], monitor=MONITORS[n - 1])
        union = az.union([pattern for _, pattern in patterns[:n]])
        data = derived.events["cumulative"][n - 1]["data"]
        assert data["frames"] == n
        assert np.array_equal(data["intensity"], union.intensity, equal_nan=True)
        assert data["union_spottiness"] == union.spottiness()
        assert data["mean_frame_spottiness"] == mean.pattern.spottiness()
        assert data["mean_frame_spottiness_excess_error"] == mean.pattern.spottiness_error()
        expected = az.independent_frames([pattern for _, pattern in patterns[:n]], mean.pattern)
        assert data["independent_frames"] == pytest.approx(expected, rel=1e-12)
        assert data["reason"] == ""


def test_reduction_merges_when_a_geometry_is_complete_and_at_the_end(moving):
    frames = images(6)
    derived = reduced(inline_run(frames, POSITIONS, MONITORS), moving)
    patterns = [pattern for _, pattern in engine_patterns(moving, frames)]
    merged = [event["data"] for event in derived.events["merged"]]
    assert [data["geometries"] for data in merged] == [1, 2, 3]
    for data, upto in zip(merged, (2, 4, 6), strict=True):
        union = az.union(patterns[:upto])
        assert np.array_equal(data["intensity"], union.intensity, equal_nan=True)
        assert np.array_equal(data["count"], union.count)


def test_reduction_documents_say_where_they_come_from(moving):
    documents = inline_run(images(6), POSITIONS, MONITORS, proposal="p1", owner="me", data_session="s")
    derived = reduced(documents, moving)
    start, raw = derived.start, documents[0][1]
    assert start["analysis_stage"] == "powder"
    assert start["raw_uid"] == raw["uid"]
    assert start["parent_uids"] == [raw["uid"]]
    assert start["tiled_specs"] == ["PowderRun"]
    assert start["recipe"] == moving.stored()
    assert start["versions"]["bluesky_powder"]
    assert (start["sample"], start["proposal"], start["owner"], start["data_session"]) == ("LaB6", "p1", "me", "s")
    assert "scan_id" not in start
    assert start["raw_scan_id"] == 7
    assert [event["seq_num"] for event in derived.events["primary"]] == [1, 2, 3, 4, 5, 6]
    assert [event["seq_num"] for event in derived.events["cumulative"]] == [1, 2, 3, 4, 5, 6]
    for event, (_, raw_event) in zip(derived.events["primary"], documents[2:-1], strict=True):
        assert event["time"] == raw_event["time"]
        assert event["data"]["raw_event_uid"] == raw_event["uid"]
    (axes,) = derived.events["axes"]
    assert np.array_equal(axes["data"]["radial_edges"], np.linspace(1, 60, 61))
    about = derived.descriptors[axes["descriptor"]]["data_keys"]["radial"]
    assert about["units"] == "°"
    assert about["radial_unit"] == "2th_deg"
    assert about["wavelength"] == 1e-10
    keys = derived.descriptors[derived.events["primary"][0]["descriptor"]]["data_keys"]
    assert (keys["pos"]["units"], keys["pos"]["goniometer_position"]) == ("deg", "pos")
    assert keys["pos"]["source"] == "raw:two_theta"
    assert keys["intensity"]["units"] == "counts/sr"
    assert derived.stop["exit_status"] == "success"
    assert derived.stop["reason"] == ""
    assert derived.stop["num_events"] == {"axes": 1, "primary": 6, "cumulative": 6, "merged": 3}
    assert (derived.stop["frames_seen"], derived.stop["frames_reduced"], derived.stop["frames_skipped"]) == (6, 6, 0)


@pytest.mark.parametrize("error_model", ["azimuthal", "poisson"])
def test_reduction_documents_are_enough_to_rebuild_patterns(tmp_path, error_model):
    """Axes and data keys say of the sums all that a pattern is: nobody has to guess it from the recipe."""
    integration = {"splitting": "bbox", "error_model": error_model, "gain": 2.5, "polarization": 0.9}
    recipe = recipe_in(tmp_path, moving=True, integration=integration, corrections={"monitor": "i0"})
    frames = images(6)
    derived = reduced(inline_run(frames, POSITIONS, MONITORS), recipe)
    axes = derived.events["axes"][0]
    radial = derived.descriptors[axes["descriptor"]]["data_keys"]["radial"]
    for event, (_, pattern) in zip(derived.events["primary"], engine_patterns(recipe, frames), strict=True):
        data, keys = event["data"], derived.descriptors[event["descriptor"]]["data_keys"]
        about = keys["sums"]
        conditions = dict(about["conditions"])
        conditions["polarization"] = tuple(conditions["polarization"])
        rebuilt = Pattern(
            unit=radial["radial_unit"],
            edges=axes["data"]["radial_edges"],
            sums=data["sums"],
            conditions=Conditions(**conditions),
            error_model=about["error_model"],
            gain=about["gain"],
            masked_pixels=data["masked_pixels"],
            wavelength=radial["wavelength"],
        )
        same = pattern.with_errors(error_model)
        assert rebuilt.difference_from(same) is None
        assert (rebuilt.gain, rebuilt.wavelength, rebuilt.error_model) == (2.5, 1e-10, error_model)
        assert rebuilt.masked_pixels == same.masked_pixels
        for name in ("intensity", "sem"):
            assert np.array_equal(getattr(rebuilt, name), data[name], equal_nan=True)
            assert np.array_equal(getattr(rebuilt, name), getattr(same, name), equal_nan=True)


WAYS = {
    "event pages": lambda _, frames: inline_run(frames, POSITIONS, MONITORS, pages=True),
    "lists in events": lambda _, frames: inline_run(frames, POSITIONS, MONITORS, lists=True),
    "one image an event": lambda _, frames: inline_run(frames[:, np.newaxis], POSITIONS, MONITORS),
    "datums": lambda folder, frames: datum_run(folder, frames, POSITIONS, MONITORS),
    "datum pages": lambda folder, frames: datum_run(folder, frames, POSITIONS, MONITORS, pages=True),
    "step scan": lambda folder, frames: stream_run(write_hdf5(folder, frames), 6, POSITIONS, MONITORS),
    "events first": lambda folder, frames: stream_run(
        write_hdf5(folder, frames), 6, POSITIONS, MONITORS, order="events_first"
    ),
    "as Tiled replays": lambda folder, frames: stream_run(
        write_hdf5(folder, frames), 6, POSITIONS, MONITORS, order="tiled"
    ),
    "stacked dataset": lambda folder, frames: stream_run(
        write_hdf5(folder, frames[:, np.newaxis]), 6, POSITIONS, MONITORS
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_reduction_of_one_scan_is_the_same_in_every_way(moving, tmp_path, way):
    frames = images(6)
    expected = reduced(inline_run(frames, POSITIONS, MONITORS), moving)
    derived = reduced(WAYS[way](tmp_path, frames), moving)
    assert derived.stop["exit_status"] == "success", derived.stop
    assert_same_bits(derived, expected)


def test_reduction_of_a_flight_is_the_same(tmp_path):
    recipe = recipe_in(tmp_path)
    frames = images(5)
    expected = reduced(inline_run(frames), recipe)
    flown = reduced(stream_run(write_hdf5(tmp_path, frames), 5, order="fly"), recipe)
    assert_same_bits(flown, expected)
    assert {event["data"]["raw_event_uid"] for event in flown.events["primary"]} == {""}


def test_reduction_of_tiff_files_is_the_same(tmp_path):
    recipe = recipe_in(tmp_path)
    frames = images(4).astype(np.int32)
    expected = reduced(inline_run(frames), recipe)
    assert_same_bits(reduced(tiff_run(tmp_path, frames), recipe), expected)


def test_reduction_joins_images_that_share_an_event(tmp_path):
    recipe = recipe_in(tmp_path)
    frames = images(8)
    inline = reduced(inline_run(frames.reshape(4, 2, *SHAPE)), recipe)
    stacked = reduced(stream_run(write_hdf5(tmp_path, frames), 4, per_event=2), recipe)
    four = reduced(stream_run(write_hdf5(tmp_path, frames.reshape(4, 2, *SHAPE)), 4, per_event=2), recipe)
    assert_same_bits(stacked, inline)
    assert_same_bits(four, inline)
    single = reduced(inline_run(frames), recipe)
    assert inline.latest("cumulative", "frames") == {1: 2, 2: 4, 3: 6, 4: 8}
    pair = az.union([pattern for _, pattern in _patterns(recipe, frames[:2])])
    assert np.array_equal(inline.events["primary"][0]["data"]["intensity"], pair.intensity, equal_nan=True)
    for key in ("independent_frames", "mean_frame_spottiness", "union_spottiness"):
        assert inline.latest("cumulative", key)[4] == pytest.approx(single.latest("cumulative", key)[8], rel=1e-12)


def _patterns(recipe, frames):
    integrator = az.Integrator(recipe.geometry.at({}, SHAPE), recipe.bins.radial_bins(), **recipe.integrator_keywords())
    return [(integrator, integrator.integrate(frame)) for frame in frames]


def test_reduction_takes_positions_from_configuration_and_baseline(tmp_path):
    recipe = recipe_in(tmp_path, moving=True)
    frames = images(3)
    expected = reduced(inline_run(frames, [5.0] * 3), recipe)
    arm = {"arm": {"data": {"two_theta": 5.0}, "timestamps": {"two_theta": 0.0}, "data_keys": {}}}
    assert_same_bits(reduced(inline_run(frames, configuration=arm), recipe), expected)
    assert_same_bits(reduced(_with_baseline(inline_run(frames)), recipe), expected)
    constant = recipe_in(tmp_path, moving=True, geometry={"goniometer": "arm.json", "motors": {"pos": 5}})
    assert_same_bits(reduced(inline_run(frames), constant), expected)


def _with_baseline(documents):
    start = documents[0]
    keys = {"two_theta": {"dtype": "number", "shape": [], "source": "motor"}}
    descriptor = {"uid": "base", "run_start": start[1]["uid"], "time": 1.0, "name": "baseline", "data_keys": keys}
    common = {"descriptor": "base", "time": 1.0, "timestamps": {}}
    before = {"uid": "b1", "seq_num": 1, "data": {"two_theta": 5.0}, **common}
    after = {"uid": "b2", "seq_num": 2, "data": {"two_theta": 17.0}, **common}
    return [start, ("descriptor", descriptor), ("event", before), *documents[1:-1], ("event", after), documents[-1]]


def test_reduction_without_a_range_covers_the_detector(tmp_path):
    recipe = recipe_in(tmp_path, bins={"unit": "q_A^-1", "npt": 40})
    derived = reduced(inline_run(images(2)), recipe)
    geometry = recipe.geometry.at({}, SHAPE)
    low, high = az.RadialBins.covering("q_A^-1", 40, geometry).range
    edges = derived.events["axes"][0]["data"]["radial_edges"]
    assert (edges[0], edges[-1]) == (low, high)


def test_reduction_takes_the_shape_of_the_first_frame(tmp_path):
    recipe_in(tmp_path)
    poni = tmp_path / "detector.poni"
    poni.write_text(poni.read_text().replace('"max_shape": [40, 50], ', ""))
    from bluesky_powder.recipe import Recipe

    recipe = Recipe.load(tmp_path / "recipe.yaml")
    frames = images(3)
    documents = inline_run(frames)
    odd = dict(documents[3][1])
    odd["data"] = {"det": frames[1][:-1]}
    documents[3] = ("event", odd)
    derived = reduced(documents, recipe)
    assert sorted(derived.latest("primary", "total_counts")) == [1, 3]
    (reason,) = derived.reasons()
    assert "39×50" in reason


def test_reduction_subtracts_darks_with_their_sign(tmp_path):
    dark = np.full(SHAPE, 7, np.int32)
    np.save(tmp_path / "dark.npy", dark)
    frames = np.full((2, *SHAPE), 5, np.uint16)
    for given in ("dark.npy", 7):
        recipe = recipe_in(tmp_path, corrections={"dark": given})
        derived = reduced(inline_run(frames), recipe)
        intensity = derived.events["primary"][0]["data"]["intensity"]
        assert np.nanmax(intensity) < 0
        assert derived.events["primary"][0]["data"]["total_counts"] < 0


def test_reduction_reports_poisson_errors_when_asked(tmp_path):
    frames = images(2)
    integration = {"splitting": "no", "error_model": "poisson"}
    recipe = recipe_in(tmp_path, integration=integration)
    derived = reduced(inline_run(frames), recipe)
    pattern = _patterns(recipe, frames)[0][1].with_errors("poisson")
    data = derived.events["primary"][0]["data"]
    assert np.array_equal(data["sem"], pattern.sem, equal_nan=True)
    key = derived.descriptors[derived.events["primary"][0]["descriptor"]]["data_keys"]["sem"]
    assert key["error_model"] == "poisson"


def test_reduction_says_why_there_is_no_number_of_independent_frames(tmp_path):
    recipe = recipe_in(tmp_path)
    smooth = np.random.default_rng(0).poisson(10, (3, *SHAPE)).astype(np.uint32)
    derived = reduced(inline_run(smooth), recipe)
    data = derived.events["cumulative"][-1]["data"]
    assert np.isnan(data["independent_frames"])
    assert "below two of its standard errors" in data["reason"]


def test_reduction_tells_static_from_fresh_samples(tmp_path):
    recipe = recipe_in(tmp_path, integration={"splitting": "no", "polarization": None, "solid_angle": None})
    rng = np.random.default_rng(3)
    spots = 100 * rng.gamma(8, 1 / 8, (8, *SHAPE))
    fresh = reduced(inline_run(rng.poisson(spots)), recipe).latest("cumulative", "independent_frames")[8]
    still = reduced(inline_run(rng.poisson(spots[[0] * 8])), recipe).latest("cumulative", "independent_frames")[8]
    assert fresh == pytest.approx(8, rel=0.4)
    assert still == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize(
    ("section", "apply"),
    [
        ({"method": "sigma_clip"}, lambda i, f: i.sigma_clip(f)),
        ({"method": "sigma_clip", "threshold": 3, "max_iter": 1}, lambda i, f: i.sigma_clip(f, 3.0, 1)),
        ({"quantile": [0.1, 0.9]}, lambda i, f: i.quantile_mean(f, 0.1, 0.9)),
        ({"method": "median"}, lambda i, f: i.median(f)),
    ],
)
def test_reduction_keeps_outliers_out_as_the_recipe_says(tmp_path, section, apply):
    recipe = recipe_in(tmp_path, moving=True, outliers=section, integration={"splitting": "no"})
    frames = images(6)
    derived = reduced(inline_run(frames, POSITIONS, MONITORS), recipe)
    for event, frame, position in zip(derived.events["primary"], frames, POSITIONS, strict=True):
        geometry = recipe.geometry.at({"pos": position}, SHAPE)
        integrator = az.Integrator(geometry, recipe.bins.radial_bins(), **recipe.integrator_keywords())
        expected = apply(integrator, frame)
        assert np.array_equal(event["data"]["intensity"], expected.intensity, equal_nan=True)
        assert np.array_equal(event["data"]["sem"], expected.sem, equal_nan=True)
    assert derived.stop["exit_status"] == "success"
    assert recipe_in(tmp_path, moving=True).model_validate(recipe.stored()).outliers == recipe.outliers
