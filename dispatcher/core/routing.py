"""Who is to be told of an event: the webhooks, indexed by event type and organization.

    events        one or more registered types, `event.*`, `sensor.*`, or `*` (everything but the
                  operational `webhook.*`, which must be named)
    network_ids   when given, only events of these networks
    organization  hears of its own networks; '*' owns every network and events that name none

Pure: `Routes` is rebuilt when webhooks change and asked for every event.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from dispatcher.core.ids import WebhookId

EVERY_NETWORK: Final = "*"
OPERATIONAL: Final = "webhook."


class Subscription(msgspec.Struct, frozen=True):
    """What routing needs to know of an active webhook."""

    webhook_id: WebhookId
    public_id: str
    organization_id: int
    events: frozenset[str]
    network_ids: frozenset[str] | None


class RoutedEvent(msgspec.Struct, frozen=True):
    """What routing needs to know of an event."""

    type: str
    network_id: str | None
    organization_id: int | None = None  # of an operational event: only this organization hears of it


def subscribes(events: frozenset[str], event_type: str) -> bool:
    """Say whether a list of subscribed types and patterns covers an event type."""
    if event_type in events:
        return True
    if event_type.startswith(OPERATIONAL):
        return False
    return "*" in events or f"{event_type.partition('.')[0]}.*" in events


class Routes:
    """The active webhooks, by event type."""

    def __init__(self, subscriptions: Iterable[Subscription], networks: Mapping[int, frozenset[str]]) -> None:
        self._subscriptions = tuple(sorted(subscriptions, key=lambda one: one.webhook_id))
        self._networks = networks
        self._by_type: dict[str, tuple[Subscription, ...]] = {}

    def match(self, event: RoutedEvent) -> list[WebhookId]:
        """Give the webhooks that are to be told of an event, in the order of their numbers."""
        candidates = self._by_type.get(event.type)
        if candidates is None:
            candidates = self._by_type[event.type] = tuple(
                one for one in self._subscriptions if subscribes(one.events, event.type)
            )
        return [one.webhook_id for one in candidates if self._hears(one, event)]

    def _hears(self, one: Subscription, event: RoutedEvent) -> bool:
        if event.organization_id is not None:
            return one.organization_id == event.organization_id
        owned = self._networks.get(one.organization_id, frozenset())
        if EVERY_NETWORK not in owned and event.network_id not in owned:
            return False
        return one.network_ids is None or event.network_id in one.network_ids
