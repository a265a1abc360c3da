"""What the sender is asked to send: one attempt, complete to the last byte."""

from __future__ import annotations

import msgspec


class Message(msgspec.Struct, frozen=True, gc=False):
    """One POST request. The sender adds only `Host` and `Content-Length`.

    `ca_certificates` (PEM): the certificates that are trusted instead of the system's; empty: the system's.
    """

    url: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    ca_certificates: str = ""

    def __repr__(self) -> str:
        return f"Message({self.url!r}, {len(self.headers)} headers, {len(self.body)} bytes)"
