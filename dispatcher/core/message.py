"""What the sender is asked to send: one attempt, complete to the last byte."""

from __future__ import annotations

import msgspec


class Message(msgspec.Struct, frozen=True):
    """One POST request. The sender adds only `Host` and `Content-Length`."""

    url: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
