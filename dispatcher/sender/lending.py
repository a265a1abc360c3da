"""A connected socket that is given to an event loop, and whose descriptor must not be closed twice.

How this works: a loop that takes a socket closes it with its transport. uvloop does so by the number of the
descriptor: where the receiver resets the connection in the moment in which the transport is made, the number
is free again, and soon another connection's, while the socket object still holds it. Whoever closes that
object, the garbage collector for one, closes a stranger's connection. So it is asked whether the number still
means the same socket, and if not, the object forgets it.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator


@contextlib.contextmanager
def lent(sock: socket.socket) -> Iterator[None]:
    """Give the socket to a loop in this block; if that fails, it is closed, by whom it still belongs to."""
    lent_as = _identity(sock)
    try:
        yield
    except BaseException:
        _forget_unless(sock, lent_as)
        sock.close()
        raise
    _forget_unless(sock, lent_as)  # made, and lost already


def _forget_unless(sock: socket.socket, same: tuple[int, int]) -> None:
    if sock.fileno() >= 0 and _identity(sock) != same:
        sock.detach()


def _identity(sock: socket.socket) -> tuple[int, int]:
    """Say which file a descriptor means; nothing where it is closed."""
    try:
        status = os.fstat(sock.fileno())
    except OSError:
        return 0, 0
    return status.st_dev, status.st_ino
