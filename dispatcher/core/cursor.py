"""Cursors: where a walk through a list goes on, opaque to clients."""

from __future__ import annotations

import base64
import binascii
from typing import Final

from dispatcher.core.ids import OutboxId

_VERSION: Final = b"\x01"
_BYTES: Final = 8


def write_cursor(before: OutboxId) -> str:
    """Write a position among a webhook's deliveries: those that follow have a lower outbox id."""
    return base64.urlsafe_b64encode(_VERSION + before.to_bytes(_BYTES)).decode()


def read_cursor(text: str) -> OutboxId:
    """Read what `write_cursor` wrote; raises ValueError for anything else."""
    try:
        data = base64.b64decode(text.encode("ascii"), altchars=b"-_", validate=True)
    except (UnicodeEncodeError, binascii.Error):
        data = b""
    if len(data) != 1 + _BYTES or data[:1] != _VERSION or data[1] > 0x7F:
        raise ValueError("is not a cursor from an earlier answer")
    return OutboxId(int.from_bytes(data[1:]))
