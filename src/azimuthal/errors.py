"""What the engine raises: every error is an AzimuthalError and also the builtin that a caller would catch."""


class AzimuthalError(Exception):
    """Base of all errors of the engine."""


class UnitError(AzimuthalError, ValueError):
    """A radial unit that does not exist, or cannot be had here (no wavelength)."""


class DetectorError(AzimuthalError, ValueError):
    """A detector that is unknown, or described in contradiction to itself."""


class GeometryError(AzimuthalError, ValueError):
    """A geometry that cannot be: wrong sign, missing value, shape that contradicts the detector."""


class PoniError(GeometryError):
    """A PONI file that is malformed or incomplete."""


class GoniometerError(GeometryError):
    """A goniometer file that is malformed, or a position that it does not know."""


class ExpressionError(GoniometerError):
    """A goniometer expression that is not plain arithmetic over known names."""


class BinningError(AzimuthalError, ValueError):
    """Bins or azimuth ranges that are empty, missing or impossible."""


class FrameError(AzimuthalError, ValueError):
    """A frame, or what goes with it (dark, mask, monitor), that cannot be integrated."""


class PatternError(AzimuthalError, ValueError):
    """An operation that a pattern does not allow."""


class MergeError(PatternError):
    """Patterns that must not be merged, with the name of what differs."""


class FileFormatError(AzimuthalError, ValueError):
    """A pattern that a file format cannot hold, or a file that is not what it claims."""
