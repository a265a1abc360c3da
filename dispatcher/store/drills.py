"""Tests of one webhook: a sample of an event type goes through the outbox, marked, to this webhook alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from dispatcher.store import event_types, webhooks

if TYPE_CHECKING:
    from dispatcher.store.connection import Database

TEST_TYPE: Final = "webhook.test"
_MESSAGE: Final = "This is a test. No earthquake has happened and no sensor has changed."


async def send(
    database: Database, webhook: webhooks.Webhook, event_type: str, *, actor: str
) -> webhooks.NewTest | None:
    """Send the sample of a type; None where the type is not registered."""
    if event_type == TEST_TYPE:
        data = {"webhook_id": webhook.public_id, "message": _MESSAGE}
        data_text: str | None = msgspec.json.encode(data).decode()
    else:
        data_text = await event_types.sample(database, event_type)
    if data_text is None:
        return None
    return await webhooks.send_test(database, webhook, event_type, data_text, actor=actor)
