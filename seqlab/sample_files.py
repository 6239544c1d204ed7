"""Samples that are not text: the line given names the file that they are written to."""

from collections.abc import Callable, Mapping
from pathlib import Path

from seqlab.errors import InputError
from seqlab.sample import Sampler


def writes(kinds: Mapping[str, Callable[[Path], str]]) -> Sampler:
    """A sampler that writes the file it is given, and says what is in it.

    Args:
        kinds: by the suffix of the name, such as ".mid", what makes a new file and says what is in
            it; a file that is there raises FileExistsError.
    """
    suffixes = " or ".join(kinds)

    def say(line: str) -> str:
        path = Path(line)
        if path.suffix not in kinds or not path.stem:
            raise InputError(f"{line!r} is no file to write to: a name that ends in {suffixes}")
        try:
            return f"{path}: {kinds[path.suffix](path)}"
        except FileExistsError as error:
            raise InputError(f"{path} is there already, and is left as it is") from error
        except OSError as error:
            raise InputError(f"{path} cannot be written: {error.strerror}") from error

    return say
