"""`dispatcher rekey`: as a process, beside a daemon, and interrupted at every place."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
from typing import TYPE_CHECKING, Final

import pytest

from dispatcher.config import Config, Secrets
from dispatcher.config import Database as DatabaseConfig
from dispatcher.core.access import WRITE
from dispatcher.core.errors import OperatorError
from dispatcher.store import accounts, webhooks
from dispatcher.store.connection import Database as Store
from dispatcher.store.idempotency import Ticket
from dispatcher.store.installation import Installation
from dispatcher.store.keyfile import KEY_BYTES, KeyFile
from dispatcher.store.queries import QUERIES
from dispatcher.store.registry import Registry
from dispatcher.store.rekey import rekey
from dispatcher.store.vault import Vault, configured_vault
from tests.commands import run
from tests.postgres import execute, wait_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.postgres import Database

OLD: Final = bytes(KEY_BYTES)
NEW: Final = bytes(range(KEY_BYTES))
FIELDS: Final = webhooks.WebhookFields(
    url="https://receiver.example/", events=("*",), headers={"Authorization": "Bearer sesame"}
)


@pytest.fixture
async def store(database: Database) -> AsyncIterator[Store]:
    """Open the test's database, adopted by the old key."""
    store = Store(database.url, DatabaseConfig())
    await Installation.load(store, Vault(OLD))
    try:
        yield store
    finally:
        await store.close()


async def add(store: Store, vault: Vault, secret: str = "whsec_AAAA") -> webhooks.Webhook:
    """Make a webhook as the API does, with a second secret that is to come."""
    organization = (await store.fetch("organizations"))[0]["public_id"]
    row = await store.fetchrow("organization_named", organization)
    assert row is not None
    made = await webhooks.create(store, vault, row["id"], FIELDS, secret=secret, actor="test")
    await webhooks.rotate_secret(
        store, vault, row["id"], made.public_id, secret=f"{secret}BBBB", grace_s=3600, actor="test"
    )
    return made


async def load(store: Store, vault: Vault) -> Registry:
    """Read every webhook as the daemon does."""
    registry = Registry(store.link("registry"), vault)
    await registry.refresh()
    return registry


async def test_everything_sealed_is_sealed_anew(store: Store) -> None:
    """Both secrets and the headers open with the new key alone; the old one opens nothing any more."""
    made = await add(store, Vault(OLD))
    before = (await load(store, Vault(OLD))).webhooks[made.id]
    assert 1 == await rekey(store, Vault(NEW, OLD))
    after = (await load(store, Vault(NEW))).webhooks[made.id]
    signed = before.signer.sign("dlv_1", 1, b"{}")
    assert signed == after.signer.sign("dlv_1", 1, b"{}")
    assert "X-Grillo-Signature-Next" in dict(signed)
    assert (("Authorization", "Bearer sesame"),) == after.headers
    with pytest.raises(OperatorError, match="sealed with another key"):
        await load(store, Vault(OLD))
    with pytest.raises(OperatorError, match="not the key"):
        await Installation.load(store, Vault(OLD))
    await Installation.load(store, Vault(NEW))
    audited = [row["action"] for row in await _audit(store)]
    assert 1 == audited.count("secrets.rekeyed")


async def _audit(store: Store) -> list[dict[str, str]]:
    async with store.acquire() as connection:
        return [dict(row) for row in await connection.fetch("select action from audit")]


async def test_a_second_time_changes_nothing(store: Store) -> None:
    """Nothing is left to do, and no row is touched."""
    await add(store, Vault(OLD))
    await rekey(store, Vault(NEW, OLD))
    async with store.acquire() as connection:
        before = await connection.fetchval(QUERIES["registry_version"])
        assert 0 == await rekey(store, Vault(NEW, OLD))
        assert before == await connection.fetchval(QUERIES["registry_version"])
        assert 1 == [row["action"] for row in await _audit(store)].count("secrets.rekeyed")


async def test_without_the_right_key_nothing_changes(store: Store) -> None:
    """A key that opens nothing is refused, and the secrets stay as they are."""
    made = await add(store, Vault(OLD))
    with pytest.raises(OperatorError, match="nothing was changed"):
        await rekey(store, Vault(NEW, secrets.token_bytes(KEY_BYTES)))
    assert made.id in (await load(store, Vault(OLD))).webhooks


