"""What GSAS-II's powder importers do with a file, restated from reading them (G2pwd_xye, G2pwd_fxye, G2pwd_HDF5).

Weights are 1/esd^2. A refused file raises RefusedError.
"""

from dataclasses import dataclass, field

import h5py
import numpy as np


class RefusedError(Exception):
    """The importer would not take the file."""


@dataclass
class Histogram:
    """One imported pattern: degrees of 2theta, intensity, weight, and what goes with it."""

    x: np.ndarray
    y: np.ndarray
    w: np.ndarray
    comments: list = field(default_factory=list)
    sample: dict = field(default_factory=dict)
    wavelength: float | None = None


def _number(text):
    try:
        return float(text)
    except ValueError:
        return None


def _columns(lines):
    """Read 2 or 3 columns as the xye importer does: it gives up, silently, at the first line that it cannot weigh."""
    rows = []
    for line in lines:
        words = line.replace(",", " ").replace(";", " ").split()
        x, y = float(words[0]), float(words[1])
        if y <= 0:
            rows.append((x, 0.0, 0.0))
            continue
        error2 = float(words[2]) ** 2 if len(words) == 3 else y
        if error2 == 0:
            break
        rows.append((x, y, 1 / error2))
    return np.array(rows).reshape(-1, 3).T


def _from_q(x, y, w, wavelength):
    two_theta = 2 * np.degrees(np.arcsin(wavelength * x / (4 * np.pi)))
    return two_theta, y * 100, w / 100**2


def _temperature(comments):
    for comment in comments:
        name, _, value = comment.partition("=")
        if "temp" in name.lower() and _number(value) is not None:
            return {"Temperature": _number(value)}
    return {}


def read_xye(path):
    """Read a .xye file."""
    lines = path.read_text(encoding="ascii").split("\n")
    assert lines.pop() == ""
    comments = []
    while lines and lines[0][:1] in ("'", "#", "!"):
        comments.append(lines.pop(0))
    wavelength = None
    for comment in comments:
        if "q" in comment and wavelength is None:  # any q in any comment
            wavelength = _number(comment.split()[1]) or 1.0
    if any(len(line.replace(",", " ").replace(";", " ").split()) not in (2, 3) for line in lines):
        raise RefusedError("unexpected information")
    x, y, w = _columns(lines)
    if wavelength:
        x, y, w = _from_q(x, y, w, wavelength)
    return Histogram(x, y, w, comments, _temperature(comments))


def read_chi(path):
    """Read a Fit2D .chi file."""
    assert ".chi" in path.name
    lines = path.read_text(encoding="ascii").split("\n")
    assert lines.pop() == ""
    two_theta = q = False
    wavelength = None
    for line in lines[:4]:
        if "2-theta" in line.lower():
            two_theta = True
        elif "chi_2theta" in line.lower():
            raise AssertionError("taken for a file of pyFAI")
        elif "q " in line.lower():
            q = True
            words = line.split()
            wavelength = (_number(words[1]) if len(words) > 1 else None) or wavelength
            if not wavelength:
                raise RefusedError("no wavelength in a q chi file")
    if not (two_theta or q):
        raise RefusedError("not a 2-theta chi file")
    x, y, w = _columns(lines[4:])
    if wavelength:
        x, y, w = _from_q(x, y, w, wavelength)
    return Histogram(x, y, w, lines[:4])


def read_fxye(path):
    """Read a GSAS file with one bank of FXYE."""
    lines = path.read_text(encoding="latin-1").split("\n")  # universal newlines, as the importer opens it
    comments = [lines[0]]
    at = None
    for number, line in enumerate(lines[1:], 1):
        if number == 1 and line[:4].lower() == "inst":
            raise AssertionError("taken for an instrument file")
        if line[:1] == "#":
            comments.append(line)
        if line[:4] == "BANK":
            at = number
            break
    if at is None:
        raise RefusedError("no BANK records found")
    assert "FXYE" in lines[at]
    rows = []
    for line in lines[at + 1 :]:
        if not line or line[:4] == "BANK" or line[0] == "#":
            break
        x, y, error = (float(word) for word in line.split()[:3])
        rows.append((x / 100, y, 1 / error**2) if y > 0 and error > 0 else (x / 100, 0.0, 0.0))
    x, y, w = np.array(rows).T
    return Histogram(x, y, w, comments, _temperature(comments)), lines[at].split()


