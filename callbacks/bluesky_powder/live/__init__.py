"""Derived runs as they grow, at a subscriber anywhere: each pattern and its spottiness, pushed by Tiled."""

from bluesky_powder.live.follow import Following, Update, follow

__all__ = ["Following", "Update", "follow"]
