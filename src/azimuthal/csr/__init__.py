"""The sparse matrix of pixel shares and the kernels over it."""

from azimuthal.csr.matrix import SHARE_QUANTUM, CSRMatrix, PixelMatrix

__all__ = ["SHARE_QUANTUM", "CSRMatrix", "PixelMatrix"]
