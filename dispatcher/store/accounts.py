"""Organizations and API keys: who may ask, and what for."""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING, Any, Final

import msgspec

from dispatcher.core.access import ADMIN, DEFAULT_ORGANIZATION, READ, SCOPES, WRITE, Scope
from dispatcher.core.ids import encode128, public_id
from dispatcher.store.queries import QUERIES

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping, Sequence

    import asyncpg

    from dispatcher.store.connection import Database

_HINT_CHARACTERS: Final = 4

# Who may write may read, as with GitHub's and Stripe's keys; admin may do everything.
_OPENED_BY: Final[Mapping[Scope, frozenset[str]]] = {
    READ: frozenset({READ, WRITE, ADMIN}),
    WRITE: frozenset({WRITE, ADMIN}),
}


class Organization(msgspec.Struct, frozen=True):
    """Who owns webhooks and keys, and which networks' events it hears of (`*`: all)."""

    public_id: str
    name: str
    created_at: dt.datetime
    network_ids: tuple[str, ...]


class Key(msgspec.Struct, frozen=True):
    """A valid key, as a request presents it."""

    id: int
    public_id: str
    organization_id: int
    scopes: frozenset[str]

    def allows(self, scope: Scope) -> bool:
        """Say whether it has a scope, by itself or by a wider one."""
        return not self.scopes.isdisjoint(_OPENED_BY[scope])


class ListedKey(msgspec.Struct, frozen=True):
    """A key as an administrator sees it: never the key itself, only its last characters."""

    public_id: str
    organization: str
    name: str
    hint: str
    scopes: tuple[str, ...]
    created_at: dt.datetime
    expires_at: dt.datetime | None
    revoked_at: dt.datetime | None
    last_used_at: dt.datetime | None


class NewKey(msgspec.Struct, frozen=True):
    """A key at the only moment when it can be read."""

    public_id: str
    key: str

    def __repr__(self) -> str:
        return f"NewKey({self.public_id}, …)"


async def create_organization(
    database: Database, name: str, *, network_ids: Sequence[str] = (), actor: str | None = None
) -> Organization | None:
    """Make an organization that hears of these networks; None where the name is taken."""
    async with database.acquire() as connection, connection.transaction():
        row = await connection.fetchrow(
            QUERIES["create_organization"], public_id("org", secrets.token_bytes(16)), name
        )
        if row is None:
            return None
        await connection.execute(QUERIES["add_networks"], row["id"], list(network_ids))
        await write_audit(
            connection,
            actor,
            "organization.created",
            row["public_id"],
            {"name": name, "network_ids": list(network_ids)},
        )
    return Organization(row["public_id"], row["name"], row["created_at"], tuple(sorted(set(network_ids))))


async def list_organizations(database: Database) -> list[Organization]:
    """Give all organizations, the oldest first."""
    return [
        Organization(row["public_id"], row["name"], row["created_at"], tuple(row["network_ids"]))
        for row in await database.fetch("organizations")
    ]


async def owned_networks(database: Database, organization_id: int) -> frozenset[str]:
    """Give the networks that an organization hears of."""
    return frozenset(row["network_id"] for row in await database.fetch("networks_of", organization_id))


async def create_key(
    database: Database,
    organization: str = DEFAULT_ORGANIZATION,
    *,
    scopes: Sequence[str],
    name: str = "",
    expires_at: dt.datetime | None = None,
    actor: str | None = None,
) -> NewKey | None:
    """Make a key for an organization, given by name or public id; None where there is no such one.

    Raises ValueError for a scope that does not exist. 256 bits of chance need no slow hash.
    """
    if unknown := sorted(set(scopes) - set(SCOPES)):
        raise ValueError(f"{', '.join(unknown)}: expected one of {', '.join(SCOPES)}")
    key = "grk_" + "".join(encode128(secrets.randbits(128)) for _ in range(2))
    async with database.acquire() as connection, connection.transaction():
        organization_id = await connection.fetchval(QUERIES["organization_named"], organization)
        if organization_id is None:
            return None
        new = NewKey(public_id("key", secrets.token_bytes(16)), key)
        await connection.execute(
            QUERIES["create_key"],
            new.public_id,
            organization_id,
            name,
            hash_key(key),
            key[-_HINT_CHARACTERS:],
            sorted(set(scopes)),
            expires_at,
        )
        details = {"organization": organization, "name": name, "scopes": sorted(set(scopes))}
        await write_audit(connection, actor, "key.created", new.public_id, details)
    return new


async def list_keys(database: Database, organization: str | None = None) -> list[ListedKey] | None:
    """Give the keys of one organization, or of all; None where there is no such organization."""
    organization_id = None
    if organization is not None:
        row = await database.fetchrow("organization_named", organization)
        if row is None:
            return None
        organization_id = row["id"]
    return [
        ListedKey(**{**row, "scopes": tuple(row["scopes"])})
        for row in await database.fetch("keys", organization_id)
    ]


async def revoke_key(database: Database, key_id: str, *, actor: str | None = None) -> bool:
    """Make a key worthless at once, by its public id; false where there is none that is not revoked."""
    async with database.acquire() as connection, connection.transaction():
        revoked = await connection.fetchval(QUERIES["revoke_key"], key_id)
        if revoked is None:
            return False
        await write_audit(connection, actor, "key.revoked", revoked, {})
    return True


async def authenticate(database: Database, key: str) -> Key | None:
    """Give the key that a request presents, None unless it is valid now.

    Found by its hash, so what the comparison takes says nothing about the key.
    """
    row = await database.fetchrow("authenticate", hash_key(key))
    if row is None:
        return None
    return Key(row["id"], row["public_id"], row["organization_id"], frozenset(row["scopes"]))


def hash_key(key: str) -> bytes:
    """Give what is stored of a key."""
    return hashlib.sha256(key.encode(errors="surrogateescape")).digest()


async def write_audit(
    connection: asyncpg.Connection, actor: str | None, action: str, subject: str, details: dict[str, Any]
) -> None:
    """Note who changed what, in the transaction of the change; without an actor it is the database role."""
    await connection.execute(QUERIES["audit"], actor, action, subject, msgspec.json.encode(details).decode())
