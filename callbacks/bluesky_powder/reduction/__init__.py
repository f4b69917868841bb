"""The callback: frames in, derived documents out.

A document's way: `callback` (in the RunEngine's thread) puts it into `inbox`; the worker hands it to `router`, which
knows the open runs; `run` has the frames of one detector found (`frames`), lets them wait for their darks (`waiting`),
has them reduced (`patterns`, `stack`) and accumulated (`cumulative`, `history`), and tells of them in `documents`;
`tally` keeps count. `setup` is what all runs share.
"""

from bluesky_powder.reduction.callback import PowderReduction

__all__ = ["PowderReduction"]
