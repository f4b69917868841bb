"""The sparse matrix of pixel shares and the kernels over it."""

from azimuthal.csr.matrix import SHARE_QUANTUM, Band, CSRMatrix, TiledMatrix

__all__ = ["SHARE_QUANTUM", "Band", "CSRMatrix", "TiledMatrix"]
