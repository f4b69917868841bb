"""Pauses of a scan where nothing is being exposed, however busy the machine."""

import itertools
import threading

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp


def paused_after_two_events(RE, plan, *, rewind):
    """Return a plan whose second event is followed by a request for a pause, from another thread.

    A pause at once goes back to the last checkpoint, which is then at the beginning; one that can wait does not.
    """
    saved, checkpoints = itertools.count(1), itertools.count(1)

    def ask():
        asking = threading.Thread(target=RE.request_pause, args=(not rewind,))
        asking.start()
        while asking.is_alive():
            yield from bps.sleep(0.02)

    def change(message):
        if message.command == "checkpoint" and rewind and next(checkpoints) > 1:
            return bps.null(), None
        return None, ask() if message.command == "save" and next(saved) == 2 else None

    return bpp.plan_mutator(plan, change)
