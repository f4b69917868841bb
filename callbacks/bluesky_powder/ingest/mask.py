"""A mask of what is negative anywhere in a series: gaps and dead pixels, in the files of many detectors."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from bluesky_powder.errors import IngestError
from bluesky_powder.ingest.series import Series
from bluesky_powder.recipe import Recipe
from bluesky_powder.recipe.files import ArrayFile, sha256_of


def mask_negative(
    recipe: Recipe, series: Series, folder: Path, progress: Callable[[], object] = lambda: None
) -> tuple[Recipe, Path]:
    """Return a recipe that also leaves out each pixel that is negative in any frame of a series.

    A detector's dummies are left out frame by frame anyway; here a pixel that is one in one frame counts in none, so
    that all patterns are made of the same pixels.

    Parameters
    ----------
    recipe
        Its own mask stays.
    series
        Read once, for this.
    folder
        Where the mask is written, as .npy under the name of its contents: a derived run names it.
    progress
        Called after each frame.

    Returns
    -------
    Recipe, Path
        And the mask's file.

    Raises
    ------
    IngestError
        If a frame cannot be read, the recipe's own mask does not fit, or nothing is left.
    """
    masked = np.zeros(series.shape, dtype=bool)
    own = recipe.corrections.mask
    if own is not None:
        if own.array.shape != masked.shape:
            raise IngestError(f"{own.file} has shape {own.array.shape}, the frames have {masked.shape}")
        masked |= own.array != 0
    for frame in series.read():
        masked |= frame < 0
        progress()
    if masked.all():
        raise IngestError("every pixel is negative in some frame, or masked by the recipe; nothing is left")
    path = folder / f"mask-{sha256_of(masked)[:12]}.npy"
    folder.mkdir(parents=True, exist_ok=True)
    np.save(path, masked)
    corrections = recipe.corrections.model_copy(update={"mask": ArrayFile.holding(str(path), masked)})
    return recipe.model_copy(update={"corrections": corrections}), path
