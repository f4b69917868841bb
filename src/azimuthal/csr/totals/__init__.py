"""Counts summed over frames while the frames are integrated."""
