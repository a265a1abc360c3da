"""Points in time as text: what the envelope carries, and what RFC 3339 allows a client to write."""

from __future__ import annotations

import datetime as dt
import re
from typing import Final

import msgspec

_SECONDS: Final = len("2024-01-15T14:32:50")
_MILLISECONDS: Final = len("2024-01-15T14:32:50.123")
_RFC3339: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:[Zz]|([+-])(\d\d):(\d\d))",
    re.ASCII,
)


def envelope_timestamp(at: dt.datetime) -> str:
    """Write an instant as the envelope does: UTC, `Z`, milliseconds only where there are any.

    Finer digits are cut off, not rounded, so that no event is dated after it happened.
    Raises ValueError for a time without a zone.
    """
    if at.tzinfo is not dt.UTC:
        if at.utcoffset() is None:
            raise ValueError("a time without a zone is not a point in time")
        at = at.astimezone(dt.UTC)
    text: str = msgspec.to_builtins(at)  # a quarter of isoformat's time
    return text[: _SECONDS if at.microsecond < 1000 else _MILLISECONDS] + "Z"


def parse_rfc3339(text: str) -> dt.datetime:
    """Read an RFC 3339 date-time (section 5.6) and give it in UTC.

    Digits finer than microseconds are cut off. A leap second, `:60`, is read as the second after it, as
    PostgreSQL reads it. Raises ValueError, with a message made for the person who wrote the text.
    """
    found = _RFC3339.fullmatch(text)
    if found is None:
        raise ValueError(f"expected an RFC 3339 timestamp such as 2024-01-15T14:32:50Z, got {text[:64]!r}")
    year, month, day, hour, minute, second, fraction, sign, zone_hour, zone_minute = found.groups()
    leap = second == "60"
    try:
        local = dt.datetime(
            int(year),
            int(month),
            int(day),
            int(hour),
            int(minute),
            59 if leap else int(second),
            int((fraction or "")[:6].ljust(6, "0")),
            tzinfo=dt.UTC,
        )
        if leap:
            local = local.replace(microsecond=0) + dt.timedelta(seconds=1)
        if sign is None:
            return local
        return local - _offset(sign, int(zone_hour), int(zone_minute))
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{text!r} is not a date and time that exists: {error}") from error


def _offset(sign: str, hours: int, minutes: int) -> dt.timedelta:
    """Give the distance from UTC; `-00:00` (offset unknown) is none."""
    if hours > 23 or minutes > 59:
        raise ValueError("a zone is at most 23:59 from UTC")
    offset = dt.timedelta(hours=hours, minutes=minutes)
    return -offset if sign == "-" else offset
