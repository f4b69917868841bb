"""Tiles of frames, read for the kernels over the matrix."""
