"""Sums of frames that are corrected pixel by pixel."""
