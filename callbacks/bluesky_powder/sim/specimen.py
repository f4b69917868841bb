"""What stands in the beam: a coarse powder, grain by grain, on a motor that brings other grains into the beam."""

import math
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bluesky_powder.sim.crystal import CEO2, CubicCrystal, Ring

Floats = npt.NDArray[np.float64]

_CELLS_KEPT = 16
# Seeds of numpy generators are not negative; positions of a motor are.
_CELL_OFFSET = 2**31


@dataclass(frozen=True)
class Powder:
    """A powder of crystallites of many sizes, in photons per count of the monitor.

    Parameters
    ----------
    crystal
        The material.
    crystallites
        Mean number of coarse crystallites in the beam.
    acceptance
        Width in rad of the band of orientations in which a crystallite diffracts (mosaic, divergence, bandwidth).
    volume_spread
        Standard deviation of the logarithm of a crystallite's volume; grain sizes of powders are roughly log-normal.
    smooth_share
        Share of each ring's power that comes from grains too fine to tell apart.
    ring_power
        Photons scattered into the whole cone of the strongest ring, per count of the monitor.
    ring_width, spot_width
        Standard deviations in rad, as seen from the sample, of rings across and of spots along the ring.
    background
        Photons per sr and monitor count scattered by air at small angles.
    """

    crystal: CubicCrystal = CEO2
    crystallites: float = 1000.0
    acceptance: float = 5e-3
    volume_spread: float = 0.9
    smooth_share: float = 0.08
    ring_power: float = 9.0
    ring_width: float = 8e-4
    spot_width: float = 4.5e-4
    background: float = 100.0

    def ring_count(self, ring: Ring) -> float:
        """Return the mean number of crystallites that shine on the whole of a ring.

        The normals of the reflecting planes are spread evenly over the sphere; those in a band of width `acceptance`
        around the circle at 90° - theta from the beam reflect: a share of acceptance * cos(theta) / 2, for each
        reflection on the ring.
        """
        return self.crystallites * ring.multiplicity * self.acceptance * math.cos(ring.two_theta / 2) / 2

    def smooth(self, two_theta: Floats, rings: tuple[Ring, ...]) -> Floats:
        """Return what the fine grains and the background scatter, in photons per sr and monitor count.

        A cone's power P spreads over 2 pi sin(2 theta) of azimuth and a Gaussian across the ring.
        """
        total = self.background * (0.25 + np.exp(-two_theta / 0.12))
        # Air scatters forward; a capillary adds the broad halo of its glass.
        total = total + 0.35 * self.background * np.exp(-0.5 * ((two_theta - 0.17) / 0.05) ** 2)
        for ring in rings:
            near = np.abs(two_theta - ring.two_theta) < 6 * self.ring_width
            profile = np.exp(-0.5 * ((two_theta[near] - ring.two_theta) / self.ring_width) ** 2)
            height = ring.power * self.ring_power * self.smooth_share / (2 * math.pi * math.sin(ring.two_theta))
            total[near] += height * profile / (math.sqrt(2 * math.pi) * self.ring_width)
        return total


@dataclass(frozen=True)
class Crystallites:
    """Reflections that shine at one position of the sample: arrays of shape (n,).

    Attributes
    ----------
    two_theta, chi
        Where each goes, rad, in the laboratory: moving the detector does not move them.
    power
        Photons in each, per count of the monitor, before polarization.
    """

    two_theta: Floats
    chi: Floats
    power: Floats


class Specimen:
    """A strip of powder along the sample motor; the beam lights a window of it.

    Moving by less than the width of the beam keeps part of the crystallites, moving by at least that much brings fresh
    ones, and coming back finds the old ones again: all follows from the seed.

    Parameters
    ----------
    powder
        The powder.
    wavelength
        m.
    two_theta_max
        Largest scattering angle to simulate, rad.
    beam_width
        Width of the beam along the motor, mm.
    seed
        Whence all grains come.
    """

    def __init__(self, powder: Powder, wavelength: float, two_theta_max: float, beam_width: float, seed: int) -> None:
        self.powder = powder
        self.beam_width = beam_width
        self.rings = powder.crystal.rings(wavelength, two_theta_max)
        self._seed = seed
        self._cells: OrderedDict[int, tuple[Floats, Crystallites]] = OrderedDict()

    def at(self, position: float) -> Crystallites:
        """Return the crystallites in the beam at a position (mm) of the sample motor."""
        first = math.floor(position / self.beam_width)
        offset = position / self.beam_width - first
        parts = []
        for cell, lit_from, lit_to in ((first, offset, 1.0), (first + 1, 0.0, offset)):
            if lit_from < lit_to:
                places, grains = self._cell(cell)
                lit = (places >= lit_from) & (places < lit_to)
                parts.append((grains.two_theta[lit], grains.chi[lit], grains.power[lit]))
        columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
        return Crystallites(*columns)

    def _cell(self, index: int) -> tuple[Floats, Crystallites]:
        """Make, or recall, one beam width of the strip: places within it (0 to 1) and the crystallites there."""
        if index not in self._cells:
            self._cells[index] = self._grow(np.random.default_rng([self._seed, index + _CELL_OFFSET]))
            while len(self._cells) > _CELLS_KEPT:
                self._cells.popitem(last=False)
        self._cells.move_to_end(index)
        return self._cells[index]

    def _grow(self, rng: np.random.Generator) -> tuple[Floats, Crystallites]:
        powder = self.powder
        means = np.array([powder.ring_count(ring) for ring in self.rings])
        counts = rng.poisson(means)
        angles = np.array([ring.two_theta for ring in self.rings])
        shares = np.array([ring.power for ring in self.rings]) * powder.ring_power * (1 - powder.smooth_share) / means
        total = int(counts.sum())
        # A log-normal of mean 1.
        spread = powder.volume_spread
        volumes = rng.lognormal(-0.5 * spread**2, spread, total)
        chi = rng.uniform(-math.pi, math.pi, total)
        grains = Crystallites(np.repeat(angles, counts), chi, np.repeat(shares, counts) * volumes)
        return rng.uniform(0.0, 1.0, total), grains
