"""Who is told of an event."""

from __future__ import annotations

import pytest

from dispatcher.core.ids import WebhookId
from dispatcher.core.routing import EVERY_NETWORK, RoutedEvent, Routes, Subscription, subscribes

EVERYBODY = {1: frozenset({EVERY_NETWORK})}


def subscription(
    number: int, *events: str, organization: int = 1, network_ids: frozenset[str] | None = None
) -> Subscription:
    """Make the subscription of webhook `number`."""
    return Subscription(WebhookId(number), f"whk_{number}", organization, frozenset(events), network_ids)


@pytest.mark.parametrize(
    ("events", "event_type", "expected"),
    [
        ({"event.detected"}, "event.detected", True),
        ({"event.detected"}, "event.updated", False),
        ({"event.*"}, "event.detected", True),
        ({"event.*"}, "event.updated", True),
        ({"event.*"}, "eventual.thing", False),
        ({"event.*"}, "sensor.offline", False),
        ({"sensor.*"}, "sensor.online", True),
        ({"sensor.*", "event.updated"}, "event.updated", True),
        ({"*"}, "sensor.offline", True),
        ({"*"}, "quarry.blast", True),
        ({"*"}, "webhook.disabled", False),
        ({"webhook.*"}, "webhook.disabled", False),
        ({"webhook.disabled"}, "webhook.disabled", True),
    ],
)
def test_patterns(events: set[str], event_type: str, *, expected: bool) -> None:
    """Types by name, by family, or all; the operational ones only by name."""
    assert expected == subscribes(frozenset(events), event_type)


def test_webhooks_come_in_the_order_of_their_numbers() -> None:
    """Whatever order they were given in; asking twice gives the same."""
    routes = Routes([subscription(number, "*") for number in (3, 1, 2)], EVERYBODY)
    for _ in range(2):
        assert [1, 2, 3] == routes.match(RoutedEvent("event.detected", "net_a"))


def test_organization_hears_of_its_own_networks() -> None:
    """Not of others', nor of events that name none; '*' hears of everything."""
    networks = {1: frozenset({"net_a"}), 2: frozenset({"net_b", "net_c"}), 3: frozenset({EVERY_NETWORK})}
    routes = Routes([subscription(number, "*", organization=number) for number in (1, 2, 3, 4)], networks)
    heard = {
        name: routes.match(RoutedEvent("event.detected", name)) for name in ("net_a", "net_c", "?", None)
    }
    assert {"net_a": [1, 3], "net_c": [2, 3], "?": [3], None: [3]} == heard


def test_webhook_may_want_some_networks_only() -> None:
    """Those it names, as far as its organization hears of them; events without a network never."""
    networks = {1: frozenset({"net_a", "net_b"}), 2: frozenset({EVERY_NETWORK})}
    routes = Routes(
        [
            subscription(1, "*", network_ids=frozenset({"net_a", "net_z"})),
            subscription(2, "*", organization=2, network_ids=frozenset({"net_a"})),
        ],
        networks,
    )
    heard = {
        name: routes.match(RoutedEvent("event.detected", name)) for name in ("net_a", "net_b", "net_z", None)
    }
    assert {"net_a": [1, 2], "net_b": [], "net_z": [], None: []} == heard


def test_operational_event_stays_in_its_organization() -> None:
    """Whatever networks the organization has; only webhooks that name the type hear of it."""
    routes = Routes(
        [
            subscription(1, "webhook.disabled"),
            subscription(2, "webhook.disabled", organization=2),
            subscription(3, "*"),
        ],
        {2: frozenset({EVERY_NETWORK})},
    )
    assert [1] == routes.match(RoutedEvent("webhook.disabled", None, organization_id=1))
    assert [2] == routes.match(RoutedEvent("webhook.disabled", None, organization_id=2))


def test_nobody_subscribes() -> None:
    """An event that nobody wants goes to nobody."""
    assert [] == Routes([], {}).match(RoutedEvent("event.detected", "net_a"))
