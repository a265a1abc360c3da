"""Says which webhooks have been slowest lately: what occupies slots."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from dispatcher.store.connection import Database


class BusyWebhook(msgspec.Struct, frozen=True):
    """A webhook's newest attempts of a while, at most 100 of each kind: successes, failures, failed tests."""

    webhook: str  # public id
    url: str
    active: bool
    attempts: int
    failures: int
    median_ms: float | None
    most_ms: float | None
    retried: int  # attempts that another one follows


async def busy_webhooks(database: Database, since: dt.datetime, limit: int) -> list[BusyWebhook]:
    """Give the webhooks whose attempts took longest, the slowest first; those without any are left out."""
    return [BusyWebhook(**row) for row in await database.fetch("busy_webhooks", since, limit)]
