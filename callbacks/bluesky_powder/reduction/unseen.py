"""Runs that were reduced, and of which nothing was seen."""

from collections.abc import Collection

from azimuthal import AzimuthalError, Geometry, Pattern, RadialBins
from azimuthal.units import radial_unit

MOST_GEOMETRIES = 8
"""Of more it is not asked what they cover."""


def why_nothing_was_seen(pattern: Pattern, geometries: Collection[Geometry]) -> str:
    """Return what to say of a merge whose bins are all empty.

    Parameters
    ----------
    pattern
        The merge.
    geometries
        Where the detector was.
    """
    low, high = float(pattern.edges[0]), float(pattern.edges[-1])
    empty = f"no bin of {low:.4g} to {high:.4g} {pattern.unit} saw a pixel"
    covered = _covered(pattern.unit, geometries)
    if covered is None:
        return f"{empty}: all pixels there, if there are any, are masked or have no data"
    covers = f"the detector covers {covered[0]:.4g} to {covered[1]:.4g}"
    if covered[0] < high and low < covered[1]:
        return f"{empty}; {covers}, so all pixels there are masked or have no data"
    return f"{empty}; {covers}; correct `range` in the recipe's bins, or the geometry"


def _covered(unit: str, geometries: Collection[Geometry]) -> tuple[float, float] | None:
    """Return what geometries cover; None where that is not known cheaply, or comes round again as azimuths do."""
    if len(geometries) > MOST_GEOMETRIES or radial_unit(unit).kind == "chi":
        return None
    try:
        return RadialBins.covering(unit, 1, geometries).range
    except AzimuthalError:
        return None
