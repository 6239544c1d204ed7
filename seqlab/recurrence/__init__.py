"""A cell over time. Nothing else in seqlab scans over time."""

from seqlab.recurrence.plain import plain_unroll

# `unroll` is what every model calls and `plain_unroll` is the reference for it.
unroll = plain_unroll

__all__ = ["plain_unroll", "unroll"]
