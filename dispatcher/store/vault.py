"""Keeps webhook secrets: AES-256-GCM under a key that never enters the database.

A sealed secret is `0x01 || nonce (12 bytes) || ciphertext and tag`; the webhook's public id is bound in
as associated data, so a row's secret cannot be moved to another row.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import secrets
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from dispatcher.core.errors import OperatorError

_FORMAT: Final = b"\x01"
_NONCE_BYTES: Final = 12
KEY_BYTES: Final = 32


class Vault:
    """Seals and opens secrets under one key of 32 bytes."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)
        self.key_check = hashlib.sha256(b"dispatcher key check" + key).digest()

    def seal(self, secret: str, webhook_public_id: str) -> bytes:
        """Encrypt a webhook's secret."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return _FORMAT + nonce + self._cipher.encrypt(nonce, secret.encode(), webhook_public_id.encode())

    def open(self, sealed: bytes, webhook_public_id: str) -> str:
        """Decrypt a webhook's secret; raises `OperatorError` when it was sealed with another key."""
        if sealed[:1] != _FORMAT:
            raise OperatorError(
                f"the secret of {webhook_public_id} is in a format that this version does not know"
            )
        nonce, ciphertext = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
        try:
            return self._cipher.decrypt(nonce, ciphertext, webhook_public_id.encode()).decode()
        except InvalidTag:
            raise OperatorError(
                f"the secret of {webhook_public_id} was sealed with another key: "
                "set secrets.encryption_key to the one that was used"
            ) from None

    def __repr__(self) -> str:
        return "Vault(…)"


def decode_key(text: str) -> bytes:
    """Read `secrets.encryption_key`: 32 bytes in base64; raises `OperatorError`."""
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise OperatorError("secrets.encryption_key: expected 32 bytes in base64 (openssl rand -base64 32)")
    return key


def open_vault(encryption_key: str, data_dir: Path) -> Vault:
    """Give the vault of this installation; without a configured key, one is made and kept in `data_dir`."""
    if encryption_key:
        return Vault(decode_key(encryption_key))
    path = data_dir / "encryption.key"
    try:
        return Vault(decode_key(path.read_text(encoding="ascii")))
    except FileNotFoundError:
        pass
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()
    # Two processes may come here at once: the file appears complete, and the first one's stays.
    draft = data_dir / f"encryption.key.{os.getpid()}"
    draft.touch(mode=0o600)
    draft.write_text(key + "\n", encoding="ascii")
    try:
        os.link(draft, path)
    except FileExistsError:
        return Vault(decode_key(path.read_text(encoding="ascii")))
    finally:
        draft.unlink()
    return Vault(decode_key(key))
