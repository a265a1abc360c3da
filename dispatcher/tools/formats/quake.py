"""An earthquake as a catalogue or a feed describes it, and the rows of the outbox that it becomes."""

from __future__ import annotations

import datetime as dt
import json
import math
import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from dispatcher.core.timestamps import parse_rfc3339
from dispatcher.store.producer import NewEvent
from dispatcher.tools.formats.known import Known
from dispatcher.tools.rows import Defaults, Read, Row, Unreadable


class NoQuakeError(ValueError):
    """What was read describes no earthquake; says what was expected."""


class Quake(msgspec.Struct, frozen=True, kw_only=True):
    """What the guide's `event.detected` says, in its units."""

    event_id: str  # the source's own
    origin_time: str  # RFC 3339
    latitude: float
    longitude: float
    depth_km: float | None
    magnitude: float | None
    magnitude_type: str | None
    location_description: str | None

    def data(self) -> dict[str, Any]:
        """Give the fields of `event.detected`."""
        return {**msgspec.structs.asdict(self), "event_id": f"evt_{self.event_id}"}


def rows_of(quakes: Iterable[Quake | str], defaults: Defaults, known: Known | None) -> Iterator[Read]:
    """Make a row of each earthquake; a text says why there is none. Lines are counted by earthquake, from 1.

    An earthquake is inserted once, by its id, or its revisions too where `known` remembers what was told.
    """
    for number, quake in enumerate(quakes, 1):
        if isinstance(quake, str):
            yield Unreadable(number, quake)
            continue
        data = quake.data()
        event_id: str = data["event_id"]
        kind, dedup_key = "event.detected", event_id
        if known is not None:
            changes = known.changes(event_id, data)
            if changes is not None:
                if not changes:
                    continue
                kind, dedup_key = "event.updated", known.version(event_id)
                data = {"event_id": event_id, "changes": changes}
        text = json.dumps(data, ensure_ascii=False)
        yield Row(number, NewEvent(kind, text, defaults.occurred_at, defaults.network_id, dedup_key))


def number(value: object, field: str) -> float:
    """Read a number, written as one or as text; raises `NoQuakeError`."""
    try:
        read = float(value) if isinstance(value, (int, float, str)) else math.nan
    except (ValueError, OverflowError):
        read = math.nan
    if not math.isfinite(read):
        raise NoQuakeError(f"{field}: expected a number, got {json.dumps(value)[:60]}")
    return read


def number_or_none(value: object, field: str) -> float | None:
    """Read a number that need not be there."""
    return None if value is None else number(value, field)


def moment(value: object, field: str) -> str:
    """Read a time: RFC 3339, also without a zone (QuakeML means UTC then), or milliseconds since 1970."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            read = dt.datetime.fromtimestamp(value / 1000, dt.UTC)
        except (ValueError, OverflowError, OSError):
            raise NoQuakeError(f"{field}: expected milliseconds since 1970, got {value}") from None
        return read.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    text = value.strip() if isinstance(value, str) else ""
    if not re.search(r"(Z|[+-]\d\d:\d\d)$", text):
        text += "Z"
    try:
        parse_rfc3339(text)
    except ValueError:
        raise NoQuakeError(f"{field}: expected a time, got {json.dumps(value)[:60]}") from None
    return text
