"""Files that a recipe names: read when the recipe is, and stored with it so that a derived run stands on its own."""

import hashlib
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, PrivateAttr, ValidationInfo

from bluesky_powder.recipe.arrays import read_array


class TextFile(BaseModel):
    """A PONI or goniometer file, kept with its whole text.

    Attributes
    ----------
    file
        Path as the recipe has it.
    text
        What the file says.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    text: str
    _folder: Path | None = PrivateAttr(default=None)

    @property
    def folder(self) -> Path | None:
        """Where files that the text names may stand; None for a stored recipe."""
        return self._folder


class ArrayFile(BaseModel):
    """A mask, flat or dark: stored by shape, dtype and SHA-256, so that the same array can be told from another.

    Attributes
    ----------
    file
        Path as the recipe has it; ``file.h5::dataset`` for HDF5.
    shape
        (rows, columns).
    dtype
        NumPy name of the dtype.
    sha256
        Of the array's bytes, C order, little endian.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    shape: tuple[int, ...]
    dtype: str
    sha256: str
    _array: NDArray[Any] | None = PrivateAttr(default=None)

    @property
    def array(self) -> NDArray[Any]:
        """The array itself, read-only."""
        if self._array is None:
            raise ValueError(f"{self.file}: only its description is here, not the array")
        return self._array

    @classmethod
    def holding(cls, file: str, array: NDArray[Any]) -> "ArrayFile":
        """Return the description of an array together with the array."""
        array = np.ascontiguousarray(array)
        array.flags.writeable = False
        made = cls(file=file, shape=array.shape, dtype=array.dtype.name, sha256=sha256_of(array))
        made._array = array
        return made


def sha256_of(array: NDArray[Any]) -> str:
    """Return the SHA-256 of an array's bytes, C order, little endian."""
    plain = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return hashlib.sha256(plain.tobytes()).hexdigest()


def _read_text(value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, TextFile):
        return value
    if isinstance(value, dict):
        return value  # as stored
    path = _path_of(value, info)
    try:
        read = TextFile(file=str(value), text=path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise ValueError(_not_there(path)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read {path}: {error}") from None
    read._folder = path.parent  # noqa: SLF001 - our own class
    return read


def read_array_field(value: Any, info: ValidationInfo) -> Any:
    """Read the array that a recipe names, or find the one that a stored recipe describes."""
    if isinstance(value, ArrayFile):
        return value
    if isinstance(value, dict):
        return _restored(ArrayFile.model_validate(value), info)
    if isinstance(value, np.ndarray):
        return ArrayFile.holding("(array)", value)
    _path_of(value, info)
    return ArrayFile.holding(str(value), read_array(_folder(info), str(value)))


def _restored(stored: ArrayFile, info: ValidationInfo) -> ArrayFile:
    """Find the array of a stored recipe again: the same bytes at the same path, seen from the folder given."""
    want = f"{'×'.join(map(str, stored.shape))} {stored.dtype}, SHA-256 {stored.sha256[:12]}…"
    try:
        array = read_array(_folder(info), stored.file)
    except ValueError as error:
        raise ValueError(
            f"the stored recipe needs its array {stored.file} ({want}), which is missing: {error}"
        ) from None
    if sha256_of(array) != stored.sha256:
        raise ValueError(f"{stored.file} is not the array that the stored recipe was used with ({want})")
    return ArrayFile.holding(stored.file, array)


def _folder(info: ValidationInfo) -> Path:
    return Path((info.context or {}).get("folder", "."))


def _path_of(value: Any, info: ValidationInfo) -> Path:
    if not isinstance(value, str | Path) or not str(value).strip():
        raise ValueError(f"{value!r} is no file name; give a path, relative to the recipe")
    return _folder(info) / value


def _not_there(path: Path) -> str:
    return f"there is no file {path}; paths are relative to the recipe file"


TextFileField = Annotated[TextFile, BeforeValidator(_read_text)]
ArrayFileField = Annotated[ArrayFile, BeforeValidator(read_array_field)]
