"""Files in an archive, read in memory: nothing of it is written to a disk."""

import io
import lzma
import re
import tarfile

from seqlab.errors import InputError


def read_tar_xz(
    content: bytes, expected: re.Pattern[str], largest: int, name: str
) -> dict[str, bytes]:
    """The files in an xz-compressed tar, by their names, in the order of the archive.

    Folders are passed over; a member of any other name or kind is refused.

    Args:
        expected: what the name of a file has to be.
        largest: bytes that a file may have.
        name: what to call the archive where it is not what it should be.

    Raises:
        InputError: not such a tar, or a member that is no such file.
    """
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:xz") as archive:
            for member in archive:
                where = f"{name}: {member.name!r}"
                if member.isdir():
                    continue
                if not member.isreg() or expected.fullmatch(member.name) is None:
                    raise InputError(f"{where}: expected a file {expected.pattern}")
                if member.size > largest:
                    raise InputError(f"{where}: {member.size} bytes are more than {largest}")
                if member.name in found:
                    raise InputError(f"{where}: is there twice")
                file = archive.extractfile(member)
                assert file is not None  # there is one of whatever is regular
                found[member.name] = file.read()
    except (tarfile.TarError, lzma.LZMAError, EOFError) as error:
        raise InputError(f"{name}: expected a tar.xz, found {error}") from error
    return found
