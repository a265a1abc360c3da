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
