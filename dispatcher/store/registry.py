"""The webhooks as the daemon holds them in memory: exact as of a version, reloaded when it changed.

Every change of webhooks, organizations' networks and event types increments `registry_version` in its
own transaction, and each page of the tail carries the version of the snapshot it was read in. So an event
is matched against webhooks at least as new as the event itself.
"""

from __future__ import annotations

import datetime as dt
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence

import asyncpg
import msgspec

from dispatcher.core.addresses import authority_of
from dispatcher.core.filter import Filter
from dispatcher.core.ids import WebhookId
from dispatcher.core.ordering import Ordering
from dispatcher.core.parameters import Parameters
from dispatcher.core.revisions import follows
from dispatcher.core.routing import OPERATIONAL, RoutedEvent, Routes, Subscription
from dispatcher.core.sharing import Shard
from dispatcher.core.signature import Signer
from dispatcher.core.webhook import HIDDEN, is_credential
from dispatcher.store.connection import Link
from dispatcher.store.outbox import OutboxRow
from dispatcher.store.queries import QUERIES
from dispatcher.store.revisions import Tellings, event_states, full_body, tellings
from dispatcher.store.subscription import stored_filter
from dispatcher.store.transaction import Statements
from dispatcher.store.vault import Vault


class Webhook(msgspec.Struct, frozen=True):
    """A webhook, ready to be sent to."""

    id: WebhookId
    public_id: str
    organization_id: int
    url: str
    host: str  # of the URL, with the port where it is given; shared by all webhooks of one
    events: frozenset[str]
    network_ids: frozenset[str] | None
    filter: Filter | None
    full_payload: bool  # revisions come with the event's parameters
    ordering: Ordering
    coalesce: bool
    max_age_s: int | None
    settle_s: int | None
    rate_limit_per_s: float | None
    headers: tuple[tuple[str, str], ...]
    ca_certificates: str  # PEM; empty: the system's authorities are trusted
    active: bool
    deleted: bool
    disabled_reason: str | None
    signer: Signer
    next_signer: tuple[dt.datetime, Signer] | None  # takes over at that time

    # What each attempt asks, answered once.
    why_inactive: str | None  # why nothing may be sent to it; None while it is active
    judges_relevance: bool  # deliveries may end without an attempt because they do not matter any more
    names_user_agent: bool
    hidden: frozenset[str]  # names of the headers whose values look like credentials

    def shown(self, headers: Sequence[tuple[str, str]]) -> Sequence[tuple[str, str]]:
        """Give a request's headers as the history keeps them: credentials of the subscriber's are hidden."""
        if not self.hidden:
            return headers
        return [(name, HIDDEN if name in self.hidden else value) for name, value in headers]

    def __repr__(self) -> str:
        return f"Webhook({self.public_id})"  # the headers' values often are tokens

    def signer_at(self, now: dt.datetime) -> Signer:
        """Give the signer that is in force: the old secret until the rotation's grace is over."""
        if self.next_signer is not None and now >= self.next_signer[0]:
            return self.next_signer[1]
        return self.signer


