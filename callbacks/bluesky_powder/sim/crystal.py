"""Which rings a crystal has, and how strong they are: structure factors and the kinematics of a powder.

Lengths are in ångström, angles in radians. The formulas are textbook ones (B. E. Warren, *X-ray Diffraction*, 1969,
chapters 3 and 4); scattering factors are the four-Gaussian fits of *International Tables for Crystallography* C, table
6.1.1.4.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

# a1..a4, b1..b4, c of f(s) = sum a exp(-b s²) + c, with s = sin(theta) / wavelength in Å⁻¹, good up to s = 2.
_SCATTERING_FACTORS: dict[str, tuple[tuple[float, ...], tuple[float, ...], float]] = {
    "B": ((2.0545, 1.3326, 1.0979, 0.7068), (23.2185, 1.0210, 60.3498, 0.1403), -0.1932),
    "O": ((3.0485, 2.2868, 1.5463, 0.8670), (13.2771, 5.7011, 0.3239, 32.9089), 0.2508),
    "Si": ((6.2915, 3.0353, 1.9891, 1.5410), (2.4386, 32.3337, 0.6785, 81.6937), 1.1407),
    "La": ((20.5780, 19.5990, 11.3727, 3.28719), (2.94817, 0.244475, 18.7726, 133.124), 2.14678),
    "Ce": ((21.1671, 19.7695, 11.8513, 3.33049), (2.81219, 0.226836, 17.6083, 127.113), 1.86264),
}
_FACE_CENTRED = ((0.0, 0.0, 0.0), (0.0, 0.5, 0.5), (0.5, 0.0, 0.5), (0.5, 0.5, 0.0))
# Reflections weaker than this share of the strongest are systematic absences, up to rounding.
_ABSENT = 1e-9


@dataclass(frozen=True)
class Atom:
    """One atom of the cell.

    Parameters
    ----------
    element
        Chemical symbol; its scattering factor must be known here.
    position
        Fractional coordinates.
    b_iso
        Debye-Waller parameter B in Å²: the amplitude falls as exp(-B s²).
    """

    element: str
    position: tuple[float, float, float]
    b_iso: float


@dataclass(frozen=True)
class Ring:
    """One Debye-Scherrer ring: all reflections of a cubic crystal that share a spacing.

    Attributes
    ----------
    hkl
        The indices of one of them, descending.
    spacing
        Lattice spacing d, Å.
    two_theta
        Scattering angle, rad.
    multiplicity
        How many reflections fall on the ring.
    power
        Photons scattered into the whole cone, relative to the other rings and before polarization, which is the
        geometry's: sum |F|² / sin(theta).
    """

    hkl: tuple[int, int, int]
    spacing: float
    two_theta: float
    multiplicity: int
    power: float


@dataclass(frozen=True)
class CubicCrystal:
    """A cubic crystal: an edge in Å and the atoms of its whole cell."""

    name: str
    edge: float
    atoms: tuple[Atom, ...]

    def rings(self, wavelength: float, two_theta_max: float) -> tuple[Ring, ...]:
        """List the rings up to an angle, the innermost first.

        Parameters
        ----------
        wavelength
            In metres, as everywhere outside this module's ångströms.
        two_theta_max
            In radians.

        Returns
        -------
        tuple of Ring
            Without systematic absences. Their powers are relative: the strongest is 1.
        """
        return _rings(self, wavelength * 1e10, two_theta_max)


def scattering_factor(element: str, s: Floats | float) -> Floats:
    """Return f0 at s = sin(theta) / wavelength (Å⁻¹), in electrons."""
    a, b, c = _SCATTERING_FACTORS[element]
    s2 = np.square(np.asarray(s, dtype=np.float64))
    return np.asarray(sum(ai * np.exp(-bi * s2) for ai, bi in zip(a, b, strict=True)) + c)


def structure_factor(crystal: CubicCrystal, hkl: Floats) -> npt.NDArray[np.complex128]:
    """Return F(hkl) = sum f(s) exp(-B s²) exp(2 pi i (hx + ky + lz)) for indices of shape (n, 3)."""
    hkl = np.asarray(hkl, dtype=np.float64)
    s = np.sqrt(np.square(hkl).sum(axis=1)) / (2 * crystal.edge)
    total = np.zeros(len(hkl), dtype=np.complex128)
    for atom in crystal.atoms:
        phase = np.exp(2j * math.pi * (hkl @ np.asarray(atom.position)))
        total += scattering_factor(atom.element, s) * np.exp(-atom.b_iso * s**2) * phase
    return total


@lru_cache(maxsize=32)
def _rings(crystal: CubicCrystal, wavelength: float, two_theta_max: float) -> tuple[Ring, ...]:
    longest = int(2 * crystal.edge * math.sin(two_theta_max / 2) / wavelength)
    indices = np.array([t for t in product(range(-longest, longest + 1), repeat=3) if any(t)])
    if indices.size == 0:
        return ()
    norms = np.square(indices).sum(axis=1)
    inside = wavelength * np.sqrt(norms) / (2 * crystal.edge) <= math.sin(two_theta_max / 2)
    indices, norms = indices[inside], norms[inside]
    if norms.size == 0:
        return ()
    squares = np.abs(structure_factor(crystal, indices)) ** 2
    present = squares > _ABSENT * squares.max()
    found = []
    for norm in np.unique(norms[present]):
        here = present & (norms == norm)
        spacing = crystal.edge / math.sqrt(norm)
        sine = wavelength / (2 * spacing)
        hkl = max(tuple(sorted((abs(int(i)) for i in row), reverse=True)) for row in indices[here])
        power = float(squares[here].sum()) / sine
        found.append(Ring((hkl[0], hkl[1], hkl[2]), spacing, 2 * math.asin(sine), int(here.sum()), power))
    strongest = max(ring.power for ring in found)
    return tuple(Ring(r.hkl, r.spacing, r.two_theta, r.multiplicity, r.power / strongest) for r in found)


def _face_centred(element: str, basis: tuple[tuple[float, float, float], ...], b_iso: float) -> tuple[Atom, ...]:
    return tuple(Atom(element, (x + u, y + v, z + w), b_iso) for x, y, z in basis for u, v, w in _FACE_CENTRED)


CEO2 = CubicCrystal(
    "CeO2",
    5.411651,  # NIST SRM 674b
    _face_centred("Ce", ((0.0, 0.0, 0.0),), 0.25) + _face_centred("O", ((0.25, 0.25, 0.25), (0.75, 0.75, 0.75)), 0.45),
)
SILICON = CubicCrystal(
    "Si",
    5.431144,  # NIST SRM 640f
    _face_centred("Si", ((0.0, 0.0, 0.0), (0.25, 0.25, 0.25)), 0.50),
)
_BORON = 0.1993
LAB6 = CubicCrystal(
    "LaB6",
    4.156826,  # NIST SRM 660c
    (
        Atom("La", (0.0, 0.0, 0.0), 0.40),
        *(
            Atom("B", position, 0.40)
            for position in (
                (_BORON, 0.5, 0.5),
                (1 - _BORON, 0.5, 0.5),
                (0.5, _BORON, 0.5),
                (0.5, 1 - _BORON, 0.5),
                (0.5, 0.5, _BORON),
                (0.5, 0.5, 1 - _BORON),
            )
        ),
    ),
)