async def test_who_seals_meanwhile_is_waited_for_and_then_uses_the_new_key(store: Store) -> None:
    """No secret is left behind under the old key, whoever comes first."""
    running = Vault(NEW, OLD)  # a daemon that has both keys, before the change
    sealed_first = await add(store, running)
    async with store.acquire() as connection:
        row = await connection.fetchrow(
            "select public_id, secret from webhook where id = $1", sealed_first.id
        )
        assert "whsec_AAAA" == Vault(OLD).open(row["secret"], row["public_id"])  # under what is in force
        transaction = connection.transaction()
        await transaction.start()
        await connection.fetchval(QUERIES["key_check_shared"])  # somebody who is about to write a secret
        rotation = asyncio.create_task(rekey(store, running))

        async def waits() -> bool:
            return await _lock_waiters(store)

        waiting: bool = await wait_for(waits, "rekey waits for the writer")
        assert (True, False) == (waiting, rotation.done())
        await transaction.rollback()
        assert 1 == await rotation
    await add(store, running, secret="whsec_CCCC")
    assert 2 == len((await load(store, Vault(NEW))).webhooks)


async def _lock_waiters(store: Store) -> bool:
    async with store.acquire() as connection:
        waiting: int = await connection.fetchval(
            "select count(*) from pg_stat_activity where datname = current_database()"
            " and wait_event_type = 'Lock'"
        )
        return waiting > 0


async def test_kept_answers_are_sealed_anew(store: Store) -> None:
    """An answer that is kept by its Idempotency-Key, and may show a secret, opens with the new key."""
    made = await accounts.create_key(store, scopes=(WRITE,))
    assert made is not None
    key = await accounts.authenticate(store, made.key)
    assert key is not None
    async with store.transaction() as one:
        ticket = Ticket(one, Vault(OLD), key.id, "again")
        assert await ticket.take(b"request") is None
        await ticket.keep('{"secret":"whsec_AAAA"}')
    await rekey(store, Vault(NEW, OLD))
    kept = await Ticket(store, Vault(NEW), key.id, "again").take(b"request")
    assert kept is not None
    assert '{"secret":"whsec_AAAA"}' == kept.answer


async def test_the_daemons_role_may_do_it(database: Database, store: Store) -> None:
    """No more rights are needed than the daemon's own."""
    await add(store, Vault(OLD))
    name = f"daemon_{database.url.rpartition('_')[2]}"
    await execute(database.url, f"create role {name} login password 'p' in role dispatcher_daemon")
    try:
        limited = Store(f"postgresql://{name}:p@{database.url.rpartition('@')[2]}", DatabaseConfig())
        assert 1 == await rekey(limited, Vault(NEW, OLD))
        await add(limited, Vault(NEW))
        await limited.close()
        assert 2 == len((await load(store, Vault(NEW))).webhooks)
    finally:
        await execute(database.url, f"drop role {name}")


async def test_a_running_process_reads_a_new_key_from_its_file(store: Store, tmp_path: Path) -> None:
    """What was opened with the key of `data_dir` goes on with the one that took its place."""
    file = KeyFile(tmp_path)
    file.path.write_text(base64.b64encode(OLD).decode())
    daemon = configured_vault(Config(data_dir=str(tmp_path)))
    await add(store, daemon)
    ended = await run("rekey", "--config", str(_config(tmp_path)), url=store.url)
    assert (0, "1 webhooks: secrets and headers are sealed under the new key\n") == (ended.status, ended.out)
    assert [base64.b64decode(file.path.read_text())] == file.read()
    assert 0o600 == file.path.stat().st_mode & 0o777
    assert {"config.toml", "encryption.key"} == _files(tmp_path)
    assert 1 == len((await load(store, daemon)).webhooks)
    await add(store, daemon)
    assert 2 == len((await load(store, configured_vault(Config(data_dir=str(tmp_path))))).webhooks)


