"""What keeps a run out of Tiled: errors, and what they mean for another try."""

from bluesky_powder.publish.pattern_file import is_full


class RowsDoubledError(RuntimeError):
    """Tiled may have stored a row twice; the run has to be written anew."""


class NotServedError(RuntimeError):
    """The server does not take, or give, what is in the pattern file; the run has to be written anew, without one."""


def is_away(error: Exception) -> bool:
    """Tell whether Tiled cannot be reached or a disk is full: a state that may last, and then end."""
    import httpx

    return is_full(error) or isinstance(error, httpx.TransportError | ConnectionError | TimeoutError)


def may_pass(error: Exception) -> bool:
    """Tell whether an error may be gone when the run is written anew."""
    import httpx

    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code >= 500 or error.response.status_code == 429
    return isinstance(error, RowsDoubledError)


def is_refused(error: Exception) -> bool:
    """Tell whether Tiled says that the key may not do this."""
    import httpx

    return isinstance(error, httpx.HTTPStatusError) and error.response.status_code in (401, 403)


def in_one_line(error: Exception) -> str:
    """Return an error in one line."""
    import httpx

    if isinstance(error, httpx.HTTPStatusError) and error.response.status_code == 409:
        return "a run of this uid is in Tiled already"
    lines = str(error).strip().splitlines()
    said = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    return f"{said}; give an api_key that may do this" if is_refused(error) else said
