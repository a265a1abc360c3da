"""`migrate`, `org`, `key`, `event-type`: each as a process, on a real database."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from dispatcher.config.sources import load
from dispatcher.tools.session import database_url
from tests.commands import run
from tests.postgres import Database, execute, sibling
from tests.receiver import free_port

if TYPE_CHECKING:
    from pathlib import Path

SAMPLE = '{"station_code":"GRIL01","distance_m":3}'


async def test_migrate_creates_once(empty_database: Database) -> None:
    """The second run finds nothing to do, and both succeed."""
    first = await run("migrate", url=empty_database.url)
    second = await run("migrate", url=empty_database.url)
    assert (0, "the schema was created\n") == (first.status, first.out)
    assert (0, "the schema is complete\n") == (second.status, second.out)


async def test_a_database_without_schema_is_told(empty_database: Database) -> None:
    """Every command that needs the schema says which command makes it; the status is 2."""
    for arguments in (["key", "create"], ["emit", "sensor.offline"]):
        ended = await run(*arguments, url=empty_database.url, stdin="{}")
        assert 2 == ended.status
        assert "dispatcher migrate" in ended.err
        assert "Traceback" not in ended.err


async def test_an_absent_server_is_3_and_a_wrong_login_is_2(database: Database) -> None:
    """A script can tell what will pass from what has to be changed."""
    away = await run("org", "list", url=f"postgresql://x@127.0.0.1:{free_port()}/x")
    assert 3 == away.status
    assert "PostgreSQL is away" in away.err
    for wrong in (sibling(database.url, "nowhere"), database.url.replace("grillo:", "grillo:wrong")):
        ended = await run("org", "list", url=wrong)
        assert 2 == ended.status, ended.err
        assert "database.url" in ended.err


async def test_a_key_is_printed_alone_and_kept_as_a_hash(database: Database) -> None:
    """`key create` gives the key and nothing else; the list never shows it; revoking is final."""
    created = await run("key", "create", "--name", "console", url=database.url)
    assert 0 == created.status, created.err
    (key,) = created.lines
    listed = await run("key", "list", "--json", url=database.url)
    (row,) = map(json.loads, listed.lines)
    assert key not in listed.out
    assert ("default", "console", key[-4:]) == (row["organization"], row["name"], row["hint"])
    assert ["read:webhooks", "write:webhooks"] == row["scopes"]
    table = await run("key", "list", url=database.url)
    assert row["public_id"] in table.out
    assert "valid" in table.out

    assert 0 == (await run("key", "revoke", row["public_id"], url=database.url)).status
    again = await run("key", "revoke", row["public_id"], url=database.url)
    assert 2 == again.status
    assert "not revoked" in again.err
    assert "revoked 20" in (await run("key", "list", url=database.url)).out


async def test_a_key_can_belong_elsewhere_and_end(database: Database) -> None:
    """Organization, scopes and days are as asked; an unknown organization is refused."""
    made = await run("org", "create", "acme", "--network", "net_us", url=database.url)
    assert (0, "org_") == (made.status, made.out[:4])
    assert 2 == (await run("org", "create", "acme", url=database.url)).status
    options = ["--org", "acme", "--scope", "admin", "--expires-in", "2"]
    assert 0 == (await run("key", "create", *options, url=database.url)).status
    listed = await run("key", "list", "--org", "acme", "--json", url=database.url)
    (row,) = map(json.loads, listed.lines)
    assert (["admin"], "acme") == (row["scopes"], row["organization"])
    assert row["expires_at"] is not None
    assert 2 == (await run("key", "create", "--org", "nobody", url=database.url)).status
    organizations = [json.loads(one) for one in (await run("org", "list", "--json", url=database.url)).lines]
    assert {"default": ["*"], "acme": ["net_us"]} == {
        one["name"]: one["network_ids"] for one in organizations
    }


async def test_an_event_type_can_be_added_and_used(database: Database, tmp_path: Path) -> None:
    """A type of the operator's own is listed, validated, and behaves like the built-in ones."""
    fields = ["--field", "station_code:string", "--field", "distance_m:number?"]
    sample = tmp_path / "sample.json"
    sample.write_text(SAMPLE)
    about = ["--description", "A station was moved", "--priority", "routine"]
    added = await run(
        "event-type", "add", "station.moved", *about, *fields, "--sample", str(sample), url=database.url
    )
    assert 0 == added.status, added.err
    again = await run(
        "event-type", "add", "station.moved", *about, *fields, "--sample", SAMPLE, url=database.url
    )
    assert 2 == again.status

    listed = await run("event-type", "list", "--json", url=database.url)
    types = {one["name"]: one for one in map(json.loads, listed.lines)}
    assert {"station_code": "string", "distance_m": "number?"} == types["station.moved"]["fields"]
    assert (2, False) == (types["station.moved"]["lane"], types["station.moved"]["built_in"])
    assert types["event.detected"]["built_in"]
    assert "station.moved  " in (await run("event-type", "list", url=database.url)).out

    bare = await run("event-type", "add", "quarry.blast", *about[:2], url=database.url)
    assert 0 == bare.status, bare.err

    emitted = await run(
        "emit", "station.moved", url=database.url, stdin='{"station_code":"A"}\n{"distance_m":1}'
    )
    assert (1, "1 inserted, 1 refused\n") == (emitted.status, emitted.out)
    assert "standard input, line 2: data.station_code: missing" in emitted.err


