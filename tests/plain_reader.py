"""A process that reads a run with Bluesky's client alone, as a machine does that lacks this package.

``python plain_reader.py URI KEY UID`` writes a pickled ``{stream: {data key: array}}`` to standard output.
"""

import pickle
import sys

from bluesky_tiled_plugins.clients.bluesky_run import BlueskyRunV3
from tiled.client import from_uri


def main(uri: str, key: str, uid: str) -> None:
    """Read all streams."""
    structure_clients = {"PowderRun": lambda: BlueskyRunV3}
    client = from_uri(uri, api_key=key, show_progress=False)
    clients = client.structure_clients
    for spec, factory in structure_clients.items():
        clients.set(spec, factory)
    run = client[uid]
    assert type(run) is BlueskyRunV3, type(run)
    read = {stream: {str(k): v.values for k, v in run[stream].read().data_vars.items()} for stream in run}
    pickle.dump(read, sys.stdout.buffer)


if __name__ == "__main__":
    main(*sys.argv[1:])
