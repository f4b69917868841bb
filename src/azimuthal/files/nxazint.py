"""NXazint1d and NXazint2d: NeXus HDF5 of integrated patterns, as azint writes it and GSAS-II and plaid read it.

The layout is the application definition of that name (nexusformat/definitions, 2025). What GSAS-II asks beyond it: the
extension .h5 or .hdf; ``reduction/input/unit`` is ``2th``; one group of each class, and a sample; numbers of one per
image anywhere in them, which become sample parameters.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import ArrayLike

from azimuthal.errors import FileFormatError
from azimuthal.files.axis import HC_ANGSTROM_KEV, Axis, Writable, positions, trusted_sem
from azimuthal.files.whole import replacing
from azimuthal.pattern import BinnedSums, Difference

EXTENSIONS = (".h5", ".hdf")
REFERENCE = (
    "Intensity and errors as defined by pyFAI (Kieffer et al., J. Appl. Cryst. 48 (2015) 510, "
    "https://doi.org/10.1107/S1600576715004306), with exact azimuthal variance"
)
NOTE = (
    "Empty bins have intensity, error and norm 0; an error of 0 elsewhere is unknown (one pixel, or pixels that all "
    "agree). Azimuth is pyFAI's chi = atan2(y, x), y up and x horizontal towards the centre of the ring."
)


@dataclass(frozen=True)
class _Origin:
    """Where patterns come from, in words."""

    sample: str
    instrument: str
    source: str
    source_type: str
    poni: str
    mask: str
    comments: Iterable[str]


def write_nxazint(
    path: str | Path,
    patterns: Writable | Iterable[Writable],
    *,
    parameters: Mapping[str, ArrayLike] | None = None,
    units: Mapping[str, str] | None = None,
    monitor: ArrayLike | None = None,
    axis: Axis = "2theta",
    wavelength: float | None = None,
    sample: str = "sample",
    instrument: str = "instrument",
    source: str = "source",
    source_type: str = "Synchrotron X-ray Source",
    poni: str = "",
    mask: str = "",
    comments: Iterable[str] = (),
) -> None:
    """Write one pattern, a series of them, or cakes, as NXazint1d or NXazint2d.

    Parameters
    ----------
    path
        The file; it is replaced. It ends in .h5 or .hdf, or GSAS-II would not look at it.
    patterns
        A Pattern or Cake, or one less a background, or any iterable of one kind, which is consumed one by one: a
        generator that integrates while this writes will do. All of one set of bins, treatment and error model.
    parameters
        Name -> one number per image: temperature (kelvin, for GSAS-II), time (seconds), motors. They go into
        ``entry/sample``.
    units
        Name of a parameter -> its unit.
    monitor
        One number per image, by which the patterns were normalized when they were integrated.
    axis
        "2theta" converts patterns over q with the wavelength; bin centres are then no longer equidistant, which this
        format allows. "q" (1/angstrom) is valid NeXus, but GSAS-II refuses it.
    wavelength
        In metres; None takes the patterns'.
    sample, instrument, source, source_type
        Names.
    poni
        Text of the PONI or goniometer file.
    mask
        Name or digest of the mask.
    comments
        Lines such as the uid of the raw run, for ``reduction/note``.

    Raises
    ------
    FileFormatError
        If the extension is another one, there are no patterns or they differ in what must agree, the wavelength is
        missing, the axis cannot be had, or parameters do not fit.
    FileNotFoundError
        If there is no such folder.
    """
    if Path(path).suffix not in EXTENSIONS:
        raise FileFormatError(f"{path}: GSAS-II reads NXazint from .h5 and .hdf only; name the file so")
    several = iter([patterns] if isinstance(patterns, BinnedSums | Difference) else patterns)
    first = next(several, None)
    if first is None:
        raise FileFormatError(f"{path}: there are no patterns to write")
    metres = first.wavelength if wavelength is None else wavelength
    if metres is None:
        raise FileFormatError(
            f"{path}: NXazint needs one wavelength, and the patterns have none (or several were merged); "
            "give wavelength=, in metres"
        )
    origin = _Origin(sample, instrument, source, source_type, poni, mask, comments)
    with replacing(path) as scratch, h5py.File(scratch, "w") as file:
        file.attrs["default"] = "entry"
        entry = _group(file, "entry", "NXentry", default="data")
        _write_axes(entry, first, axis, metres)
        _write_instrument(entry, origin, metres)
        _write_reduction(entry, first, origin, axis, metres)
        images = _write_images(entry, first, several, str(path))
        about_sample = _group(entry, "sample", "NXsample")
        about_sample["name"] = sample
        for name, values in (parameters or {}).items():
            _write_parameter(about_sample, name, values, images, (units or {}).get(name))
        if monitor is not None:
            entry["monitor_applied"] = True
            _group(entry, "monitor", "NXmonitor")["data"] = _per_image("monitor", monitor, images)


def _write_instrument(entry: h5py.Group, origin: _Origin, wavelength: float) -> None:
    angstrom = wavelength * 1e10
    instrument = _group(entry, "instrument", "NXinstrument")
    instrument["name"] = origin.instrument
    monochromator = _group(instrument, "monochromator", "NXmonochromator")
    _dataset(monochromator, "wavelength", angstrom, units="angstrom")
    _dataset(monochromator, "energy", HC_ANGSTROM_KEV / angstrom, units="keV")
    source = _group(instrument, "source", "NXsource")
    source["name"], source["type"], source["probe"] = origin.source, origin.source_type, "x-ray"


def _write_reduction(entry: h5py.Group, first: Writable, origin: _Origin, axis: Axis, wavelength: float) -> None:
    """Write the definition, what was corrected, and how the reduction was done."""
    made, cake = first.conditions, _is_cake(first)
    entry["definition"] = "NXazint2d" if cake else "NXazint1d"
    entry["solid_angle_applied"] = made.solid_angle is not None
    entry["polarization_applied"] = made.polarization is not None
    entry["normalization_applied"] = True
    reduction = _group(entry, "reduction", "NXprocess")
    reduction["program"] = "azimuthal (bluesky-powder)"
    reduction["version"] = _version()
    reduction["date"] = datetime.now(UTC).isoformat(timespec="seconds")
    reduction["reference"] = REFERENCE
    comments = [origin.comments] if isinstance(origin.comments, str) else origin.comments
    reduction["note"] = "\n".join([NOTE, *map(str, comments)])
    given = _group(reduction, "input", "NXparameters")
    given["poni"], given["mask"] = origin.poni, origin.mask
    given["splitting"], given["error_model"] = made.splitting, first.error_model
    given["radial_bins"] = first.edges.size - 1
    given["azimuth_bins"] = first.intensity.shape[0] if cake else 1
    given["unit"] = "2th" if axis == "2theta" else "q"  # azint's words, by which GSAS-II knows the axis
    given["solid_angle"] = made.solid_angle or "none"
    given["polarization_factor"], given["polarization_axis_offset"] = made.polarization or (0.0, 0.0)
    given["parallax"] = made.parallax
    given["outliers"] = made.outliers or "none"
    given["background_scale"] = first.scale if isinstance(first, Difference) else 0.0
    _dataset(given, "wavelength", wavelength * 1e10, units="angstrom")


def _write_axes(entry: h5py.Group, first: Any, axis: Axis, wavelength: float) -> None:
    """Make the data group with its axes."""
    cake = _is_cake(first)
    data = _group(entry, "data", "NXdata", signal="I", interpretation="image" if cake else "spectrum")
    data.attrs["axes"] = [".", "azimuthal_axis", "radial_axis"] if cake else [".", "radial_axis"]
    unit = "degrees" if axis == "2theta" else "1/angstrom"
    for name, values, label in (("", first.radial, ""), ("_edges", first.edges, " bin edges")):
        converted = positions(first, values, axis, wavelength)
        _dataset(data, f"radial_axis{name}", converted, long_name=f"{axis}{label}", units=unit)
    if cake:
        _dataset(data, "azimuthal_axis", first.azimuthal, long_name="azimuthal bin center", units="degrees")
        edges = first.azimuthal_edges
        _dataset(data, "azimuthal_axis_edges", edges, long_name="azimuthal bin edges", units="degrees")


def _write_images(entry: h5py.Group, first: Writable, others: Iterable[Writable], path: str) -> int:
    """Write intensities and errors of all patterns into the data group; return how many there were."""
    shape, data = first.intensity.shape, entry["data"]
    layout = {"shape": (0, *shape), "maxshape": (None, *shape), "chunks": (1, *shape), "dtype": np.float64}
    intensity = _dataset(data, "I", layout=layout, long_name="intensity", units="arbitrary units")
    errors = _dataset(data, "I_errors", layout=layout, long_name="estimated intensity error", units="arbitrary units")
    images, count = 0, np.zeros(shape)
    for pattern in chain([first], others):
        _check_alike(path, images + 1, first, pattern)
        for dataset, values in ((intensity, pattern.intensity), (errors, trusted_sem(pattern))):
            dataset.resize(images + 1, axis=0)
            # NaN is no way to say "empty" here: a program that multiplies it by a weight of 0 gets NaN.
            dataset[images] = np.where(pattern.filled, values, 0.0)
        count += _sums(pattern).count
        images += 1
    pixels = "effective number of pixels contributing to the corresponding bin"
    _dataset(data, "norm", count / images, long_name=pixels, units="arbitrary units")
    return images


def _sums(pattern: Writable) -> BinnedSums:
    """Return what was measured of the sample."""
    return pattern.sample if isinstance(pattern, Difference) else pattern


def _is_cake(pattern: Writable) -> bool:
    return pattern.intensity.ndim == 2


def _check_alike(path: str, number: int, first: Writable, pattern: Writable) -> None:
    difference = None
    if type(first) is not type(pattern):
        difference = f"kind differs ({type(first).__name__} and {type(pattern).__name__})"
    if difference is None:
        difference = _sums(first).difference_from(_sums(pattern))
    if isinstance(first, Difference) and isinstance(pattern, Difference) and first.scale != pattern.scale:
        difference = f"scale of the background differs ({first.scale:g} and {pattern.scale:g})"
    if difference is None and first.error_model != pattern.error_model:
        difference = f"error model differs ({first.error_model!r} and {pattern.error_model!r})"
    if difference is None and first.wavelength != pattern.wavelength:
        difference = f"wavelength differs ({first.wavelength!r} and {pattern.wavelength!r})"
    if difference is not None:
        raise FileFormatError(f"{path}: pattern {number} does not go with the first one: {difference}")


def _write_parameter(sample: h5py.Group, name: str, values: ArrayLike, images: int, unit: str | None) -> None:
    if name in sample or "/" in name or name in ("", "."):
        raise FileFormatError(f"parameters: {name!r} cannot be a name here; choose another one")
    dataset = _dataset(sample, name, _per_image(f"parameters: {name}", values, images))
    if unit is not None:
        dataset.attrs["units"] = unit


def _per_image(what: str, values: ArrayLike, images: int) -> np.ndarray:
    array = np.asarray(values)
    if array.shape != (images,):
        raise FileFormatError(f"{what}: shape {array.shape}, but there are {images} patterns; give one number each")
    if array.dtype.kind not in "fiu":
        raise FileFormatError(f"{what}: {array.dtype} is no number, which is all that GSAS-II can take")
    return array


def _group(parent: h5py.Group, name: str, nx_class: str, **attributes: str) -> h5py.Group:
    group = parent.create_group(name)
    group.attrs["NX_class"] = nx_class
    group.attrs.update(attributes)
    return group


def _dataset(
    parent: h5py.Group, name: str, values: Any = None, *, layout: dict[str, Any] | None = None, **attributes: str
) -> h5py.Dataset:
    dataset = parent.create_dataset(name, data=values, **(layout or {}))
    dataset.attrs.update(attributes)
    return dataset


def _version() -> str:
    try:
        return version("bluesky-powder")
    except PackageNotFoundError:
        return "not installed"
