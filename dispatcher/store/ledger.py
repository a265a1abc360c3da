"""Writes the append-only truth: fan-outs, facts, claims, checkpoints; each only while our run leads.

A statement that finds another run in the lead writes nothing and raises `LeaseLost`.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Collection, Iterator, Sequence
from typing import Final

import asyncpg
import msgspec

from dispatcher.core.delivery import STEP, Kind, State, Trigger
from dispatcher.core.errors import LeaseLost, UnwritableFact
from dispatcher.core.ids import DeliveryKey, OutboxId, RunId, WebhookId
from dispatcher.core.snapshot import Position
from dispatcher.store.connection import Link
from dispatcher.store.queries import QUERIES
from dispatcher.store.transaction import Statements


class FactRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One fact as it is written; the names are the columns of `delivery_event`."""

    day: dt.date
    outbox_id: OutboxId
    webhook_id: WebhookId
    attempt_no: int
    step: int
    kind: Kind
    state: State
    trigger: Trigger | None = None
    failures: int = -1  # never left out: omit_defaults compares with an impossible value
    started_at: dt.datetime | None = None
    duration_ms: float | None = None
    status_code: int | None = None
    error_class: str | None = None
    error_message: str | None = None
    next_attempt_at: dt.datetime | None = None
    reason: str | None = None
    address: str | None = None
    request_headers: str | None = None
    response_headers: str | None = None
    response_body: bytes | None = None  # base64 on the way
    response_truncated: bool | None = None
    timings: str | None = None


def cancelled(
    key: DeliveryKey,
    attempt_no: int,
    failures: int,
    reason: str,
    state: State = State.PENDING,
    *,
    kind: Kind = Kind.CANCELLED,
) -> FactRow:
    """Give the fact, one of `CLOSING`, that closes a delivery before its attempt `attempt_no`.

    `state` is the delivery's before that: one that was delivered stays so, whatever is tried by hand.
    """
    return FactRow(
        day=key.day,
        outbox_id=key.outbox_id,
        webhook_id=key.webhook_id,
        attempt_no=attempt_no,
        step=STEP[kind],
        kind=kind,
        state=State.DELIVERED if state is State.DELIVERED else State.CANCELLED,
        failures=failures,
        reason=reason,
    )


_COPIED: Final = ("run_id", *FactRow.__struct_fields__)


class Unappendable(Exception):
    """Facts that COPY refuses as a whole: `record` tells them apart."""


class MonthGone(Exception):
    """The partitions of at least one fact were dropped, and the delivery with them."""


class BatchTaken(LeaseLost):
    """A batch of this number is there already: another run's, unless the caller knows better."""


@contextlib.contextmanager
def month_gone() -> Iterator[None]:
    """Raise `MonthGone` where a row finds no partition, which is a check violation of no constraint."""
    try:
        yield
    except asyncpg.CheckViolationError as error:
        if error.constraint_name is not None:
            raise
        raise MonthGone(str(error)) from error


class MessageRow(msgspec.Struct, frozen=True):
    """One event's bytes, and whom they go to."""

    day: dt.date
    outbox_id: OutboxId
    type: str
    occurred_at: dt.datetime
    recorded_at: dt.datetime
    body: bytes
    test: bool
    webhook_ids: Sequence[WebhookId]
    claimed: list[bool]  # for each of them: goes straight to memory
    full_body: bytes | None = None  # with the event's parameters
    full_for: Collection[WebhookId] = ()  # who gets that one
    traceparent: str | None = None  # of the producer's span
    event_id: str | None = None  # of the earthquake that it is about
    fan_out: int | None = None  # written in chunks: how many deliveries there are in all of them
    written: bool = False  # by an earlier chunk: only deliveries follow

    @property
    def deliveries(self) -> int:
        """How many deliveries the event has, in all chunks."""
        return len(self.webhook_ids) if self.fan_out is None else self.fan_out

    def body_for(self, webhook_id: WebhookId) -> bytes:
        """Give the body that a webhook gets."""
        if self.full_body is not None and webhook_id in self.full_for:
            return self.full_body
        return self.body


