"""The management API: webhooks."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from dispatcher.config import Api, Config, Delivery
from dispatcher.core.signature import standard_key
from dispatcher.store import accounts
from tests.management import Management, management
from tests.past import NOW, Past
from tests.postgres import Database

GOOD = {"url": "https://receiver.example/hook", "events": ["event.detected"]}


@pytest.fixture
async def api(database: Database) -> AsyncIterator[Management]:
    """Run the API over a fresh database, with a client that may read and write."""
    async with management(database.url) as running:
        yield running


async def audit(database: Database) -> list[tuple[str, str]]:
    """Give what the audit log says of webhooks: action and subject."""
    connection = await database.connect()
    try:
        rows = await connection.fetch(
            "select action, subject from audit where action like 'webhook.%' order by id"
        )
        return [(row["action"], row["subject"]) for row in rows]
    finally:
        await connection.close()


async def test_the_guides_example_makes_a_webhook(api: Management, database: Database) -> None:
    """The request of the public guide works, answers 201 and never shows the secret it was given."""
    wanted = {
        "url": "https://your-server.com/grillo-webhook",
        "events": ["event.detected", "sensor.offline"],
        "secret": "your_shared_secret",
    }
    reply = await api.ask("POST", "/v1/webhooks", wanted)
    assert reply.status == 201
    made = reply.data
    assert made["id"].startswith("whk_")
    assert f"/v1/webhooks/{made['id']}" == reply.headers["Location"]
    assert "your_shared_secret" not in reply.text
    expected = {
        "id": made["id"],
        "url": wanted["url"],
        "events": wanted["events"],
        "active": True,
        "description": "",
        "filter": None,
        "payload": "standard",
        "ordering": "subject",
        "coalesce": False,
        "max_age_s": None,
        "settle_s": None,
        "rate_limit_per_s": None,
        "network_ids": None,
        "headers": {},
        "ca_certificates": None,
        "created_at": made["created_at"],
        "updated_at": made["created_at"],
        "disabled_reason": None,
        "health": {"state": "idle", "failing_since": None, "last_success_at": None, "last_attempt_at": None},
        "next_secret_at": None,
    }
    assert expected == made
    assert expected == (await api.ask("GET", f"/v1/webhooks/{made['id']}")).data
    assert [("webhook.created", made["id"])] == await audit(database)


async def test_a_made_secret_is_shown_once(api: Management, database: Database) -> None:
    """Without a secret one of 32 bytes is made, shown in that answer alone, and stored encrypted."""
    made = await api.new_webhook()
    secret = made["secret"]
    assert len(standard_key(secret)) == 32
    assert secret not in (await api.ask("GET", f"/v1/webhooks/{made['id']}")).text
    assert secret not in (await api.ask("GET", "/v1/webhooks")).text
    connection = await database.connect()
    sealed = await connection.fetchval("select secret from webhook")
    await connection.close()
    assert secret.encode() not in sealed
    assert secret == api.context.vault.open(sealed, made["id"])


async def test_every_field_is_kept(api: Management) -> None:
    """What a client gives is what it gets."""
    wanted = {
        **GOOD,
        "description": "Alertas de México",
        "headers": {"X-Station": "GRIL01", "User-Agent": "mine"},
        "network_ids": ["net_xyz789"],
        "active": False,
        "filter": {"min_magnitude": 4.5, "bbox": [170, -20, -170, 20], "include_unknown": True},
        "payload": "full",
        "ordering": "strict",
        "coalesce": True,
        "max_age_s": 600,
        "settle_s": 30,
        "rate_limit_per_s": 2.5,
        "secret": None,
    }
    made = (await api.ask("POST", "/v1/webhooks", wanted)).data
    for name in (
        "url",
        "events",
        "description",
        "headers",
        "network_ids",
        "active",
        "filter",
        "payload",
        "ordering",
        "coalesce",
        "max_age_s",
        "settle_s",
        "rate_limit_per_s",
    ):
        assert wanted[name] == made[name]
    assert made["health"]["state"] == "disabled"


async def test_all_bad_fields_are_named_at_once(api: Management, database: Database) -> None:
    """One answer names every problem, each with its field, and nothing is made."""
    wanted = {
        "url": 3,
        "events": ["event.detcted", "event.updated", "event.updated"],
        "secret": " short",
        "descripton": "x",
        "headers": {"Host": "x"},
        "network_ids": [],
        "filter": {"min_magnitude": "4", "bbox": [1], "min_magnitud": 3},
        "active": "yes",
    }
    reply = await api.ask("POST", "/v1/webhooks", wanted)
    assert (400, "invalid_request") == (reply.status, reply.code)
    assert sorted(reply.details) == [
        ("active", "expected boolean, got string"),
        ("descripton", 'is not a known field; did you mean "description"?'),
        ("events", '"event.detcted" is not a known event type; did you mean "event.detected"?'),
        ("events", '"event.updated" is given 2 times'),
        ("filter.bbox", "must be [west, south, east, north], four numbers in degrees"),
        ("filter.min_magnitud", 'is not a known field; did you mean "min_magnitude"?'),
        ("filter.min_magnitude", "must be a number, not a string"),
        ("headers", '"Host" is set by the dispatcher and cannot be overridden'),
        ("network_ids", "must not be empty"),
        ("secret", "must not begin or end with a space"),
        ("url", "expected string, got integer"),
    ]
    assert [] == await audit(database)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("url", None, "expected string, got null"),
        ("url", "http://receiver.example/", "must begin with https://"),
        ("url", "https://127.1/", "leads to 127.0.0.1, a loopback address, which is not allowed"),
        ("url", "https://a\x00.example/", "must not contain the character U+0000"),
        ("events", "event.detected", "expected array, got string"),
        ("events", ["event.detected", 1], "expected string, got integer at [1]"),
        ("events", [], "must not be empty"),
        ("headers", {"X-A": 1}, "expected string, got integer at [...]"),
        ("headers", {"X-A\x00": "v"}, "must not contain the character U+0000"),
        ("description", "d" * 501, "expected string of length <= 500"),
        ("active", None, "expected boolean, got null"),
        ("network_ids", "net_a", "expected array or null, got string"),
        ("filter", [], "expected object or null, got array"),
        ("ordering", "any", "must be one of subject, strict, none"),
        ("max_age_s", 0, "expected integer >= 1"),
        ("rate_limit_per_s", 0, "expected number >= 0.1"),
        ("rate_limit_per_s", 1001, "expected number <= 1000.0"),
        ("rate_limit_per_s", "5", "expected number or null, got string"),
        ("payload", "all", "must be one of standard, full"),
        ("filter", {}, "must hold a condition; null takes a filter away"),
    ],
)
async def test_a_bad_field_is_refused(api: Management, field: str, value: Any, message: str) -> None:
    """Each field has its type and its rules."""
    reply = await api.ask("POST", "/v1/webhooks", {**GOOD, field: value})
    assert (400, [(field, message)]) == (reply.status, reply.details)


async def test_required_fields_are_required(api: Management) -> None:
    """A webhook needs a URL and events; no body is a body without fields."""
    expected = [("url", "is required"), ("events", "is required")]
    assert expected == (await api.ask("POST", "/v1/webhooks")).details
    assert expected == (await api.ask("POST", "/v1/webhooks", {})).details


async def test_networks_are_limited_to_the_organizations_own(api: Management) -> None:
    """An organization can only narrow down to networks that it hears of."""
    assert await accounts.create_organization(api.context.database, "uno", network_ids=["net_a"])
    key = await api.new_key(organization="uno")
    reply = await api.ask("POST", "/v1/webhooks", {**GOOD, "network_ids": ["net_a", "net_b"]}, key=key)
    assert [("network_ids", '"net_b" is not one of your organization\'s networks')] == reply.details
    reply = await api.ask("POST", "/v1/webhooks", {**GOOD, "network_ids": ["net_a"]}, key=key)
    assert reply.status == 201


async def test_another_organizations_webhooks_do_not_exist(api: Management) -> None:
    """Every request for a foreign webhook answers 404, and lists hold one's own only."""
    made = await api.new_webhook()
    assert await accounts.create_organization(api.context.database, "uno", network_ids=["*"])
    stranger = await api.new_key(organization="uno")
    path = f"/v1/webhooks/{made['id']}"
    for method, suffix, body in (
        ("GET", "", None),
        ("PATCH", "", {"active": False}),
        ("DELETE", "", None),
        ("GET", "/deliveries", None),
        ("POST", "/test", None),
    ):
        reply = await api.ask(method, path + suffix, body, key=stranger)
        assert (404, "not_found") == (reply.status, reply.code), method + suffix
    assert [] == (await api.ask("GET", "/v1/webhooks", key=stranger)).data
    assert (await api.ask("GET", path)).data["active"] is True


