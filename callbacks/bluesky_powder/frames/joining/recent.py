"""Mappings that forget their oldest entries."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from bluesky_powder.frames.legal import DocumentError, shown

K = TypeVar("K")
V = TypeVar("V")

REMEMBERED = 4096
"""How many events (or rows, or Datums) that were used are kept, for documents that refer to them again."""

MOST_RESOURCES = 2**14
"""How many documents are kept that tell of files."""


class Recent(Generic[K, V]):
    """A mapping that forgets its oldest entries."""

    def __init__(self, most: int = REMEMBERED) -> None:
        self._most = most
        self._entries: OrderedDict[K, V] = OrderedDict()

    def __setitem__(self, key: K, value: V) -> None:
        self._entries[key] = value
        self._entries.move_to_end(key)
        while len(self._entries) > self._most:
            self._entries.popitem(last=False)

    def get(self, key: K) -> V | None:
        """Return the entry, or None."""
        return self._entries.get(key)


class Resources(Recent[str, Mapping[str, Any]]):
    """Resource or StreamResource documents, by their uids."""

    def __init__(self) -> None:
        super().__init__(MOST_RESOURCES)

    def note(self, document: Mapping[str, Any]) -> str:
        """Keep a document; return its uid.

        Raises
        ------
        DocumentError
            If another one has this uid.
        """
        uid: str = document["uid"]
        known = self.get(uid)
        if known is not None and known != document:
            raise DocumentError(f"its uid {shown(uid)} is that of another one; it is left out")
        self[uid] = document
        return uid
