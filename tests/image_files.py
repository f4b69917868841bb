"""Frames written to files in the ways of StreamResources, each with the documents' part that says how."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tifffile
from PIL import Image

from raw_runs import SHAPE, stream_run

TIFF = "multipart/related;type=image/tiff"
JPEG = "multipart/related;type=image/jpeg"
NPY = "multipart/related;type=application/x-npy"
HDF5 = "application/x-hdf5"


@dataclass(frozen=True)
class Way:
    """One way to keep the frames of a run in files.

    `write` takes a folder and frames, (events, images, rows, columns), and returns what stands behind ``file://``.
    """

    mimetype: str
    write: Callable[[Path, np.ndarray], str]
    parameters: dict[str, Any] = field(default_factory=dict)
    per_event: int = 1
    dtype: str = "<u4"

    def run(self, folder, frames, positions=None, host="localhost", **options):
        """Write the frames and return the documents of a step scan over them."""
        uri = f"file://{host}{self.write(folder, frames)}"
        documents = stream_run(
            uri,
            len(frames),
            positions,
            per_event=self.per_event,
            shape=frames.shape[2:],
            mimetype=self.mimetype,
            parameters=dict(self.parameters),
            **options,
        )
        documents[1][1]["data_keys"]["det"]["dtype_numpy"] = frames.dtype.str
        return documents

    def frames(self, images):
        """Return images, (n, rows, columns), as this way has them: (events, images, rows, columns) of its dtype."""
        return images.astype(self.dtype).reshape(-1, self.per_event, *images.shape[1:])


def tiff_a_frame(folder, frames):
    for number, frame in enumerate(frames.reshape(-1, *frames.shape[2:])):
        tifffile.imwrite(folder / f"scan12_{number:06d}.tif", frame)
    return f"{folder}/scan12_"


def tiff_an_event(folder, frames):
    for number, stack in enumerate(frames):
        tifffile.imwrite(folder / f"{number}.tif", stack, photometric="minisblack")
    return f"{folder}/"


def tiff_of_pages(folder, frames):
    """Write the pages of each file one by one, as a detector does."""
    for number, stack in enumerate(frames):
        for frame in stack:
            tifffile.imwrite(folder / f"{number}.tif", frame, append=True, metadata=None)
    return f"{folder}/"


def tiff_stack(folder, frames):
    tifffile.imwrite(folder / "all.tif", frames.reshape(-1, *frames.shape[2:]), photometric="minisblack")
    return f"{folder}/all.tif"


def jpeg_a_frame(folder, frames):
    for number, frame in enumerate(frames.reshape(-1, *frames.shape[2:])):
        Image.fromarray(frame).save(folder / f"cam_{number:06d}.jpg", quality=95)
    return f"{folder}/"


def npy_an_event(folder, frames):
    for number, stack in enumerate(frames):
        np.save(folder / f"seq_{number}.npy", stack)
    return f"{folder}/seq"


def npy_named(folder, frames):
    for number, stack in enumerate(frames):
        np.save(folder / f"run5_{number}.npy", stack)
    return f"{folder}/"


def npy_stack(folder, frames):
    np.save(folder / "all.npy", frames)
    return f"{folder}/all.npy"


def hdf5_flat(folder, frames):
    return _hdf5(folder / "flat.h5", frames.reshape(-1, *frames.shape[2:]))


def hdf5_deep(folder, frames):
    return _hdf5(folder / "deep.h5", frames)


def hdf5_thresholds(folder, frames):
    """Write two images where one is meant: the frame, and what a second threshold of the detector counts."""
    flat = frames.reshape(-1, *frames.shape[2:])
    return _hdf5(folder / "two.h5", np.stack([flat // 2, flat], axis=1))


def hdf5_bordered(folder, frames):
    flat = frames.reshape(-1, *frames.shape[2:])
    return _hdf5(folder / "wide.h5", np.pad(flat, ((1, 0), (2, 3), (4, 0)), constant_values=7))


def hdf5_numbered(folder, frames):
    for number, stack in enumerate(frames):
        _hdf5(folder / f"part_{number:03d}.h5", stack)
    return f"{folder}/part"


def _hdf5(path, frames):
    with h5py.File(path, "w", libver="latest") as file:
        chunks, most = (1,) * (frames.ndim - 2) + SHAPE, (None, *frames.shape[1:])
        file.create_dataset("entry/data/data", data=frames, chunks=chunks, maxshape=most)
    return str(path)


_DATASET = {"dataset": "/entry/data/data"}
_FLAT = {"chunk_shape": [1, *SHAPE]}
WAYS = {
    "tiff a frame": Way(TIFF, tiff_a_frame, {"template": "{:06d}.tif", **_FLAT}),
    "tiff, old template": Way(TIFF, tiff_a_frame, {"template": "%s%s%6.6d.tif", "filename": "", **_FLAT}),
    "tiff, two files an event": Way(TIFF, tiff_a_frame, {"template": "{:06d}.tif", **_FLAT}, 2),
    "tiff, multiplier": Way(TIFF, tiff_a_frame, {"template": "{:06d}.tif", "multiplier": 2}, 2),
    "tiff, files per datum": Way(TIFF, tiff_a_frame, {"template": "{:06d}.tif", "files_per_datum": 2}, 2),
    "tiff an event": Way(TIFF, tiff_an_event, {"template": "{:d}.tif"}, 2),
    "tiff an event, in chunks": Way(TIFF, tiff_an_event, {"template": "/{:d}.tif", "chunk_shape": [2, *SHAPE]}, 2),
    "tiff of pages": Way(TIFF, tiff_of_pages, {"template": "%d.tif"}, 3),
    "tiff stack": Way("image/tiff", tiff_stack, {}, 1),
    "tiff stack, two an event": Way("image/tiff", tiff_stack, {}, 2),
    "jpeg a frame": Way(JPEG, jpeg_a_frame, {"template": "cam_{:06d}.jpg", **_FLAT}, 1, "|u1"),
    "jpeg, two files an event": Way(JPEG, jpeg_a_frame, {"template": "cam_{:06d}.jpg", **_FLAT}, 2, "|u1"),
    "npy": Way(NPY, npy_an_event, {}),
    "npy, two images an event": Way(NPY, npy_an_event, {}, 2),
    "npy, named": Way(NPY, npy_named, {"filename": "run5"}),
    "npy stack": Way("application/x-npy", npy_stack, {}, 2),
    "hdf5": Way(HDF5, hdf5_flat, {**_DATASET, **_FLAT, "swmr": True}),
    "hdf5, older name of the dataset": Way(HDF5, hdf5_flat, {"path": "/entry/data/data"}),
    "hdf5, two images an event": Way(HDF5, hdf5_flat, {**_DATASET, **_FLAT, "swmr": False}, 2),
    "hdf5 of four axes": Way(HDF5, hdf5_deep, {**_DATASET, "chunk_shape": [1, 1, *SHAPE]}),
    "hdf5 of four axes, two images": Way(HDF5, hdf5_deep, {**_DATASET, "chunk_shape": [1, 1, *SHAPE]}, 2),
    "hdf5, squeezed": Way(HDF5, hdf5_deep, {**_DATASET, "squeeze": True}),
    "hdf5, one of two thresholds": Way(HDF5, hdf5_thresholds, {**_DATASET, "slice": ":,1"}),
    "hdf5, one of two thresholds, two images": Way(HDF5, hdf5_thresholds, {**_DATASET, "slice": "(:, 1, ...)"}, 2),
    "hdf5, cut": Way(HDF5, hdf5_bordered, {**_DATASET, "slice": "1:, 2:-3, 4:"}),
    "hdf5, numbered": Way(HDF5, hdf5_numbered, {**_DATASET, "template": "_{:03d}.h5", "chunk_shape": [1, *SHAPE]}),
    "hdf5, numbered, two images": Way(
        HDF5, hdf5_numbered, {**_DATASET, "template": "_{:03d}.h5", "chunk_shape": [2, *SHAPE]}, 2
    ),
}
"""Every way that the consolidators of bluesky-tiled-plugins know, and some that only their default class does."""


def written(folder, way, images):
    """Write images, (n, rows, columns), in one of the `WAYS`, and return their documents."""
    folder.mkdir(parents=True, exist_ok=True)
    return WAYS[way].run(folder, WAYS[way].frames(images))