async def test_lists_come_in_pages(api: Management) -> None:
    """The newest come first, 20 to a page unless `limit` says otherwise."""
    made = [(await api.new_webhook())["id"] for _ in range(3)]
    reply = await api.ask("GET", "/v1/webhooks?limit=2")
    assert [made[2], made[1]] == [one["id"] for one in reply.data]
    assert {"page": 1, "limit": 2, "total": 3, "pages": 2} == reply.body["pagination"]
    reply = await api.ask("GET", "/v1/webhooks?limit=2&page=2")
    assert [made[0]] == [one["id"] for one in reply.data]
    assert [] == (await api.ask("GET", "/v1/webhooks?page=1000000&limit=100")).data
    assert (await api.ask("GET", "/v1/webhooks")).body["pagination"]["limit"] == 20


@pytest.mark.parametrize(
    "query",
    [
        "page=0",
        "page=-1",
        "limit=0",
        "limit=101",
        f"page={10**30}",
        "page=x",
        "page=",
        "page=1&page=2",
        "foo=1",
    ],
)
async def test_a_bad_page_is_refused(api: Management, query: str) -> None:
    """Pages are numbers from 1, limits from 1 to 100; what a list does not know is not ignored."""
    reply = await api.ask("GET", f"/v1/webhooks?{query}")
    assert (400, [query.partition("=")[0]]) == (reply.status, [field for field, _ in reply.details])


