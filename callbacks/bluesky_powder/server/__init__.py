"""The embedded Tiled server: one folder, one call, safe to read while a run is written."""

from bluesky_powder.server.launcher import PowderServer

__all__ = ["PowderServer"]
