"""Downloads: only when asked for, https only, bounded in size and time, verified before use."""

import io
import queue
import threading
import urllib.error
import urllib.request
from http.client import HTTPException

from seqlab.data.files import Original, unpack
from seqlab.errors import InputError


def https_only() -> urllib.request.OpenerDirector:
    """An opener that honours proxies and refuses every other scheme, also after a redirect."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.UnknownHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
    ):
        opener.add_handler(handler())
    return opener


def fetch(
    original: Original,
    *,
    opener: urllib.request.OpenerDirector | None = None,
    seconds: float = 60.0,
) -> bytes:
    """The content of `original` from its url, in memory: nothing unverified reaches the disk.

    It is unpacked where the url ends in .gz or .xz and the path of the original does not.

    Args:
        opener: https_only() by default.
        seconds: limit for the whole download, name lookup included.

    Raises:
        InputError: unreachable, too slow, or not what was published.
    """
    if original.url is None:
        raise InputError(f"{original.path}: there is no download: {original.origin}")
    url = original.url
    opener = opener or https_only()
    outcome: queue.SimpleQueue[bytes | Exception] = queue.SimpleQueue()

    def transfer() -> None:
        try:
            with opener.open(url, timeout=seconds) as response:
                outcome.put(response.read(original.size + 1))  # enough to know it is too long
        except Exception as error:  # handed to the caller, who is the one that waits
            outcome.put(error)

    # In a thread of its own: neither a name lookup nor a trickling server obeys a timeout.
    threading.Thread(target=transfer, daemon=True).start()
    try:
        result = outcome.get(timeout=seconds)
    except queue.Empty:
        result = TimeoutError()
    if isinstance(result, Exception):
        raise _explained(result, original, seconds) from result
    return unpack(original, io.BytesIO(result), url)


def _explained(error: Exception, original: Original, seconds: float) -> Exception:
    reason = error
    if isinstance(error, urllib.error.HTTPError):
        error.close()
    elif isinstance(error, urllib.error.URLError):
        reason = error.reason
    if isinstance(reason, TimeoutError):
        problem = f"not downloaded within {seconds:g} s"
    elif isinstance(error, (OSError, HTTPException)):
        problem = f"cannot be downloaded ({reason})"
    else:
        return error
    return InputError(
        f"{original.url}: {problem}; or set SEQLAB_DATA to a folder that holds {original.path}"
    )
