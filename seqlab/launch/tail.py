"""What was appended to a log since the last look at it."""

import json
from pathlib import Path
from typing import Any


class Tail:
    """Reads a log of one JSON object a line while another process writes it.

    A run that is resumed cuts its log back to a checkpoint and goes on from there. That is noticed
    by the last line that was read, which then is no longer where it was.
    """

    def __init__(self, path: Path):
        self.path = path
        self._end = 0
        self._last = b""

    def read(self) -> tuple[bool, list[dict[str, Any]]]:
        """The whole lines since the last call; of a file that is not there, none.

        Returns:
            Whether they are from the beginning, so that lines of earlier calls no longer count;
            and the lines. What is not a JSON object is skipped.
        """
        try:
            with open(self.path, "rb") as file:
                file.seek(self._end - len(self._last))
                content = file.read()
                anew = not self._last or not content.startswith(self._last)
                if anew:
                    file.seek(0)
                    content = file.read()
        except OSError:  # not begun, or moved to the folder of the next attempt
            return False, []
        if anew:
            self._end, self._last = 0, b""
        content = content[len(self._last) : content.rfind(b"\n") + 1]  # the rest is being written
        lines = content.splitlines(keepends=True)
        if lines:
            self._end += len(content)
            self._last = lines[-1]
        return anew and bool(lines), [line for line in map(_parsed, lines) if line is not None]


def _parsed(text: bytes) -> dict[str, Any] | None:
    try:
        line = json.loads(text)
    except ValueError:
        return None
    return line if isinstance(line, dict) else None


def numbers(line: dict[str, Any]) -> dict[str, int | float]:
    """What of a line can be drawn over its steps: neither truth values, nor lists, nor dicts."""
    return {
        name: value
        for name, value in line.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
