"""Reads times as clients write them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from dispatcher.core.timestamps import parse_rfc3339

if TYPE_CHECKING:
    import datetime as dt

_SPACED_OFFSET: Final = re.compile(r" (\d\d:\d\d)$")  # `+` in a query is a space, unless it is escaped


def read_moment(text: str) -> dt.datetime:
    """Read an RFC 3339 time; raises ValueError, with a message for the client."""
    return parse_rfc3339(_SPACED_OFFSET.sub(r"+\1", text))
