"""`dispatcher doctor`: a webhook and an installation, as they are met."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from dispatcher.config import Config, Delivery
from dispatcher.config import Database as DatabaseConfig
from dispatcher.core.ids import WebhookId
from dispatcher.diagnosis import Finding, examine_installation, examine_webhook
from dispatcher.store.connection import Database as Store
from tests.acceptance.daemon import daemons
from tests.acceptance.subscriber import create_webhook
from tests.commands import run
from tests.embedded import fetch, running
from tests.parts import insert, key_of
from tests.postgres import Database, execute, wait_for
from tests.receiver import Receiver, answer, free_port

if TYPE_CHECKING:
    import asyncpg

HERE: Final = Delivery(allowed_networks=("127.0.0.0/8",), require_https=False)


def local(directory: Path) -> tuple[str, str]:
    """Write a configuration that may reach this host, and give the arguments that name it."""
    file = directory / "config.toml"
    file.write_text(
        f'data_dir = "{directory}"\n[delivery]\nallowed_networks = ["127.0.0.0/8"]\nrequire_https = false\n'
    )
    return ("--config", str(file))


async def told(url: str, status: int, *arguments: str) -> dict[str, dict[str, str]]:
    """Give what it says as JSON, by check; fails where the exit status is another one."""
    ended = await run("doctor", "--json", *arguments, url=url)
    assert status == ended.status, ended.out + ended.err
    lines = [json.loads(line) for line in ended.lines]
    return {line["check"]: line for line in lines}


async def public_id(connection: asyncpg.Connection, webhook_id: WebhookId) -> str:
    """Give a webhook's public id."""
    name: str = await connection.fetchval("select public_id from webhook where id = $1", webhook_id)
    return name


async def test_a_webhook_that_works(database: Database, tmp_path: Path) -> None:
    """Examined without a request; with `--test`, the dispatcher sends one, and the answer is told."""
    connection = await database.connect()
    try:
        async with Receiver() as receiver, daemons(database.url, tmp_path) as house:
            await house.start()
            name = await public_id(
                connection, await create_webhook(database.url, receiver.url("/hook"), ["event.*"])
            )
            findings = await told(database.url, 0, name, *local(tmp_path))
            expected = {
                "active": "ok",
                "subscription": "ok",
                "url": "warn",
                "name": "skipped",
                "tls": "skipped",
            }
            expected |= {"addresses": "ok", "connect": "ok", "speed": "skipped", "deliveries": "skipped"}
            assert expected == {check: one["verdict"] for check, one in findings.items()}
            assert [] == receiver.requests
            findings = await told(database.url, 0, name, "--test", *local(tmp_path))
            assert "ok" == findings["test"]["verdict"]
            assert "it was answered 200" in findings["test"]["found"]
            assert "webhook.test" == receiver.requests[0].header("X-Grillo-Event")
            findings = await told(database.url, 0, name, *local(tmp_path))
            assert ("ok", "ok") == (findings["speed"]["verdict"], findings["deliveries"]["verdict"])
    finally:
        await connection.close()


async def test_a_test_that_is_refused(database: Database, tmp_path: Path) -> None:
    """A 401 leads to the secret, and the exit status is 1."""
    connection = await database.connect()
    try:
        async with Receiver(answer(401)) as receiver, daemons(database.url, tmp_path) as house:
            await house.start()
            name = await public_id(connection, await create_webhook(database.url, receiver.url(), ["*"]))
            ended = await run("doctor", name, "--test", *local(tmp_path), url=database.url)
            assert 1 == ended.status
            assert "it did not arrive: 401 client_error" in ended.out
            assert "check that the secret matches" in ended.out
            assert "1 failed" in ended.lines[-1]
    finally:
        await connection.close()


async def examined(store: Store, name: str, organization_id: int | None = None) -> dict[str, Finding]:
    """Examine a webhook; gives the findings by check."""
    findings = await examine_webhook(store, HERE, name, organization_id=organization_id)
    assert findings is not None
    return {finding.check: finding for finding in findings}


