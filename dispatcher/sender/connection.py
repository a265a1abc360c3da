"""One connection to a receiver: aiohttp's protocol and parser, with bounds and a deadline of our own.

How this works: aiohttp's `ResponseHandler` parses what arrives and hands each complete header to
`feed_data`, from where the final answer goes to the one who sent the request. This class stands before and
after it and sees to what a hostile or broken receiver could do:

    idle ── begin(deadline) ──> busy ── end() ──> idle        bytes while idle: the connection is aborted
                                  │
                                  └─ deadline, flood, malformed: `trouble` says which, then abort()

A deadline costs no timer per request: a connection has one, which looks at the deadline of the moment when
it fires.
"""

from __future__ import annotations

import enum
import time
from typing import TYPE_CHECKING, Final

from aiohttp import ClientPayloadError
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError

if TYPE_CHECKING:
    import asyncio

    from aiohttp import StreamReader
    from aiohttp.http_parser import RawResponseMessage

    from dispatcher.core.outcome import Timings

MAX_HEAD_BYTES: Final = 32_768  # status line and header, informational answers included
_END_OF_HEAD: Final = b"\r\n\r\n"
_MAX_LINE_BYTES: Final = 8_190
_MAX_FIELDS: Final = 128
_EARLY_S: Final = 0.005  # loops count in milliseconds: a timer may fire this much early


class Trouble(enum.Enum):
    """Why we ended an exchange ourselves."""

    DEADLINE = enum.auto()
    FLOOD = enum.auto()  # more bytes than an answer may have
    MALFORMED = enum.auto()


class ReceiverConnection(ResponseHandler):
    """A connection, busy with at most one exchange at a time."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, *, address: str, max_response_bytes: int, keepalive_s: float
    ) -> None:
        super().__init__(loop)
        self.address: Final = address
        self.fresh: Timings | None = None  # of the phases before the first exchange, until it took them
        self.trouble: Trouble | None = None
        self.detail = ""  # what was malformed
        self.informational = 0  # answers of class 1xx in this exchange
        self.answered = False  # the final answer's header is complete
        self.first_byte_at = 0.0  # by `time.monotonic()`: uvloop's clock ticks in milliseconds; 0: not yet
        self.lost: BaseException | None = None  # what the operating system said when the connection ended
        self._max_response_bytes: Final = max_response_bytes
        self._keepalive_s: Final = keepalive_s
        self._busy = False
        self._body: StreamReader | None = None
        self._received = 0
        self._budget = 0
        self._deadline = 0.0
        self._reuse_until = float("inf")
        self._alarm: asyncio.TimerHandle | None = None

    def begin(self, deadline: float) -> None:
        """Start an exchange that has to be over at `deadline` (loop time)."""
        self._busy = True
        self._body = None
        self._deadline = deadline
        self.informational = self._received = 0
        self.answered = False
        self.first_byte_at = 0.0
        self._budget = MAX_HEAD_BYTES
        if self._alarm is None:
            self._alarm = self._loop.call_at(deadline, self._ring)

    @property
    def idle(self) -> bool:
        """Whether the last exchange ended well, so that another may follow."""
        return not self._busy

    def end(self, keepalive_hint: str | None) -> None:
        """Finish an exchange that went well; `keepalive_hint` is the answer's `Keep-Alive` header.

        A receiver that closes idle connections after `timeout=5` (Node does) is not sent a request on one
        that is nearly as old: it would cross the close on its way, and count as a failed attempt.
        """
        if self.transport is not None and self.transport.get_write_buffer_size():
            return  # answered before it had read everything: what is left of the request must not linger
        self._busy = False
        hint_s = _hint_s(keepalive_hint) if keepalive_hint else None
        self._reuse_until = (
            float("inf") if hint_s is None else self._loop.time() + min(self._keepalive_s, hint_s)
        )

    def start_parser(self) -> None:
        """Make ready to read answers; one parser reads all of the connection's."""
        self.set_response_params(
            auto_decompress=False,
            read_until_eof=True,
            read_bufsize=self._max_response_bytes,
            max_line_size=_MAX_LINE_BYTES,
            max_field_size=_MAX_LINE_BYTES,
            max_headers=_MAX_FIELDS,
        )

    def is_connected(self) -> bool:
        """Whether the pool may hand this connection out."""
        return super().is_connected() and self._loop.time() < self._reuse_until

    def data_received(self, data: bytes) -> None:
        """Count what arrives, let it be parsed, and end what goes too far."""
        if not self._busy:
            if data:
                self.abort()  # an answer to a question that was not asked must not become the next one's
            return
        if not self.first_byte_at:
            self.first_byte_at = time.monotonic()
        self._received += len(data)
        if not self.answered:
            # The header by itself, since the parser forgets it if it stumbles over what comes after it.
            end = data.find(_END_OF_HEAD) + len(_END_OF_HEAD)
            if len(_END_OF_HEAD) <= end < len(data):
                super().data_received(data[:end])
                data = data[end:]
        if self.exception() is None:
            super().data_received(data)
        error = self.exception()
        if error is not None:
            self._stumble(error)
        elif self._received > self._budget:
            self._give_up(Trouble.FLOOD)

    def feed_data(self, data: tuple[RawResponseMessage, StreamReader], size: int = 0) -> None:
        """Take a complete header from the parser: only the final answer goes on."""
        message, body = data
        if 100 <= message.code < 200 and message.code != 101:
            self.informational += 1
            return
        if self.answered:  # two answers to one request: keep the first, trust nothing after it
            self.force_close()
            return
        if self._received > MAX_HEAD_BYTES and _head_bytes(message) > MAX_HEAD_BYTES:
            self._give_up(Trouble.FLOOD)
            return
        self.answered = True
        self._body = body
        # The body may come in chunks of a byte with six bytes around each; it may not come for ever.
        self._budget = self._received + 8 * self._max_response_bytes + MAX_HEAD_BYTES
        super().feed_data(data, size)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Note how the connection ended, and wake up the one who waits."""
        self.lost = exc
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        super().connection_lost(exc)

    def _ring(self) -> None:
        self._alarm = None
        if not self._busy:
            return
        if self._loop.time() < self._deadline - _EARLY_S:
            self._alarm = self._loop.call_at(self._deadline, self._ring)
        else:
            self._give_up(Trouble.DEADLINE)

    def _stumble(self, error: BaseException) -> None:
        if self._body is not None and self._body.is_eof() and self.trouble is None:
            return  # the answer was complete; whatever follows it only costs the connection
        if self.trouble is None:
            self.detail = _detail(error)
        self._give_up(Trouble.MALFORMED)

    def _give_up(self, trouble: Trouble) -> None:
        if self.trouble is None:
            self.trouble = trouble
            error = ClientPayloadError(trouble.name)
            self.set_exception(error)
            if self._body is not None:
                self._body.set_exception(error)
        if self.transport is not None:
            self.transport.abort()


def _head_bytes(message: RawResponseMessage) -> int:
    return sum(len(name) + len(value) + 4 for name, value in message.raw_headers)


def _detail(error: BaseException) -> str:
    text = error.message if isinstance(error, HttpProcessingError) else str(error)
    return text.partition("\n")[0].rstrip(" :") or "it cannot be read"


def _hint_s(header: str) -> float | None:
    """Read `timeout=N` of a `Keep-Alive` header as the seconds for which reuse is safe."""
    for part in header.split(","):
        name, _, value = part.strip().partition("=")
        if name.lower() == "timeout" and value.isascii() and value.isdigit():
            seconds = int(value[:6])
            return seconds - 1.0 if seconds > 2 else seconds / 2
    return None
