"""One raw run in, one derived run out."""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from azimuthal import AzimuthalError
from bluesky_powder.errors import FrameSkipped
from bluesky_powder.frames import Frame, Patience, RunFrames, Skipped, Wanted
from bluesky_powder.recipe import Recipe
from bluesky_powder.reduction.cumulative import Cumulative, Merged, SoFar
from bluesky_powder.reduction.documents import DerivedRun, Emit
from bluesky_powder.reduction.patterns import FrameReducer, Reduced
from bluesky_powder.reduction.tally import Tally

LOGGER = logging.getLogger("bluesky_powder.reduction")


@dataclass(frozen=True)
class Setup:
    """What the reductions of all runs share.

    Attributes
    ----------
    recipe, reducer
        What to do, and what does it.
    patience
        How long to wait for files.
    handlers
        Spec -> handler class for Resource documents.
    byte_budget
        What pixel sums of one run may occupy.
    scratch
        Folder for scratch files; None for the system's.
    """

    recipe: Recipe
    reducer: FrameReducer
    patience: Patience
    handlers: Mapping[str, Callable[..., Any]]
    byte_budget: int
    scratch: str | Path | None


class RunReduction:
    """Reduces one run.

    The derived run begins with the descriptor that has the recipe's frames. A run with images but not those ends in a
    derived run that failed and says so; a run without images passes by.

    Parameters
    ----------
    start
        The raw start document.
    setup
        What is shared.
    emit
        Takes the derived documents, (name, document).
    """

    def __init__(self, start: Mapping[str, Any], setup: Setup, emit: Emit) -> None:
        self.start = start
        self.uid = str(start["uid"])
        self._setup = setup
        self._emit = emit
        self._tally = Tally(self.uid)
        self._frames = RunFrames(Wanted.by(setup.recipe), self.uid, setup.patience, setup.handlers)
        self._cumulative = Cumulative(setup.reducer, byte_budget=setup.byte_budget, scratch=setup.scratch)
        self._derived: DerivedRun | None = None
        self._has_axes = False
        self._shape: tuple[int, int] | None = None
        self._lost: dict[int, str] = {}

    def take(self, name: str, document: Mapping[str, Any]) -> None:
        """Take a document of the run, other than start and stop. Never raises."""
        try:
            for item in self._frames.take(name, document):
                self._reduce(item)
            if name == "descriptor":
                self._begin_if_due(document)
        except Exception as error:
            LOGGER.debug("a malformed document", exc_info=True)
            self._tally.trouble(f"a {name} document was not understood ({type(error).__name__}: {error})")

    def trouble(self, what: str) -> None:
        """Note something that went wrong with the run rather than with a frame."""
        self._tally.trouble(what)

    def lose(self, descriptor: str, spans: Iterable[range], reason: str) -> None:
        """Note documents of this run that were not taken."""
        if self._frames.reduces(descriptor):
            for span in spans:
                self._lost.update(dict.fromkeys(span, reason))

    def finish(self, raw_stop: dict[str, Any] | None) -> None:
        """End the derived run, with what can still be reduced.

        Parameters
        ----------
        raw_stop
            The raw stop document; None when the reduction is closed before it came.
        """
        try:
            for item in self._frames.finish():
                self._reduce(item)
            for seq_num, reason in self._lost.items():
                if seq_num not in self._cumulative.history:
                    self._tally.skip(seq_num, self._frames.images_per_event, reason)
            for state in self._cumulative.finish():
                self._tell(state)
            if self._cumulative.mean_lost:
                self._tally.trouble(self._cumulative.mean_lost)
        except Exception as error:
            LOGGER.exception("run %s: the end could not be reduced", self.uid[:8])
            self._tally.trouble(f"the end of the run could not be reduced ({type(error).__name__}: {error})")
        finally:
            self._frames.close()
            self._cumulative.close()
        self._say_what_was_not_there()
        if self._derived is None:
            LOGGER.debug("run %s has no frames for this recipe; it passes by", self.uid[:8])
            return
        status, reason = self._tally.verdict(raw_stop)
        if status != "success" or reason:
            LOGGER.warning("run %s reduced with status %r: %s", self.uid[:8], status, reason)
        self._derived.stop(status, reason, self._tally.as_document())

    def _begin_if_due(self, descriptor: Mapping[str, Any]) -> None:
        if self._derived is None and self._frames.stream is not None:
            self._begin()
            self._derived_run().describe(descriptor)
            missing = self._frames.missing_sources()
            if missing:
                LOGGER.warning("run %s: %s in neither its events, configuration nor baseline", self.uid[:8], missing)

    def _begin(self) -> None:
        self._derived = DerivedRun(self.start, self._setup.recipe, self._emit)
        LOGGER.info("run %s is reduced into %s", self.uid[:8], self._derived.uid)

    def _derived_run(self) -> DerivedRun:
        if self._derived is None:
            self._begin()
        return self._derived  # type: ignore[return-value]  # _begin has made it

    def _reduce(self, item: Frame | Skipped) -> None:
        """Reduce one event; whatever goes wrong with it is counted, and the run goes on."""
        if isinstance(item, Skipped):
            if item.seq_num not in self._lost:
                self._tally.skip(item.seq_num, item.count, item.reason)
            return
        try:
            reduced = self._setup.reducer.reduce(item, self._shape)
            self._shape = reduced.integrator.shape
        except (FrameSkipped, AzimuthalError) as reason:
            self._tally.skip(item.seq_num, item.count, str(reason))
        except Exception as error:
            LOGGER.exception("run %s, event %d", self.uid[:8], item.seq_num)
            self._tally.skip(item.seq_num, item.count, f"unexpected {type(error).__name__}: {error}")
        else:
            self._account(item, reduced)

    def _account(self, frame: Frame, reduced: Reduced) -> None:
        """Tell of a reduced event, by itself and together with those before it."""
        derived = self._derived_run()
        if not self._has_axes:
            derived.axes(reduced.pattern)
            self._has_axes = True
        count = len(reduced.patterns)
        if frame.seq_num in self._cumulative.history:
            self._tally.replace(count)
        about = {"positions": frame.positions, "monitor": reduced.monitor, "raw_event_uid": frame.event_uid}
        derived.primary(frame.seq_num, frame.time, reduced.pattern, about)
        self._tally.take(count)
        try:
            for state in self._cumulative.put(frame, reduced):
                self._tell(state)
        except Exception as error:
            LOGGER.exception("run %s, event %d", self.uid[:8], frame.seq_num)
            what = f"{type(error).__name__}: {error}"
            self._tally.trouble(f"event {frame.seq_num} could not be added to the earlier ones ({what})")

    def _tell(self, state: SoFar | Merged) -> None:
        derived = self._derived_run()
        if isinstance(state, Merged):
            derived.merged(state.time, state.pattern, state.geometries)
            return
        about = {
            "frames": state.frames,
            "mean_frame": state.mean_frame,
            "independent_frames": state.independent_frames,
            "reason": state.reason,
        }
        derived.cumulative(state.seq_num, state.time, state.pattern, about)

    def _say_what_was_not_there(self) -> None:
        """Tell of frames that the recipe names and the run does not have."""
        wanted, frames = self._frames.wanted, self._frames
        if frames.stream is None and (frames.image_keys or frames.streams_left_out):
            if frames.streams_left_out:
                has = ", ".join(sorted(set(frames.streams_left_out)))
                where = f"{wanted.frames!r} is in the stream {has}, which this recipe does not reduce"
                self._tally.trouble(f"{where}; set `stream` in the recipe")
            else:
                has = ", ".join(sorted(frames.image_keys))
                self._tally.trouble(
                    f"the run has no data key {wanted.frames!r}; set `frames` in the recipe to one of: {has}"
                )
            self._begin()
        elif frames.streams_left_out:
            others = ", ".join(sorted(set(frames.streams_left_out)))
            LOGGER.info("run %s: frames of the stream %s were left out", self.uid[:8], others)
