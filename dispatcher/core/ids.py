"""The names of things: what is shown outside (`whk_…`, `dlv_…`) and what the tables use inside.

A delivery is known inside by three numbers, the day its event was recorded, the event's outbox id and
the webhook's number. Its public id is those 128 bits encrypted as one AES block under a key that the
installation keeps for ever, written in Crockford's base 32: unguessable, needs no column and no index,
and can be turned back into the row's key.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Final, NamedTuple, NewType

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

OutboxId = NewType("OutboxId", int)
WebhookId = NewType("WebhookId", int)
RunId = NewType("RunId", int)

ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford: no i, l, o, u
_VALUE: Final = {letter: value for value, letter in enumerate(ALPHABET)}
_LENGTH: Final = 26  # characters that hold 128 bits
_PAIRS: Final = tuple(first + second for first in ALPHABET for second in ALPHABET)  # of ten bits each
_LOW: Final = (1 << 60) - 1  # its last twelve characters
_EPOCH: Final = dt.date(2000, 1, 1)
_EPOCH_ORDINAL: Final = _EPOCH.toordinal()


class DeliveryKey(NamedTuple):
    """The primary key of a delivery: one event for one webhook."""

    day: dt.date
    outbox_id: OutboxId
    webhook_id: WebhookId


def encode128(value: int) -> str:
    """Write an unsigned 128-bit number as 26 characters of Crockford's base 32."""
    if not 0 <= value < 1 << 128:
        raise ValueError("an id holds 128 bits")
    # Written out, and in two halves: shorter numbers are shifted faster, and each delivery has such an id.
    a, b, p = value >> 60, value & _LOW, _PAIRS
    return (
        f"{p[a >> 60]}{p[a >> 50 & 1023]}{p[a >> 40 & 1023]}{p[a >> 30 & 1023]}{p[a >> 20 & 1023]}"
        f"{p[a >> 10 & 1023]}{p[a & 1023]}{p[b >> 50]}{p[b >> 40 & 1023]}{p[b >> 30 & 1023]}"
        f"{p[b >> 20 & 1023]}{p[b >> 10 & 1023]}{p[b & 1023]}"
    )


def decode128(text: str) -> int | None:
    """Read what `encode128` wrote; None for anything else."""
    if len(text) != _LENGTH:
        return None
    value = 0
    for letter in text:
        digit = _VALUE.get(letter)
        if digit is None:
            return None
        value = value * 32 + digit
    return value if value < 1 << 128 else None


def public_id(prefix: str, entropy: bytes) -> str:
    """Make an id such as `whk_…` from 16 bytes of chance that the caller drew."""
    return f"{prefix}_{encode128(int.from_bytes(entropy[:16]))}"


def _block(key: DeliveryKey) -> bytes:
    day, outbox_id, webhook_id = key
    return ((day.toordinal() - _EPOCH_ORDINAL) << 112 | outbox_id << 48 | webhook_id).to_bytes(16)


class DeliveryIds:
    """Turns delivery keys into public ids and back, under the installation's key (16 bytes)."""

    def __init__(self, key: bytes) -> None:
        cipher = Cipher(algorithms.AES(key), modes.ECB())  # noqa: S305 - one block, a permutation of keys
        self._encrypt = cipher.encryptor()
        self._decrypt = cipher.decryptor()

    def encode(self, key: DeliveryKey) -> str:
        """Give the delivery's public id: `dlv_` and 26 characters."""
        return "dlv_" + encode128(int.from_bytes(self._encrypt.update(_block(key))))

    def encode_all(self, keys: Sequence[DeliveryKey]) -> list[str]:
        """Give the public ids of many deliveries: a tenth of a delivery's CPU cheaper than one by one.

        The cipher is far from all else that a delivery needs; by the next one it has left the caches.
        """
        blocks = b"".join([_block(key) for key in keys])
        values = self._encrypt.update(blocks)
        return ["dlv_" + encode128(int.from_bytes(values[at : at + 16])) for at in range(0, len(values), 16)]

    def decode(self, text: str) -> DeliveryKey | None:
        """Give the key behind a public id, or None where the text cannot be one of ours."""
        if not text.startswith("dlv_"):
            return None
        value = decode128(text[4:])
        if value is None:
            return None
        block = self._decrypt.update(value.to_bytes(16))
        outbox_id = int.from_bytes(block[2:10])
        if outbox_id >= 1 << 63:
            return None
        day = _EPOCH + dt.timedelta(days=int.from_bytes(block[:2]))
        return DeliveryKey(day, OutboxId(outbox_id), WebhookId(int.from_bytes(block[10:])))
