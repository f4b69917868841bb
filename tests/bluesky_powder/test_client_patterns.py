"""Patterns with all their sums, and datasets over the radial axis, from a real server."""

import io
import json

import h5py
import numpy as np
import pytest
from bluesky_tiled_plugins.clients.bluesky_run import BlueskyRunV2
from tiled.queries import Key

import azimuthal as az
from bluesky_powder.client import columns, find, search, spottiness
from bluesky_powder.client.powder_run import PowderRun
from bluesky_powder.errors import DerivedRunError, ExportError
from bluesky_powder.live import follow
from bluesky_powder.recipe import Recipe
from bluesky_powder.server import PowderServer
from derived_runs import derived_run
from raw_runs import ARM, copied, images, inline_run
from served_runs import POSITIONS, publish, reduced


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recipes")
    return {
        "in events": reduced(folder, metadata={"sample": "LaB6"}),
        "in files": reduced(folder, metadata={"sample": "CeO2"}),
        "clipped": reduced(folder, frames=2, outliers={"method": "sigma_clip", "threshold": 4}),
    }


@pytest.fixture(scope="module")
def raw():
    return inline_run(images(1))


@pytest.fixture(scope="module")
def client(tmp_path_factory, runs, raw):
    folder = tmp_path_factory.mktemp("served")
    with PowderServer(folder) as server:
        in_catalog = copied(runs["clipped"].documents)
        in_catalog[0][1]["raw_uid"] = raw[0][1]["uid"]
        publish(server, raw, runs["in events"].documents, in_catalog, batch_size=100, storage="events")
        publish(server, runs["in files"].documents, batch_size=100, storage="file")
        old = list(derived_run(2, npt=20, raw_uid="old"))
        publish(server, old, batch_size=100)
        yield server.client()


@pytest.fixture(params=["in events", "in files"])
def run(request, client, runs):
    return client[runs[request.param].start["uid"]]


@pytest.fixture(scope="module")
def truth(tmp_path_factory):
    """The patterns of the frames as the engine gives them, without documents and Tiled."""
    path = tmp_path_factory.mktemp("arm") / "arm.json"
    path.write_text(json.dumps(ARM))
    arm, bins = az.Goniometer.from_json(path), az.RadialBins("2th_deg", 60, (1, 60))
    return [
        az.Integrator(arm.geometry(pos=position), bins, splitting="bbox", solid_angle="absolute").integrate(frame)
        for position, frame in zip(POSITIONS, images(len(POSITIONS)), strict=True)
    ]


def assert_same(pattern, expected):
    assert pattern.difference_from(expected) is None
    assert pattern.sums.tobytes() == expected.sums.tobytes()
    for name in ("conditions", "gain", "masked_pixels", "wavelength", "error_model", "unit"):
        assert getattr(pattern, name) == getattr(expected, name), name


def test_patterns_come_back_whole(run, truth):
    assert type(run) is PowderRun
    for number, expected in enumerate(truth, 1):
        assert_same(run.pattern(number), expected)
    assert_same(run.merged, az.union(truth))
    assert_same(run.union(3), az.union(truth[:3]))
    assert_same(run.union(), az.union(truth))


def test_patterns_merge_rebin_and_grade_again(run, truth):
    again = run.pattern(1) | run.pattern(4)
    assert_same(again, az.union([truth[0], truth[3]]))
    assert again.spottiness(excess=True) == az.union([truth[0], truth[3]]).spottiness(excess=True)
    with pytest.warns(UserWarning, match="low"):
        assert run.merged.rebin(3).npt == 20
    assert run.pattern(2).with_errors("poisson").sem[20] == truth[1].with_errors("poisson").sem[20]


def test_outlier_treatment_comes_back_and_keeps_patterns_apart(client, runs, truth):
    clipped = client[runs["clipped"].start["uid"]].pattern(1)
    assert clipped.conditions.outliers
    with pytest.raises(az.AzimuthalError, match="outliers differs"):
        clipped | truth[0]


def test_datasets_are_over_the_radial_axis_with_units(run, truth):
    patterns = run.patterns
    assert patterns["intensity"].dims == ("time", "radial")
    np.testing.assert_array_equal(patterns["radial"], truth[0].radial)
    assert patterns["radial"].attrs["units"] == "°"
    assert patterns["radial"].attrs["wavelength"] == 1e-10
    assert patterns["intensity"].attrs["units"] == "counts/sr"
    assert "sums" not in patterns
    near = patterns["intensity"].sel(radial=truth[0].radial[30] + 0.01, method="nearest")
    np.testing.assert_array_equal(near, [pattern.intensity[30] for pattern in truth])
    for stream in ("cumulative", "merged"):
        assert run[stream].read()["intensity"].dims[1] == "radial", stream
    sums = run["primary"].read(["sums"])["sums"]
    assert sums.dims == ("time", "sum", "radial")
    np.testing.assert_array_equal(sums.sel(sum="count")[1], truth[1].count)
    assert set(run["axes"].read().data_vars) >= {"radial", "radial_edges"}


def test_spottiness_is_a_table_by_frame(run, truth):
    table = run.spottiness
    assert table.index.tolist() == [1, 2, 3, 4]
    assert table["pos"].tolist() == list(POSITIONS)
    assert table["spottiness"].tolist() == [pattern.spottiness() for pattern in truth]
    assert table["union_spottiness"].iloc[-1] == az.union(truth).spottiness()
    assert "mean_frame_spottiness_excess" in table


