"""A stream for the log that stops nobody: what it does not take is lost, and told of when it takes more.

A full disk under the log, or a reader that has gone, must not keep an alert from leaving.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Callable


class Steady:
    """Writes lines without a buffer."""

    def __init__(self, out: BinaryIO, tell: Callable[[int, str], bytes]) -> None:
        """Make it; `tell` gives the line that says how many were lost, and why."""
        self._out = getattr(out, "raw", out)  # a buffer would keep what failed, and fail with it again
        self._tell = tell
        self._lost = 0
        self._why = ""
        self._torn = False  # half of a line has been taken

    def write(self, lines: bytes) -> None:
        """Write whole lines."""
        told = self._tell(self._lost, self._why) if self._lost else b""
        text = (b"\n" if self._torn else b"") + told + lines
        done = 0
        try:
            while done < len(text):
                taken = self._out.write(memoryview(text)[done:])
                if not taken:
                    self._why = "nobody read them in time"
                    break
                done += taken
        except OSError as error:
            self._why = error.strerror or type(error).__name__
        if done == len(text):
            self._lost, self._torn = 0, False
        else:
            self._lost += lines.count(b"\n")
            self._torn = text[done - 1 : done] != b"\n" if done else self._torn

    def flush(self) -> None:
        """Do nothing: nothing is kept back."""
