"""Text for terminals: colours where they are wanted, columns, and nothing that a sender could inject."""

from __future__ import annotations

import datetime as dt
import os
import sys
import unicodedata
from typing import TYPE_CHECKING, Final, TextIO

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_CODES: Final = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
_NEVER_PRINTED: Final = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # controls, directions, surrogates, line ends


class Paint:
    """Colours text for one stream: only on a terminal, and never where `NO_COLOR` is set."""

    def __init__(self, stream: TextIO, environ: Mapping[str, str] = os.environ) -> None:
        self._on = stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"

    def __call__(self, text: str, *styles: str) -> str:
        """Give the text in the styles: bold, dim, red, green, yellow, cyan."""
        if not self._on or not styles:
            return text
        return f"\x1b[{';'.join(_CODES[style] for style in styles)}m{text}\x1b[0m"


def say(*lines: str) -> None:
    """Print lines on standard output, at once: a pipe's reader may be waiting for them."""
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


def result(record: object, *lines: str, as_json: bool) -> None:
    """Print what a command came to: lines for people or, for programs, the record as one JSON object."""
    say(*([msgspec.json.encode(record).decode()] if as_json else lines))


def complain(line: str) -> None:
    """Print a line on standard error."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def printable(text: str, *, keep: str = "") -> str:
    """Replace what could steer a terminal, such as escape sequences, by its code; `keep` passes."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        letter
        if letter in keep or unicodedata.category(letter) not in _NEVER_PRINTED
        else f"\\u{ord(letter):04x}"
        for letter in text
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lay rows out in columns under a head; two spaces between columns, none at the end of a line."""
    cells = [tuple(head), *(tuple(printable(cell) for cell in row) for row in rows)]
    widths = [max(_width(cell) for cell in column) for column in zip(*cells, strict=True)]
    return [
        "  ".join(
            cell + " " * (width - _width(cell)) for cell, width in zip(line, widths, strict=True)
        ).rstrip()
        for line in cells
    ]


def _width(text: str) -> int:
    """How many columns a text takes: wide East Asian characters take two, combining ones none."""
    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in {"W", "F"} else 1
        for letter in text
    )


def duration(seconds: float) -> str:
    """Write a length of time in the unit that suits it: `3.4 ms`, `2.0 s`, `5 min`, `3 h`, `2 days`."""
    if seconds < 0:
        return f"-{duration(-seconds)}"
    milliseconds = seconds * 1000
    if milliseconds < 999.5:
        return f"{milliseconds:.1f} ms" if milliseconds < 99.95 else f"{milliseconds:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    if seconds < 172_800:
        return f"{seconds / 3600:.0f} h"
    return f"{seconds / 86_400:,.0f} days"


def clock(at: dt.datetime) -> str:
    """Write the local time of day to the millisecond."""
    return at.astimezone().strftime("%H:%M:%S.%f")[:-3]


def moment(at: dt.datetime | None) -> str:
    """Write an instant in UTC to the second; a dash where there is none."""
    return "-" if at is None else at.astimezone(dt.UTC).strftime("%Y-%m-%d %H:%M:%SZ")
