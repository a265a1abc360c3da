"""Keeps webhook secrets: AES-256-GCM under a key that never enters the database.

How this works: what is sealed is `0x01 || nonce (12 bytes) || ciphertext and tag`; the webhook's public id is
bound in as associated data, so a row's secret cannot be moved to another row. While the key changes
(`dispatcher rekey`) a vault holds two: it opens what either of them sealed, and whoever writes to the
database seals under the one that the database names (`sealing`), so that none is left behind.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from dispatcher.config import Config
from dispatcher.core.errors import OperatorError
from dispatcher.store.keyfile import KEY_BYTES, KeyFile, decode_key
from dispatcher.store.queries import QUERIES

if TYPE_CHECKING:
    import asyncpg

__all__ = [
    "KEY_BYTES",
    "Vault",
    "configured_vault",
    "decode_key",
    "headers_name",
    "new_secret",
    "open_vault",
    "sealing",
]

_FORMAT: Final = b"\x01"
_NONCE_BYTES: Final = 12
_SECRET_BYTES: Final = 32  # Standard Webhooks asks for 24 to 64


def new_secret() -> str:
    """Make a secret, for a webhook whose subscriber brought none."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


class _Key:
    """One key, ready to be used."""

    __slots__ = ("check", "cipher", "raw")

    def __init__(self, key: bytes) -> None:
        self.raw: Final = key
        self.cipher: Final = AESGCM(key)
        self.check: Final = hashlib.sha256(b"dispatcher key check" + key).digest()


class Vault:
    """Seals under one key of 32 bytes, and opens what was sealed under it or another one that it knows.

    `source` gives all keys again, the present one first: it is asked when those that are known do not fit,
    so that a running daemon learns of a key that was changed in its file.
    """

    def __init__(
        self, key: bytes, *others: bytes, source: Callable[[], Sequence[bytes]] | None = None
    ) -> None:
        self._keys = [_Key(one) for one in (key, *others)]
        self._source: Final = source

    @property
    def key_check(self) -> bytes:
        """What the database keeps to recognise the key by; the key cannot be told from it."""
        return self._keys[0].check

    def knows(self, key_check: bytes) -> bool:
        """Say whether one of the keys is the one that the database names."""
        return self._find(key_check) is not None

    def under(self, key_check: bytes) -> Vault:
        """Give the vault that seals under the key that the database names; raises `OperatorError`."""
        key = self._find(key_check)
        if key is None:
            raise OperatorError(
                "the secrets were sealed with a new key, which this process does not have: "
                "set secrets.encryption_key to it"
            )
        if key is self._keys[0]:
            return self
        others = (one.raw for one in self._keys if one is not key)
        return Vault(key.raw, *others, source=self._source)

    def seal(self, secret: str, webhook_public_id: str) -> bytes:
        """Encrypt a webhook's secret."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        cipher = self._keys[0].cipher
        return _FORMAT + nonce + cipher.encrypt(nonce, secret.encode(), webhook_public_id.encode())

    def open(self, sealed: bytes, webhook_public_id: str) -> str:
        """Decrypt a webhook's secret; raises `OperatorError` when it was sealed with another key."""
        opened = self._open(sealed, webhook_public_id)
        if opened is None and self._refresh():
            opened = self._open(sealed, webhook_public_id)
        if opened is None:
            raise OperatorError(
                f"the secret of {webhook_public_id} was sealed with another key: "
                "set secrets.encryption_key to the one that was used"
            )
        return opened[1]

    def resealed(self, sealed: bytes, webhook_public_id: str) -> bytes:
        """Give the same under the present key; as it is where it is under that one already."""
        opened = self._open(sealed, webhook_public_id)
        if opened is not None and opened[0] is self._keys[0]:
            return sealed
        return self.seal(self.open(sealed, webhook_public_id), webhook_public_id)

    def seal_headers(self, headers: Mapping[str, str], webhook_public_id: str) -> bytes | None:
        """Encrypt a webhook's own headers: their values often are tokens. None: there are none."""
        if not headers:
            return None
        return self.seal(msgspec.json.encode(headers).decode(), headers_name(webhook_public_id))

    def open_headers(self, sealed: bytes | None, webhook_public_id: str) -> dict[str, str]:
        """Decrypt a webhook's own headers."""
        if sealed is None:
            return {}
        text = self.open(sealed, headers_name(webhook_public_id))
        return msgspec.json.decode(text, type=dict[str, str])

    def _open(self, sealed: bytes, name: str) -> tuple[_Key, str] | None:
        if sealed[:1] != _FORMAT:
            raise OperatorError(f"the secret of {name} is in a format that this version does not know")
        nonce, ciphertext = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
        for key in self._keys:
            try:
                return key, key.cipher.decrypt(nonce, ciphertext, name.encode()).decode()
            except InvalidTag:
                continue
        return None

    def _find(self, key_check: bytes) -> _Key | None:
        for _ in range(2):
            for key in self._keys:
                if hmac.compare_digest(key.check, key_check):
                    return key
            if not self._refresh():
                break
        return None

    def _refresh(self) -> bool:
        """Ask the source for keys; true where there are new ones. What was known stays known."""
        if self._source is None:
            return False
        known = {key.check for key in self._keys}
        new = [key for key in map(_Key, self._source()) if key.check not in known]
        self._keys = [*new, *self._keys]
        return bool(new)

    def __repr__(self) -> str:
        return "Vault(…)"


def headers_name(webhook_public_id: str) -> str:
    """Name a webhook's headers for `Vault.seal`, so that they are not taken for its secret."""
    return f"{webhook_public_id}/headers"


async def sealing(connection: asyncpg.Connection, vault: Vault) -> Vault:
    """Give the vault to seal with in this transaction: under the key that the database names.

    Holds that name until the transaction ends: a `dispatcher rekey` waits, and then finds what was written.
    To be called before any row is locked.
    """
    key_check: bytes | None = await connection.fetchval(QUERIES["key_check_shared"])
    return vault if key_check is None else vault.under(key_check)


def open_vault(encryption_key: str, data_dir: Path, previous: str = "") -> Vault:
    """Give the vault of this installation; without a configured key, one is made and kept in `data_dir`."""
    if encryption_key:
        others = [decode_key(previous, "secrets.previous_encryption_key")] if previous else []
        return Vault(decode_key(encryption_key), *others)
    file = KeyFile(data_dir)
    file.create()
    return Vault(*file.read(), source=file.read)


def configured_vault(config: Config) -> Vault:
    """Give the vault of this installation, by its configuration."""
    keys = config.secrets
    return open_vault(keys.encryption_key, Path(config.data_dir), keys.previous_encryption_key)
