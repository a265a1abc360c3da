"""Who asks: API keys as bearer tokens (RFC 6750), and what their scopes allow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from dispatcher.api.problems import Problem, unauthorized
from dispatcher.store import accounts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dispatcher.store.accounts import Key
    from dispatcher.store.connection import Database

Scope = Literal["read:webhooks", "write:webhooks"]

# Who may write may read, as with GitHub's and Stripe's keys; admin may do everything.
_OPENED_BY: Final[Mapping[Scope, frozenset[str]]] = {
    "read:webhooks": frozenset({accounts.READ, accounts.WRITE, accounts.ADMIN}),
    "write:webhooks": frozenset({accounts.WRITE, accounts.ADMIN}),
}


async def authenticate(database: Database, header: str | None) -> Key | Problem:
    """Give the key of an `Authorization` header, or the reason why it opens nothing."""
    scheme, _, token = (header or "").strip().partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        return unauthorized("This request needs an API key: Authorization: Bearer grk_….")
    key = await accounts.authenticate(database, token)
    return key or unauthorized("This API key is unknown, expired or revoked.")


def allows(key: Key, scope: Scope) -> bool:
    """Say whether a key has a scope, by itself or by a wider one."""
    return not key.scopes.isdisjoint(_OPENED_BY[scope])
