"""bluesky-tiled-plugins' writer for one run, with a say in when it writes."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from bluesky_powder.publish.side_by_side import side_by_side

SUMS = "sums"
"""Data key of what a pattern is, and all else is read from."""

_OF_ONE = ("user:", "service:")
"""How the tags begin by which Tiled knows a node of one user's; it sets them itself and takes them from nobody."""

AT_ONCE = 4
"""Requests that are made side by side at most."""
BY_HAND = 2**31
"""A batch that never fills."""


def writer_of_one_run(client: Any) -> tuple[Any, Any]:
    """Return what takes the documents of one run, (name, document), and the writer behind it.

    TiledWriter itself writes events one by one, or in batches of a fixed size whose rest waits for the run's end; and
    event-model's RunRouter in it turns errors at a run's start into warnings. Its two parts have neither. The writer
    has two methods more: `flush`, of one stream or of all, and `array(stream, key)`, the client of an array that it has
    begun, or None.

    Parameters
    ----------
    client
        Tiled client of the container that runs go into.
    """
    from bluesky_tiled_plugins.writing.consolidators import consolidator_factory
    from bluesky_tiled_plugins.writing.tiled_writer import RunNormalizer, _RunWriter

    class Writer(_RunWriter):  # type: ignore[misc]
        """Keeps events, and ranges of files, until it is told to write them."""

        def start(self, doc: Mapping[str, Any]) -> None:
            super().start(_with_tags_that_can_be_given(doc))

        def flush(self, only: str | None = None) -> None:
            # Stream after stream, as readers wait for the first; files before rows, as readers go by the table's rows.
            for stream in dict.fromkeys(node.item["id"] for node in self._desc_nodes.values()):
                if only not in (None, stream):
                    continue
                self._write_files(stream)
                rows = self._internal_data_cache[stream]
                if rows:
                    self._write_rows(stream, rows)
                    rows.clear()

        def _write_files(self, stream: str) -> None:
            told = self._external_data_cache.items()
            uids = [uid for uid, each in told if self._desc_nodes[each["descriptor"]].item["id"] == stream]
            calls = [partial(self._write_external_data, self._external_data_cache.pop(uid)) for uid in uids]
            # Resources of one key go into one node, one after the other.
            keys = {self._stream_resource_cache[uid]["data_key"] for uid in uids}
            at_once = AT_ONCE if len(keys) == len(uids) else 1
            for first in range(0, len(calls), at_once):
                side_by_side(calls[first : first + at_once])

        def _write_external_data(self, doc: Mapping[str, Any]) -> None:
            about = self._stream_resource_cache[doc["stream_resource"]]
            node = self._desc_nodes[doc["descriptor"]]
            names = (about["uid"], f"{node.item['id']}_{about['data_key']}")
            if any(name in self._sres_nodes for name in names):
                super()._write_external_data(doc)
                return
            # With its first rows at once: registered empty, it would have to be told of them by a request of its own.
            consolidator = consolidator_factory(about, node.metadata)
            consolidator.consume_stream_datum(doc)
            source = consolidator.get_data_source()
            array = node.new(
                source.structure_family,
                [source],
                key=consolidator.data_key,
                metadata={},
                specs=[],
                access_tags=self.access_tags,
            )
            for name in names:
                self._consolidators[name], self._sres_nodes[name] = consolidator, array

        def _write_rows(self, stream: str, rows: list[dict[str, Any]]) -> None:
            # Sums and row first, which followers wait for: a request takes some 30 ms, whatever is in it. Readers take
            # of intensities as many as there are, and of a stream whose nodes are not all there it would be a riddle.
            later = self._int_array_keys[stream] - {SUMS} if SUMS in self._int_array_keys[stream] else set()
            if any(self.array(stream, key) is None for key in later):
                later = set()
            rest = [{key: row.pop(key) for key in later if key in row} for row in rows]
            node = self._desc_nodes[stream]
            self._write_internal_data(rows, desc_node=node)
            if later:
                self._write_internal_data(rest, desc_node=node)

        def array(self, stream: str, key: str) -> Any:
            # As it was when its node was made, so without asking the server.
            found = self._internal_arrays.get(f"{stream}/{key}")
            return self._sres_nodes.get(f"{stream}_{key}") if found is None else found

    # Short arrays go to zarr too: as table cells they would come back as text.
    writer = Writer(client.new_variation(include_data_sources=True), batch_size=BY_HAND, max_array_size=0)
    documents = RunNormalizer(patches={}, spec_to_mimetype={})
    documents.subscribe(writer)
    return documents, writer


def _with_tags_that_can_be_given(start: Mapping[str, Any]) -> dict[str, Any]:
    """Return a start document without a raw run's tags of its owner.

    What is left, if only nothing, is never more open: a node without tags belongs to who writes it.
    """
    tags = [tag for tag in start.get("tiled_access_tags") or () if not str(tag).startswith(_OF_ONE)]
    others = {key: value for key, value in start.items() if key != "tiled_access_tags"}
    return {**others, "tiled_access_tags": tags} if tags else others