async def test_what_is_registered_is_judged(database: Database) -> None:
    """Paused, deactivated, deleted; unknown types; an organization that hears of nothing."""
    connection = await database.connect()
    store = Store(database.url, DatabaseConfig())
    try:
        url = f"http://127.0.0.1:{free_port()}/"
        webhook_id = await create_webhook(database.url, url, ["event.detected"])
        name = await public_id(connection, webhook_id)
        findings = await examined(store, name)
        assert ("ok", "ok") == (findings["active"].verdict, findings["subscription"].verdict)

        async def after(change: str, check: str) -> tuple[str, str]:
            await connection.execute(change)
            finding = (await examined(store, name))[check]
            return finding.verdict, str(finding.found)

        assert ("fail", "it is paused") == await after("update webhook set active = false", "active")
        gone = "update webhook set disabled_reason = 'gone'"
        assert ("fail", "it was deactivated: gone") == await after(gone, "active")
        assert ("fail", "it was deleted") == await after("update webhook set deleted_at = now()", "active")
        unknown = "update webhook set events = array['event.*', 'event.lost']"
        assert ("fail", "it subscribes to unknown types: event.lost") == await after(unknown, "subscription")
        await connection.execute("update webhook set events = array['*'], network_ids = array['net_b']")
        elsewhere = "update organization_network set network_id = 'net_a'"
        verdict, found = await after(elsewhere, "subscription")
        assert ("fail", True) == (verdict, found.endswith("does not hear of: net_b"))
        verdict, found = await after("delete from organization_network", "subscription")
        assert ("fail", True) == (verdict, "hears of no network" in found)
    finally:
        await store.close()
        await connection.close()


async def test_another_organizations_webhook_is_unknown(database: Database) -> None:
    """To whoever asks for one organization."""
    connection = await database.connect()
    store = Store(database.url, DatabaseConfig())
    try:
        webhook_id = await create_webhook(database.url, "https://hook.example/", ["*"])
        name = await public_id(connection, webhook_id)
        assert await examine_webhook(store, HERE, name, organization_id=99) is None
        assert await examine_webhook(store, HERE, "whk_none") is None
    finally:
        await store.close()
        await connection.close()
    ended = await run("doctor", "whk_none", url=database.url)
    assert (2, "dispatcher: there is no webhook whk_none\n") == (ended.status, ended.err)


async def test_what_the_last_deliveries_say(database: Database) -> None:
    """Failures are counted from the newest on; slow answers are a warning."""
    connection = await database.connect()
    store = Store(database.url, DatabaseConfig())
    try:
        webhook_id = await create_webhook(database.url, f"http://127.0.0.1:{free_port()}/", ["*"])
        name = await public_id(connection, webhook_id)

        async def one(state: str, status: int | None, error: str | None, duration_ms: float) -> None:
            event = await insert(connection)
            key = key_of(event, webhook_id)
            await connection.execute(
                "insert into message (day, outbox_id, lane, batch, type, occurred_at, recorded_at, fan_out,"
                " body) values ($1, $2, 0, 1, 'event.detected', now(), now(), 1, '{}')",
                *event,
            )
            await connection.execute(
                "insert into delivery (day, outbox_id, webhook_id, lane) values ($1, $2, $3, 0)", *key
            )
            await connection.execute(
                "insert into delivery_event (day, outbox_id, webhook_id, attempt_no, step, kind, state,"
                " trigger, started_at, duration_ms, status_code, error_class)"
                " values ($1, $2, $3, 1, 2, 'attempted', $4, 'first', now(), $5, $6, $7)",
                *key,
                state,
                duration_ms,
                status,
                error,
            )

        await one("delivered", 200, None, 20.0)
        await one("delivered", 200, None, 6000.0)
        findings = await examined(store, name)
        assert "the last 2 all arrived" == str(findings["deliveries"].found)
        assert ("warn", True) == (
            findings["speed"].verdict,
            "6000 ms at most" in str(findings["speed"].found),
        )
        await one("failed", None, "timeout", 30_000.0)
        await one("pending", 503, "server_error", 20.0)
        finding = (await examined(store, name))["deliveries"]
        assert "fail" == finding.verdict
        assert "the last 2 of 4 did not arrive; the newest is pending: 503 server_error" == str(finding.found)
        await one("delivered", 200, None, 20.0)
        finding = (await examined(store, name))["deliveries"]
        assert ("warn", True) == (finding.verdict, "2 of the last 5 did not" in str(finding.found))
    finally:
        await store.close()
        await connection.close()