def read_nxazint(path):
    """Read all histograms of an NXazint1d or NXazint2d file."""
    if path.suffix not in (".hdf", ".h5"):
        raise RefusedError("extension")
    with h5py.File(path, "r") as file:
        entry = next((key for key in file if file[key].attrs.get("NX_class") == "NXentry"), None)
        if entry is None or "definition" not in file[entry]:
            raise RefusedError("no NeXus entry with a definition")
        kind = file[f"{entry}/definition"][()].decode()
        if kind not in ("NXazint1d", "NXazint2d"):
            raise RefusedError(kind)
        classes = ("NXdata", "NXmonochromator", "NXparameters", "NXinstrument", "NXsample", "NXsource")
        places = {name: [] for name in classes}
        file[entry].visititems(
            lambda name, item: places.get(item.attrs.get("NX_class"), []).append(f"{entry}/{name}") and None
        )
        for name, found in places.items():
            assert len(found) == 1, f"{name}: the importer takes the last of several, and older ones need one: {found}"
        place = {name: found[0] for name, found in places.items()}
        unit = file[place["NXparameters"]]["unit"][()].decode()
        if unit != "2th":
            raise RefusedError(f"only can be read with 2theta units, not {unit}")
        polarization = file[place["NXparameters"]]["polarization_factor"][()]
        assert "float" in str(polarization.dtype)
        for name in ("NXinstrument", "NXsample", "NXsource"):
            file[place[name]]["name"][()].decode()
        wavelength = float(file[place["NXmonochromator"]]["wavelength"][()])
        data = file[place["NXdata"]]
        x, intensity, errors = data["radial_axis"][()], data["I"][()], data["I_errors"][()]
        images = len(intensity)
        tracked, comments = _tracked(file, place, images)
        azimuths = data["azimuthal_axis"][()] if kind == "NXazint2d" else None
        if azimuths is not None:
            sectors = file[place["NXparameters"]]["azimuth_bins"][()]
            assert "int" in str(sectors.dtype)
            assert sectors == len(azimuths)
    histograms = []
    for image in range(images):
        sample = _sample({name: values[image] for name, values in tracked.items()})
        planes = [(intensity[image], errors[image], sample)]
        if azimuths is not None:
            planes = [
                (intensity[image][k], errors[image][k], sample | {"Azimuth": azimuths[k]}) for k in range(len(azimuths))
            ]
        for y, error, about in planes:
            with np.errstate(divide="ignore"):
                w = np.where(error == 0, 0, np.nan_to_num(1 / error**2))
            histograms.append(Histogram(x, y, w, comments, about, wavelength))
    return histograms


def _tracked(file, place, images):
    """Find the 1-D arrays of one number an image; constant ones become comments."""
    tracked, comments = {}, []

    def look(name, item):
        if not isinstance(item, h5py.Dataset) or item.ndim != 1 or len(item) != images:
            return
        path = f"{group}/{name}"
        if path.endswith(("radial_axis", "azimuthal_axis")):
            return
        if all(item[0] == item[()]):
            comments.append(f"{name}={item[0]}")
        else:
            tracked[path] = item[()]

    for group in place.values():
        file[group].visititems(look)
    return tracked, comments


def _sample(values):
    sample = {}
    for path, value in values.items():
        for word in ("temperature", "time", "chi", "phi", "omega"):
            if word in path:
                sample[word.capitalize()] = value
                break
    return sample
