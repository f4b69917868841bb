"""Derived runs, reduced from made-up frames of a detector on an arm, and written into a server."""

from bluesky_powder import PowderReduction, TiledPublisher
from raw_runs import Derived, images, inline_run, recipe_in

POSITIONS = (0.0, 10.0, 10.0, 20.0)


def reduced(folder, *, frames=4, seed=1, change=list, metadata=None, **sections):
    """Reduce frames of an arm; `change` turns the raw documents into others."""
    run = Derived()
    documents = inline_run(images(frames, seed), (POSITIONS * frames)[:frames], **(metadata or {}))
    with PowderReduction(recipe_in(folder, moving=True, **sections)) as reduction:
        reduction.subscribe(run)
        for name, document in change(documents):
            reduction(name, document)
        assert reduction.wait(120)
    return run


def publish(server, *runs, batch_size=1, **options):
    """Write runs, given as documents, into a server; what is open needs a batch size of 1 to be seen."""
    with TiledPublisher(
        server.uri, api_key=server.api_key, spool=server.spool, batch_size=batch_size, **options
    ) as publisher:
        for documents in runs:
            for name, document in documents:
                publisher(name, document)
        assert publisher.wait(120)
        assert publisher.failures == ()
