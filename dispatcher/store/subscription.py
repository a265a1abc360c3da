"""What a webhook wants to hear of, as the database keeps it: its types, its networks, its filter."""

from __future__ import annotations

import asyncpg
import msgspec
import structlog

from dispatcher.core.filter import Filter
from dispatcher.core.filter_form import read_filter
from dispatcher.core.routing import Subscription

log = structlog.get_logger("store")


def subscription(row: asyncpg.Record) -> Subscription:
    """Give the subscription in a row of `webhook`; `filter` is read as text."""
    networks = row["network_ids"]
    return Subscription(
        row["id"],
        row["public_id"],
        row["organization_id"],
        frozenset(row["events"]),
        None if networks is None else frozenset(networks),
        stored_filter(row["filter"], row["public_id"]),
    )


def stored_filter(text: str | None, webhook_id: str) -> Filter | None:
    """Read a webhook's filter.

    The API lets no bad one in. One that was written by other means holds up nobody else, and its webhook is
    told of too much rather than of too little.
    """
    if text is None:
        return None
    try:
        given = msgspec.json.decode(text)
        if not isinstance(given, dict):
            raise TypeError("must be an object")  # noqa: TRY301 - one way to refuse
        return read_filter(given)
    except (ValueError, TypeError, RecursionError) as error:
        log.warning("a filter cannot be read and is not applied", webhook=webhook_id, problem=str(error))
        return None
