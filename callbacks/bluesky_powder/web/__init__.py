"""Derived runs in the browser: pages served by the same Tiled server.

A facility adds one line to its Tiled configuration, ``routers: ["bluesky_powder.web:router"]``, and finds the pages at
``/custom/powder/``.
"""

from bluesky_powder.web.routes import router

__all__ = ["router"]
