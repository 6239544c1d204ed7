"""Samples that are no text: the line that is asked for is the file that they are written to."""

from collections.abc import Callable
from pathlib import Path

from seqlab.errors import InputError
from seqlab.sample import Sampler


def writes(suffix: str, write: Callable[[Path], str]) -> Sampler:
    """A sampler that writes the file it is given, and says what is in it.

    Args:
        suffix: of its name, such as ".mid".
        write: makes a new file and says what is in it; a file that is there raises
            FileExistsError.
    """

    def say(line: str) -> str:
        path = Path(line)
        if path.suffix != suffix or not path.stem:
            raise InputError(f"{line!r} is no file to write to: a name that ends in {suffix}")
        try:
            return f"{path}: {write(path)}"
        except FileExistsError as error:
            raise InputError(f"{path} is there already, and is left as it is") from error
        except OSError as error:
            raise InputError(f"{path} cannot be written: {error.strerror}") from error

    return say
