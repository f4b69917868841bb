"""One raw run in, one derived run out."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any, Literal

from azimuthal import AzimuthalError, Pattern
from bluesky_powder.errors import FrameSkipped
from bluesky_powder.frames import Skipped
from bluesky_powder.frames.legal import not_understood
from bluesky_powder.reduction.cumulative import Cumulative, Merged, SoFar
from bluesky_powder.reduction.documents import DerivedRun, Emit
from bluesky_powder.reduction.patterns import STACK_BYTES, Exposure, Reduced
from bluesky_powder.reduction.setup import Setup
from bluesky_powder.reduction.tally import Tally
from bluesky_powder.reduction.unseen import why_nothing_was_seen
from bluesky_powder.reduction.waiting import WaitingLine

LOGGER = logging.getLogger("bluesky_powder.reduction")

MOST_AT_ONCE = 8
"""Events that are reduced together."""


class RunReduction:
    """Reduces the frames of one detector in one run.

    Frames that are ready are reduced together, at `flush` or when there are enough of them. The derived run begins with
    the descriptor that has the recipe's frames. A run with images but not those ends in a derived run that failed and
    says so; a run without images passes by.

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
        self._frames = setup.frames(self.uid)
        self._darks = setup.darks(start)
        self._line = WaitingLine(self._darks)
        self._batch: list[Exposure | Skipped] = []
        means = setup.means
        self._cumulative = Cumulative(setup.reducer, byte_budget=means.byte_budget, scratch=means.scratch)
        self._derived: DerivedRun | None = None
        self._has_axes = False
        self._shape: tuple[int, int] | None = None
        self._lost: list[tuple[range, str]] = []
        self._merged: Pattern | None = None
        self._beside: dict[str, Mapping[str, Any]] = {}
        self._frames_time = 0.0

    def take(self, name: str, document: Mapping[str, Any]) -> None:
        """Take a document of the run, other than start and stop. Never raises."""
        try:
            of_darks = self._darks.take(name, document)
            for item in self._frames.take(name, document):
                self._line.put(item)
                self._advance()
            if not of_darks:  # after one dark there may be another that is closer to a waiting frame
                self._advance()
            if name == "descriptor":
                self._begin_if_due(document)
        except Exception as error:
            LOGGER.debug("a malformed document", exc_info=True)
            self._tally.trouble(not_understood(name, error))

    def trouble(self, what: str) -> None:
        """Note something that went wrong with the run rather than with a frame."""
        self._tally.trouble(what)

    def lose(self, descriptor: str, spans: Iterable[range], reason: str) -> None:
        """Note documents of this run that were not taken."""
        if self._frames.reduces(descriptor):
            self._lost.extend((span, reason) for span in spans)

    @property
    def found_frames(self) -> bool:
        """Whether the run has the recipe's frames, as far as is known."""
        return self._frames.stream is not None

    def flush(self) -> None:
        """Reduce what is ready. Never raises."""
        batch, self._batch = self._batch, []
        for are_skipped, items in groupby(batch, key=lambda item: isinstance(item, Skipped)):
            if are_skipped:
                self._skip(item for item in items if isinstance(item, Skipped))
            else:
                self._reduce([item for item in items if isinstance(item, Exposure)])

    def finish(self, raw_stop: dict[str, Any] | None, absence: Literal["tell", "pass"] = "tell") -> None:
        """End the derived run, with what can still be reduced.

        Parameters
        ----------
        raw_stop
            The raw stop document; None when the reduction is closed before it came.
        absence
            Whether to tell, in a derived run that failed, that the run has images but not those of the recipe.
        """
        try:
            for item in self._frames.finish():
                self._line.put(item)
            for trouble in self._darks.finish():
                self._tally.trouble(trouble)
            self._advance()
            self.flush()
            for seq_num, reason in self._lost_seq_nums():
                if seq_num not in self._cumulative.history:
                    self._tally.skip(seq_num, self._frames.images_per_event, reason)
            for state in self._cumulative.finish():
                self._tell(state)
            if self._cumulative.mean_lost:
                self._tally.trouble(self._cumulative.mean_lost)
            self._say_what_never_came(raw_stop)
            self._say_if_nothing_was_seen()
        except Exception as error:
            LOGGER.exception("run %s: the end could not be reduced", self.uid[:8])
            self._tally.trouble(f"the end of the run could not be reduced ({type(error).__name__}: {error})")
        finally:
            self._frames.close()
            self._darks.close()
            self._cumulative.close()
        if absence == "tell":
            self._say_what_was_not_there()
        if self._derived is None:
            LOGGER.debug("run %s has no frames for this recipe; it passes by", self.uid[:8])
            return
        status, reason = self._tally.verdict(raw_stop)
        if status != "success" or reason:
            LOGGER.warning("run %s reduced with status %r: %s", self.uid[:8], status, reason)
        self._derived.stop(status, reason, self._tally.as_document())

    def _begin_if_due(self, descriptor: Mapping[str, Any]) -> None:
        if self._derived is not None or self._frames.stream is None:
            self._describe_beside(descriptor)
        else:
            self._begin()
            self._derived_run().describe(descriptor)
            self._frames_time = descriptor["time"]
            beside, self._beside = self._beside, {}
            for other in beside.values():
                self._describe_beside(other)
            missing = self._frames.missing_sources()
            if missing:
                LOGGER.warning("run %s: %s in neither its events, configuration nor baseline", self.uid[:8], missing)

    def _describe_beside(self, descriptor: Mapping[str, Any]) -> None:
        """Take a descriptor that is not the frames', of a stream that may have positions or the monitor."""
        if self._derived is None:
            self._beside.setdefault(str(descriptor.get("name", "primary")), descriptor)
        elif self._frames.stream is not None:  # the derived streams stay as old as the frames' one
            self._derived.describe({**descriptor, "time": self._frames_time})

    def _begin(self) -> None:
        # What has no frames takes no other's place.
        superseded = self._setup.superseded(self.uid) if self.found_frames else ()
        self._derived = DerivedRun(self.start, self._setup.recipe, self._emit, superseded)
        LOGGER.info("run %s is reduced into %s", self.uid[:8], self._derived.uid)

    def _derived_run(self) -> DerivedRun:
        if self._derived is None:
            self._begin()
        return self._derived  # type: ignore[return-value]  # _begin has made it

    def _advance(self) -> None:
        """Let frames whose darks are known go on, and reduce them when there are enough."""
        for item in self._line.ready():
            self._batch.append(item)
            if len(self._batch) >= MOST_AT_ONCE or sum(map(_bytes_held, self._batch)) >= STACK_BYTES:
                self.flush()

    def _skip(self, items: Iterable[Skipped]) -> None:
        for item in items:
            if not any(item.seq_num in span for span, _ in self._lost):
                self._tally.skip(item.seq_num, item.count, item.reason)

    def _reduce(self, exposures: list[Exposure]) -> None:
        """Reduce some events; whatever goes wrong with one is counted, and the run goes on."""
        for exposure, result in zip(exposures, self._results(exposures), strict=True):
            frame = exposure.frame
            if isinstance(result, Reduced):
                self._shape = result.integrator.shape
                try:
                    self._account(exposure, result)
                except Exception as error:
                    LOGGER.exception("run %s, event %d", self.uid[:8], frame.seq_num)
                    self._tally.skip(frame.seq_num, frame.count, f"unexpected {type(error).__name__}: {error}")
            elif isinstance(result, FrameSkipped | AzimuthalError):
                self._tally.skip(frame.seq_num, frame.count, str(result))
            else:
                LOGGER.error("run %s, event %d", self.uid[:8], frame.seq_num, exc_info=result)
                self._tally.skip(frame.seq_num, frame.count, f"unexpected {type(result).__name__}: {result}")

    def _results(self, exposures: list[Exposure]) -> Iterator[Reduced | Exception]:
        """Yield one result an exposure, also where the reducer has a fault of its own."""
        done = 0
        try:
            for result in self._setup.reducer.reduce(exposures, self._shape, self._cumulative.mean_for):
                yield result
                done += 1
        except Exception as fault:
            yield from [fault] * (len(exposures) - done)

    def _account(self, exposure: Exposure, reduced: Reduced) -> None:
        """Tell of a reduced event, by itself and together with those before it."""
        frame, derived = exposure.frame, self._derived_run()
        if not self._has_axes:
            derived.axes(reduced.pattern)
            self._has_axes = True
        if frame.seq_num in self._cumulative.history:
            self._tally.replace(reduced.count)
        about = {
            "positions": frame.positions,
            "monitor": reduced.monitor,
            "raw_event_uid": frame.event_uid,
            "dark_uid": reduced.dark_uid,
        }
        derived.primary(frame.seq_num, frame.time, reduced.pattern, about)
        self._tally.take(reduced.count)
        try:
            for state in self._cumulative.put(exposure, reduced):
                self._tell(state)
        except Exception as error:
            LOGGER.exception("run %s, event %d", self.uid[:8], frame.seq_num)
            what = f"{type(error).__name__}: {error}"
            self._tally.trouble(f"event {frame.seq_num} could not be added to the earlier ones ({what})")

    def _lost_seq_nums(self) -> Iterator[tuple[int, str]]:
        """Yield what was lost, each seq_num once."""
        last = -1
        for span, reason in sorted(self._lost, key=lambda lost: lost[0].start):
            for seq_num in range(max(span.start, last + 1), span.stop):
                last = seq_num
                yield seq_num, reason

    def _tell(self, state: SoFar | Merged) -> None:
        derived = self._derived_run()
        if isinstance(state, Merged):
            derived.merged(state.time, state.pattern, state.geometries)
            self._merged = state.pattern
            return
        about = {
            "frames": state.frames,
            "mean_frame": state.mean_frame,
            "independent_frames": state.independent_frames,
            "reason": state.reason,
        }
        derived.cumulative(state.seq_num, state.time, state.pattern, about)

    def _say_what_never_came(self, raw_stop: Mapping[str, Any] | None) -> None:
        """Tell of events that the stop document counts, and that no document told of."""
        counts = (raw_stop or {}).get("num_events")
        counted = counts.get(self._frames.stream) if isinstance(counts, Mapping) else None
        told = len(self._cumulative.history) + self._tally.events_skipped
        if isinstance(counted, int) and 0 < told < counted:
            stream = f"the stream {self._frames.stream!r}"
            self._tally.trouble(f"the stop document counts {counted} events in {stream}, but no more than {told} came")

    def _say_if_nothing_was_seen(self) -> None:
        """Tell of a merge in which every bin is empty."""
        if self._merged is not None and not self._merged.filled.any():
            history = self._cumulative.history
            geometries = {history[seq_num].geometry for seq_num in history.seq_nums()}
            self._tally.note(why_nothing_was_seen(self._merged, geometries))

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


def _bytes_held(item: Exposure | Skipped) -> int:
    return item.frame.images.nbytes_held if isinstance(item, Exposure) else 0
