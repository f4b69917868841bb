"""The spottiness table, line by line as frames come."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

_COLUMNS = (
    ("S", "spottiness"),
    ("S_I", "spottiness_weighted"),
    ("excess", "spottiness_excess"),
    ("excess_I", "spottiness_excess_weighted"),
    ("S", "union_spottiness"),
    ("excess", "union_spottiness_excess"),
    ("S", "mean_frame_spottiness"),
    ("excess", "mean_frame_spottiness_excess"),
)
_WIDTH = 10
_FRAME = 6


def header(positions: Sequence[str] = ()) -> tuple[str, str]:
    """Return the two lines above the table.

    Parameters
    ----------
    positions
        Names of the positions that stand beside the frame's number.
    """
    beside = " " * (_FRAME + _WIDTH * len(positions))
    groups = f"{'each frame':^{4 * _WIDTH}}{'union so far':^{2 * _WIDTH}}{'mean frame so far':^{2 * _WIDTH}}"
    names = "".join(f"{name[: _WIDTH - 1]:>{_WIDTH}}" for name in [*positions, *(title for title, _ in _COLUMNS)])
    return beside + groups.rstrip(), f"{'frame':>{_FRAME}}{names}"


def row(seq_num: int, values: Mapping[str, Any], positions: Sequence[str] = ()) -> str:
    """Return the line of one frame.

    Parameters
    ----------
    seq_num
        Its number.
    values
        By the data keys of the streams `primary` and `cumulative`.
    positions
        As for `header`.
    """
    beside = "".join(f"{values[name]:>{_WIDTH}.6g}" for name in positions)
    numbers = "".join(f"{_digits(values.get(key, math.nan)):>{_WIDTH}}" for _, key in _COLUMNS)
    return f"{seq_num:>{_FRAME}}{beside}{numbers}"


def _digits(value: float) -> str:
    """Return a number with five significant digits."""
    return f"{value:#.5g}" if math.isfinite(value) else "-"
