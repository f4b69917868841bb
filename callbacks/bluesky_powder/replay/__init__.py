"""Reducing runs that are over: from Tiled, databroker, files of documents, or documents themselves.

`source` finds out what was given; `tiled` puts the documents of a run together from Tiled's nodes (`nodes`, `assets`);
`files` reads files of documents; `run` feeds all of them to the reduction; `catalog` finds runs for the command line.
"""

import sys
from types import ModuleType
from typing import Any

from bluesky_powder.errors import ReplayError
from bluesky_powder.replay.run import documents_of, replay

__all__ = ["ReplayError", "documents_of", "replay"]


class _Room(ModuleType):
    """A room that can be called: ``bluesky_powder.replay`` is the function, also where Python puts the room there."""

    def __call__(self, *arguments: Any, **options: Any) -> list[str]:
        """Call the function."""
        return replay(*arguments, **options)


sys.modules[__name__].__class__ = _Room
