"""The sockets we listen on: those of a `.socket` unit, or made here, before anything is sent.

They are bound and do not listen yet: a port that is taken is noticed at once, and whoever connects too early
is refused.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from dispatcher.config import listen_address
from dispatcher.core.errors import OperatorError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def bound(name: str, listen: str, given: Mapping[str, socket.socket]) -> Sequence[socket.socket]:
    """Give the listener's sockets, one for each address of its host; raises `OperatorError`."""
    if name in given:
        return [given[name]]
    host, port = listen_address(listen)
    sockets: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            one = socket.socket(family, kind, protocol)
            sockets.append(one)
            one.setblocking(False)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            one.bind(address)
    except OSError as error:
        for one in sockets:
            one.close()
        why = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        raise OperatorError(f"{name}.listen: cannot listen on {listen}: {why}") from error
    return sockets
