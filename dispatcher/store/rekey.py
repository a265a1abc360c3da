"""Seals everything that is sealed in the database anew, under another encryption key, in one transaction.

How this works: the transaction first locks the row that names the key. Whoever seals holds that row too
(`vault.sealing`), so what was being written is there before the first row is read, and what is written
afterwards is sealed under the new key. A running daemon keeps working: it opens with both keys.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dispatcher.core.errors import OperatorError
from dispatcher.store.accounts import write_audit
from dispatcher.store.idempotency import answer_name
from dispatcher.store.queries import QUERIES
from dispatcher.store.vault import headers_name

if TYPE_CHECKING:
    import asyncpg

    from dispatcher.store.connection import Database
    from dispatcher.store.vault import Vault

_PAGE: Final = 1000


async def rekey(database: Database, vault: Vault) -> int:
    """Seal everything under the first of the vault's keys; give how many webhooks had to be changed.

    Done already, it changes nothing. Raises `OperatorError`, and changes nothing, where something was sealed
    with a key that the vault does not have.
    """
    changed = 0
    async with database.acquire() as connection, connection.transaction():
        present: bytes | None = await connection.fetchval(QUERIES["rekey_begin"])
        if present is not None and not vault.knows(present):
            raise OperatorError(
                "the database's secrets were sealed with a key that is not here: nothing was changed"
            )
        after = 0
        while rows := await connection.fetch(QUERIES["rekey_webhooks"], after, _PAGE):
            changed += await _write(connection, vault, rows)
            after = rows[-1]["id"]
        await _write_answers(connection, vault)
        if changed or present != vault.key_check:
            await connection.execute(QUERIES["rekey_end"], vault.key_check)
            await write_audit(connection, None, "secrets.rekeyed", "installation", {"webhooks": changed})
    return changed


async def _write(connection: asyncpg.Connection, vault: Vault, rows: list[asyncpg.Record]) -> int:
    stale = []
    for row in rows:
        name = row["public_id"]
        before = (row["secret"], row["next_secret"], row["headers"])
        names = (name, name, headers_name(name))
        sealed = [
            None if one is None else vault.resealed(one, its_name)
            for one, its_name in zip(before, names, strict=True)
        ]
        if tuple(sealed) != before:
            stale.append((row["id"], *sealed))
    if stale:
        await connection.execute(QUERIES["rekey_write"], *map(list, zip(*stale, strict=True)))
    return len(stale)


async def _write_answers(connection: asyncpg.Connection, vault: Vault) -> None:
    sealed = [
        (
            row["api_key_id"],
            row["key"],
            vault.resealed(row["answer"], answer_name(row["api_key_id"], row["key"])),
        )
        for row in await connection.fetch(QUERIES["rekey_answers"])
    ]
    if sealed:
        await connection.execute(QUERIES["rekey_write_answers"], *map(list, zip(*sealed, strict=True)))


async def leads(database: Database) -> bool:
    """Say whether a dispatcher leads at this moment."""
    row = await database.fetchrow("rekey_leader")
    return row is not None and bool(row["leads"])
