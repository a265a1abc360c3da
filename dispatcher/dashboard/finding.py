"""Finds what an address names, if it is the visitor's organization's; and does what a form asks only once."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from dispatcher.store import history, webhooks
from dispatcher.store.idempotency import Ticket

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from dispatcher.dashboard.visit import Visit
    from dispatcher.store.connection import Database


async def webhook(visit: Visit) -> webhooks.Webhook | None:
    """Give the webhook that the path names."""
    context = visit.context
    return await webhooks.get(
        context.database, context.vault, visit.key.organization_id, visit.request.match_info["webhook_id"]
    )


async def delivery(visit: Visit) -> tuple[webhooks.Webhook, history.FullDelivery] | None:
    """Give the delivery that the path names, with its webhook."""
    found = await webhook(visit)
    key = visit.context.ids.decode(visit.request.match_info["delivery_id"])
    if found is None or key is None or key.webhook_id != found.id:
        return None
    full = await history.get(visit.context.database, key)
    return None if full is None else (found, full)


async def once(visit: Visit, act: Callable[[Database], Awaitable[str]]) -> tuple[str, bool] | None:
    """Do what a form asks, unless it was sent before; give what it led to, and whether it was done now.

    A page that is loaded again, or a button that is pressed twice, sends its form with the same `once`.
    None: the form carries no such mark, or it is being worked on at this moment.
    """
    mark, context = visit.field("once"), visit.context
    if not mark:
        return None
    fingerprint = hashlib.sha256(visit.request.path.encode()).digest()
    async with context.database.transaction() as database:
        ticket = Ticket(database, context.vault, visit.key.id, f"dashboard {mark}")
        if not await ticket.turn():
            return None
        kept = await ticket.take(fingerprint)
        if kept is not None:
            return (kept.answer, False) if kept.request == fingerprint else None
        answer = await act(database)
        await ticket.keep(answer)
    return answer, True
