"""When to end what runs until it is told to end."""

import signal
import threading


def told_to_end() -> threading.Event:
    """Return what Ctrl-C and SIGTERM set from now on, even where a shell hid Ctrl-C from what it started behind itself.

    Wait for it a second at a time: a signal that another thread takes does not wake the main one.
    """
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    return ended
