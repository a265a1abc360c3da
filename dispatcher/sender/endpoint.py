"""A webhook's URL made ready, once, for every request to it: where it leads and how its header begins."""

from __future__ import annotations

import re
from itertools import chain
from typing import TYPE_CHECKING, Final

from dispatcher.core.addresses import InvalidUrlError, Target, read_url
from dispatcher.core.outcome import ErrorClass
from dispatcher.sender.failure import SendError
from dispatcher.sender.pool import OriginKey, Pool
from dispatcher.sender.trust import Trust

if TYPE_CHECKING:
    from dispatcher.core.message import Message

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FRAMING: Final = frozenset({"host", "content-length", "transfer-encoding", "connection"})
_MAX_NAMES: Final = 4096
_sendable: Final[set[str]] = set()  # header names that were found to be in order


class Endpoint:
    """Where requests to one URL go."""

    __slots__ = ("_start", "origin", "target", "trust")

    def __init__(self, url: str, pool: Pool, trust: Trust, ca_certificates: str = "") -> None:
        """Raise `SendError` for what cannot be made into a request."""
        try:
            target = read_url(url)
        except InvalidUrlError as error:
            raise SendError(ErrorClass.INVALID_REQUEST, f"the URL {error}") from None
        self.target: Final[Target] = target
        self.trust: Final = trust.context(ca_certificates) if target.tls else None
        self.origin: Final = pool.origin(OriginKey(target.host, target.port, self.trust))
        self._start: Final = f"POST {target.path} HTTP/1.1\r\nHost: {target.authority}\r\n"

    def request(self, message: Message) -> bytes:
        """Write the whole request; raises `SendError` where its headers cannot be sent."""
        text = self._start
        for name, value in message.headers:
            if name not in _sendable:
                _check_name(name)
            text += f"{name}: {value}\r\n"
        said = "".join(chain.from_iterable(message.headers))  # all of it at once: faster than value by value
        if "\n" in said or "\r" in said or "\0" in said:
            raise SendError(ErrorClass.INVALID_REQUEST, "a header's value contains a line break or NUL")
        try:
            head = f"{text}Content-Length: {len(message.body)}\r\n\r\n".encode()
        except UnicodeEncodeError:
            raise SendError(ErrorClass.INVALID_REQUEST, "a header's value is not valid text") from None
        return head + message.body


def _check_name(name: str) -> None:
    if not _TOKEN.fullmatch(name):
        raise SendError(ErrorClass.INVALID_REQUEST, f"{name!r} cannot be the name of a header")
    if name.lower() in _FRAMING:
        raise SendError(ErrorClass.INVALID_REQUEST, f"the header {name} is the sender's own")
    if len(_sendable) < _MAX_NAMES:
        _sendable.add(name)
