"""Detector files that are there already become a raw run: documents that point at the files, and copy nothing."""

from bluesky_powder.ingest.columns import columns_for, parse_numbers
from bluesky_powder.ingest.documents import raw_documents
from bluesky_powder.ingest.mask import mask_negative
from bluesky_powder.ingest.series import Series, open_series

__all__ = ["Series", "columns_for", "mask_negative", "open_series", "parse_numbers", "raw_documents"]
