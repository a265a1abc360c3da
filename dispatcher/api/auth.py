"""Who asks: API keys as bearer tokens (RFC 6750)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dispatcher.api.problems import Problem, unauthorized
from dispatcher.store import accounts

if TYPE_CHECKING:
    from dispatcher.store.accounts import Key
    from dispatcher.store.connection import Database


async def authenticate(database: Database, header: str | None) -> Key | Problem:
    """Give the key of an `Authorization` header, or the reason why it opens nothing."""
    scheme, _, token = (header or "").strip().partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        return unauthorized("This request needs an API key: Authorization: Bearer grk_….")
    key = await accounts.authenticate(database, token)
    return key or unauthorized("This API key is unknown, expired or revoked.")
