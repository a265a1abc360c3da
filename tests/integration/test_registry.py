"""What a run is told of when webhooks change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dispatcher.store.registry import Registry
from tests.parts import VAULT, new_webhook, parts

if TYPE_CHECKING:
    from dispatcher.core.ids import WebhookId
    from tests.postgres import Database


async def test_who_leads_to_another_host(database: Database) -> None:
    """Each once, as its host is another; neither a new webhook nor one with another path."""
    async with parts(database) as one:
        elsewhere, _ = [await new_webhook(one.connection, "https://first.example/") for _ in range(2)]
        moved: list[tuple[WebhookId, str]] = []
        registry = Registry(
            one.store.link("test"),
            VAULT,
            moved=lambda number: moved.append((number, registry.host_of(number))),
        )
        await registry.refresh()
        await one.connection.execute("update webhook set url = url || 'path'")
        await registry.refresh()
        assert [] == moved
        await one.connection.execute(
            "update webhook set url = 'https://second.example:8443/' where id = $1", elsewhere
        )
        await registry.refresh()
        assert [(elsewhere, "second.example:8443")] == moved


async def test_webhooks_of_one_host(database: Database) -> None:
    """The host is one, whatever follows it and however it is written: they share what one host may have."""
    async with parts(database) as one:
        registry = Registry(one.store.link("test"), VAULT)
        urls = ["HTTPS://Hooks.example/a", "https://hooks.example?token=1", "https://hooks.example?a/b"]
        webhooks = [await new_webhook(one.connection, url) for url in urls]
        await registry.refresh()
        assert ["hooks.example"] * 3 == [registry.host_of(number) for number in webhooks]
