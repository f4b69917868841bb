"""The reader's view: finding derived runs in Tiled, and reading them as plain arrays."""

from bluesky_powder.client.connection import connect
from bluesky_powder.client.find import find, search
from bluesky_powder.client.read import MergedPattern, SpottinessTable, columns, merged, spottiness

__all__ = ["MergedPattern", "SpottinessTable", "columns", "connect", "find", "merged", "search", "spottiness"]
