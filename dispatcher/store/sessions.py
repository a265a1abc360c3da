"""Sessions of the dashboard: an API key was shown once, and a token in a cookie stands for it since.

Only the hash of a token is stored. A session ends when it is closed, 12 hours after its last use, 7 days
after it was opened, or with its key: whoever revokes a key ends its sessions with the next request.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

import msgspec

from dispatcher.store.accounts import Key, hash_key

if TYPE_CHECKING:
    from dispatcher.store.connection import Database

LONGEST_S: Final = 7 * 86_400  # as the query has it
_TOKEN_BYTES: Final = 32


class Session(msgspec.Struct, frozen=True):
    """Who is logged in."""

    key: Key
    key_name: str
    hint: str  # the key's last characters
    organization: str


async def open_session(database: Database, key: Key) -> str:
    """Begin a session and give its token, which nobody chose beforehand."""
    token = secrets.token_urlsafe(_TOKEN_BYTES)
    await database.execute("forget_sessions")
    await database.execute("open_session", hash_key(token), key.id)
    return token


async def find(database: Database, token: str) -> Session | None:
    """Give the session behind a token, None where there is none that is valid now."""
    row = await database.fetchrow("session", hash_key(token))
    if row is None:
        return None
    key = Key(row["id"], row["public_id"], row["organization_id"], frozenset(row["scopes"]))
    return Session(key, row["name"], row["hint"], row["organization"])


async def close(database: Database, token: str) -> None:
    """End a session; one that does not exist is ended already."""
    await database.execute("end_session", hash_key(token))
