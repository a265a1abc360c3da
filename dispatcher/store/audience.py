"""Who of an organization was told of an event, and why the others were not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec

from dispatcher.core.ids import DeliveryKey, OutboxId, WebhookId
from dispatcher.core.parameters import Parameters
from dispatcher.core.routing import EVERY_NETWORK, OPERATIONAL, RoutedEvent, Routes, subscribes
from dispatcher.store.accounts import owned_networks
from dispatcher.store.history import State
from dispatcher.store.revisions import event_states, tellings
from dispatcher.store.subscription import subscription

if TYPE_CHECKING:
    import datetime as dt

    import asyncpg

    from dispatcher.store.connection import Database

Reason: TypeAlias = Literal[
    "delivered_to",
    "waiting_for_routing",
    "test_of_another_webhook",
    "not_subscribed",
    "operational_event_of_another_organization",
    "network_not_owned",
    "network_not_selected",
    "filtered_out",
    "inactive",
    "created_later",
    "not_matching_then",
]


class Event(msgspec.Struct, frozen=True):
    """An event of the outbox, as far as routing is concerned."""

    day: dt.date
    id: OutboxId
    type: str
    network_id: str | None
    occurred_at: dt.datetime
    recorded_at: dt.datetime
    test: bool
    scheduled: bool  # the tail has come to it
    target_webhook: str | None  # public id: of a test
    target_organization_id: int | None
    about_organization_id: int | None  # of an operational event
    states: tuple[Parameters, ...]  # what filters are asked about


class Listener(msgspec.Struct, frozen=True):
    """One webhook, and what an event was to it."""

    webhook_id: str
    reason: Reason
    key: DeliveryKey | None
    state: State | None


async def event(database: Database, organization_id: int, outbox_id: OutboxId) -> Event | None:
    """Give an event by its outbox id; None where it is none of the organization's.

    It is the organization's when its network is, when it speaks of or is meant for one of its webhooks, or
    when one of them was told of it.
    """
    row = await database.fetchrow("routed_event", outbox_id)
    if row is None:
        return None
    found = Event(
        row["day"],
        row["id"],
        row["type"],
        row["network_id"],
        row["occurred_at"],
        row["recorded_at"],
        row["test"],
        row["scheduled"],
        row["target_webhook"],
        row["target_organization_id"],
        row["about_organization_id"],
        await _states(database, row),
    )
    if found.target_webhook is not None:
        concerns = found.target_organization_id == organization_id
    elif found.type.startswith(OPERATIONAL):
        concerns = found.about_organization_id == organization_id
    else:
        owned = await owned_networks(database, organization_id)
        concerns = EVERY_NETWORK in owned or found.network_id in owned
    if not concerns:
        told = await database.fetchrow("told_organization", found.day, found.id, organization_id)
        concerns = told is not None and told[0]
    return found if concerns else None


async def _states(database: Database, row: asyncpg.Record) -> tuple[Parameters, ...]:
    types = await database.fetch("registry_event_types")
    fields = {name: frozenset(some) for name, some in types}
    event_id: str | None = row["event_id"]
    told = await tellings(database, [] if event_id is None else [(event_id, row["id"])])
    return event_states(row["id"], row["type"], row["data_text"], event_id, told, fields)


async def listeners(
    database: Database, organization_id: int, of: Event, *, offset: int, limit: int
) -> tuple[list[Listener], int]:
    """Give a page of the organization's webhooks, the newest first, each with what the event was to it."""
    owned = await owned_networks(database, organization_id)
    rows = await database.fetch("audience", of.day, of.id, organization_id, offset, limit)
    total = await database.fetchrow("webhook_count", organization_id, None, None)
    return [_listener(row, of, owned) for row in rows], total[0] if total else 0


def _listener(row: asyncpg.Record, of: Event, owned: frozenset[str]) -> Listener:
    key = DeliveryKey(of.day, of.id, WebhookId(row["id"])) if row["told"] else None
    state: State | None = (row["state"] or "pending") if row["told"] else None
    return Listener(row["public_id"], _reason(row, of, owned), key, state)


def _reason(row: asyncpg.Record, of: Event, owned: frozenset[str]) -> Reason:
    """Say why a webhook was told or not, by what the webhook is now."""
    organization_id: int = row["organization_id"]
    operational = of.type.startswith(OPERATIONAL)
    listening = subscription(row)
    routes = Routes((listening,), {organization_id: owned})
    event = RoutedEvent(of.type, of.network_id, of.about_organization_id)
    filtered = msgspec.structs.replace(event, states=of.states)
    reasons: tuple[tuple[bool, Reason], ...] = (
        (row["told"], "delivered_to"),
        (not of.scheduled, "waiting_for_routing"),
        (of.target_webhook is not None, "test_of_another_webhook"),
        (not subscribes(listening.events, of.type), "not_subscribed"),
        (
            operational and of.about_organization_id != organization_id,
            "operational_event_of_another_organization",
        ),
        (
            not operational and EVERY_NETWORK not in owned and of.network_id not in owned,
            "network_not_owned",
        ),
        (not routes.match(event), "network_not_selected"),
        (not routes.match(filtered), "filtered_out"),
        (not row["active"], "inactive"),
        (row["created_at"] > of.recorded_at, "created_later"),
    )
    return next((reason for holds, reason in reasons if holds), "not_matching_then")