class Ledger:
    """The statements of one run. Each user of a `Ledger` has a link of its own."""

    def __init__(self, link: Statements, run_id: RunId) -> None:
        self._link = link
        self._run_id = run_id

    async def fan_out(
        self,
        lane: int,
        batch: int,
        messages: Sequence[MessageRow],
        position: Position,
        system_id: int,
        day: dt.date,
        rest: Sequence[WebhookId] = (),
    ) -> None:
        """Write messages, deliveries and the lane's position in one statement.

        `day` is the one on which they were read: a batch is unique within it. `rest`: the webhooks that the
        event at the position goes to as well, by statements that follow. Raises `BatchTaken` when the batch
        is there already, with what it may hold of another run.
        """
        new = [message for message in messages if not message.written]
        try:
            written = await self._link.fetchrow(
                "fan_out",
                self._run_id,
                lane,
                batch,
                [message.day for message in new],
                [message.outbox_id for message in new],
                [message.type for message in new],
                [message.occurred_at for message in new],
                [message.recorded_at for message in new],
                [message.deliveries for message in new],
                [message.body for message in new],
                [message.day for message in messages],
                [message.outbox_id for message in messages],
                # As text: of an array asyncpg asks each element whether it is one too, which costs more.
                [_array(message.webhook_ids) for message in messages],
                [_array(["t" if claimed else "f" for claimed in message.claimed]) for message in messages],
                str(position.done),
                str(position.target),
                str(position.xid),
                position.outbox_id,
                system_id,
                [message.full_body for message in new],
                [_array(message.full_for) if message.full_for else None for message in new],
                day,
                _array(rest) if rest else None,
            )
        except asyncpg.UniqueViolationError as error:
            raise BatchTaken(f"batch {batch} of lane {lane} is written already") from error
        if written is None:
            raise LeaseLost("another run leads")

    async def record(self, encoded_facts: str) -> None:
        """Append facts (a JSON array of `FactRow`); repeating a batch changes nothing.

        Raises `UnwritableFact` when PostgreSQL refuses what one of them holds, `MonthGone` when it has no
        place for one of them any more.
        """
        try:
            with month_gone():
                row = await self._link.fetchrow("record_facts", encoded_facts, self._run_id)
        except asyncpg.DataError as error:
            raise UnwritableFact(str(error)) from error
        if row is None or not row["held"]:
            raise LeaseLost("another run leads")

    async def claim(self, claims: Sequence[tuple[DeliveryKey, int]]) -> set[DeliveryKey]:
        """Write down that these attempts (delivery, attempt number) are taken into memory.

        Gives those that are over: they were found as open by a statement that ran while their fact was on
        its way, and must not be made again under the same number; or their month was dropped since.
        """
        try:
            with month_gone():
                row = await self._link.fetchrow(
                    "claim",
                    self._run_id,
                    [key.day for key, _ in claims],
                    [key.outbox_id for key, _ in claims],
                    [key.webhook_id for key, _ in claims],
                    [attempt_no for _, attempt_no in claims],
                )
        except MonthGone:
            if len(claims) == 1:
                return {claims[0][0]}
            return set().union(*[await self.claim([claim]) for claim in claims])
        if row is None or not row["held"]:
            raise LeaseLost("another run leads")
        return {claims[place - 1][0] for place in row["made"]}

    async def cancel_pending(self, webhook_id: WebhookId, reason: str, held: Sequence[OutboxId]) -> int:
        """Close the deliveries of a webhook that stopped being active while they wait for a retry.

        Those of the events in `held` are in memory: whoever takes them there closes them, as he does with
        what was never attempted. Gives how many were closed here.
        """
        tag = await self._link.execute("cancel_pending", self._run_id, webhook_id, reason, held)
        return int(tag.rpartition(" ")[2])

    async def checkpoint(self, lane: int, batch: int, waiting: Sequence[tuple[WebhookId, OutboxId]]) -> None:
        """Remember that everything up to `batch` was attempted.

        Except for what webhooks wait for: of those in `waiting`, everything after the given event is open.
        """
        encoded = msgspec.json.encode(waiting).decode()
        if (
            await self._link.execute("checkpoint_append", lane, self._run_id, batch, encoded)
        ) == "INSERT 0 0":
            raise LeaseLost("another run leads")


async def rehearse(statements: Statements, lane: int, position: Position, day: dt.date) -> None:
    """Let PostgreSQL plan the fan-out on a connection, and write nothing: no run has the number 0."""
    with contextlib.suppress(LeaseLost):
        await Ledger(statements, RunId(0)).fan_out(lane, 0, (), position, 0, day)


def _array(elements: Collection[object]) -> str:
    return f"{{{','.join(map(str, elements))}}}"


class Appender:
    """The fast way into the history, for one run: COPY, for facts that were never written before."""

    def __init__(self, link: Link, run_id: RunId) -> None:
        self._link = link
        self._run_id = run_id

    async def append(self, facts: Sequence[FactRow]) -> None:
        """Append facts that were never written before, which costs the server half of `Ledger.record`.

        Raises `Unappendable` when one of them is there already or cannot be held: then `record` them.
        """
        rows = [(self._run_id, *msgspec.structs.astuple(fact)) for fact in facts]
        try:
            async with self._link.use() as connection, connection.transaction():
                await connection.copy_records_to_table("delivery_event", columns=_COPIED, records=rows)
                # After the rows: who was frozen before them must not record on a lease that he lost.
                if await connection.fetchval(QUERIES["run_leads"], self._run_id) is None:
                    raise LeaseLost("another run leads")
        except (asyncpg.IntegrityConstraintViolationError, asyncpg.DataError, ValueError) as error:
            raise Unappendable(str(error)) from error
