"""Remembers answers by Idempotency-Key, so that a repeated request is answered and not done again.

Everything runs in the request's own transaction (`Database.transaction`): a key is taken, the change made and
the answer kept together or not at all, so no crash leaves a key without an answer or a change without a key.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec

from dispatcher.store.vault import sealing

if TYPE_CHECKING:
    from dispatcher.store.connection import Database
    from dispatcher.store.vault import Vault


class Kept(msgspec.Struct, frozen=True):
    """What was asked with a key before, and the answer's text."""

    request: bytes
    answer: str

    def __repr__(self) -> str:
        return "Kept(…)"  # the answer may show a secret


class Ticket:
    """One Idempotency-Key of one API key, in one transaction."""

    def __init__(self, database: Database, vault: Vault, api_key_id: int, key: str) -> None:
        self._database = database
        self._vault = vault
        self._api_key_id = api_key_id
        self._key = hashlib.sha256(key.encode()).digest()
        self._name = answer_name(api_key_id, self._key)

    async def turn(self) -> bool:
        """Wait for nobody: false while another request with this key is being worked on."""
        row = await self._database.fetchrow("idempotency_turn", self._name)
        return row is not None and row[0]

    async def take(self, request: bytes) -> Kept | None:
        """Take the key for a request, given as a hash; or give what was asked with it within the last day.

        Raises `OperatorError` for an answer that was sealed with a key that is gone.
        """
        await self._database.execute("idempotency_forget")
        if await self._database.fetchrow("idempotency_take", self._api_key_id, self._key, request):
            return None
        row = await self._database.fetchrow("idempotency_answer", self._api_key_id, self._key)
        if row is None or row["answer"] is None:
            raise RuntimeError("an Idempotency-Key is taken and has no answer")
        return Kept(row["request"], self._vault.open(row["answer"], self._name))

    async def keep(self, answer: str) -> None:
        """Remember the answer to the request that took the key."""
        async with self._database.acquire() as connection:
            sealer = await sealing(connection, self._vault)
        await self._database.execute(
            "idempotency_keep", self._api_key_id, self._key, sealer.seal(answer, self._name)
        )


def answer_name(api_key_id: int, key: bytes) -> str:
    """Name an answer for the vault, by the API key and the hash of the Idempotency-Key."""
    return f"{api_key_id}/{key.hex()}"
