"""Reads back an event whose fan-out was begun: its deliveries are written in chunks."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from dispatcher.core.ids import OutboxId, WebhookId
from dispatcher.store.ledger import MessageRow
from dispatcher.store.transaction import Statements


class Begun(msgspec.Struct, frozen=True):
    """The message, to the webhooks that are not told yet, and the batch that it was written with."""

    message: MessageRow
    batch: int


async def read_begun(
    statements: Statements, lane: int, outbox_id: OutboxId, rest: Sequence[WebhookId]
) -> Begun:
    """Read the message that a lane's position speaks of; its bytes are those of the first chunk."""
    row = await statements.fetchrow("tail_begun", lane, outbox_id)
    assert row is not None  # noqa: S101 - written with the first position that names it
    message = MessageRow(
        day=row["day"],
        outbox_id=row["outbox_id"],
        type=row["type"],
        occurred_at=row["occurred_at"],
        recorded_at=row["recorded_at"],
        body=row["body"],
        test=row["test"],
        webhook_ids=rest,
        claimed=[],
        full_body=row["full_body"],
        full_for=frozenset(row["full_for"] or ()),
        traceparent=row["traceparent"],
        event_id=row["event_id"],
        fan_out=row["fan_out"],
        written=True,
    )
    return Begun(message, row["batch"])
