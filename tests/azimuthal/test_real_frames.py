"""Real frames and the numbers that plain numpy gives for them (the README beside the data)."""

import numpy as np
import pytest
import tifffile

import azimuthal as az

BINS = az.RadialBins("2th_deg", 1500, (0.0, 25.0))
FIVE_DECIMALS = 0.6e-5

# S, S_I, S excess, S_I excess; union S, S excess; mean frame S, S excess
DAC_MAP = {
    "01": (0.02969, 0.01190, 0.02948, 0.01174, 0.02969, 0.02948, 0.02969, 0.02948),
    "02": (0.02958, 0.01177, 0.02946, 0.01162, 0.02101, 0.02082, 0.02951, 0.02946),
    "03": (0.02963, 0.01175, 0.02945, 0.01161, 0.01715, 0.01700, 0.02946, 0.02945),
    "06": (0.02960, 0.01191, 0.02946, 0.01173, 0.01484, 0.01473, 0.02943, 0.02945),
    "07": (0.02965, 0.01190, 0.02943, 0.01174, 0.01328, 0.01318, 0.02942, 0.02944),
    "08": (0.02955, 0.01184, 0.02946, 0.01166, 0.01214, 0.01202, 0.02941, 0.02944),
}


def four_kinds(pattern):
    return [
        pattern.spottiness(weighted=weighted, excess=excess) for excess in (False, True) for weighted in (False, True)
    ]


def two_kinds(pattern):
    return [pattern.spottiness(), pattern.spottiness(excess=True)]


def test_dac_map_gives_the_published_spottiness(shared_data):
    frames = [tifffile.imread(shared_data / "dac-map" / f"map_{name}.tif") for name in DAC_MAP]
    mask = np.any([frame < 0 for frame in frames], axis=0)
    geometry = az.Geometry.from_poni(shared_data / "dac-map.poni")
    merger = az.MultiGeometry(BINS, splitting="no", mask=mask, solid_angle="relative")
    for (name, expected), frame in zip(DAC_MAP.items(), frames, strict=True):
        pattern = merger.add(geometry, frame)
        found = four_kinds(pattern) + two_kinds(merger.pattern) + two_kinds(merger.mean_frame_pattern)
        assert found == pytest.approx(expected, abs=FIVE_DECIMALS), name


def test_ceo2_gives_the_published_spottiness(shared_data):
    frame = tifffile.imread(shared_data / "ceo2" / "CeO2_Pilatus1M.tif")
    geometry = az.Geometry.from_poni(shared_data / "ceo2" / "CeO2_Pilatus1M.poni", shape=frame.shape)
    pattern = az.Integrator(geometry, BINS, splitting="no", mask=frame < 0).integrate(frame)
    assert four_kinds(pattern) == pytest.approx((0.15130, 0.22211, 0.14949, 0.22199), abs=FIVE_DECIMALS)
    assert pattern.grade == "strong"
