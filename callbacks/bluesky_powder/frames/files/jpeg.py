"""The image of a JPEG file: 8 bits a pixel, lossy, but some cameras give nothing else."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bluesky_powder.errors import FrameSkipped


def load(path: Path) -> NDArray[Any]:
    """Return the image of a file, (rows, columns), uint8.

    Raises
    ------
    FrameSkipped
        If it is in colour, or nothing that reads JPEG files is installed.
    """
    try:
        from PIL import Image
    except ImportError:
        raise FrameSkipped(f"{path}: JPEG frames need Pillow; pip install pillow") from None
    with Image.open(path, formats=("JPEG",)) as image:
        if image.mode != "L":
            raise FrameSkipped(
                f"{path} is a JPEG image in colour ({image.mode}), not counts; have the camera write grey (mono) frames"
            )
        return np.array(image)
