"""Where things are kept that were not given a place."""

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlparse


def state_folder(client: Any) -> Path:
    """Return the folder of the user's for what is on its way to a server, one a server.

    Parameters
    ----------
    client
        Tiled client, or address.
    """
    base = os.environ.get("XDG_STATE_HOME")
    folder = (Path(base) if base else Path.home() / ".local" / "state") / "bluesky-powder"
    address = urlparse(client if isinstance(client, str) else str(getattr(client, "uri", "")))
    return folder / (address.netloc.rpartition("@")[2].replace(":", "-") or "tiled")
