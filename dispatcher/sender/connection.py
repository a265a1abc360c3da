"""One connection to a receiver: busy with at most one exchange at a time, and idle in between.

How this works:

    idle ── begin(request, deadline) ──> busy ── settle() ──> idle     bytes while idle: it is aborted
                                           └── anything else ──> aborted

`due` is the one time that matters of a connection, busy or idle: the pool's sweep ends it when that time has
come, so that no request needs a timer of its own. What fails is aborted, never closed: a receiver that does
not read would keep our buffer for ever.
"""

from __future__ import annotations

import asyncio
import select
import time
from typing import TYPE_CHECKING, Final, cast

from dispatcher.core.outcome import Timings
from dispatcher.sender.answer import AnswerReader, Trouble

if TYPE_CHECKING:
    import ssl

    from dispatcher.sender.pool import Origin, Pool

_NEVER: Final = float("inf")
_READABLE: Final = select.POLLIN | select.POLLRDHUP


class ReceiverConnection(asyncio.Protocol):
    """A connection; `pool` knows it as long as it is open."""

    __slots__ = (
        "_fd",
        "_loop",
        "_pool",
        "_transport",
        "_waiter",
        "address",
        "answer",
        "due",
        "first_byte_ns",
        "fresh",
        "idle",
        "idle_since",
        "is_open",
        "lost",
        "origin",
        "proved",
        "sent_ns",
    )

    def __init__(self, pool: Pool, origin: Origin, *, address: str, answer: AnswerReader) -> None:
        self.origin: Final = origin
        self.address: Final = address
        self.answer: Final = answer
        self.fresh: Timings | None = None  # of the phases before the first exchange, until it took them
        self.proved = False  # it has carried an answer
        self.due = _NEVER  # by the loop's clock
        self.idle = False
        self.idle_since = 0.0
        self.is_open = False
        self.lost: BaseException | None = None  # what the operating system said when the connection ended
        # By `time.monotonic_ns()`, since uvloop's clock ticks in milliseconds; 0: not yet.
        self.sent_ns = self.first_byte_ns = 0
        self._pool: Final = pool
        self._fd = -1
        self._loop: Final = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None
        self._transport: asyncio.WriteTransport

    def begin(self, request: bytes, deadline: float) -> asyncio.Future[None]:
        """Send the request; the future is done when the exchange is over, at `deadline` at the latest."""
        self.answer.begin()
        self.first_byte_ns = 0
        self.sent_ns = time.monotonic_ns()
        waiter = self._loop.create_future()
        if not self.is_open:
            waiter.set_result(None)
            return waiter
        self._waiter = waiter
        self.due = deadline
        if deadline < self._pool.sweep_at:
            self._pool.watch(deadline)
        self._transport.write(request)
        return waiter

    @property
    def unanswered(self) -> bool:
        """Whether nothing of an answer came in the last exchange: it ended, or what came was none."""
        answer = self.answer
        if answer.trouble is Trouble.MALFORMED:
            return not answer.status
        return not (self.is_open or self.first_byte_ns or answer.trouble)

    def settle(self, keep_until: float) -> bool:
        """Be idle until then (loop time), if the exchange left the connection fit for another one."""
        if (
            not self.answer.persistent
            or self._transport.is_closing()
            # Answered before all was read: what is left of the request must not linger.
            or self._transport.get_write_buffer_size()
        ):
            return False
        self.due = keep_until
        self.idle = True
        return True

    def rest(self, keep_until: float) -> None:
        """Be idle until then (loop time)."""
        self.due = keep_until
        self.idle = True

    def fit(self, now: float, look_after_s: float) -> bool:
        """Whether an idle connection may take a request.

        One that was idle for a while is looked at: an end that has arrived, and that the loop has not come
        to yet, is found out before a byte of the request is sent.
        """
        if self._transport.is_closing() or self.due <= now:
            return False
        if now - self.idle_since < look_after_s:
            return True
        poll = select.poll()
        poll.register(self._fd, _READABLE)
        return not poll.poll(0)

    def expire(self) -> None:
        """End what is due and not idle: an exchange at its deadline, or a goodbye that is not returned."""
        if self._waiter is not None and not self.answer.over:
            self.answer.give_up(Trouble.DEADLINE)
            self._wake()
        self.abort()

    def retire(self, until: float) -> None:
        """Close an idle connection politely; its receiver has until then (loop time) to do the same."""
        self.idle = False
        self.due = until
        self._transport.close()

    def abort(self) -> None:
        """End the connection at once."""
        self.due = _NEVER
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to write."""
        self._transport = cast("asyncio.WriteTransport", transport)
        # uvloop else writes at the end of the loop's turn, when all that starts in it is signed.
        self._transport.set_write_buffer_limits(high=0)
        self._fd = transport.get_extra_info("socket").fileno()
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        """Let it be read as the answer; an answer to no question must not become the next one's."""
        if self._waiter is None:
            self.abort()
            return
        if not self.first_byte_ns:
            self.first_byte_ns = time.monotonic_ns()
        answer = self.answer
        answer.feed(data)
        if answer.over:
            self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note how the connection ended, and wake up the one who waits."""
        self.is_open = False
        self.lost = exc
        self._pool.closed(self)
        if self._waiter is not None:
            self.answer.end(clean=exc is None)
            self._wake()

    def tls(self) -> ssl.SSLObject | None:
        """Give the TLS under the connection, if there is any."""
        found: ssl.SSLObject | None = self._transport.get_extra_info("ssl_object")
        return found

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():  # it may have been cancelled
            waiter.set_result(None)
