"""How many parameters, multiply-adds and bytes: of a network, a cell, any JAX function."""

from seqlab.accounting.account import Accounting, Saved, account, saved
from seqlab.accounting.operations import Untold
from seqlab.accounting.rows import Row
from seqlab.accounting.subject import Subject, of_cell, of_function, of_module

__all__ = [
    "Accounting",
    "Row",
    "Saved",
    "Subject",
    "Untold",
    "account",
    "of_cell",
    "of_function",
    "of_module",
    "saved",
]
