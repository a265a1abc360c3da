"""Reads one answer from bytes, without a socket: llhttp takes it apart, this class bounds it.

How this works: the bytes of a connection go in by `feed`, its end by `end`; `over` says that nothing more is
to be read. llhttp calls back for each part that it has recognised. Informational answers (1xx) are counted
and passed over; the first other one is the answer:

    1xx* ── header ──> status ── body ──> ended          the answer is complete
      │         │                  ├────> truncated      its body goes beyond the bound: the status decides
      └─────────┴──────────────────┴────> trouble        no answer: too long a header, or no HTTP/1.1

llhttp is lenient here where receivers in the field need it: header bytes that are no text, a line that ends
with LF alone, blanks after a chunk's size. NUL is not let through.
"""

from __future__ import annotations

import enum
from typing import Final

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

MAX_HEAD_BYTES: Final = 32_768  # status line and header, informational answers included
_MAX_FIELDS: Final = 128
_OTHER_PROTOCOLS: Final = (b"R", b"I")  # llhttp would read RTSP and ICE as well


class Trouble(enum.Enum):
    """Why an exchange was ended from our side."""

    DEADLINE = enum.auto()
    FLOOD = enum.auto()  # more header than an answer may have
    MALFORMED = enum.auto()


class AnswerReader:
    """Reads the answers of one connection, one at a time: `begin` comes before each."""

    __slots__ = (
        "_body_wire_bytes",
        "_budget",
        "_keep_bytes",
        "_length",
        "_max_bytes",
        "_parser",
        "_received",
        "detail",
        "ended",
        "headers",
        "informational",
        "kept",
        "over",
        "persistent",
        "status",
        "trouble",
    )

    status: int  # 0 until the final answer's header is complete
    headers: list[tuple[bytes, bytes]]
    kept: bytes  # the first part of the body
    informational: int  # answers of class 1xx
    over: bool  # nothing more is to be read
    ended: bool  # the answer was read to its end
    persistent: bool  # and another may follow it on the same connection
    trouble: Trouble | None
    detail: str  # what was malformed

    def __init__(self, *, max_bytes: int, keep_bytes: int) -> None:
        """Read at most `max_bytes` of a body and keep the first `keep_bytes`."""
        self._max_bytes: Final = max_bytes
        self._keep_bytes: Final = keep_bytes
        # A body may come in chunks of a byte with six bytes around each; it may not come for ever.
        self._body_wire_bytes: Final = 8 * max_bytes + MAX_HEAD_BYTES
        self._parser: Final = HttpResponseParser(self)
        self._parser.set_dangerous_leniencies(
            lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )
        self.begin()

    def begin(self) -> None:
        """Make ready for the next answer, the one before having come to its end."""
        self.status = self.informational = self._length = self._received = 0
        self.headers = []
        self.kept = b""
        self.over = self.ended = self.persistent = False
        self.trouble = None
        self.detail = ""
        self._budget = MAX_HEAD_BYTES

    @property
    def truncated(self) -> bool:
        """Whether the body is longer than what was kept of it."""
        return self._length > self._keep_bytes or not self.ended

    def feed(self, data: bytes) -> None:
        """Take what arrived."""
        if not self._received and data[:1] != b"H" and data.lstrip(b"\r\n")[:1] in _OTHER_PROTOCOLS:
            self.give_up(Trouble.MALFORMED, "expected HTTP/")
            return
        received = self._received + len(data)
        if received > self._budget:
            data = self._within_budget(data)
            if self.over:
                return
        self._received = received
        try:
            self._parser.feed_data(data)
        except (HttpParserUpgrade, HttpParserError) as error:
            self._refused(error)

    def end(self, *, clean: bool) -> None:
        """Take the end of the connection; it is the end of the body where nothing else is."""
        if self.status and clean and not (self.over or self._framed()):
            self.over = self.ended = True

    def give_up(self, trouble: Trouble, detail: str = "") -> None:
        """End reading without an answer."""
        self.over = True
        self.trouble = trouble
        self.detail = detail

    def _within_budget(self, data: bytes) -> bytes:
        """Read up to the bound, and give what may still be read beyond it."""
        if not self.status:
            room = self._budget - self._received
            try:
                self._parser.feed_data(data[:room])
            except (HttpParserUpgrade, HttpParserError) as error:
                self._refused(error)
            if not self.over and self._budget == MAX_HEAD_BYTES:  # the header's end raises it
                self.give_up(Trouble.FLOOD)
            return data[room:]
        self.over = True  # what surrounds the body goes on for ever
        return b""

    def _refused(self, error: Exception) -> None:
        """Take it that llhttp reads no further."""
        self.persistent = False
        # After 101 (an upgrade) the answer is complete, and what follows is no HTTP. Whatever follows another
        # one that was complete only costs the connection.
        if not isinstance(error, HttpParserUpgrade) and not self.over:
            self.give_up(Trouble.MALFORMED, self.detail or str(error).partition("\n")[0])

    def _framed(self) -> bool:
        """Whether the header says where the body ends (RFC 9112, 6.3)."""
        fields = [(name.lower(), value) for name, value in self.headers]
        codings = [value for name, value in fields if name == b"transfer-encoding"]
        if codings:
            # As llhttp takes it: a tab is part of the name, and then the body ends with the connection.
            return codings[-1].rpartition(b",")[2].strip(b" ").lower() == b"chunked"
        return any(name == b"content-length" for name, _ in fields)

    # What follows is called by llhttp. An exception ends its work on what was fed.

    def on_message_begin(self) -> None:
        """Refuse a second answer to one request."""
        if self.over:
            raise _StopReading

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a field of the header; those after the body (trailers) are nothing to us."""
        if self.status:
            return
        if b"\0" in value:
            self.detail = "NUL in a header field"
            raise _StopReading
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Tell the answer from informational ones."""
        status = self._parser.get_status_code()
        if status < 100:
            self.detail = f"{status:03} is no status"
            raise _StopReading
        if status < 200 and status != 101:
            self.informational += 1
            self.headers = []
            return
        if len(self.headers) > _MAX_FIELDS:
            self.detail = f"more than {_MAX_FIELDS} header fields"
            raise _StopReading
        self.status = status
        self._budget += self._body_wire_bytes

    def on_body(self, chunk: bytes) -> None:
        """Keep the first part of the body, and read no further than its bound."""
        if self._length < self._keep_bytes:
            self.kept += chunk[: self._keep_bytes - self._length]
        self._length += len(chunk)
        if self._length > self._max_bytes:
            self.over = True
            raise _StopReading

    def on_message_complete(self) -> None:
        """Note the end of the answer."""
        if self.status:
            self.over = self.ended = True
            self.persistent = self.status != 101 and self._parser.should_keep_alive()


class _StopReading(Exception):
    """Ends llhttp's work; what there is to say is in the reader."""
