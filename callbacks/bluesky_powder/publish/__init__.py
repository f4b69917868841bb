"""Where documents go: into Tiled, by way of a journal on disk, and never in anyone's way."""

from bluesky_powder.publish.journal import read_journal
from bluesky_powder.publish.publisher import TiledPublisher
from bluesky_powder.publish.state import PublisherState, PublishFailure, RunState
from bluesky_powder.publish.storage import Storage

__all__ = ["PublishFailure", "PublisherState", "RunState", "Storage", "TiledPublisher", "read_journal"]
