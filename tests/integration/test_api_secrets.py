"""What the API never shows, and a webhook's own authorities."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from dispatcher.api.shapes import CreateWebhook, UpdateWebhook
from dispatcher.config import Config, Delivery, Secrets
from dispatcher.config.sources import Found
from dispatcher.core.message import Message
from dispatcher.store.idempotency import Kept
from dispatcher.store.installation import Installation
from dispatcher.store.registry import Registry
from dispatcher.store.webhooks import WebhookFields
from tests.certificates import Authority
from tests.management import Management, management
from tests.postgres import wait_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import asyncpg

    from tests.postgres import Database

TOKEN = "Bearer sesame-open-2718"


@pytest.fixture
async def api(database: Database) -> AsyncIterator[Management]:
    """Run the API over a database of the test's own."""
    async with management(database.url) as api:
        yield api


async def stored(api: Management, webhook_id: str) -> dict[str, str]:
    """Read a webhook's headers as the daemon does."""
    registry = Registry(api.context.database.link("registry"), api.context.vault)
    await registry.refresh()
    (webhook,) = [one for one in registry.webhooks.values() if one.public_id == webhook_id]
    assert TOKEN not in repr(webhook)
    return dict(webhook.headers)


async def test_credentials_in_headers_are_never_shown(api: Management, database: Database) -> None:
    """Stored encrypted, sent, and shown as hidden in every answer."""
    made = await api.new_webhook(headers={"Authorization": TOKEN, "X-Station": "GRIL01"})
    path = f"/v1/webhooks/{made['id']}"
    answers = [
        (await api.ask("GET", path)).text,
        (await api.ask("GET", "/v1/webhooks")).text,
        (await api.ask("PATCH", path, {"description": "d"})).text,
    ]
    assert not any(TOKEN in answer for answer in answers)
    shown = {"Authorization": "(hidden)", "X-Station": "GRIL01"}
    assert (shown, shown) == (made["headers"], (await api.ask("GET", path)).data["headers"])
    assert {"Authorization": TOKEN, "X-Station": "GRIL01"} == await stored(api, made["id"])
    connection = await database.connect()
    try:
        row = await connection.fetchval("select w::text from webhook w")
        assert TOKEN not in row
        assert TOKEN.encode().hex() not in row
    finally:
        await connection.close()


async def test_what_is_hidden_can_be_sent_back(api: Management) -> None:
    """A client that reads, changes and writes a webhook does not overwrite what it never saw."""
    made = await api.new_webhook(headers={"Authorization": TOKEN})
    path = f"/v1/webhooks/{made['id']}"
    headers = {"authorization": "(hidden)", "X-Station": "GRIL02"}
    assert 200 == (await api.ask("PATCH", path, {"headers": headers})).status
    assert {"authorization": TOKEN, "X-Station": "GRIL02"} == await stored(api, made["id"])

    unknown = await api.ask("PATCH", path, {"headers": {"X-Api-Key": "(hidden)"}})
    problem = 'the value of "X-Api-Key" is not known; give it instead of (hidden)'
    assert (400, [("headers", problem)]) == (unknown.status, unknown.details)
    fresh = {"url": "https://receiver.example/", "events": ["*"], "headers": {"Cookie": "(hidden)"}}
    assert 400 == (await api.ask("POST", "/v1/webhooks", fresh)).status
    assert {"authorization": TOKEN, "X-Station": "GRIL02"} == await stored(api, made["id"])


async def test_own_authorities_are_kept_and_reset(api: Management, tmp_path: Path) -> None:
    """PEM in, the certificates alone back; null trusts the system again."""
    pem = Authority(tmp_path).file.read_text()
    made = await api.new_webhook(ca_certificates=f"# ours\n{pem}")
    path = f"/v1/webhooks/{made['id']}"
    assert (pem, pem) == (made["ca_certificates"], (await api.ask("GET", path)).data["ca_certificates"])
    assert pem == (await api.ask("PATCH", path, {"description": "d"})).data["ca_certificates"]
    assert (await api.ask("PATCH", path, {"ca_certificates": None})).data["ca_certificates"] is None
    assert pem == (await api.ask("PATCH", path, {"ca_certificates": pem})).data["ca_certificates"]


