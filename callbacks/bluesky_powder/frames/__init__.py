"""Documents to frames with positions and monitor: where the images are, whichever way they came.

A frame's way: `run` takes the documents of a run, which are `legal` by then, and yields frames (`frame`). `joining`
puts documents together that belong together, `images` says where the images of an event are, `numbers` finds positions
and monitor, and `darks` tells which dark belongs to it. Images are read when they are needed: from `files`, whose
`chunks` are decoded here, or from a server. `patience` waits for what is not there yet.
"""

from bluesky_powder.frames.frame import Frame, Images, Skipped, Wanted
from bluesky_powder.frames.images.remote import RemoteFrames, TiledFrames
from bluesky_powder.frames.patience import Patience
from bluesky_powder.frames.run import RunFrames

__all__ = ["Frame", "Images", "Patience", "RemoteFrames", "RunFrames", "Skipped", "TiledFrames", "Wanted"]
