"""Tiled's client for a derived run; Tiled finds it by the entry point ``tiled.special_client`` of this package."""

import copy
from functools import partial
from operator import getitem
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

import numpy as np
import xarray as xr
from bluesky_tiled_plugins.clients.bluesky_run import BlueskyRunV3
from tiled.utils import OneShotCachedMap

from azimuthal.files.whole import replacing
from azimuthal.pattern import Pattern
from bluesky_powder.client.choice import Choice, Chosen, Which, choose
from bluesky_powder.client.connection import asking
from bluesky_powder.client.formats import EXTENSIONS, FORMATS, Heading, format_of, rendered
from bluesky_powder.client.powder_stream import PowderStream
from bluesky_powder.client.read import columns, spottiness, unit_of
from bluesky_powder.client.rebuild import SUMS, PatternKind
from bluesky_powder.errors import DerivedRunError, ExportError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STREAMS = ("axes", "primary", "cumulative", "merged")


class PowderRun(BlueskyRunV3):
    """A derived run, which can be read while it grows.

    ``run["primary"].read()`` and the other streams give xarray Datasets over the radial axis; what is here gives
    patterns with all their seven sums, to be merged, rebinned and graded again.
    """

    def __init__(self, context: Any, *, item: Any, structure_clients: Any, **keywords: Any) -> None:
        self._ordinary_clients = structure_clients
        # Not copy.copy: the copy would share its entries, and every raw run's streams would become ours.
        lookup = partial(getitem, structure_clients)
        clients = OneShotCachedMap({name: partial(lookup, name) for name in structure_clients})
        clients.set("BlueskyEventStream", lambda: PowderStream)
        super().__init__(context, item=item, structure_clients=clients, **keywords)

    @classmethod
    def of(cls, run: Any) -> Self:
        """Return the run of any client of it: Tiled gives others where a process asked for other versions of runs.

        Raises
        ------
        DerivedRunError
            If it is not a derived run.
        """
        if isinstance(run, cls):
            return run
        if not any(getattr(spec, "name", None) == "PowderRun" for spec in getattr(run, "specs", ())):
            raise DerivedRunError(f"{run!r} is no derived run; give one, such as catalog[uid]")
        return cls(run.context, item=run.item, structure_clients=run.structure_clients)

    @property
    def patterns(self) -> xr.Dataset:
        """Intensity, sem and the numbers of each frame; dimensions time and radial.

        Raises
        ------
        DerivedRunError
            If the run has no frames (yet).
        """
        return self._stream("primary").read()

    @property
    def merged(self) -> Pattern:
        """The merge of all frames; of a run that is still open, of those so far.

        Raises
        ------
        DerivedRunError
            If the run has no frames (yet), or was reduced by a version that did not keep sums.
        """
        return self._pattern(Choice("merged"))[0]

    @property
    def spottiness(self) -> Any:
        """Spottiness frame by frame, and of the frames so far: a pandas DataFrame, one row a frame, by seq_num.

        Raises
        ------
        DerivedRunError
            If the run has no frames (yet).
        """
        import pandas as pd  # type: ignore[import-untyped]

        table = spottiness(self)
        return pd.DataFrame(dict(table.columns), index=pd.Index(table.seq_num, name="seq_num"))

    @property
    def recipe(self) -> dict[str, Any]:
        """What was done, self-contained; ``replay(run.raw, run.recipe)`` does it again where the arrays in it are."""
        return copy.deepcopy(dict(self.metadata["start"]["recipe"]))

    @property
    def raw(self) -> Any:
        """The raw run, if it is in the same catalog.

        Raises
        ------
        DerivedRunError
            If it is not.
        """
        uid = self.metadata["start"]["raw_uid"]
        with asking(f"give raw run {uid}"):
            catalog = self.parent.new_variation(structure_clients=self._ordinary_clients)
            if uid not in catalog:
                raise DerivedRunError(f"raw run {uid} is not in the catalog of run {self._uid}; open it where it is")
            return catalog[uid]

    def pattern(self, frame: int) -> Pattern:
        """Return the pattern of one frame.

        Parameters
        ----------
        frame
            Number of the raw event (seq_num), from 1.

        Raises
        ------
        DerivedRunError
            If there is no such frame (yet), or the run was reduced by a version that did not keep sums.
        """
        return self._pattern(Choice.of("frame", frame))[0]

    def union(self, frame: int | None = None) -> Pattern:
        """Return the union of the frames up to one, the last unless given: what `cumulative` shows.

        Raises
        ------
        DerivedRunError
            As for `pattern`.
        """
        return self._pattern(Choice.of("cumulative", frame))[0]

    def plot(self) -> "Figure":
        """Return a figure of patterns, merge and spottiness; it needs matplotlib.

        Raises
        ------
        DerivedRunError
            If the run has no frames (yet).
        """
        from bluesky_powder.plot import run_figure

        start, streams = self.metadata["start"], {name: columns(self, name) for name in _STREAMS}
        about = self["primary"].metadata["data_keys"]
        position = next((name for name, key in about.items() if "goniometer_position" in key), None)
        return run_figure(
            streams,
            unit=unit_of(self),
            position=position,
            intensity_units=about["intensity"].get("units") or "arb. units",
            title=f"{start.get('sample') or 'powder run'}, {start['uid'][:8]}",
        )

    def export(
        self,
        filepath: str | Path | IO[bytes],
        fields: Any = None,
        *,
        format: str | None = None,
        which: Which | None = None,
        frame: int | None = None,
    ) -> None:
        """Write a pattern to a file for a refinement program, or the run as Tiled does.

        Parameters
        ----------
        filepath
            File, or something open for writing bytes.
        fields
            For Tiled's own formats.
        format
            xye, chi, fxye, nxazint or csv, or one that Tiled knows; None goes by the file's extension, of which .h5 and
            .hdf are nxazint.
        which
            merged (the default), cumulative or frame.
        frame
            Number of the raw event: of the frame, or the last of the cumulative pattern.

        Raises
        ------
        DerivedRunError
            If the pattern is not there (yet).
        ExportError
            If the choice makes no sense, the format cannot hold the pattern, or there is none of its name.
        """
        given = format or (Path(filepath).suffix if isinstance(filepath, str | Path) else "")
        plain = given.removeprefix(".").lower()
        name = EXTENSIONS.get(f".{plain}", plain)
        if name not in FORMATS:
            if which is not None or frame is not None:
                format_of(given)
            self._export_as_tiled_does(filepath, fields, format, given)
            return
        pattern, words = self._pattern(Choice.of(which, frame))
        content = rendered(pattern, format_of(name), Heading.of(self.metadata, words))
        if not isinstance(filepath, str | Path):
            filepath.write(content)
            return
        try:
            with replacing(filepath) as scratch:
                scratch.write_bytes(content)
        except OSError as error:
            raise ExportError(f"{filepath} cannot be written: {error.strerror or error}") from error

    def kind_of(self, stream: Any) -> PatternKind:
        """Return what the patterns of a stream, primary or merged, have in common.

        Raises
        ------
        DerivedRunError
            If the run was reduced by a version that did not keep sums.
        """
        axes = self["axes"]
        edges = axes.base["radial_edges"].read((slice(0, 1),))[0]
        return PatternKind.of(self.metadata["start"], axes.metadata["data_keys"], stream.metadata["data_keys"], edges)

    @property
    def _uid(self) -> str:
        return str(self.metadata["start"]["uid"])

    def _stream(self, name: str) -> Any:
        if name not in self:
            state = "" if self.metadata.get("stop") else " yet; it is still open"
            raise DerivedRunError(f"run {self._uid} has no {name!r}{state}")
        return self[name]

    def _export_as_tiled_does(self, filepath: Any, fields: Any, format: str | None, name: str) -> None:
        import httpx

        try:
            super().export(filepath, fields, format=format)
        except httpx.HTTPStatusError as error:
            if error.response.status_code != httpx.codes.NOT_ACCEPTABLE:
                raise
            formats = ", ".join(FORMATS)
            raise ExportError(
                f"format: Tiled cannot give a run as {name!r}; choose one of {formats}, or json"
            ) from error

    def _pattern(self, choice: Choice) -> tuple[Pattern, str]:
        """Return a pattern, and what it is in words."""
        with asking(f"give patterns of run {self._uid}"):
            if not self.metadata.get("stop"):
                self.refresh()
            primary = self.get("primary")
            rows = None if primary is None else primary.base["internal"].read(["seq_num", "masked_pixels"])
            merged = self.get("merged") if choice.which == "merged" else None
            merges = merged.base[SUMS].shape[0] if merged is not None and SUMS in merged.base else 0
            chosen = choose(choice, self.metadata, [] if rows is None else rows["seq_num"].to_numpy(), merges)
            stream = merged if chosen.stream == "merged" else primary
            return self.kind_of(stream).pattern(_added(stream, chosen), _masked(rows, chosen)), chosen.words


def _added(stream: Any, chosen: Chosen) -> Any:
    """Return the sums of rows, added in order: what the reduction itself has added."""
    array, total = stream.base[SUMS], None
    for first, end in chosen.pieces():
        piece = np.asarray(array.read((slice(first, end),)))
        if len(piece) < end - first:
            raise DerivedRunError(f"{chosen.words}: the sums are not all there yet")
        for row in piece:
            total = np.array(row) if total is None else total + row
    return total


def _masked(rows: Any, chosen: Chosen) -> int:
    """Return how many pixels were left out of a pattern, summed over its frames."""
    if chosen.stream == "primary":
        return int(rows["masked_pixels"].to_numpy()[list(chosen.rows)].sum())
    return int(rows.drop_duplicates("seq_num", keep="last")["masked_pixels"].sum())
