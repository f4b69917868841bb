"""A simulated beamline, for demonstrations, tests and examples: real physics, real devices, real files, no hardware."""

from bluesky_powder.sim.beamline import Beamline, NoRunEngine, Shutter
from bluesky_powder.sim.crystal import CEO2, LAB6, SILICON, CubicCrystal
from bluesky_powder.sim.plans import arm_scan, fly_scan, take_dark
from bluesky_powder.sim.recorder import Recorder
from bluesky_powder.sim.specimen import Powder, Specimen

__all__ = [
    "CEO2",
    "LAB6",
    "SILICON",
    "Beamline",
    "CubicCrystal",
    "NoRunEngine",
    "Powder",
    "Recorder",
    "Shutter",
    "Specimen",
    "arm_scan",
    "fly_scan",
    "take_dark",
]
