"""Which values of a ring lie between two quantiles of its cumulative weight."""