async def test_results_for_programs(empty_database: Database) -> None:
    """Each command that changes something says with --json what it did, as one object."""

    async def told(*arguments: str, status: int = 0) -> dict[str, object]:
        ended = await run(*arguments, "--json", url=empty_database.url)
        assert status == ended.status, ended.err
        (line,) = ended.lines
        found: dict[str, object] = json.loads(line)
        return found

    assert {"created": True, "applied": []} == await told("migrate")
    assert {"created": False, "applied": []} == await told("migrate")
    made = await told("org", "create", "acme", "--network", "net_us")
    assert ("acme", ["net_us"]) == (made["name"], made["network_ids"])
    key = await told("key", "create", "--org", "acme")
    assert str(key["key"]).startswith("grk_")
    assert {"revoked": key["public_id"]} == await told("key", "revoke", str(key["public_id"]))
    about = ["--description", "x", "--sample", SAMPLE]
    assert {"registered": "station.moved"} == await told("event-type", "add", "station.moved", *about)


async def test_a_wrong_event_type_is_refused_with_the_reason(database: Database) -> None:
    """Each mistake names the argument or the field."""
    about = ["--description", "x"]
    for arguments, words in (
        (["station.moved", *about, "--sample", "{}", "--field", "a:strin"], "fields.a: expected string"),
        (["station.moved", *about, "--sample", "{}", "--field", "a"], "--field a: expected NAME:KIND"),
        (["station.moved", *about, "--sample", '{"a":1}', "--field", "a:string"], "sample: does not fit"),
        (["station.moved", *about, "--sample", "/nowhere"], "/nowhere: cannot be read"),
        (["Moved", *about, "--sample", "{}"], "name: expected"),
        (["webhook.moved", *about, "--sample", "{}"], "name: webhook.… is the dispatcher's own"),
    ):
        ended = await run("event-type", "add", *arguments, url=database.url)
        assert 2 == ended.status
        assert words in ended.err


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    """Write a configuration whose database is the embedded one, in a directory of the test's own."""
    tmp_path.chmod(0o711)
    path = tmp_path / "config.toml"
    path.write_text(f"data_dir = {json.dumps(str(tmp_path / 'data'))}\n")
    return path


async def test_without_a_url_a_command_runs_its_own_server(config_file: Path) -> None:
    """Without database.url the embedded server runs for the command, with the schema."""
    first = await run("migrate", "--config", str(config_file))
    assert (0, "the schema was created\n") == (first.status, first.out), first.err
    assert "an embedded PostgreSQL is made in " in first.err
    created = await run("--config", str(config_file), "key", "create")
    assert (0, 1) == (created.status, len(created.lines)), created.err


async def test_no_database_is_made_to_be_looked_at_or_emitted_into(config_file: Path) -> None:
    """A configuration that was not named is told: an alert would be in a database that nobody reads."""
    commands = ("emit", "event.detected"), ("rebase", "--yes"), ("doctor",), ("status",)
    async with asyncio.TaskGroup() as group:  # each looks for a while whether somebody makes one
        asked = [group.create_task(run(*one, "--config", str(config_file), stdin="{}")) for one in commands]
    for ended in map(asyncio.Task.result, asked):
        assert 2 == ended.status
        assert "there is no embedded PostgreSQL in " in ended.err
        assert "DISPATCHER_DATABASE__URL" in ended.err
    assert not (config_file.parent / "data").exists()


async def test_a_daemon_that_starts_at_this_moment_is_waited_for(config_file: Path) -> None:
    """Whoever starts it and asks for something at once has its database."""

    async def ask() -> None:
        async with database_url(load(config_file, {}), complete=False) as url:
            assert "127.0.0.1" in url

    async with asyncio.TaskGroup() as group:
        group.create_task(ask())  # looks before the other process has begun
        group.create_task(run("migrate", "--config", str(config_file)))


async def test_a_producers_login_may_only_insert(database: Database) -> None:
    """What it may not do is refused with the role that may; `emit` works."""
    name = f"producer_{database.url.rpartition('_')[2]}"
    await execute(database.url, f"create role {name} login password 'p' in role outbox_producer")
    try:
        url = f"postgresql://{name}:p@{database.url.rpartition('@')[2]}"
        sensor = '{"sensor_id":"s","station_code":"A","last_seen":"2024-01-15T14:30:00Z"}'
        emitted = await run("emit", "sensor.offline", url=url, stdin=sensor)
        assert (0, "1 inserted\n") == (emitted.status, emitted.out), emitted.err
        listed = await run("org", "list", url=url)
        assert 2 == listed.status
        assert "dispatcher_daemon" in listed.err
    finally:
        await execute(database.url, f"drop role {name}")