def test_recipe_raw_run_and_plot(client, run, runs, raw):
    assert Recipe.model_validate(run.recipe).bins.npt == 60
    run.recipe["bins"]["npt"] = 1
    assert run.recipe["bins"]["npt"] == 60
    with pytest.raises(DerivedRunError, match="is not in the catalog"):
        _ = run.raw
    found = client[runs["clipped"].start["uid"]].raw
    assert found.start["uid"] == raw[0][1]["uid"]
    assert type(found["primary"]).__module__.startswith("bluesky_tiled_plugins")
    pytest.importorskip("matplotlib")
    assert len(run.plot().get_axes()) > 2


@pytest.mark.usefixtures("process_that_used_v2")
def test_runs_are_read_whichever_version_of_runs_the_process_uses(client, runs, raw, truth):
    run = client[runs["in events"].start["uid"]]
    assert_same(run.merged, az.union(truth))
    assert list(run.spottiness.index) == [1, 2, 3, 4]
    assert run.patterns["intensity"].dims == ("time", "radial")
    found = client[runs["clipped"].start["uid"]].raw
    assert found.start["uid"] == raw[0][1]["uid"]
    # A client without ours, as where this package is not installed with its entry points, or of that version itself.
    for other in (run.v2, BlueskyRunV2(run.context, item=run.item, structure_clients=client.structure_clients)):
        assert not isinstance(other, PowderRun)
        np.testing.assert_array_equal(columns(other, "primary")["intensity"], run.patterns["intensity"].values)
        assert list(spottiness(other).seq_num) == [1, 2, 3, 4]
        assert_same(PowderRun.of(other).pattern(2), truth[1])
        updates = []
        with follow(other, updates.append) as following:
            assert following.wait(120)
        assert_same(updates[3].pattern, truth[3])
    for none in (found, client, None):
        with pytest.raises(DerivedRunError, match="is no derived run"):
            PowderRun.of(none)


def test_runs_are_found_by_raw_uid_sample_and_grade(client, runs):
    of_sample = search(client, sample="CeO2")
    assert list(of_sample) == [runs["in files"].start["uid"]]
    raw_uid = runs["in events"].start["raw_uid"]
    assert list(search(client, raw_uid=raw_uid)) == [runs["in events"].start["uid"]]
    stop = runs["in events"].stop["spottiness"]
    assert stop["grade"] == az.grade(stop["mean_frame_spottiness"])
    alike = set(search(client, grade=stop["grade"]))
    assert {runs[name].start["uid"] for name in ("in events", "in files")} <= alike
    others = {"smooth", "mild", "strong"} - {stop["grade"]}
    assert not any(alike & set(search(client, grade=other)) for other in others)
    bound = stop["mean_frame_spottiness"]
    spotty = search(client, sample="LaB6").search(Key("stop.spottiness.mean_frame_spottiness") >= bound)
    assert runs["in events"].start["uid"] in spotty
    with pytest.raises(DerivedRunError, match="choose smooth, mild, strong"):
        search(client, grade="awful")


def test_export_writes_what_the_server_gives(client, run, tmp_path):
    buffer = io.BytesIO()
    for name, query in (("xye", {}), ("csv", {"which": "frame", "frame": 2}), ("fxye", {"which": "cumulative"})):
        run.export(tmp_path / f"a.{name}", **query)
        link = run.item["links"]["full"]
        answer = client.context.http_client.get(link, params={"format": name, **query})
        assert (tmp_path / f"a.{name}").read_bytes() == answer.content, name
    run.export(buffer, format="chi", frame=4)
    assert buffer.getvalue().count(b"\n") > 10
    for name in ("a.h5", "a.HDF"):
        run.export(tmp_path / name)
        with h5py.File(tmp_path / name) as file:
            assert file["entry/definition"].asstr()[()] == "NXazint1d", name
    run.export(tmp_path / "run.json")
    assert "contents" in json.loads((tmp_path / "run.json").read_text())
    for kwargs, told in (
        ({"format": "xye", "frame": 5}, "no frame 5: it has 1 to 4"),
        ({"format": "docx", "frame": 1}, "choose one of xye, chi, fxye, nxazint, csv"),
        ({"format": ".txt"}, r"cannot give a run as '\.txt'; choose one of xye, chi, fxye, nxazint, csv"),
        ({"format": "application/x-hdf5"}, "cannot give a run as 'application/x-hdf5'; choose one of xye"),
        ({"format": "xye", "which": "merged", "frame": 1}, "leave frame out"),
    ):
        with pytest.raises((DerivedRunError, ExportError), match=told):
            run.export(tmp_path / "b", **kwargs)
    with pytest.raises(ExportError, match="there is no such folder"):
        run.export(tmp_path / "nowhere" / "a.xye")


def test_run_without_sums_says_what_to_do(client):
    old = find(client, "old")
    with pytest.raises(DerivedRunError, match="kept intensities only; replay run old"):
        _ = old.merged
    assert old.patterns["intensity"].dims == ("time", "dim_1") or "intensity" in old.patterns
