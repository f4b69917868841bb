"""What to do, as one validated file."""

from bluesky_powder.recipe.files import ArrayFile, TextFile
from bluesky_powder.recipe.model import Recipe

__all__ = ["ArrayFile", "Recipe", "TextFile"]
