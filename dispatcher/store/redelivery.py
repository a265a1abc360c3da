"""Asks for one more attempt of a delivery, by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dispatcher.core.ids import DeliveryKey
    from dispatcher.store.connection import Database


async def redeliver(database: Database, key: DeliveryKey, *, actor: str) -> bool:
    """Append the request and ring the daemon; false where the delivery is to be attempted anyway.

    A delivery that is over is attempted once more (trigger `manual`); one that waits for a retry is attempted
    now, and its schedule goes on from there (trigger `retry`), so nothing is doubled. One that was asked for
    already, or whose first attempt is still to come or under way, is left alone.
    """
    return await database.fetchrow("redeliver", *key, actor) is not None
