"""The management API: rotating a secret, and changes that are made only to what the client saw."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from dispatcher.config import Database as DatabaseConfig
from dispatcher.core.signature import Signer
from dispatcher.store.connection import Link
from dispatcher.store.registry import Registry
from tests.management import Management, management
from tests.postgres import Database

BODY = b"{}"
OLD = "the secret in force"


@pytest.fixture
async def api(database: Database) -> AsyncIterator[Management]:
    """Run the API over a fresh database, with a client that may read and write."""
    async with management(database.url) as running:
        yield running


async def signs(api: Management, url: str, at: dt.datetime | None = None) -> dict[str, str]:
    """Give the signature headers that the daemon would send at a time."""
    link = Link(url, "test", DatabaseConfig())
    registry = Registry(link, api.context.vault)
    await registry.refresh()
    await link.close()
    [webhook] = registry.webhooks.values()
    return dict(webhook.signer_at(at or dt.datetime.now(dt.UTC)).sign("dlv_x", 1_700_000_000, BODY))


def signatures(secret: str, following: str | None = None) -> dict[str, str]:
    """Give the signature headers of these secrets."""
    return dict(Signer(secret, following).sign("dlv_x", 1_700_000_000, BODY))


async def rotated(api: Management, webhook: str, **fields: Any) -> dict[str, Any]:
    """Rotate the secret."""
    reply = await api.ask("POST", f"/v1/webhooks/{webhook}/rotate-secret", fields)
    assert (200, webhook) == (reply.status, reply.data["webhook_id"])
    data: dict[str, Any] = reply.data
    return data


async def test_both_secrets_sign_during_the_grace(api: Management, database: Database) -> None:
    """A day long by default; then the new one takes over. It is shown in this one answer."""
    webhook = (await api.new_webhook(secret=OLD))["id"]
    before = dt.datetime.now(dt.UTC)
    made = await rotated(api, webhook)
    takes_over_at = dt.datetime.fromisoformat(made["takes_over_at"])
    assert dt.timedelta(hours=23) < takes_over_at - before < dt.timedelta(hours=25)
    assert signatures(OLD, made["secret"]) == await signs(api, database.url)
    assert signatures(made["secret"]) == await signs(api, database.url, takes_over_at)
    reply = await api.ask("GET", f"/v1/webhooks/{webhook}")
    assert made["takes_over_at"] == reply.data["next_secret_at"]
    assert made["secret"] not in reply.text


async def test_a_rotation_without_grace_switches_at_once(api: Management, database: Database) -> None:
    """The old secret signs nothing any more, not even where a rotation was under way."""
    webhook = (await api.new_webhook(secret=OLD))["id"]
    await rotated(api, webhook)
    made = await rotated(api, webhook, secret="the next secret", grace_seconds=0)
    assert "the next secret" == made["secret"]
    assert signatures("the next secret") == await signs(api, database.url)
    assert (await api.ask("GET", f"/v1/webhooks/{webhook}")).data["next_secret_at"] is None


async def test_a_second_rotation_replaces_the_coming_secret(api: Management, database: Database) -> None:
    """Whoever lost the new secret rotates again: the one in force goes on signing meanwhile."""
    webhook = (await api.new_webhook(secret=OLD))["id"]
    await rotated(api, webhook, secret="lost at once")
    await rotated(api, webhook, secret="kept in a safe", grace_seconds=60)
    assert signatures(OLD, "kept in a safe") == await signs(api, database.url)


@pytest.mark.parametrize("then", ["rotate", "patch", "patch secret"])
async def test_after_the_grace_the_new_secret_is_the_one_in_force(
    api: Management, database: Database, connection: asyncpg.Connection, then: str
) -> None:
    """For the next rotation, and for every other change; a secret given by PATCH ends a rotation."""
    webhook = (await api.new_webhook(secret=OLD))["id"]
    await rotated(api, webhook, secret="second secret")
    await connection.execute("update webhook set next_secret_at = now() - interval '1 second'")
    path = f"/v1/webhooks/{webhook}"
    assert (await api.ask("GET", path)).data["next_secret_at"] is None
    if then == "rotate":
        await rotated(api, webhook, secret="third secret")
        assert signatures("second secret", "third secret") == await signs(api, database.url)
    elif then == "patch":
        assert (await api.ask("PATCH", path, {"description": "new"})).status == 200
        assert signatures("second secret") == await signs(api, database.url)
        assert await connection.fetchval("select next_secret is null from webhook")
    else:
        assert (await api.ask("PATCH", path, {"secret": "third secret"})).status == 200
        assert signatures("third secret") == await signs(api, database.url)


async def test_a_bad_rotation_is_refused(api: Management, connection: asyncpg.Connection) -> None:
    """Secrets have the rules of every other secret, and a grace is 30 days at most; rotations are audited."""
    webhook = (await api.new_webhook())["id"]
    path = f"/v1/webhooks/{webhook}/rotate-secret"
    for body, field in (
        ({"secret": ""}, "secret"),
        ({"grace_seconds": -1}, "grace_seconds"),
        ({"grace_seconds": 2_592_001}, "grace_seconds"),
        ({"grace_seconds": "1"}, "grace_seconds"),
        ({"grace": 1}, "grace"),
    ):
        reply = await api.ask("POST", path, body)
        assert (400, [field]) == (reply.status, [name for name, _ in reply.details])
    assert (await api.ask("POST", "/v1/webhooks/whk_x/rotate-secret", {})).status == 404
    await rotated(api, webhook, secret="a good secret", grace_seconds=60.0)
    [row] = await connection.fetch("select * from audit where action = 'webhook.secret_rotated'")
    assert webhook == row["subject"]
    assert "a good secret" not in str(dict(row))


async def test_a_change_can_be_made_to_what_was_seen_alone(api: Management) -> None:
    """`If-Match` with the ETag of the answer that was read; 412 where it has changed since."""
    made = await api.ask("POST", "/v1/webhooks", {"url": "https://r.example/", "events": ["*"]})
    path = f"/v1/webhooks/{made.data['id']}"
    read = await api.ask("GET", path)
    seen = read.headers["ETag"]
    assert made.headers["ETag"] == seen
    unchanged = await api.ask("PATCH", path, {}, headers={"If-Match": seen})
    assert (200, seen) == (unchanged.status, unchanged.headers["ETag"])
    changed = await api.ask("PATCH", path, {"description": "mine"}, headers={"If-Match": f'"x", {seen}'})
    assert changed.status == 200
    assert changed.headers["ETag"] != seen
    for method, body in (("PATCH", {"description": "yours"}), ("DELETE", None)):
        for stale in (seen, f"W/{changed.headers['ETag']}", "nonsense"):
            reply = await api.ask(method, path, body, headers={"If-Match": stale})
            assert (412, "precondition_failed") == (reply.status, reply.code)
    assert "mine" == (await api.ask("GET", path)).data["description"]
    assert (await api.ask("PATCH", path, {"active": False}, headers={"If-Match": "*"})).status == 200
    latest = (await api.ask("GET", path)).headers["ETag"]
    assert (await api.ask("DELETE", path, headers={"If-Match": latest})).status == 204
    assert (await api.ask("DELETE", path, headers={"If-Match": latest})).status == 404


async def test_a_changed_secret_changes_the_etag(api: Management) -> None:
    """Though it is never shown."""
    made = await api.ask("POST", "/v1/webhooks", {"url": "https://r.example/", "events": ["*"]})
    path = f"/v1/webhooks/{made.data['id']}"
    patched = await api.ask("PATCH", path, {"secret": "another secret"})
    assert made.headers["ETag"] != patched.headers["ETag"]
