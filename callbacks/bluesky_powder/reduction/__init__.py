"""The callback: frames in, derived documents out.

A document's way: `callback` (in the RunEngine's thread) puts it into `inbox`; the worker hands it to `router`, which
knows the open runs; `run` has its frames found (`frames`), reduced (`patterns`) and accumulated (`cumulative`,
`history`), and tells of them in `documents`; `tally` keeps count.
"""

from bluesky_powder.reduction.callback import PowderReduction

__all__ = ["PowderReduction"]
