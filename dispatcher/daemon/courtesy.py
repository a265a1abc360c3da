"""What a tail waits for: alerts on their way, room in memory, and the events that revisions revise."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final

import structlog

from dispatcher.core.pending import TAILED, Lane
from dispatcher.core.revisions import follows
from dispatcher.daemon.shared import Shared
from dispatcher.store.outbox import OutboxRow
from dispatcher.store.transaction import Statements

_BREATH_S: Final = 0.02  # some batches of facts
_COURTESY_S: Final = 0.005
_LONGEST_COURTESY_S: Final = 5.0

log = structlog.get_logger("tail")


class Courtesy:
    """The manners of one lane's tail; alerts wait for nobody."""

    def __init__(self, shared: Shared, lane: Lane) -> None:
        self._lane = lane
        self._lanes = shared.lanes
        self._begun = shared.begun
        self._right_of_way = shared.lanes.right_of_way
        self._before = [one for one in TAILED if one < lane]

    async def give_way(self) -> None:
        """Wait a little where an alert is on its way to its lane."""
        if self._lane is not Lane.ALERT and time.monotonic_ns() < self._right_of_way.until_ns:
            await asyncio.sleep(_COURTESY_S)

    async def breathe(self) -> None:
        """Wait for room as long as deliveries are being settled: cheaper than writing and reading back."""
        while self._lane is not Lane.ALERT and self._lanes.room.is_crowded(self._lane):
            before = self._lanes.settled_count
            await asyncio.sleep(_BREATH_S)
            if self._lanes.settled_count == before:
                return

    async def let_detections_pass(self, statements: Statements, rows: Sequence[OutboxRow]) -> None:
        """Wait until the lanes before this one have told everybody of the events that these rows revise."""
        events = {row.event_id: row.id for row in rows if row.event_id and follows(row.type, row.event_id)}
        if self._lane is Lane.ALERT or not events:
            return
        waited_s = 0.0
        while waited_s < _LONGEST_COURTESY_S:
            found = await statements.fetchrow(
                "unrouted_before", list(events), list(events.values()), self._lane
            )
            # Afterwards: an event is among those begun before its message can be found.
            being_told = any(self._begun.get(lane) in events for lane in self._before)
            if not being_told and (found is None or not found[0]):
                return
            await asyncio.sleep(_COURTESY_S)
            waited_s += _COURTESY_S
        log.warning("revisions overtake their events: the lane of alerts does not advance")
