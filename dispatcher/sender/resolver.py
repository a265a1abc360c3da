"""Names to addresses: `getaddrinfo` in threads of our own, each name once at a time, kept for seconds.

How this works: a lookup is a daemon thread, since `getaddrinfo` cannot be cancelled: a name whose servers
hang holds one thread, no waiter beyond its own deadline, and not the end of the process. There are at
most `max_threads` at a time; further names queue, and are passed over if nobody waits for them any more.
Names whose last answer took long queue behind all others and have half of the threads at most: however many
names hang, the others find one. What a name led to is not judged here: whoever connects does, each time, also
for an answer that was kept.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

from dispatcher.core.outcome import ErrorClass
from dispatcher.sender.failure import SendError, name_error

if TYPE_CHECKING:
    from dispatcher.core.addresses import Address

Lookup: TypeAlias = Callable[[str], Iterable[str]]
_MAX_OF_A_FAMILY: Final = 8  # addresses of a name: an answer may have thousands, each to be connected to

_Kept = TypeVar("_Kept")
_Answer: TypeAlias = "tuple[Address, ...] | OSError | UnicodeError"


def getaddrinfo(host: str) -> list[str]:
    """Ask the system for every address of a name, the preferred first; raises `OSError`, `UnicodeError`."""
    return [str(info[4][0]) for info in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]


def _some(addresses: Iterable[Address]) -> tuple[Address, ...]:
    """Give the first of each family, in the order given."""
    left = {4: _MAX_OF_A_FAMILY, 6: _MAX_OF_A_FAMILY}
    some = []
    for address in addresses:
        if left[address.version]:
            left[address.version] -= 1
            some.append(address)
    return tuple(some)


class _Pending:
    """A lookup that is under way or queued."""

    __slots__ = ("answer", "asked_at", "slow", "waiters")

    def __init__(self, loop: asyncio.AbstractEventLoop, *, slow: bool) -> None:
        self.answer: asyncio.Future[_Answer] = loop.create_future()
        self.asked_at = 0.0  # not yet
        self.slow: Final = slow  # the last answer took long
        self.waiters = 0


class Resolver:
    """Resolves names for one event loop; `ttl_s` is how long an answer is kept.

    A name is slow if its answer took longer than `slow_s`.
    """

    def __init__(
        self,
        lookup: Lookup = getaddrinfo,
        *,
        ttl_s: float = 10.0,
        slow_s: float = 1.0,
        max_threads: int = 256,
        max_names: int = 4096,
    ) -> None:
        self._lookup: Final = lookup
        self._ttl_s: Final = ttl_s
        self._slow_s: Final = slow_s
        self._max_threads: Final = max_threads
        self._max_names: Final = max_names
        self._loop: Final = asyncio.get_running_loop()
        self._kept: Final[dict[str, tuple[float, tuple[Address, ...]]]] = {}
        self._pending: Final[dict[str, _Pending]] = {}
        self._slow: Final[dict[str, None]] = {}  # names
        self._queue: Final[deque[str]] = deque()
        self._slow_queue: Final[deque[str]] = deque()
        self._threads = self._slow_threads = 0

    async def resolve(self, host: str) -> tuple[Address, ...]:
        """Give the addresses of a name, at least one, the preferred first; raises `SendError`."""
        kept = self._kept.get(host)
        if kept is not None and self._loop.time() < kept[0]:
            return kept[1]
        pending = self._pending.get(host)
        if pending is None:
            pending = self._pending[host] = _Pending(self._loop, slow=host in self._slow)
            (self._slow_queue if pending.slow else self._queue).append(host)
        pending.waiters += 1
        try:
            self._start()
            answer = await asyncio.shield(pending.answer)
        finally:
            pending.waiters -= 1
        if isinstance(answer, Exception):
            raise name_error(host, answer)
        if not answer:
            raise SendError(ErrorClass.DNS, f"{host} has no address")
        return answer

    def is_queued(self, host: str) -> bool:
        """Say whether nobody has been asked for a name yet, though somebody wanted it."""
        pending = self._pending.get(host)
        return pending is not None and not pending.asked_at

    def _start(self) -> None:
        while (queue := self._next()) and self._threads < self._max_threads:
            host = queue.popleft()
            pending = self._pending[host]
            if pending.waiters == 0:
                del self._pending[host]
                continue
            pending.asked_at = self._loop.time()
            try:
                threading.Thread(target=self._run, args=(host,), name=f"resolve {host}", daemon=True).start()
            except RuntimeError as error:
                if self._threads:  # as many as there can be: until one of them ends
                    pending.asked_at = 0.0
                    queue.appendleft(host)
                    return
                self._answer(host, OSError(errno.ENOMEM, str(error)))
            else:
                self._threads += 1
                self._slow_threads += pending.slow

    def _next(self) -> deque[str]:
        if self._queue or self._slow_threads * 2 >= self._max_threads:
            return self._queue
        return self._slow_queue

    def _run(self, host: str) -> None:
        answer: _Answer
        try:
            answer = _some(dict.fromkeys(ip_address(text) for text in self._lookup(host)))
        except (OSError, UnicodeError) as error:
            answer = error
        with suppress(RuntimeError):  # the loop may have ended before the name's servers answered
            self._loop.call_soon_threadsafe(self._finish, host, answer)

    def _finish(self, host: str, answer: _Answer) -> None:
        self._threads -= 1
        self._slow_threads -= self._pending[host].slow
        self._answer(host, answer)
        self._start()

    def _answer(self, host: str, answer: _Answer) -> None:
        now, pending = self._loop.time(), self._pending.pop(host)
        if isinstance(answer, tuple) and answer:
            self._keep(self._kept, host, (now + self._ttl_s, answer))
        self._slow.pop(host, None)
        if now - pending.asked_at > self._slow_s:
            self._keep(self._slow, host, None)
        pending.answer.set_result(answer)

    def _keep(self, kept: dict[str, _Kept], host: str, value: _Kept) -> None:
        kept.pop(host, None)
        while len(kept) >= self._max_names:
            del kept[next(iter(kept))]
        kept[host] = value
