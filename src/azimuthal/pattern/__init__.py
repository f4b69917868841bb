"""Patterns and cakes: mergeable sums over bins, and intensity, errors and spottiness read from them."""

from azimuthal.pattern.cake import Cake
from azimuthal.pattern.difference import Difference
from azimuthal.pattern.packed import Packed
from azimuthal.pattern.powder import Pattern
from azimuthal.pattern.spottiness import (
    Grade,
    SpottinessNumbers,
    grade,
    independent_frames,
    independent_frames_from,
)
from azimuthal.pattern.store import load_pattern
from azimuthal.pattern.sums import SUMS, BinnedSums, Conditions, ErrorModel, RunningUnion, union

__all__ = [
    "SUMS",
    "BinnedSums",
    "Cake",
    "Conditions",
    "Difference",
    "ErrorModel",
    "Grade",
    "Packed",
    "Pattern",
    "RunningUnion",
    "SpottinessNumbers",
    "grade",
    "independent_frames",
    "independent_frames_from",
    "load_pattern",
    "union",
]