@pytest.mark.parametrize(
    "text", ["", "nonsense", "-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----"]
)
async def test_what_are_no_certificates_is_refused(api: Management, text: str) -> None:
    """400, with the field; an empty text is no way to trust nobody."""
    wanted = {"url": "https://receiver.example/", "events": ["*"], "ca_certificates": text}
    refused = await api.ask("POST", "/v1/webhooks", wanted)
    assert (400, ["ca_certificates"]) == (refused.status, [field for field, _ in refused.details])


HOSTS = [
    *("127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "0x7f.1", "127.0.0.1.", "0"),
    *(
        "10.1.2.3",
        "169.254.169.254",
        "0xa9fea9fe",
        "192.168.257",
        "100.64.0.1",
        "224.0.0.1",
        "255.255.255.255",
    ),
    *("[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]"),
    *(
        "[2001:0:4136:e378:8000:63bf:3fff:fdd2]",
        "[fc00::1]",
        "[fd00:ec2::254]",
        "[fe80::1]",
        "[fe80::1%25lo]",
    ),
    *("[fec0::1]", "[ff02::1]", "[::127.0.0.1]", "localhost", "LOCALHOST.", "hook.localhost", "127.0.0.1:80"),
    *("\u2460\u2461\u2466.0.0.1", "\uff11\uff12\uff17.0.0.1", "127\u30020\u30020\u30021"),
]


@pytest.mark.parametrize("host", HOSTS)
async def test_addresses_inside_are_refused_in_every_notation(api: Management, host: str) -> None:
    """400 when it is made and when it is changed, with the field."""
    url = f"https://{host}/hook"
    made = await api.ask("POST", "/v1/webhooks", {"url": url, "events": ["*"]})
    assert (400, ["url"]) == (made.status, [field for field, _ in made.details])
    webhook = await api.new_webhook()
    changed = await api.ask("PATCH", f"/v1/webhooks/{webhook['id']}", {"url": url})
    assert (400, ["url"]) == (changed.status, [field for field, _ in changed.details])


def test_what_is_printed_by_accident_holds_no_secret() -> None:
    """Requests and messages show neither secrets nor headers in a traceback."""
    create = CreateWebhook("https://a.example/", ["*"], secret="hunter2hunter2", headers={"Cookie": TOKEN})
    update = UpdateWebhook(secret="hunter2hunter2", headers={"Cookie": TOKEN})
    message = Message("https://a.example/", (("Cookie", TOKEN),), b"{}")
    fields = WebhookFields(url="https://a.example/", events=("*",), headers={"Cookie": TOKEN})
    rest = (Kept(b"", TOKEN), Installation(TOKEN.encode()), Found(TOKEN, "a file", is_text=True))
    keys = Secrets(encryption_key=TOKEN, previous_encryption_key=TOKEN)
    proxy = Delivery(proxy_url="http://user:hunter2@proxy.example:3128")
    for thing in (create, update, message, fields, *rest, keys, proxy, Config(secrets=keys, delivery=proxy)):
        assert "hunter2" not in repr(thing)
        assert TOKEN not in repr(thing)


async def test_what_is_hidden_stays_what_it_is_by_now(api: Management, database: Database) -> None:
    """Another client gives a new token while a change that keeps the hidden one is under way."""
    made = await api.new_webhook(headers={"Authorization": TOKEN})
    path, renewed = f"/v1/webhooks/{made['id']}", "Bearer renewed-1828"
    kept = {"headers": {"Authorization": "(hidden)"}, "description": "d"}
    connection, looking = await database.connect(), await database.connect()
    async with asyncio.TaskGroup() as group, connection.transaction():
        await connection.execute("select from webhook for update")
        first = group.create_task(api.ask("PATCH", path, {"headers": {"Authorization": renewed}}))
        await queued(looking, 1, "the new token is about to be stored")
        second = group.create_task(api.ask("PATCH", path, kept))
        await queued(looking, 2, "the other change has seen the old one")
    for one in (connection, looking):
        await one.close()
    assert (200, 200) == (first.result().status, second.result().status)
    registry = Registry(api.context.database.link("registry"), api.context.vault)
    await registry.refresh()
    assert [(("Authorization", renewed),)] == [one.headers for one in registry.webhooks.values()]


async def queued(connection: asyncpg.Connection, count: int, what: str) -> None:
    """Wait until so many sessions wait for a lock."""
    waits = "select count(*) from pg_locks l join pg_stat_activity a using (pid) where not granted and"

    async def look() -> bool:
        return bool(await connection.fetchval(f"{waits} a.datname = current_database()") == count)

    seen: bool = await wait_for(look, what)
    assert seen
