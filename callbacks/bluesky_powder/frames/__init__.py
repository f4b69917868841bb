"""Documents to frames with positions and monitor: where the images are, whichever way they came.

A frame's way: `run` takes documents and yields frames; `join` pairs file references with events; `numbers` finds
positions and monitor; `inline`, `legacy` and `resources` (with `hdf5`, `tiff`, `jpeg`, `npy`) say where images are, and
read them; `reach` knows what is on this machine, and `remote` asks a server for the rest.
"""

from bluesky_powder.frames.frame import Frame, Images, Skipped, Wanted
from bluesky_powder.frames.patience import Patience
from bluesky_powder.frames.remote import RemoteFrames, TiledFrames
from bluesky_powder.frames.run import RunFrames

__all__ = ["Frame", "Images", "Patience", "RemoteFrames", "RunFrames", "Skipped", "TiledFrames", "Wanted"]
