"""Figures of a derived run, from arrays alone."""

import subprocess
import sys

import numpy as np
import pytest

from bluesky_powder.plot import FirstFrame, run_figure

matplotlib = pytest.importorskip("matplotlib")


def streams(positions, npt=120, seed=0):
    rng = np.random.default_rng(seed)
    number = len(positions)
    radial = np.linspace(2, 40, npt)
    ring = 20 + 400 * np.exp(-0.5 * ((radial % 5 - 2.5) / 0.2) ** 2)
    intensity = ring * rng.normal(1, 0.02, (number, npt))
    for row, position in zip(intensity, positions, strict=True):
        row[np.abs(radial - position) > 12] = np.nan
    merged = np.nanmean(np.where(np.isfinite(intensity), intensity, ring), axis=0)
    steps = np.arange(1, number + 1)
    return {
        "axes": {"radial": radial[None, :], "radial_edges": np.linspace(1.9, 40.1, npt + 1)[None, :]},
        "primary": {
            "intensity": intensity,
            "pos": np.asarray(positions, dtype=float),
            "spottiness": rng.uniform(0.1, 0.12, number),
            "spottiness_excess": rng.uniform(0.08, 0.1, number),
        },
        "cumulative": {
            "union_spottiness_excess": 0.09 / np.sqrt(steps),
            "mean_frame_spottiness_excess": np.full(number, 0.09),
        },
        "merged": {"intensity": np.stack([merged, merged]), "sem": np.stack([merged, merged]) * 0.03},
    }


def labels(figure):
    axes = figure.get_axes()
    return [a.get_xlabel() for a in axes] + [a.get_ylabel() for a in axes]


def test_run_figure_has_units_on_every_axis(tmp_path):
    figure = run_figure(streams([10, 10, 20, 20]), unit="2th_deg", position="pos", position_units="°")
    figure.savefig(tmp_path / "run.png")
    assert (tmp_path / "run.png").stat().st_size > 20_000
    told = labels(figure)
    assert "2θ (°)" in told
    assert "intensity (arb. units)" in told
    assert "sem (%)" in told
    assert "spottiness (relative)" in told
    assert "frame number N" in told


def test_run_figure_opens_with_the_first_frame(tmp_path):
    rng = np.random.default_rng(0)
    counts = rng.poisson(3, (60, 50)).astype(np.uint32)
    gaps = np.zeros((60, 50), bool)
    gaps[28:31] = True
    counts[gaps] = np.iinfo(np.uint32).max
    y, x = np.mgrid[:60, :50]
    first = FirstFrame(counts, gaps, np.hypot(y, x - 25) / 3, "first frame")
    figure = run_figure(
        streams([10, 20]), unit="2th_deg", position="pos", position_label="arm", first_frame=first, still=[20]
    )
    figure.savefig(tmp_path / "run.png")
    titles = [axes.get_title(loc="left") for axes in figure.get_axes()]
    assert titles[0].startswith("a")
    assert "first frame" in titles[0]
    assert any("patterns by arm" in title for title in titles)
    assert any("still" in title for title in titles)
    image = figure.get_axes()[0].images[0]
    # The gap's 2**32 - 1 neither shows nor stretches the scale.
    assert image.norm.vmax < 20
    assert image.get_array().mask[28:31].all()


@pytest.mark.parametrize("positions", [[10], [10] * 5, list(range(5, 35))])
@pytest.mark.parametrize("position", [None, "pos"])
def test_run_figure_takes_runs_of_any_length(tmp_path, positions, position):
    run_figure(streams(positions), unit="q_A^-1", position=position, title="a run").savefig(tmp_path / "run.png")


def test_run_figure_survives_what_is_not_a_number(tmp_path):
    data = streams([10, 10, 20])
    data["primary"]["intensity"][2] = np.nan
    data["primary"]["spottiness_excess"] = np.array([np.nan, 0.0, 0.1])
    data["cumulative"]["union_spottiness_excess"] = np.zeros(3)
    data["cumulative"]["mean_frame_spottiness_excess"] = np.full(3, np.nan)
    data["merged"]["intensity"][:] = np.nan
    run_figure(data, unit="2th_deg", position="pos").savefig(tmp_path / "run.png")


def test_run_figure_takes_datasets(tmp_path):
    xarray = pytest.importorskip("xarray")
    data = streams([10, 20])
    datasets = {
        name: xarray.Dataset({key: (("time", *(("bin",) if v.ndim > 1 else ())), v) for key, v in columns.items()})
        for name, columns in data.items()
        if name != "axes"
    }
    run_figure({**datasets, "axes": data["axes"]}, unit="2th_deg", position="pos").savefig(tmp_path / "run.png")


def test_plot_leaves_pyplot_alone():
    code = (
        "import sys, bluesky_powder.plot\n"
        "assert not [m for m in sys.modules if m.startswith('matplotlib')]\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "import test_plot, io\n"
        "figure = bluesky_powder.plot.run_figure(test_plot.streams([10, 20]), unit='2th_deg', position='pos')\n"
        "figure.savefig(io.BytesIO())\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    folder = __file__.rpartition("/")[0]
    result = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