class Registry:
    """A shard's webhooks by number, those of all shards for the first, and the routes to the active ones."""

    def __init__(
        self,
        link: Link,
        vault: Vault,
        shard: Shard | None = None,
        limit_rates: Callable[[Mapping[WebhookId, float]], object] | None = None,
        moved: Callable[[WebhookId], object] | None = None,
    ) -> None:
        """Make it, empty; `limit_rates` is told of the active webhooks' limits whenever one may differ.

        `moved` is told of each webhook that leads to another host than before.
        """
        self._moved = moved
        self._link = link
        self._limit_rates = limit_rates
        self._vault = vault
        self._shard = shard or Shard()
        self._networks: Mapping[int, frozenset[str]] = {}
        self._fields: Mapping[str, frozenset[str]] = {}  # of each event type
        self.version = 0
        self.webhooks: dict[WebhookId, Webhook] = {}
        self.routes = Routes((), {})
        self._any_full = False

    async def refresh(self, version: int | None = None) -> list[Webhook]:
        """Load what changed, unless `version` is known already; give the webhooks that became inactive."""
        if version is not None and version <= self.version:
            return []
        async with (
            self._link.use() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            newest: int = await connection.fetchval(QUERIES["registry_version"])
            rows = await connection.fetch(
                QUERIES["registry_webhooks"], self.version, self._shard.count, self._shard.number
            )
            networks: dict[int, set[str]] = {}
            for organization_id, network_id in await connection.fetch(QUERIES["registry_networks"]):
                networks.setdefault(organization_id, set()).add(network_id)
            types = await connection.fetch(QUERIES["registry_event_types"])
        stopped, moved = [], []
        for row in rows:
            webhook = self._webhook(row)
            before = self.webhooks.get(webhook.id)
            self.webhooks[webhook.id] = webhook
            if not webhook.active and (before is None or before.active):
                stopped.append(webhook)
            if before is not None and before.host != webhook.host:
                moved.append(webhook.id)
        self._networks = {key: frozenset(value) for key, value in networks.items()}
        self._fields = {name: frozenset(fields) for name, fields in types}
        self.routes = Routes(
            (
                Subscription(
                    one.id, one.public_id, one.organization_id, one.events, one.network_ids, one.filter
                )
                for one in self.webhooks.values()
                if one.active
            ),
            self._networks,
        )
        self._any_full = any(one.active and one.full_payload for one in self.webhooks.values())
        self.version = newest
        if self._limit_rates is not None:
            self._limit_rates(
                {
                    one.id: one.rate_limit_per_s
                    for one in self.webhooks.values()
                    if one.active and one.rate_limit_per_s is not None
                }
            )
        if self._moved is not None:
            for webhook_id in moved:
                self._moved(webhook_id)
        return stopped

    def host_of(self, webhook_id: WebhookId) -> str:
        """Give the host, and the port where it is given, that a webhook leads to; empty: it is unknown."""
        webhook = self.webhooks.get(webhook_id)
        return "" if webhook is None else webhook.host

    def ordering_of(self, webhook_id: WebhookId) -> Ordering:
        """Give the order in which a webhook is told of one subject."""
        webhook = self.webhooks.get(webhook_id)
        if webhook is None:
            return "subject"
        # Whether a sensor stays away shows in what waits behind.
        return "subject" if webhook.settle_s is not None and webhook.ordering == "none" else webhook.ordering

    async def told_before(self, statements: Statements, rows: Iterable[OutboxRow]) -> Tellings:
        """Read what was told of the events of these rows, as far as a webhook makes it necessary."""
        return await tellings(
            statements,
            (
                (row.event_id, row.id)
                for row in rows
                if row.event_id is not None
                and follows(row.type, row.event_id)
                and (self._any_full or self._asks(row))
            ),
        )

    def match(self, row: OutboxRow, told: Tellings) -> list[WebhookId]:
        """Give the webhooks that are to be told of an event, in the order of their numbers."""
        if row.target_webhook_id is not None:
            return [row.target_webhook_id] if row.target_webhook_id in self.webhooks else []
        organization_id = None
        if row.type.startswith(OPERATIONAL):
            # Not msgspec: it refuses halves of surrogate pairs, which the outbox accepts.
            subject = json.loads(row.data_text).get("webhook_id")
            organization_id = self.organization_of(str(subject))
            if organization_id is None:
                return []
        return self.routes.match(
            RoutedEvent(row.type, row.network_id, organization_id, self._states(row, told))
        )

    def full_body(
        self, row: OutboxRow, webhook_ids: Sequence[WebhookId], told: Tellings
    ) -> tuple[bytes | None, frozenset[WebhookId]]:
        """Give the body with the event's parameters, and those of the webhooks that are to get that one.

        A drill is about no event that is known: it goes out as it is.
        """
        if not self._any_full or row.test or row.event_id is None or not follows(row.type, row.event_id):
            return None, frozenset()
        wanting = frozenset(number for number in webhook_ids if self.webhooks[number].full_payload)
        if not wanting:
            return None, wanting
        tellings_ = told.get(row.event_id, ())
        return full_body(row.type, row.occurred_at, row.data_text, tellings_, row.id), wanting

    def _asks(self, row: OutboxRow) -> bool:
        return row.target_webhook_id is None and self.routes.asks(row.type)

    def _states(self, row: OutboxRow, told: Tellings) -> tuple[Parameters, ...]:
        if not self._asks(row):
            return ()
        return event_states(row.id, row.type, row.data_text, row.event_id, told, self._fields)

    def organization_of(self, public_id: str) -> int | None:
        """Give the organization of a webhook that an operational event speaks of."""
        for webhook in self.webhooks.values():
            if webhook.public_id == public_id:
                return webhook.organization_id
        return None

    def _webhook(self, row: asyncpg.Record) -> Webhook:
        secret = self._vault.open(row["secret"], row["public_id"])
        signer, next_signer = Signer(secret), None
        if row["next_secret"] is not None:
            following = self._vault.open(row["next_secret"], row["public_id"])
            signer = Signer(secret, following)
            next_signer = (row["next_secret_at"], Signer(following))
        headers = self._vault.open_headers(row["headers"], row["public_id"])
        networks = row["network_ids"]
        return Webhook(
            id=row["id"],
            public_id=row["public_id"],
            organization_id=row["organization_id"],
            url=row["url"],
            host=sys.intern(authority_of(row["url"]).lower()),
            events=frozenset(row["events"]),
            network_ids=None if networks is None else frozenset(networks),
            filter=stored_filter(row["filter"], row["public_id"]),
            full_payload=row["payload"] == "full",
            ordering=row["ordering"],
            coalesce=row["coalesce"],
            max_age_s=row["max_age_s"],
            settle_s=row["settle_s"],
            rate_limit_per_s=row["rate_limit_per_s"],
            headers=tuple(headers.items()),
            ca_certificates=row["ca_certificates"] or "",
            active=row["active"],
            deleted=row["deleted"],
            disabled_reason=row["disabled_reason"],
            signer=signer,
            next_signer=next_signer,
            why_inactive=_why_inactive(row),
            judges_relevance=(row["coalesce"] or row["max_age_s"] is not None or row["settle_s"] is not None),
            names_user_agent=any(name.lower() == "user-agent" for name in headers),
            hidden=frozenset(name for name in headers if is_credential(name)),
        )


def _why_inactive(row: asyncpg.Record) -> str | None:
    if row["deleted"]:
        return "webhook deleted"
    return None if row["active"] else row["disabled_reason"] or "webhook deactivated"
