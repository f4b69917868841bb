"""Several requests at once, where none waits for another's answer."""

import threading
from collections.abc import Callable, Sequence


def side_by_side(calls: Sequence[Callable[[], object]]) -> None:
    """Call all, each in a thread of its own but the last, and return when all have returned.

    Not a thread pool: Python would wait for its threads at the program's end, and a dead server can hold them for long.

    Raises
    ------
    Exception
        The first that was raised, once all have ended.
    """
    errors: list[Exception] = []

    def run(call: Callable[[], object]) -> None:
        try:
            call()
        except Exception as error:
            errors.append(error)

    threads = [
        threading.Thread(target=run, args=(call,), name="bluesky-powder-request", daemon=True) for call in calls[:-1]
    ]
    for thread in threads:
        thread.start()
    for call in calls[-1:]:
        run(call)
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
