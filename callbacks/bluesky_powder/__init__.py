"""Live powder diffraction for Bluesky: frames in as documents, patterns and spottiness out as documents.

`PowderReduction` is the callback, `Recipe` says what it does, `replay` does it to a run that is over. A frame's way:
`recipe` (what to do), `frames` (documents to frames), `reduction` (frames to derived documents), `publish` (to Tiled).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bluesky_powder.errors import BlueskyPowderError, FrameSkipped, FramesUnavailable, RecipeError
    from bluesky_powder.frames import TiledFrames
    from bluesky_powder.publish import TiledPublisher
    from bluesky_powder.recipe import Recipe
    from bluesky_powder.reduction import PowderReduction
    from bluesky_powder.replay import replay
    from bluesky_powder.server import PowderServer

__all__ = [
    "BlueskyPowderError",
    "FrameSkipped",
    "FramesUnavailable",
    "PowderReduction",
    "PowderServer",
    "Recipe",
    "RecipeError",
    "TiledFrames",
    "TiledPublisher",
    "replay",
]

# Rooms are opened at first use: numba, Bluesky and Tiled take seconds to import, and few programs need them all.
_ROOMS = {
    "BlueskyPowderError": "errors",
    "FrameSkipped": "errors",
    "FramesUnavailable": "errors",
    "PowderReduction": "reduction",
    "PowderServer": "server",
    "Recipe": "recipe",
    "RecipeError": "errors",
    "TiledFrames": "frames",
    "TiledPublisher": "publish",
    "replay": "replay",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its room."""
    if name not in _ROOMS:
        raise AttributeError(f"module 'bluesky_powder' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"bluesky_powder.{_ROOMS[name]}"), name)
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