async def test_an_installation_that_works(database: Database, tmp_path: Path) -> None:
    """Nothing fails while a daemon leads; without one, that does."""
    async with daemons(database.url, tmp_path) as house:
        daemon = await house.start()
        findings = await told(database.url, 0, *local(tmp_path))
        assert {"fail"} & {one["verdict"] for one in findings.values()} == set()
        checks = ["database", "server", "write_ahead_log", "clock", "rights", "schema", "partitions"]
        checks += ["encryption_key", "leader", "outbox", "history", "open_files", "disk", "authorities"]
        assert checks == list(findings)
        assert "fsync is off" in findings["write_ahead_log"]["found"]  # the tests' own
        assert ("warn", "skipped") == (findings["rights"]["verdict"], findings["disk"]["verdict"])
        daemon.terminate()
        assert 0 == await daemon.ended()
    findings = await told(database.url, 1, *local(tmp_path))
    assert "nobody leads" == findings["leader"]["found"]


async def installation(store: Store, **config: Any) -> dict[str, Finding]:
    """Examine an installation; gives the findings by check."""
    findings = await examine_installation(store, Config(database=DatabaseConfig(url=store.url), **config))
    return {finding.check: finding for finding in findings}


_HAS_80_MB: Final = "select current_setting('min_wal_size') = '80MB'"


async def test_a_log_that_is_made_amid_a_storm(data_dir: Path) -> None:
    """Too little of it is kept where `min_wal_size` is PostgreSQL's own; enough in the embedded server."""
    async with running(data_dir, settings=None) as url:
        store = Store(url, DatabaseConfig())
        try:
            assert "ok" == (await installation(store))["write_ahead_log"].verdict
            await execute(url, "alter system set min_wal_size = '80MB'")
            await execute(url, "select pg_reload_conf()")

            await wait_for(lambda: fetch(url, _HAS_80_MB), "the server has it")
            finding = (await installation(store))["write_ahead_log"]
            assert ("warn", True) == (finding.verdict, str(finding.found).startswith("80 MB of"))
        finally:
            await store.close()


async def test_a_database_that_is_away_is_a_finding(tmp_path: Path) -> None:
    """The machine is examined all the same."""
    url = f"postgresql://x@127.0.0.1:{free_port()}/x"
    findings = await told(url, 1, *local(tmp_path))
    assert "PostgreSQL is away" in findings["database"]["found"]
    assert ("skipped", "ok") == (findings["outbox"]["verdict"], findings["authorities"]["verdict"])


async def test_a_login_that_is_refused_is_a_finding(database: Database) -> None:
    """With what PostgreSQL says."""
    store = Store(database.url.replace("/test_", "/absent_"), DatabaseConfig())
    try:
        finding = (await installation(store))["database"]
    finally:
        await store.close()
    assert ("fail", True) == (finding.verdict, "does not exist" in str(finding.found))


async def test_schemas_of_other_versions(database: Database, empty_database: Database) -> None:
    """None at all, an older and a newer one: what depends on it is skipped."""
    store = Store(empty_database.url, DatabaseConfig())
    try:
        findings = await installation(store)
        assert ("fail", "skipped") == (findings["schema"].verdict, findings["leader"].verdict)
    finally:
        await store.close()
    connection = await database.connect()
    store = Store(database.url, DatabaseConfig())
    try:
        await connection.execute("update installation set schema_version = 9, compatible_from = 9")
        finding = (await installation(store))["schema"]
        assert ("fail", True) == (finding.verdict, "install the newer dispatcher" in str(finding.found))
    finally:
        await store.close()
        await connection.close()


@pytest.mark.parametrize(("group", "verdict"), [("outbox_producer", "fail"), ("dispatcher_daemon", "ok")])
async def test_what_the_login_may_do(database: Database, group: str, verdict: str) -> None:
    """A producer's login lacks what the daemon needs, which is named, table by table."""
    connection = await database.connect()
    name = f"test_{secrets.token_hex(6)}"
    await connection.execute(f"create role {name} login password 'p' in role {group}")
    store = Store(f"postgresql://{name}:p@{database.url.rpartition('@')[2]}", DatabaseConfig())
    try:
        findings = await installation(store)
        assert verdict == findings["rights"].verdict
        if verdict == "fail":
            assert "insert on delivery_event" in str(findings["rights"].found)
            assert "skipped" == findings["schema"].verdict
        else:
            assert "everything is read, and was attempted" == str(findings["outbox"].found)
            await connection.execute("grant create on schema public to public")
            finding = (await installation(store))["rights"]
            assert ("warn", True) == (finding.verdict, "may create functions" in str(finding.found))
    finally:
        await store.close()
        await connection.execute(f"drop owned by {name}; drop role {name}")
        await connection.close()
