"""A process that reads runs with Bluesky's client alone, as a machine does that lacks this package.

``python plain_reader.py URI KEY UID...`` writes a pickled ``{uid: {stream: {data key: array}}}`` to standard output.
"""

import pickle
import sys
from typing import Any

from bluesky_tiled_plugins.clients.bluesky_run import BlueskyRunV3
from tiled.client import from_uri


def main(uri: str, key: str, *uids: str) -> None:
    """Read all streams."""
    structure_clients = {"PowderRun": lambda: BlueskyRunV3}
    client = from_uri(uri, api_key=key, show_progress=False)
    clients = client.structure_clients
    for spec, factory in structure_clients.items():
        clients.set(spec, factory)
    pickle.dump({uid: _read(client[uid]) for uid in uids}, sys.stdout.buffer)


def _read(run: Any) -> dict[str, dict[str, Any]]:
    assert type(run) is BlueskyRunV3, type(run)
    return {stream: {str(k): v.values for k, v in run[stream].read().data_vars.items()} for stream in run}


if __name__ == "__main__":
    main(*sys.argv[1:])
