"""A cell over time. Nothing else in seqlab scans over time."""

from seqlab.recurrence.arguments import Symbols
from seqlab.recurrence.plain import plain_unroll
from seqlab.recurrence.unroll import unroll

# `unroll` is what every model calls and `plain_unroll` is the reference for it.
__all__ = ["Symbols", "plain_unroll", "unroll"]
