"""A wall clock for some daemons alone, which can be stepped; the machine's is left alone (libfaketime)."""

from __future__ import annotations

from pathlib import Path
from typing import Final

LIBRARY: Final = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)


class Clock:
    """What is written into a file says by how much the processes started with `environ` are wrong."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.offset = ""
        self.environ = {
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        self.step("+0")

    def step(self, offset: str) -> None:
        """Make it wrong by so many seconds, such as "+3600"; "+0" puts it right."""
        self.offset = offset
        self._file.write_text(offset)
