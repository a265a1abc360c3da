"""Keeps connections: idle ones by origin, the newest first, all of them bounded in number and in time.

How this works: every open connection has one time at which it is `due`, the deadline of its exchange or the
end of its idleness. One timer of the pool looks at all of them (`_sweep`), not before the earliest of those
times, and at most fifty times a second however many there are. So a request costs no timer, and a deadline is
kept to some 20 ms.

There are at most `max_open` connections, with those that are being made, as long as some of them are idle: a
new one takes the place of the one that was idle for longest.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final, NamedTuple
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    import ssl

    from dispatcher.sender.connection import ReceiverConnection

_NEVER: Final = float("inf")
_EARLY_S: Final = 0.005  # loops count in milliseconds: a timer may fire this much early
_SWEEP_EVERY_S: Final = 0.02  # at most
_LOOK_AFTER_S: Final = 0.05  # a connection that was idle this long is looked at before it is used
GOODBYE_S: Final = 1.0  # a receiver gets this long to end TLS politely


class OriginKey(NamedTuple):
    """What connections must have in common to serve the same requests."""

    host: str
    port: int
    trust: ssl.SSLContext | None  # None: plain text. One made under another trust is not taken for this


class Origin:
    """Where requests go: its idle connections, the one that was used last at the end."""

    __slots__ = ("__weakref__", "closes", "idle", "keeps")

    def __init__(self) -> None:
        self.closes = False  # of a connection that was used again nothing, or a late rest, came in answer
        self.keeps = False  # the receiver left the connection open behind its last answer
        self.idle: Final[list[ReceiverConnection]] = []


class Pool:
    """The connections of one event loop; `keepalive_s` of 0 keeps none."""

    def __init__(self, *, keepalive_s: float, max_open: int) -> None:
        self._loop: Final = asyncio.get_running_loop()
        self._keepalive_s: Final = keepalive_s
        self._max_open: Final = max_open
        self._open: Final[set[ReceiverConnection]] = set()
        self._opening = 0
        self._idle: Final[dict[ReceiverConnection, None]] = {}  # those of all origins, the oldest first
        self._origins: Final[WeakValueDictionary[OriginKey, Origin]] = WeakValueDictionary()
        self._timer: asyncio.TimerHandle | None = None
        self.sweep_at = _NEVER  # when the sweep comes, at the latest
        self._not_before = 0.0
        self._empty: asyncio.Event | None = None  # set by the last connection, once the pool is closing

    def origin(self, key: OriginKey) -> Origin:
        """Give the one origin of this key."""
        origin = self._origins.get(key)
        if origin is None:
            origin = self._origins[key] = Origin()
        return origin

    def take(self, origin: Origin) -> ReceiverConnection | None:
        """Take an idle connection that nothing is known to be wrong with.

        Of a receiver that ends them behind its answers without a word, or goes on writing, the one that was
        idle for longest, if that is long enough for what came behind the answer to have arrived.
        """
        while origin.idle:
            if origin.closes and self._loop.time() - origin.idle[0].idle_since < _LOOK_AFTER_S:
                return None
            connection = origin.idle.pop(0 if origin.closes else -1)
            del self._idle[connection]
            connection.idle = False
            if connection.fit(self._loop.time(), _LOOK_AFTER_S):
                return connection
            connection.abort()
        return None

    def keep(self, connection: ReceiverConnection, hint_s: float | None = None) -> None:
        """Take a connection back after an exchange; `hint_s`: how long the receiver is known to keep it."""
        now = self._loop.time()
        until = now + (self._keepalive_s if hint_s is None else min(self._keepalive_s, hint_s))
        if until > now and self._empty is None and connection.settle(until):
            connection.origin.keeps = True
            self._keep_idle(connection, now)
        else:
            connection.origin.keeps = False
            connection.abort()

    def _keep_idle(self, connection: ReceiverConnection, now: float) -> None:
        connection.idle_since = now
        connection.origin.idle.append(connection)
        self._idle[connection] = None
        if connection.due < self.sweep_at:
            self.watch(connection.due)

    def park(self, connection: ReceiverConnection) -> bool:
        """Keep a connection that was made ahead of any request; false where it has ended already."""
        now = self._loop.time()
        if self._empty is not None or not connection.is_open:
            connection.abort()
            return False
        connection.rest(now + self._keepalive_s)
        self._keep_idle(connection, now)
        return True

    def put_back(self, connection: ReceiverConnection) -> None:
        """Keep a connection that was taken, or made, and on which nothing was sent after all."""
        if connection.fresh is None:
            connection.idle = True
            self._keep_idle(connection, connection.idle_since)
        else:
            connection.fresh = None  # no request took this time
            self.park(connection)

    def distrust(self, connection: ReceiverConnection) -> None:
        """Let go of what was idle beside a kept connection when that was used, and nothing came back on it.

        Where a network or a balancer forgot one, it forgot the others, and each would cost a request.
        """
        used_at = connection.sent_ns / 1e9
        for one in list(connection.origin.idle):
            if one.idle_since < used_at:
                self._retire(one)

    def ready(self, origin: Origin, for_s: float) -> bool:
        """Say whether an idle connection of the origin will be kept for so long."""
        until = self._loop.time() + for_s
        return any(connection.due > until for connection in origin.idle)

    @property
    def crowded(self) -> bool:
        """Whether half of the connections that may be open are."""
        return len(self._open) * 2 >= self._max_open

    def watch(self, due: float) -> None:
        """See to it that the sweep is not later than this, but for its shortest period."""
        at = max(due, self._not_before)
        if at < self.sweep_at:
            self.sweep_at = at
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_at(at, self._sweep)

    def opening(self) -> None:
        """Count one that is about to be made; where there are too many, an idle one gives way to it."""
        if len(self._open) + self._opening >= self._max_open and self._idle:
            self._retire(next(iter(self._idle)))
        self._opening += 1

    def opened(self, connection: ReceiverConnection | None) -> None:
        """Count a new connection; None: it was not made."""
        self._opening -= 1
        if connection is not None and connection.is_open:
            self._open.add(connection)

    def closed(self, connection: ReceiverConnection) -> None:
        """Forget a connection that has ended."""
        self._open.discard(connection)
        if connection.idle:
            connection.idle = False
            del self._idle[connection]
            connection.origin.idle.remove(connection)
        if self._empty is not None and not self._open:
            self._empty.set()

    async def close(self) -> None:
        """End every connection, idle ones politely, and wait until they have ended."""
        self._empty = asyncio.Event()
        for connection in list(self._open):
            if connection.idle:
                self._retire(connection)
            else:
                connection.abort()
        if self._open:
            with contextlib.suppress(TimeoutError):  # the end of the process takes what is left
                async with asyncio.timeout(2 * GOODBYE_S):
                    await self._empty.wait()
        if self._timer is not None:
            self._timer.cancel()

    def _retire(self, connection: ReceiverConnection) -> None:
        del self._idle[connection]
        connection.origin.idle.remove(connection)
        until = self._loop.time() + GOODBYE_S
        connection.retire(until)
        self.watch(until)

    def _sweep(self) -> None:
        now = self._loop.time()
        self._timer = None
        self.sweep_at = earliest = _NEVER
        self._not_before = now + _SWEEP_EVERY_S
        for connection in list(self._open):
            if connection.due <= now + _EARLY_S:
                if connection.idle:
                    self._retire(connection)
                else:
                    connection.expire()
            earliest = min(earliest, connection.due)
        self.watch(earliest)
