"""A process that reads an open run in a tight loop, every way there is; prints what it met as JSON when told to end.

``python tight_reader.py URI KEY UID`` prints a line when it begins; it ends when its standard input closes.
"""

import collections
import json
import sys
import threading
from typing import Any

import httpx
import numpy as np
from tiled.client import from_uri

STREAMS = ("primary", "cumulative")


def main(uri: str, key: str, uid: str) -> None:
    """Read until told to end."""
    ended = threading.Event()
    met: collections.Counter[str] = collections.Counter()
    readers = [
        threading.Thread(target=_until, args=(ended, met, step))
        for step in (_tables(uri, key, uid), _streams(uri, key, uid))
    ]
    print("reading", flush=True)
    for reader in readers:
        reader.start()
    sys.stdin.read()
    ended.set()
    for reader in readers:
        reader.join()
    print(json.dumps(met))


def _until(ended: threading.Event, met: "collections.Counter[str]", step: Any) -> None:
    while not ended.is_set():
        try:
            met[next(step)] += 1
        except Exception as error:
            met[f"{type(error).__name__}: {error}"[:300]] += 1
            return


def _tables(uri: str, key: str, uid: str) -> Any:
    with httpx.Client(headers={"Authorization": f"Apikey {key}"}, timeout=60) as http:
        while True:
            for stream in STREAMS:
                url = f"{uri}/api/v1/table/full/{uid}/{stream}/internal"
                answer = http.get(url, params={"format": "application/json"})
                if answer.status_code == 200:
                    numbers = answer.json()["seq_num"]
                    assert numbers == list(range(1, len(numbers) + 1)), numbers
                yield f"table {answer.status_code}"


def _streams(uri: str, key: str, uid: str) -> Any:
    client = from_uri(uri, api_key=key, show_progress=False)
    while True:
        for stream in STREAMS:
            try:
                node = client[uid][stream]
            except KeyError:
                yield "stream not there yet"
                continue
            data = node.read()
            if "intensity" not in data or not data.sizes["time"]:
                yield "stream empty"
                continue
            rows = data.sizes["time"]
            assert data["intensity"].dtype == np.float64
            assert (data["intensity"].values[:, 0] == np.arange(1, rows + 1)).all(), data["intensity"].values[:, 0]
            yield "stream read"


if __name__ == "__main__":
    main(*sys.argv[1:])