async def test_patch_changes_what_is_given(api: Management, database: Database) -> None:
    """Absent fields stay, null resets, and the change is noted with the key that made it."""
    made = await api.new_webhook(description="d", headers={"X-A": "1"}, filter={"min_magnitude": 4})
    path = f"/v1/webhooks/{made['id']}"
    changed = (await api.ask("PATCH", path, {"events": ["event.*"], "active": False})).data
    kept = ("url", "description", "headers", "filter", "created_at", "id")
    assert {name: made[name] for name in kept} == {name: changed[name] for name in kept}
    assert (["event.*"], False) == (changed["events"], changed["active"])
    assert changed["updated_at"] > made["updated_at"]
    reset = (await api.ask("PATCH", path, {"description": None, "headers": None, "filter": None})).data
    assert ("", {}, None) == (reset["description"], reset["headers"], reset["filter"])
    assert reset == (await api.ask("GET", path)).data
    assert [("webhook.updated", made["id"])] * 2 == (await audit(database))[1:]


async def test_patching_nothing_changes_nothing(api: Management, database: Database) -> None:
    """An empty change, and one to what is there already, leave no trace."""
    made = await api.new_webhook()
    for body in ({}, {"active": True}, {"events": made["events"]}):
        changed = (await api.ask("PATCH", f"/v1/webhooks/{made['id']}", body)).data
        assert made["updated_at"] == changed["updated_at"]
    assert len(await audit(database)) == 1


async def test_a_bad_patch_changes_nothing(api: Management) -> None:
    """One bad field refuses the whole change; what cannot be reset refuses null."""
    made = await api.new_webhook()
    path = f"/v1/webhooks/{made['id']}"
    bad: dict[str, Any] = {"active": False, "url": None, "events": None, "secret": None, "filter": {}}
    reply = await api.ask("PATCH", path, bad)
    assert reply.status == 400
    assert ["events", "filter", "secret", "url"] == sorted(field for field, _ in reply.details)
    assert (await api.ask("GET", path)).data["active"] is True


async def test_activating_forgets_why_it_was_disabled(api: Management, database: Database) -> None:
    """`disabled_reason` speaks of a webhook that is disabled."""
    made = await api.new_webhook()
    path = f"/v1/webhooks/{made['id']}"
    connection = await database.connect()
    await connection.execute("update webhook set active = false, disabled_reason = 'gone'")
    assert (await api.ask("GET", path)).data["disabled_reason"] == "gone"
    assert (await api.ask("PATCH", path, {"description": "x"})).data["disabled_reason"] == "gone"
    assert (await api.ask("PATCH", path, {"active": True})).data["disabled_reason"] is None
    await connection.close()


