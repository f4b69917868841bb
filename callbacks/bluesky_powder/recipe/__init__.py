"""What to do, as one validated file."""

from bluesky_powder.recipe.files import ArrayFile, TextFile
from bluesky_powder.recipe.model import Recipe
from bluesky_powder.recipe.several import AnyRecipe, recipes_of

__all__ = ["AnyRecipe", "ArrayFile", "Recipe", "TextFile", "recipes_of"]
