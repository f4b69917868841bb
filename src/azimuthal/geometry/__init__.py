"""Where a detector is, and from that where every pixel is in reciprocal space."""

from azimuthal.geometry.model import Geometry, SolidAngle

__all__ = ["Geometry", "SolidAngle"]
