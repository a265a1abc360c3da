"""Listening addresses as operators write them: `127.0.0.1:8080`, `[::1]:8080`, `localhost:8080`."""

from __future__ import annotations

import ipaddress
import re
from typing import Final

_LISTEN: Final = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)]|(?P<host>[A-Za-z0-9._-]+)):(?P<port>[0-9]{1,5})")


def listen_address(text: str) -> tuple[str, int]:
    """Take host and port apart (port 0: any free one); raises ValueError with what was expected."""
    match = _LISTEN.fullmatch(text)
    if match is None:
        raise ValueError("expected host:port, such as 127.0.0.1:8080, 0.0.0.0:8080 or [::1]:8080")
    port = int(match["port"])
    if port > 65535:
        raise ValueError("expected a port up to 65535")
    if match["v6"] is not None:
        try:
            return str(ipaddress.IPv6Address(match["v6"])), port
        except ValueError:
            raise ValueError("expected an IPv6 address in the brackets, such as [::1]:8080") from None
    host: str = match["host"]
    if re.fullmatch(r"[0-9.]+", host):  # a resolver would read 127.1 or 1 in its own way
        try:
            ipaddress.IPv4Address(host)
        except ValueError:
            raise ValueError("expected an IPv4 address of four numbers, such as 127.0.0.1:8080") from None
    return host, port
