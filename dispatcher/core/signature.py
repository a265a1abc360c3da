"""Signatures: the guide's `X-Grillo-Signature` and Standard Webhooks 1.0, made and checked.

While a secret rotates the guide's header stays with the current secret (its receivers compare one string of
71 characters), `X-Grillo-Signature-Next` carries the coming one's, and `webhook-signature` carries both.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from typing import Final

_STANDARD_PREFIX: Final = "whsec_"
_BASE64: Final = re.compile(r"([A-Za-z0-9+/]+)={0,2}")

_BLOCK_BYTES: Final = 64  # of SHA-256
_INNER_PAD: Final = bytes(byte ^ 0x36 for byte in range(256))
_OUTER_PAD: Final = bytes(byte ^ 0x5C for byte in range(256))


def grillo_signature(secret: str, body: bytes) -> str:
    """Give the guide's header value: `sha256=` and 64 lower-case hex digits, always 71 characters."""
    return "sha256=" + hmac.digest(secret.encode(), body, "sha256").hex()


def verify_grillo(secret: str, body: bytes, signature: str) -> bool:
    """Check the guide's header in constant time."""
    return hmac.compare_digest(grillo_signature(secret, body).encode(), _header_bytes(signature))


def standard_key(secret: str) -> bytes:
    """Give the key of Standard Webhooks signatures: base64 behind `whsec_`, else the text in UTF-8.

    Padding may be missing, as the `standardwebhooks` package allows. That package drops characters that are
    not base64 without a word and signs with what is left; here they are refused, with ValueError, and so is
    an empty key.
    """
    if not secret.startswith(_STANDARD_PREFIX):
        if not secret:
            raise ValueError("a secret must not be empty")
        return secret.encode()
    found = _BASE64.fullmatch(secret, len(_STANDARD_PREFIX))
    if found is None or len(found[1]) % 4 == 1:
        raise ValueError("a secret that begins with whsec_ must go on with base64 of at least one byte")
    return base64.b64decode(found[1] + "==")


def standard_signature(key: bytes, delivery_id: str, timestamp: int, body: bytes) -> str:
    """Give one `v1,<base64>` over `id.timestamp.body`; `timestamp` in Unix seconds."""
    signed = b"%b.%d.%b" % (delivery_id.encode(), timestamp, body)
    return _v1(hmac.digest(key, signed, "sha256"))


def verify_standard(secret: str, delivery_id: str, timestamp: int, body: bytes, signatures: str) -> bool:
    """Check a `webhook-signature` header, which may list several; the caller judges the timestamp's age."""
    expected = standard_signature(standard_key(secret), delivery_id, timestamp, body).encode()
    matches = [hmac.compare_digest(expected, _header_bytes(one)) for one in signatures.split(" ")]
    return any(matches)


class Signer:
    """Signs every attempt for one webhook; prepared once, when the webhook is loaded.

    `next_secret` is the one that takes over when the grace of a rotation ends. Raises ValueError for a secret
    that `standard_key` refuses.
    """

    __slots__ = ("_macs",)

    def __init__(self, secret: str, next_secret: str | None = None) -> None:
        secrets = (secret,) if next_secret is None else (secret, next_secret)
        names = ("X-Grillo-Signature", "X-Grillo-Signature-Next")
        self._macs: Final = tuple(
            (name, _Mac(one.encode()), _Mac(standard_key(one)))
            for name, one in zip(names, secrets, strict=False)
        )

    def __repr__(self) -> str:
        return f"<Signer of {len(self._macs)}>"

    def sign(self, delivery_id: str, timestamp: int, body: bytes) -> tuple[tuple[str, str], ...]:
        """Give the signature headers of one attempt; `timestamp` is the attempt's, in Unix seconds."""
        seconds = str(timestamp)
        signed = f"{delivery_id}.{seconds}.".encode() + body
        grillo: list[tuple[str, str]] = []
        standard: list[str] = []
        for name, of_body, of_all in self._macs:
            grillo.append((name, "sha256=" + of_body.digest(body).hex()))
            standard.append(_v1(of_all.digest(signed)))
        return (
            *grillo,
            ("webhook-id", delivery_id),
            ("webhook-timestamp", seconds),
            ("webhook-signature", " ".join(standard)),
        )


class _Mac:
    """HMAC-SHA256 (RFC 2104) with the key's two blocks hashed beforehand.

    Half the time of `hmac.digest`, which prepares the key anew for every message.
    """

    __slots__ = ("_inner", "_outer")

    def __init__(self, key: bytes) -> None:
        if len(key) > _BLOCK_BYTES:
            key = hashlib.sha256(key).digest()
        block = key.ljust(_BLOCK_BYTES, b"\0")
        self._inner: Final = hashlib.sha256(block.translate(_INNER_PAD))
        self._outer: Final = hashlib.sha256(block.translate(_OUTER_PAD))

    def digest(self, message: bytes) -> bytes:
        inner = self._inner.copy()
        inner.update(message)
        outer = self._outer.copy()
        outer.update(inner.digest())
        return outer.digest()


def _v1(digest: bytes) -> str:
    return "v1," + binascii.b2a_base64(digest, newline=False).decode()


def _header_bytes(value: str) -> bytes:
    """Give a header's text as bytes: `compare_digest` takes no text beyond ASCII."""
    return value.encode(errors="backslashreplace")
