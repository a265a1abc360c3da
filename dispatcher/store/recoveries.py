"""Finds what of a webhook's past can be sent again, and remembers how far each recovery has come.

How this works. A recovery walks its window in two phases: `closed`, the deliveries that failed or were
cancelled, along their own index by outbox id; then `missing`, the events that match the webhook now and were
never scheduled for it, day by day. Either walk is read in pages of bounded work, by the API to count and by
the daemon to ask for the attempts, so neither ever holds a window in memory.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Final, Literal, TypeAlias, get_args

import asyncpg
import msgspec

from dispatcher.core.ids import OutboxId, WebhookId, public_id
from dispatcher.core.parameters import Parameters
from dispatcher.core.revisions import follows
from dispatcher.core.routing import OPERATIONAL, RoutedEvent, Routes, subscribes
from dispatcher.store.queries import QUERIES
from dispatcher.store.revisions import Tellings, event_states, full_body, tellings
from dispatcher.store.subscription import subscription
from dispatcher.store.transaction import Statements

Include: TypeAlias = Literal["failed", "cancelled", "missing"]
Phase: TypeAlias = Literal["closed", "missing", "completed", "stopped"]

INCLUDES: Final[tuple[Include, ...]] = get_args(Include)
_LOOKED_AT: Final = 2_000  # rows of one page
_DAY: Final = dt.timedelta(days=1)


class Counts(msgspec.Struct, frozen=True):
    """How many deliveries, by what they were."""

    failed: int = 0
    cancelled: int = 0
    missing: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.failed + self.cancelled + self.missing


class Place(msgspec.Struct, frozen=True):
    """How far a walk has come: everything up to this outbox id (in `missing`, of this day) is behind."""

    phase: Phase
    day: dt.date | None = None
    outbox_id: OutboxId = OutboxId(0)


class Window(msgspec.Struct, frozen=True):
    """What is to be sent again: of one webhook, recorded in [since, until)."""

    webhook_id: WebhookId
    since: dt.datetime
    until: dt.datetime
    include: tuple[Include, ...]

    @property
    def beginning(self) -> Place:
        """Where a walk begins."""
        if {"failed", "cancelled"} & set(self.include):
            return Place("closed")
        return self.missing_begins

    @property
    def missing_begins(self) -> Place:
        """Where the second phase begins."""
        if "missing" not in self.include:
            return Place("completed")
        return Place("missing", self.first_day)

    @property
    def first_day(self) -> dt.date:
        """The first day of anything in it; a row's day may be the one before its time's."""
        day = self.since.astimezone(dt.UTC).date()
        return day if day == dt.date.min else day - _DAY

    @property
    def last_day(self) -> dt.date:
        """The last day on which anything in it was recorded."""
        return self.until.astimezone(dt.UTC).date()


class Recovery(msgspec.Struct, frozen=True, kw_only=True):
    """A recovery that was asked for, as far as it has come."""

    id: int
    public_id: str
    window: Window
    counted: Counts
    counted_all: bool
    actor: str
    created_at: dt.datetime
    step: int
    place: Place
    requested: Counts
    reason: str | None
    updated_at: dt.datetime | None


class Closed(msgspec.Struct, frozen=True):
    """A delivery that failed or was cancelled."""

    day: dt.date
    outbox_id: OutboxId
    state: Literal["failed", "cancelled"]


class Unscheduled(msgspec.Struct, frozen=True):
    """An event that the webhook was never told of."""

    day: dt.date
    outbox_id: OutboxId
    lane: int
    body: bytes | None = None  # in full, where the webhook wants that and the walk makes bodies


class Found(msgspec.Struct, frozen=True):
    """What one page of a walk found, and where the next one begins."""

    closed: Sequence[Closed]
    missing: Sequence[Unscheduled]
    following: Place
    looked_at: int

    @property
    def counts(self) -> Counts:
        """How many of what."""
        failed = sum(one.state == "failed" for one in self.closed)
        return Counts(failed, len(self.closed) - failed, len(self.missing))


class Walk:
    """Reads a window page by page, against what its webhook wants to hear of now."""

    def __init__(
        self,
        statements: Statements,
        window: Window,
        row: asyncpg.Record,
        fields: Mapping[str, frozenset[str]],
        *,
        with_bodies: bool,
    ) -> None:
        self._statements = statements
        self._window = window
        wanted = subscription(row)
        self._filtered = wanted.filter is not None
        self._full = with_bodies and row["payload"] == "full"
        self._routes = Routes((wanted,), {row["organization_id"]: frozenset(row["owned"])})
        self._types = fields
        self._subscribed = [name for name in fields if subscribes(wanted.events, name)]
        self.why_inactive: str | None = row["why_inactive"]

    @classmethod
    async def of(cls, statements: Statements, window: Window, *, with_bodies: bool = False) -> Walk:
        """Prepare to walk a window; `with_bodies` makes the bodies that the messages may not have."""
        row = await statements.fetchrow("recovery_subscription", window.webhook_id)
        if row is None:
            raise LookupError(f"there is no webhook number {window.webhook_id}")
        types = await statements.fetch("registry_event_types")
        fields = {name: frozenset(declared) for name, declared in types}
        return cls(statements, window, row, fields, with_bodies=with_bodies)

    async def page(self, place: Place, limit: int) -> Found:
        """Give at most `limit` deliveries from a place on; fewer, even none, where the work is bounded."""
        if place.phase == "closed":
            return await self._closed(place, limit)
        assert place.phase == "missing"  # noqa: S101 - a walk that ended is not read
        assert place.day is not None  # noqa: S101 - `missing_begins` names one
        return await self._missing(place.day, place.outbox_id, limit)

    async def _closed(self, place: Place, limit: int) -> Found:
        window = self._window
        bounds = await self._statements.fetchrow("outbox_range", window.first_day, window.last_day)
        assert bounds is not None  # noqa: S101 - the query has one row
        rows = await self._statements.fetch(
            "closed_deliveries",
            window.webhook_id,
            max(place.outbox_id, bounds["first_id"] - 1),
            bounds["last_id"],
            list(window.include),
            window.since,
            window.until,
            _LOOKED_AT,
        )
        found = [Closed(row["day"], row["outbox_id"], row["state"]) for row in rows if row["wanted"]]
        if len(found) > limit:
            del found[limit:]
            following = Place("closed", None, found[-1].outbox_id)
        elif len(rows) == _LOOKED_AT:
            following = Place("closed", None, rows[-1]["outbox_id"])
        else:
            following = window.missing_begins
        return Found(found, (), following, len(rows))

    async def _missing(self, day: dt.date, after: OutboxId, limit: int) -> Found:
        window = self._window
        rows = await self._statements.fetch(
            "unscheduled_events",
            day,
            after,
            _LOOKED_AT,
            window.webhook_id,
            self._subscribed,
            window.since,
            window.until,
            self._filtered or self._full,
        )
        looked_at: int = rows[0]["count"]
        events = [row for row in rows if row["outbox_id"] is not None]
        told = await self._told_before(events)
        wanted = [row for row in events if self._wants(row, told)]
        found = [
            Unscheduled(day, row["outbox_id"], row["lane"], self._body(row, told)) for row in wanted[:limit]
        ]
        if len(wanted) > limit:
            following = Place("missing", day, found[-1].outbox_id)
        elif looked_at == _LOOKED_AT:
            following = Place("missing", day, rows[0]["last_id"])
        elif day < window.last_day:
            following = Place("missing", day + _DAY)
        else:
            following = Place("completed")
        return Found((), found, following, looked_at)

    async def _told_before(self, events: Sequence[asyncpg.Record]) -> Tellings:
        asked = self._filtered or self._full
        following = [row for row in events if asked and follows(row["type"], row["event_id"])]
        return await tellings(self._statements, [(row["event_id"], row["outbox_id"]) for row in following])

    def _body(self, row: asyncpg.Record, told: Tellings) -> bytes | None:
        """Give an event's body in full, as its routing would have made it; None: the message's will do."""
        event_id = row["event_id"]
        if not self._full or not follows(row["type"], event_id):
            return None
        tellings_ = told.get(event_id, ())
        try:
            return full_body(row["type"], row["occurred_at"], row["data_text"], tellings_, row["outbox_id"])
        except ValueError:
            return None  # the outbox refuses such rows; one that is there must not hold up the others

    def _wants(self, row: asyncpg.Record, told: Tellings) -> bool:
        organization_id = row["organization_id"]
        if row["type"].startswith(OPERATIONAL) and organization_id is None:
            return False
        states: tuple[Parameters, ...] = ()
        if self._filtered:
            states = event_states(
                row["outbox_id"], row["type"], row["data_text"], row["event_id"], told, self._types
            )
        event = RoutedEvent(row["type"], row["network_id"], organization_id, states)
        return bool(self._routes.match(event))


class Asked(msgspec.Struct, frozen=True):
    """What a client asks for."""

    entropy: bytes  # 16 bytes of chance, for the id
    actor: str
    counted: Counts
    counted_all: bool


async def insert(connection: asyncpg.Connection, window: Window, asked: Asked) -> Recovery | str:
    """Add a recovery; gives the id of the webhook's recovery that has not ended, if there is one."""
    async with connection.transaction():
        await connection.execute(QUERIES["hold_webhook"], window.webhook_id)
        running: str | None = await connection.fetchval(QUERIES["running_recovery"], window.webhook_id)
        if running is not None:
            return running
        row = await connection.fetchrow(
            QUERIES["insert_recovery"],
            public_id("rcv", asked.entropy),
            window.webhook_id,
            window.since,
            window.until,
            window.include,
            msgspec.json.encode(asked.counted).decode(),
            asked.counted_all,
            asked.actor,
        )
        return recovery(row)