async def test_a_new_secret_takes_over_at_once(api: Management, database: Database) -> None:
    """A secret set by PATCH replaces the current one and ends a rotation."""
    made = await api.new_webhook()
    connection = await database.connect()
    await connection.execute("update webhook set next_secret = 'x', next_secret_at = now()")
    reply = await api.ask("PATCH", f"/v1/webhooks/{made['id']}", {"secret": "another secret"})
    assert (200, False) == (reply.status, "another secret" in reply.text)
    row = await connection.fetchrow("select secret, next_secret, next_secret_at from webhook")
    details = await connection.fetchval("select details from audit order by id desc limit 1")
    await connection.close()
    assert "another secret" == api.context.vault.open(row["secret"], made["id"])
    assert (None, None) == (row["next_secret"], row["next_secret_at"])
    assert {"changed": ["secret"]} == json.loads(details)


async def test_a_deleted_webhook_is_gone(api: Management, database: Database) -> None:
    """204 once, 404 from then on; the row stays, and what was delivered can be read."""
    made = await api.new_webhook()
    path = f"/v1/webhooks/{made['id']}"
    reply = await api.ask("DELETE", path)
    assert (204, "") == (reply.status, reply.text)
    assert reply.headers["X-Request-Id"].startswith("req_")
    for method, suffix in (
        ("GET", ""),
        ("DELETE", ""),
        ("PATCH", ""),
        ("POST", "/test"),
    ):
        assert (await api.ask(method, path + suffix)).status == 404
    assert [] == (await api.ask("GET", f"{path}/deliveries")).data
    assert [] == (await api.ask("GET", "/v1/webhooks")).data
    connection = await database.connect()
    row = await connection.fetchrow("select active, deleted_at from webhook")
    await connection.close()
    assert (False, True) == (row["active"], row["deleted_at"] is not None)
    assert ("webhook.deleted", made["id"]) == (await audit(database))[-1]


async def test_http_urls_are_good_where_the_configuration_says_so(database: Database) -> None:
    """Without `require_https`, and with loopback allowed, a local receiver can be registered."""
    config = Config(
        api=Api(rate_limit_per_minute=1000),
        delivery=Delivery(require_https=False, allowed_networks=("127.0.0.0/8",)),
    )
    async with management(database.url, config) as api:
        made = await api.new_webhook(url="http://127.0.0.1:8000/hook")
        assert made["url"] == "http://127.0.0.1:8000/hook"


async def test_health_follows_the_facts(api: Management, database: Database) -> None:
    """Failing since the first failure after the last success; a failed test is an attempt, not a failure."""
    made = await api.new_webhook()
    connection = await database.connect()
    past = await Past.of(connection, made["id"])

    async def health() -> dict[str, Any]:
        shown: dict[str, Any] = (await api.ask("GET", f"/v1/webhooks/{made['id']}")).data["health"]
        listed = (await api.ask("GET", "/v1/webhooks")).data[0]["health"]
        assert shown == listed
        return shown

    def at(minute: int) -> str:
        return f"2026-01-01T00:{minute:02}:00Z"

    tested = await past.delivery()
    await past.attempt(tested, 1, 500, trigger="test")
    expected = {"state": "idle", "failing_since": None, "last_success_at": None, "last_attempt_at": at(1)}
    assert expected == await health()

    first = await past.delivery()
    await past.attempt(first, 2, None, state="pending")
    expected = {"state": "failing", "failing_since": at(2), "last_success_at": None, "last_attempt_at": at(2)}
    assert expected == await health()

    await past.attempt(first, 3, 204)
    await past.fact(first, 4, 0, kind="requested", state="pending", trigger="manual")
    expected = {"state": "healthy", "failing_since": None, "last_success_at": at(3), "last_attempt_at": at(3)}
    assert expected == await health()

    for number in (5, 6):
        await past.attempt(first, number, 503, state="pending")
    expected = {
        "state": "failing",
        "failing_since": at(5),
        "last_success_at": at(3),
        "last_attempt_at": at(6),
    }
    assert expected == await health()
    assert NOW.isoformat().startswith("2026-01-01T00:00")

    await api.ask("PATCH", f"/v1/webhooks/{made['id']}", {"active": False})
    assert (await health())["state"] == "disabled"
    await connection.close()
