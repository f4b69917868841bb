"""Masks, flats and darks from disk: .npy, TIFF, HDF5 (``file.h5::dataset``) and uncompressed EDF."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

_EDF_DTYPES = {
    "signedbyte": "i1",
    "unsignedbyte": "u1",
    "signedshort": "i2",
    "unsignedshort": "u2",
    "signedinteger": "i4",
    "unsignedinteger": "u4",
    "signedlong": "i4",
    "unsignedlong": "u4",
    "signed64": "i8",
    "unsigned64": "u8",
    "float": "f4",
    "floatvalue": "f4",
    "double": "f8",
    "doublevalue": "f8",
}


class ArrayError(ValueError):
    """A file that is missing, of an unknown kind, damaged, or holds no image."""


def read_array(folder: Path, name: str) -> NDArray[Any]:
    """Read one two-dimensional array.

    Parameters
    ----------
    folder
        What a relative path is relative to.
    name
        Path; for HDF5 ``path::dataset``.

    Returns
    -------
    ndarray
        (rows, columns); a leading dimension of 1 is dropped.

    Raises
    ------
    ArrayError
        If the file is missing, of an unknown kind, damaged, or holds no image.
    """
    file, _, dataset = name.partition("::")
    path = folder / file
    if not path.is_file():
        raise ArrayError(f"there is no file {path}; paths are relative to the recipe file")
    suffix = path.suffix.lower()
    try:
        array = np.asarray(_read(path, suffix, dataset))
    except ArrayError:
        raise
    except Exception as error:
        raise ArrayError(f"cannot read {path}: {type(error).__name__}: {error}") from error
    if array.ndim == 3 and array.shape[0] == 1:
        array = array[0]
    if array.ndim != 2 or array.dtype.kind not in "buif":
        raise ArrayError(
            f"{path} holds {array.dtype} of shape {array.shape}; need one image of numbers, (rows, columns)"
        )
    return array


def _read(path: Path, suffix: str, dataset: str) -> Any:
    if suffix == ".npy":
        return np.load(path, allow_pickle=False)
    if suffix in (".tif", ".tiff"):
        import tifffile

        return tifffile.imread(path)
    if suffix in (".h5", ".hdf5", ".nxs", ".hdf"):
        return _read_hdf5(path, dataset)
    if suffix == ".edf":
        return _read_edf(path)
    raise ArrayError(
        f"{path}: files of kind {suffix or 'no suffix'!r} are not known; give .npy, .tif, .h5::dataset or .edf"
    )


def _read_hdf5(path: Path, dataset: str) -> Any:
    import hdf5plugin  # noqa: F401 - registers the compression filters

    with h5py.File(path, "r") as file:
        found: list[str] = []
        file.visititems(lambda name, node: found.append(name) if isinstance(node, h5py.Dataset) else None)
        if not dataset or not isinstance(file.get(dataset), h5py.Dataset):
            what = f"has no dataset {dataset!r}" if dataset else "needs the name of a dataset"
            raise ArrayError(f"{path} {what}; write {path.name}::dataset, with one of: {', '.join(found) or '(none)'}")
        return file[dataset][()]


def _read_edf(path: Path) -> NDArray[Any]:
    """Read the first image of an ESRF data format file: an ASCII header in braces, then plain numbers."""
    raw = path.read_bytes()
    end = raw.find(b"}")
    if not raw.lstrip().startswith(b"{") or end < 0:
        raise ArrayError(f"{path}: not an EDF file (no header in braces)")
    entries = (entry.partition("=") for entry in raw[:end].decode("latin-1").lstrip().lstrip("{").split(";"))
    header = {key.strip().lower(): value.strip() for key, _, value in entries if value}
    if header.get("compression", "none").lower() not in ("none", "no compression", ""):
        raise ArrayError(f"{path}: compressed EDF ({header['compression']}) is not read here; save it as .npy")
    kind = header.get("datatype", "").lower()
    if kind not in _EDF_DTYPES or not {"dim_1", "dim_2"} <= header.keys():
        raise ArrayError(f"{path}: EDF data type {kind!r} or dimensions are not known; save it as .npy")
    order = ">" if header.get("byteorder", "").lower() == "highbytefirst" else "<"
    dtype = np.dtype(order + _EDF_DTYPES[kind])
    columns, rows = int(header["dim_1"]), int(header["dim_2"])
    start = raw.index(b"\n", end) + 1
    if len(raw) - start < rows * columns * dtype.itemsize:
        raise ArrayError(
            f"{path}: truncated, {len(raw) - start} bytes of data where {rows}×{columns} {dtype} are announced"
        )
    return np.frombuffer(raw, dtype, rows * columns, start).reshape(rows, columns).astype(dtype.newbyteorder("="))
