"""Reads what waits in the database: unattempted deliveries, due retries, what a crash left open."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

import asyncpg
import msgspec

from dispatcher.core.delivery import Kind, State, Trigger
from dispatcher.core.ids import DeliveryKey, OutboxId, RunId, WebhookId
from dispatcher.core.sharing import Shard
from dispatcher.store.transaction import Statements

_SAME_ATTEMPT: Final = {Kind.REQUESTED, Kind.POSTPONED}  # the attempt that they speak of is still to be made


# What is due, by the lanes that it goes to: first attempts that come again, retries, what somebody asked for.
Sort: TypeAlias = Literal["first", "retry", "asked"]


class WaitingRow(msgspec.Struct, frozen=True):
    """A delivery that could go now, with its body."""

    key: DeliveryKey
    type: str
    body: bytes
    recorded_at: dt.datetime
    test: bool
    traceparent: str | None  # of the producer's span


class DueRow(WaitingRow, frozen=True):
    """A fact whose time has come: the attempt that it asks for."""

    lane: int
    kind: Kind
    attempt_no: int  # of the attempt that is due
    state: State
    trigger: Trigger
    failures: int
    due_at: dt.datetime
    asked: bool  # for by somebody, be it as a retry: it is made however old the event is


class MessageRef(msgspec.Struct, frozen=True):
    """Where a message stands in its lane."""

    batch: int
    outbox_id: OutboxId
    day: dt.date
    fan_out: int


class Unattempted(msgspec.Struct, frozen=True):
    """A delivery without a fact, and the run that had taken it into memory, if one had."""

    key: DeliveryKey
    run_id: RunId | None


class Backlog:
    """The reading statements of one shard, on one link."""

    def __init__(self, link: Statements, shard: Shard) -> None:
        self._link = link
        self._number = shard.number
        self._parts = (shard.count, shard.number)

    async def waiting(
        self, webhook_id: WebhookId, lane: int, after: OutboxId, limit: int
    ) -> list[WaitingRow]:
        """Give a webhook's deliveries of a lane that were never attempted, after a position."""
        rows = await self._link.fetch("waiting", webhook_id, lane, after, limit)
        return [
            WaitingRow(
                DeliveryKey(row["day"], row["outbox_id"], webhook_id),
                row["type"],
                row["body"],
                row["recorded_at"],
                row["test"],
                row["traceparent"],
            )
            for row in rows
        ]

    async def awaited(self) -> list[WaitingRow]:
        """Give what comes again and is waited for (`Order.expect`); of very many the earliest."""
        rows = await self._link.fetch("awaited", *self._parts)
        return [
            WaitingRow(
                DeliveryKey(row["day"], row["outbox_id"], row["webhook_id"]),
                row["type"],
                row["body"],
                row["recorded_at"],
                row["test"],
                row["traceparent"],
            )
            for row in rows
        ]

    async def due(
        self,
        after: tuple[dt.datetime, OutboxId, WebhookId],
        now: dt.datetime,
        limit: int,
        ahead: dt.timedelta = dt.timedelta(),
    ) -> list[DueRow]:
        """Give what is due in (after, now], in the order of due times.

        Of what was written later than `now`, by a clock that was `ahead`, what is due by so much later.
        """
        rows = await self._link.fetch("due", *after, now, limit, now + ahead, *self._parts)
        return [_due(row) for row in rows]

    async def due_of_webhook(
        self,
        webhook_id: WebhookId,
        after: tuple[dt.datetime, OutboxId],
        now: dt.datetime,
        limit: int,
        *,
        sort: Sort,
        ahead: dt.timedelta = dt.timedelta(),
    ) -> list[DueRow]:
        """Give what `due` gives, for one webhook, of one sort."""
        rows = await self._link.fetch("due_of_webhook", webhook_id, *after, now, limit, sort, now + ahead)
        return [_due(row) for row in rows]

    async def written_ahead(self, now: dt.datetime) -> dt.timedelta:
        """Give by how much facts that are not due yet were written later than `now`, if any was.

        Looks at everything that waits for a retry.
        """
        row = await self._link.fetchrow("written_ahead", now)
        newest = None if row is None else row["newest"]
        return dt.timedelta() if newest is None else max(dt.timedelta(), newest - now)

    async def registry_version(self) -> int:
        """Give the number of the latest change to webhooks, networks and event types."""
        row = await self._link.fetchrow("registry_version")
        assert row is not None  # noqa: S101 - the table has one row
        version: int = row[0]
        return version

    async def stopped_waiting(self) -> list[WebhookId]:
        """Give the webhooks that are not active and of which something waits for a retry all the same."""
        return [WebhookId(row["id"]) for row in await self._link.fetch("stopped_waiting", *self._parts)]

    async def next_due(self, after: dt.datetime) -> tuple[dt.datetime | None, dt.datetime]:
        """Give the earliest due time after `after`, and the database's present time."""
        row = await self._link.fetchrow("next_due", after, *self._parts)
        assert row is not None  # noqa: S101 - an aggregate has one row
        return row["due_at"], row["clock"]

    async def checkpoint(self, lane: int) -> tuple[int, list[tuple[WebhookId, OutboxId]]]:
        """Give the batch up to which everything was attempted, and the webhooks that waited then."""
        row = await self._link.fetchrow("checkpoint_newest", self._number, lane)
        if row is None:
            return 0, []
        return row["batch"], msgspec.json.decode(row["waiting"], type=list[tuple[WebhookId, OutboxId]])

    async def messages_after(self, lane: int, batch: int, outbox_id: int, limit: int) -> list[MessageRef]:
        """Give a lane's messages after a place, in the order of their fan-out."""
        rows = await self._link.fetch("messages_after", lane, batch, outbox_id, limit)
        return [MessageRef(row["batch"], row["outbox_id"], row["day"], row["fan_out"]) for row in rows]

    async def unattempted(self, run_id: RunId, messages: Sequence[MessageRef]) -> list[Unattempted]:
        """Give the deliveries of these messages that have no fact, but for those that a run has taken."""
        rows = await self._link.fetch(
            "unattempted",
            [one.day for one in messages],
            [one.outbox_id for one in messages],
            run_id,
            *self._parts,
        )
        return [
            Unattempted(DeliveryKey(row["day"], row["outbox_id"], row["webhook_id"]), row["run_id"])
            for row in rows
        ]

    async def dead_runs(self, run_id: RunId) -> list[RunId]:
        """Give the runs of the shard before this one that ended without saying so."""
        return [row["id"] for row in await self._link.fetch("dead_runs", run_id, self._number)]

    async def interrupt_deliveries(
        self, run_id: RunId, dead: Sequence[RunId], messages: Sequence[MessageRef], due_at: dt.datetime
    ) -> None:
        """Write `interrupted` for the first attempts of these messages that dead runs may have made."""
        await self._link.execute(
            "interrupt_deliveries",
            run_id,
            dead,
            [one.day for one in messages],
            [one.outbox_id for one in messages],
            due_at,
        )

    async def interrupt_claims(
        self, run_id: RunId, dead: Sequence[RunId], since: dt.datetime, due_at: dt.datetime
    ) -> None:
        """Write `interrupted` for the attempts, claimed since a time, that dead runs may have made."""
        await self._link.execute("interrupt_claims", run_id, dead, since, due_at)

    async def runs_ended(self, run_id: RunId, runs: Sequence[RunId], how: str) -> None:
        """Write down, as long as a run leads, that runs left nothing open: `clean` or `rescued`."""
        await self._link.execute("run_ended", run_id, runs, how)


def _due(row: asyncpg.Record) -> DueRow:
    kind = Kind(row["kind"])
    # A request has reserved its number; after an attempt, made or interrupted, comes the next one.
    attempt_no = row["attempt_no"] if kind in _SAME_ATTEMPT else row["attempt_no"] + 1
    trigger = Trigger.RETRY if kind is Kind.ATTEMPTED else Trigger(row["trigger"])
    return DueRow(
        key=DeliveryKey(row["day"], row["outbox_id"], row["webhook_id"]),
        type=row["type"],
        body=row["body"],
        recorded_at=row["recorded_at"],
        test=row["test"],
        traceparent=row["traceparent"],
        lane=row["lane"],
        kind=kind,
        attempt_no=attempt_no,
        state=State(row["state"]),
        trigger=trigger,
        failures=row["failures"],
        due_at=row["next_attempt_at"],
        asked=row["asked"],
    )
