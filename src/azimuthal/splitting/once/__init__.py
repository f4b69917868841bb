"""Shares of pixels that are summed at once rather than kept: see `kernels`."""
