"""What the plugin raises: every error is a BlueskyPowderError and also the builtin that a caller would catch."""


class BlueskyPowderError(Exception):
    """Base of all errors of the plugin."""


class RecipeError(BlueskyPowderError, ValueError):
    """A recipe that is malformed or does not fit the run, with the key at fault."""


class FrameSkipped(BlueskyPowderError, RuntimeError):  # noqa: N818 - a reason, not a failure of the program
    """One frame that could not be reduced; the message is the reason that the stop document gives."""


class FramesUnavailable(FrameSkipped, OSError):  # noqa: N818
    """The file that holds a frame is missing, truncated, or not readable in time."""


class PublishError(BlueskyPowderError, RuntimeError):
    """Derived documents that could not be written to Tiled."""


class ServerError(BlueskyPowderError, RuntimeError):
    """The embedded Tiled server could not start or stop."""


class DerivedRunError(BlueskyPowderError, KeyError, ValueError):
    """A run that is not there, or is not a derived powder run."""

    def __str__(self) -> str:
        """Return the message itself; KeyError would show its repr."""
        return str(self.args[0]) if self.args else ""


class ExportError(BlueskyPowderError, ValueError):
    """A pattern that cannot be had in the form asked for."""


class ReplayError(BlueskyPowderError, ValueError):
    """What was given to replay is neither documents nor a run that can give them."""


class IngestError(BlueskyPowderError, ValueError):
    """Detector files, or what is said of them, that cannot become a run."""