def _files(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def _config(directory: Path) -> Path:
    path = directory / "config.toml"
    path.write_text(f"data_dir = {json.dumps(str(directory))}\n")
    return path


@pytest.mark.parametrize("interrupted", ["before the new key", "before the database", "before the end"])
async def test_an_interrupted_change_of_the_file_is_finished(
    store: Store, tmp_path: Path, interrupted: str
) -> None:
    """In between everything can be opened; the next run ends with one key, and every secret under it."""
    file = KeyFile(tmp_path)
    file.path.write_text(base64.b64encode(OLD).decode())
    made = await add(store, Vault(OLD))
    if interrupted == "before the new key":
        file.old.hardlink_to(file.path)
    else:
        file.replace()
    if interrupted == "before the end":
        await rekey(store, Vault(*file.read()))
    between = configured_vault(Config(data_dir=str(tmp_path)))
    await Installation.load(store, between)
    assert made.id in (await load(store, between)).webhooks

    ended = await run("rekey", "--json", "--config", str(_config(tmp_path)), url=store.url)
    left = 0 if interrupted == "before the end" else 1
    assert (0, {"webhooks": left}) == (ended.status, json.loads(ended.out)), ended.err
    (key,) = file.read()
    assert key != OLD
    assert not file.old.exists()
    assert made.id in (await load(store, Vault(key))).webhooks


async def test_the_wrong_file_is_not_replaced(store: Store, tmp_path: Path) -> None:
    """A key in `data_dir` that is not the database's stays, and the status is 2."""
    file = KeyFile(tmp_path)
    file.path.write_text(base64.b64encode(NEW).decode())
    ended = await run("rekey", "--config", str(_config(tmp_path)), url=store.url)
    assert (2, [NEW]) == (ended.status, file.read())
    assert "nothing was changed" in ended.err


async def test_configured_keys(store: Store, tmp_path: Path) -> None:
    """With both keys configured, from the one before to the present one; a single one is a question."""
    made = await add(store, Vault(OLD))
    config = tmp_path / "config.toml"
    old, new = (base64.b64encode(key).decode() for key in (OLD, NEW))
    config.write_text(f'[secrets]\nencryption_key = "{old}"\n')
    asked = await run("rekey", "--config", str(config), url=store.url)
    assert 2 == asked.status
    assert "which key is the new one?" in asked.err

    both = Config(secrets=Secrets(encryption_key=new, previous_encryption_key=old))
    daemon = configured_vault(both)
    await Installation.load(store, daemon)  # it starts before the change
    config.write_text(f'[secrets]\nencryption_key = "{new}"\nprevious_encryption_key = "{old}"\n')
    changed = await run("rekey", "--config", str(config), url=store.url)
    assert (0, 1) == (changed.status, changed.out.count("1 webhooks")), changed.err
    assert "remove secrets.previous_encryption_key" in changed.err
    assert made.id in (await load(store, daemon)).webhooks  # and works on after it
    assert made.id in (await load(store, Vault(NEW))).webhooks
    for text in (old, new):
        assert text not in asked.err + asked.out + changed.err + changed.out


async def test_a_key_from_a_file(store: Store, tmp_path: Path) -> None:
    """`--new-key-file` needs the dispatcher to be stopped, since it could not read the result."""
    made = await add(store, Vault(OLD))
    config, key_file = tmp_path / "config.toml", tmp_path / "new"
    config.write_text(f'[secrets]\nencryption_key = "{base64.b64encode(OLD).decode()}"\n')
    key_file.write_text(base64.b64encode(NEW).decode() + "\n")
    command = ("rekey", "--config", str(config), "--new-key-file", str(key_file))
    async with store.acquire() as connection:
        run_id = await connection.fetchval(QUERIES["run_begin"], "somebody", "0", 0)
        await connection.execute(QUERIES["lease_set"], run_id, "somebody", 3600.0, 0)
        refused = await run(*command, url=store.url)
        assert 2 == refused.status
        assert "a dispatcher is running" in refused.err
        await connection.execute(QUERIES["lease_release"], run_id)
    assert made.id in (await load(store, Vault(OLD))).webhooks
    assert 0 == (await run(*command, url=store.url)).status
    assert made.id in (await load(store, Vault(NEW))).webhooks
    key_file.write_text("short")
    wrong = await run(*command, url=store.url)
    assert 2 == wrong.status
    assert f"{key_file}: expected 32 bytes" in wrong.err
