"""Positions, monitor and exposure of a frame.

`lookup` finds them: as `values` of events, configuration and baseline, in `columns` of files, or in streams
`elsewhere`, of whose `samples` `pairing` tells which belong to which frame.
"""
