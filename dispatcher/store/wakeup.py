"""The doorbell's wiring: LISTEN, and each lane's lock that says to producers "ring"."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import asyncpg
from asyncpg.prepared_stmt import PreparedStatement

from dispatcher.store.connection import Link

CHANNEL: Final = "dispatcher_outbox"  # payload: a lane's number, `due`, or CHANGED
CHANGED: Final = "registry"  # a webhook, network or event type was changed
_LOCK: Final = 1735550316
_FIRST_LANE: Final = 16  # the second key of the first lane's lock; `outbox_accept` in schema.sql has the same
_ANSWER_S: Final = 3.0  # a snapshot takes microseconds: whoever does not answer by then will not ring either


class Wakeup:
    """One session that listens, and holds the locks of the lanes whose bells are armed.

    Every INSERT tests its lane's lock (`outbox_accept` in schema.sql) and notifies only when it is held.
    """

    def __init__(
        self, link: Link, on_ring: Callable[[str], None], on_loss: Callable[[], None] = lambda: None
    ) -> None:
        """Make it; `on_loss` hears when the session has ended, and the locks with it."""
        self._link = link
        self._on_ring = on_ring
        self._on_loss = on_loss
        self._snapshot: PreparedStatement
        self._listening: asyncpg.Connection | None = None
        self._armed: set[int] = set()
        self.sessions = 0  # how often listening began: what is known from before says nothing any more

    def armed(self, lane: int) -> bool:
        """Whether a lane's producers are asked to ring, as far as we know."""
        return lane in self._armed

    async def snapshot(self) -> str:
        """Give the present snapshot as text, listening from before it was taken."""
        async with self._link.use() as connection:
            if self._listening is not connection:
                self._snapshot = await connection.prepare("select pg_current_snapshot()::text")
                await connection.add_listener(CHANNEL, self._heard)
                connection.add_termination_listener(self._lost)
                self._listening = connection
                self._armed.clear()
                self.sessions += 1
            text: str = await self._snapshot.fetchval(timeout=min(_ANSWER_S, self._link.statement_timeout_s))
            return text

    async def two_phase(self) -> bool:
        """Say whether prepared transactions are enabled: one that rang cannot be prepared."""
        async with self._link.use() as connection:
            return bool(
                await connection.fetchval("select current_setting('max_prepared_transactions')::int > 0")
            )

    async def arm(self, lane: int) -> bool:
        """Ask a lane's producers to ring; false while one of them is testing the lock at this moment."""
        async with self._link.use() as connection:
            listens = self._listening is connection
            if not listens:
                return False  # a new session: it would be rung for, and hear nothing
            # The transaction id makes the next snapshot list every transaction that tested the lock before:
            # a snapshot's upper bound is the newest id that has ended, and it lists none above that.
            taken: bool = await connection.fetchval(
                "select case when pg_try_advisory_lock($1, $2) then pg_current_xact_id() end is not null",
                _LOCK,
                _FIRST_LANE + lane,
            )
            if taken:
                self._armed.add(lane)
            return taken

    async def disarm(self, lane: int) -> None:
        """Tell a lane's producers not to ring any more."""
        async with self._link.use() as connection:
            if lane in self._armed:  # else a lost connection lost the lock
                self._armed.discard(lane)
                await connection.fetchval("select pg_advisory_unlock($1, $2)", _LOCK, _FIRST_LANE + lane)

    def _lost(self, _connection: object) -> None:
        self._on_loss()

    def _heard(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        self._on_ring(str(payload))
