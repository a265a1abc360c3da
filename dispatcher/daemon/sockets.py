"""The sockets we listen on: those of a `.socket` unit, or made here, before anything is sent.

They listen from here on: a port that is taken ends the process before it leads, and whoever connects before
somebody answers waits for that, as with a `.socket` unit.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING, Any, TypeAlias

from dispatcher.config import listen_address
from dispatcher.core.errors import OperatorError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_Address: TypeAlias = tuple[int, int, int, str, tuple[Any, ...]]  # as `getaddrinfo` gives it


def addresses(host: str, port: int) -> Sequence[_Address]:
    """Give the addresses of a host to listen on, as the system has them."""
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)


def bound(
    name: str,
    listen: str,
    given: Mapping[str, socket.socket],
    look_up: Callable[[str, int], Sequence[_Address]] = addresses,
) -> Sequence[socket.socket]:
    """Give the listener's sockets, one for each address of its host; raises `OperatorError`."""
    if name in given:
        return [given[name]]
    host, port = listen_address(listen)
    sockets: list[socket.socket] = []
    try:
        # A hosts file may name an address twice, or one of a family that the kernel does not have.
        found = list(dict.fromkeys(look_up(host, port)))
        for place, (family, kind, protocol, _, address) in enumerate(found, start=1):
            try:
                one = socket.socket(family, kind, protocol)
            except OSError as error:
                if error.errno == errno.EAFNOSUPPORT and (sockets or place < len(found)):
                    continue
                raise
            sockets.append(one)
            one.setblocking(False)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            one.bind(address)
            one.listen()  # two processes may have bound one address, as long as neither listens
    except OSError as error:
        for one in sockets:
            one.close()
        why = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        raise OperatorError(f"{name}.listen: cannot listen on {listen}: {why}") from error
    return sockets