async def page(
    statements: Statements, webhook_id: WebhookId, *, offset: int, limit: int
) -> tuple[list[Recovery], int]:
    """Give a page of a webhook's recoveries, the newest first, and how many there are."""
    rows = await statements.fetch("recoveries", webhook_id, None, offset, limit)
    total = await statements.fetchrow("recovery_count", webhook_id)
    return [recovery(row) for row in rows], total[0] if total else 0


async def get(statements: Statements, webhook_id: WebhookId, recovery_id: str) -> Recovery | None:
    """Give one of a webhook's recoveries by its public id."""
    row = await statements.fetchrow("recoveries", webhook_id, recovery_id, 0, 1)
    return None if row is None else recovery(row)


def recovery(row: asyncpg.Record) -> Recovery:
    """Give the recovery in a row."""
    window = Window(row["webhook_id"], row["since"], row["until"], tuple(row["include"]))
    return Recovery(
        id=row["id"],
        public_id=row["public_id"],
        window=window,
        counted=msgspec.json.decode(row["counted"], type=Counts),
        counted_all=row["counted_all"],
        actor=row["actor"],
        created_at=row["created_at"],
        step=row["step"] or 0,
        place=window.beginning
        if row["phase"] is None
        else Place(row["phase"], row["day"], OutboxId(row["place"])),
        requested=Counts(row["failed"], row["cancelled"], row["missing"]),
        reason=row["reason"],
        updated_at=row["at"],
    )
