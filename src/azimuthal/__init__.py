"""Azimuthal integration of area-detector frames: exact, mergeable sums, quickly."""
