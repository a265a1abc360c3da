"""Who is to be told of an event: the webhooks, indexed by event type, organization and filter.

    events        one or more registered types, `event.*`, `sensor.*`, or `*` (everything but the
                  operational `webhook.*`, which must be named)
    network_ids   when given, only events of these networks
    filter        when given, only events that it accepts (core/filter.py), in one of their states
    organization  hears of its own networks; '*' owns every network and events that name none

Pure: `Routes` is rebuilt when webhooks change and asked for every event. What it finds out about a type it
keeps: who hears of every network once, and who hears of some for each network.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from dispatcher.core.filter import Filter
from dispatcher.core.ids import WebhookId
from dispatcher.core.matching import Index
from dispatcher.core.parameters import NOTHING, Field, Parameters

EVERY_NETWORK: Final = "*"
OPERATIONAL: Final = "webhook."
_MOST_KEPT: Final = 1_000_000  # entries of the indexes of single networks


class Subscription(msgspec.Struct, frozen=True):
    """What routing needs to know of an active webhook."""

    webhook_id: WebhookId
    public_id: str
    organization_id: int
    events: frozenset[str]
    network_ids: frozenset[str] | None
    filter: Filter | None = None


class RoutedEvent(msgspec.Struct, frozen=True):
    """What routing needs to know of an event.

    `states`: its parameters as it was and as it is now; a filter accepts it when it accepts one of them.
    Without any, no filter applies.
    """

    type: str
    network_id: str | None
    organization_id: int | None = None  # of an operational event: only this organization hears of it
    states: tuple[Parameters, ...] = ()


def subscribes(events: frozenset[str], event_type: str) -> bool:
    """Say whether a list of subscribed types and patterns covers an event type."""
    if event_type in events:
        return True
    if event_type.startswith(OPERATIONAL):
        return False
    return "*" in events or f"{event_type.partition('.')[0]}.*" in events


class _Candidates:
    """Who subscribes to a type: to it in every network, or in some."""

    def __init__(self, subscriptions: Iterable[Subscription], networks: Mapping[int, frozenset[str]]) -> None:
        self.all = tuple(subscriptions)
        self.filtered = any(one.filter is not None for one in self.all)
        self.everywhere: list[Subscription] = []
        self.somewhere: list[tuple[frozenset[str], Subscription]] = []
        for one in self.all:
            owned = networks.get(one.organization_id, frozenset())
            heard = one.network_ids
            if EVERY_NETWORK not in owned:
                heard = owned if heard is None else heard & owned
            if heard is None:
                self.everywhere.append(one)
            elif heard:
                self.somewhere.append((heard, one))


class Routes:
    """The active webhooks, by event type."""

    def __init__(self, subscriptions: Iterable[Subscription], networks: Mapping[int, frozenset[str]]) -> None:
        self._subscriptions = tuple(sorted(subscriptions, key=lambda one: one.webhook_id))
        self._networks = networks
        self._by_type: dict[str, _Candidates] = {}
        self._everywhere: dict[tuple[str, frozenset[Field]], Index] = {}
        self._somewhere: dict[tuple[str, frozenset[Field], str], Index] = {}
        self._kept = 0

    def asks(self, event_type: str) -> bool:
        """Say whether a filter asks for the parameters of events of this type."""
        return self._candidates(event_type).filtered

    def match(self, event: RoutedEvent) -> list[WebhookId]:
        """Give the webhooks that are to be told of an event, in the order of their numbers."""
        if event.organization_id is not None:
            return self._match_operational(event)
        states = event.states if self.asks(event.type) else ()
        if not states:
            return self._match(event, NOTHING)
        if len(states) == 1:
            return self._match(event, states[0])
        return sorted({number for state in states for number in self._match(event, state)})

    def _match_operational(self, event: RoutedEvent) -> list[WebhookId]:
        return [
            one.webhook_id
            for one in self._candidates(event.type).all
            if one.organization_id == event.organization_id
        ]

    def _match(self, event: RoutedEvent, state: Parameters) -> list[WebhookId]:
        found = self._index(event.type, state.has).match(state)
        if event.network_id is None or not self._candidates(event.type).somewhere:
            return found
        more = self._index_of_network(event.type, state.has, event.network_id).match(state)
        return sorted(found + more) if more else found

    def _candidates(self, event_type: str) -> _Candidates:
        candidates = self._by_type.get(event_type)
        if candidates is None:
            candidates = self._by_type[event_type] = _Candidates(
                (one for one in self._subscriptions if subscribes(one.events, event_type)), self._networks
            )
        return candidates

    def _index(self, event_type: str, has: frozenset[Field]) -> Index:
        index = self._everywhere.get((event_type, has))
        if index is None:
            everywhere = self._candidates(event_type).everywhere
            index = self._everywhere[event_type, has] = Index(
                ((one.webhook_id, one.filter) for one in everywhere), has
            )
        return index

    def _index_of_network(self, event_type: str, has: frozenset[Field], network_id: str) -> Index:
        index = self._somewhere.get((event_type, has, network_id))
        if index is None:
            hearing = [one for heard, one in self._candidates(event_type).somewhere if network_id in heard]
            self._kept += len(hearing) + 1
            if self._kept > _MOST_KEPT:
                self._somewhere.clear()
                self._kept = len(hearing) + 1
            index = self._somewhere[event_type, has, network_id] = Index(
                ((one.webhook_id, one.filter) for one in hearing), has
            )
        return index
