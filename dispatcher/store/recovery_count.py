"""Counts what a recovery would send again, with bounded work, for those who ask before they do it."""

from __future__ import annotations

import datetime as dt
from typing import Final

from dispatcher.store.recoveries import Counts, Place, Walk, Window

LONGEST_WINDOW: Final = dt.timedelta(days=31)
COUNTED: Final = 10_000  # deliveries are counted up to this many
_MOST_LOOKED_AT: Final = 100_000  # rows that one count may read
_PAGE: Final = 1_000
_ENDED: Final = frozenset({"completed", "stopped"})


async def count(walk: Walk, window: Window) -> tuple[Counts, bool]:
    """Count what a window holds; and say whether that is all of it."""
    counts, looked_at = Counts(), 0
    place: Place = window.beginning
    while place.phase not in _ENDED:
        if counts.total >= COUNTED or looked_at >= _MOST_LOOKED_AT:
            return counts, False
        found = await walk.page(place, min(_PAGE, COUNTED - counts.total))
        counts = Counts(
            counts.failed + found.counts.failed,
            counts.cancelled + found.counts.cancelled,
            counts.missing + found.counts.missing,
        )
        looked_at += found.looked_at
        place = found.following
    return counts, True
