"""Errors that a person can act on."""

import difflib
from collections.abc import Iterable


class InputError(Exception):
    """Bad input from a person: the command line prints it as one line and exits with 2."""


class Changed(InputError):
    """A trial begun with other code or data would be continued with the present ones."""


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return `" Did you mean 'x'?"` for the closest valid name, else the list of valid names."""
    names = sorted(valid)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return f" Did you mean {close[0]!r}?"
    return f" Valid: {', '.join(names)}."
