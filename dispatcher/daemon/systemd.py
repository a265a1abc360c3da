"""What systemd and a service tell each other: readiness, watchdog, sockets that were opened for us.

The protocol is a datagram and three variables (sd_notify(3), sd_watchdog_enabled(3), sd_listen_fds(3)),
so no library is needed. Everywhere else than under systemd these functions do nothing.
"""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_FIRST_FD: Final = 3  # SD_LISTEN_FDS_START
_PATIENCE_S: Final = 0.5  # the manager's queue is full only when it is in trouble itself


def notify(state: str, environ: Mapping[str, str] = os.environ) -> bool:
    """Tell the manager, such as `READY=1`, `WATCHDOG=1` or `STATUS=…` (several with line ends between).

    False where no manager listens: a service goes on without one.
    """
    address = environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    if address.startswith("@"):  # an abstract socket: its name begins with a NUL
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.settimeout(_PATIENCE_S)
        try:
            sender.sendto(state.encode(), address)
        except OSError:
            return False
    return True


class Service:
    """What the manager was told of us.

    We are *ready* when nothing but PostgreSQL is missing: we wait for it by ourselves, as long as it takes,
    and units that come after us are not held up by its outage. The status line says what is the matter.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._ready = False
        self._stopping = False

    def ready(self) -> None:
        """Say that we run."""
        self._say_ready(f"STATUS={self._name}")

    def database_is(self, away: str | None) -> None:
        """Say that PostgreSQL is away, and why; or that it is back."""
        if away is None:
            notify(f"STATUS={self._name}")
        else:
            self._say_ready(f"STATUS={self._name}, waiting for PostgreSQL: {' '.join(away.split())}")

    def stopping(self) -> None:
        """Say that we begin to end; nothing makes us ready any more."""
        self._stopping, self._ready = True, False
        notify("STOPPING=1")

    def _say_ready(self, status: str) -> None:
        if self._stopping:
            notify(status)
        else:
            self._ready = True
            notify(f"READY=1\n{status}")

    def reload(self, work: Callable[[], None]) -> None:
        """Let the manager know when reloading begins and ends (sd_notify(3))."""
        if self._ready:
            notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            work()
        finally:
            if self._ready:
                notify("READY=1")


def watchdog_interval_s(environ: Mapping[str, str] = os.environ) -> float | None:
    """Give how often `WATCHDOG=1` is due, half of what the unit allows; None where nobody watches us."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None  # meant for the process that started us
    limit_us = environ.get("WATCHDOG_USEC", "")
    return int(limit_us) / 2e6 if limit_us.isdecimal() and int(limit_us) else None


def listen_fds(environ: Mapping[str, str] = os.environ) -> dict[str, socket.socket]:
    """Take over the sockets of a `.socket` unit, by `FileDescriptorName=`; call it once.

    Raises ValueError where two sockets have one name, since only one could be served.
    """
    count = environ.get("LISTEN_FDS", "")
    if environ.get("LISTEN_PID") != str(os.getpid()) or not count.isdecimal():
        return {}
    given = environ.get("LISTEN_FDNAMES", "")
    names = given.split(":") if given else ["unknown"] * int(count)
    if len(set(names)) != len(names):
        raise ValueError(f"each socket unit needs a FileDescriptorName= of its own, got {given or names}")
    sockets = {}
    for fd, name in enumerate(names[: int(count)], _FIRST_FD):
        os.set_inheritable(fd, False)
        sockets[name] = socket.socket(fileno=fd)
        sockets[name].setblocking(False)
    return sockets
