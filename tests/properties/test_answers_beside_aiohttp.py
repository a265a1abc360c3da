"""Whatever bytes a receiver answers, our sender reads in them what aiohttp's client reads."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, NamedTuple

import aiohttp
import pytest
import uvloop
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dispatcher.core.outcome import Answered
from dispatcher.sender import HttpSender
from dispatcher.sender.answer import AnswerReader
from tests.receiver import Exchange, Receiver
from tests.sending import LOCAL, message

if TYPE_CHECKING:
    from collections.abc import Iterator

STATUSES = [200, 200, 201, 204, 299, 304, 301, 400, 410, 500, 503, 600, 999]
FIELDS = [
    b"Server: x",
    b"X-Empty:",
    b"X-Blank:  \t ",
    b"X-Latin: \xe9\xff",
    b"X-Twice: 1\r\nX-Twice: 2",
    b"Content-Type:application/json  ",
    b"Content-Encoding: gzip",
    b"Connection: close",
    b"Connection: keep-alive",
    b"Keep-Alive: timeout=5",
    b"Set-Cookie: a=b; Path=/",
]
INFORMATIONAL = [
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n",
]


class Read(NamedTuple):
    """What a client made of an answer."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


def framed(body: bytes, framing: str) -> tuple[list[bytes], bytes]:
    """Give the fields that say where a body ends, and its bytes on the wire."""
    if framing == "length":
        return [b"Content-Length: %d" % len(body)], body
    if framing == "chunked":
        half = len(body) // 2
        chunks = [part for part in (body[:half], body[half:]) if part]
        wire = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in chunks) + b"0\r\n\r\n"
        return [b"Transfer-Encoding: chunked"], wire
    return [], body  # until the end of the connection


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    """Draw a well-formed answer."""
    framing, wire = framed(draw(st.binary(max_size=60)), draw(st.sampled_from(["length", "chunked", "end"])))
    status = draw(st.sampled_from(STATUSES))
    fields = draw(st.permutations(draw(st.lists(st.sampled_from(FIELDS), max_size=5)) + framing))
    line = b"HTTP/1.%d %d%b" % (
        draw(st.sampled_from([1, 1, 1, 0])),
        status,
        draw(st.sampled_from([b" OK", b" "])),
    )
    head = b"\r\n".join([line, *fields, b"", b""])
    return (
        b"".join(draw(st.lists(st.sampled_from(INFORMATIONAL), max_size=2)))
        + head
        + (b"" if status in {204, 304} else wire)
    )


@st.composite
def pieces(draw: st.DrawFn) -> list[bytes]:
    """Draw what a receiver writes: an answer, cut short or with bytes changed; in pieces."""
    data = bytearray(draw(answers()))
    damage = draw(st.sampled_from(["none", "none", "cut", "changed", "inserted"]))
    at = draw(st.integers(0, len(data) - 1))
    if damage == "cut":
        del data[at:]
    elif damage == "changed":
        data[at] = draw(st.sampled_from(b"\0\r\n :;,09aZ\x7f\x80\xff"))
    elif damage == "inserted":
        data[at:at] = draw(st.sampled_from([b"\r\n", b"\n", b" ", b"\t", b":", b"0", b"chunked", b"\0"]))
    cuts = sorted(draw(st.sets(st.integers(0, len(data)), max_size=3)))
    return [bytes(data[start:end]) for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def without_excess(data: bytes) -> bytes:
    """Cut off what comes after a complete answer: aiohttp drops an answer with such an end, ours does not."""
    reader = AnswerReader(max_bytes=LOCAL.max_response_bytes, keep_bytes=LOCAL.keep_response_bytes)
    for end in range(1, len(data) + 1):
        reader.feed(data[end - 1 : end])
        if reader.ended:
            return data[:end]
    return data


async def ours(sender: HttpSender, url: str) -> Read | None:
    """Read an answer with our sender, None where there is none."""
    outcome = await sender.send(message(url))
    return Read(outcome.status, outcome.headers, outcome.body) if isinstance(outcome, Answered) else None


async def theirs(session: aiohttp.ClientSession, url: str) -> Read | None:
    """Read an answer with aiohttp's client, None where it raises."""
    try:
        async with session.post(url, data=b"{}", allow_redirects=False) as response:
            body = await response.read()
    except (aiohttp.ClientError, OSError, ValueError):
        return None
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in response.raw_headers]
    # Any three digits are a status to aiohttp; RFC 9110 (15) begins them with 1.
    return Read(response.status, tuple(headers), body) if response.status >= 100 else None


class Both(NamedTuple):
    """Two clients in one event loop."""

    runner: asyncio.Runner
    sender: HttpSender
    session: aiohttp.ClientSession


@pytest.fixture(scope="module")
def both() -> Iterator[Both]:
    """Give the clients, for all examples."""

    async def begin() -> tuple[HttpSender, aiohttp.ClientSession]:
        return await HttpSender(LOCAL).__aenter__(), aiohttp.ClientSession(auto_decompress=False)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sender, session = runner.run(begin())
        yield Both(runner, sender, session)
        runner.run(session.close())
        runner.run(sender.__aexit__(None, None, None))


@settings(max_examples=300, deadline=None)
@given(written=pieces())
@example([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\t\r\n\r\n0\r\n\r\n"])
def test_same_bytes_same_answer(both: Both, written: list[bytes]) -> None:
    """Status, header and body are the same, and what is no answer to one is none to the other."""
    whole = b"".join(written)

    async def behave(exchange: Exchange) -> None:
        sock: socket.socket = exchange.writer.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in written if exchange.receiver.connections == 1 else [without_excess(whole)]:
            await exchange.send(piece)
            await asyncio.sleep(0)
        exchange.close()

    async def read() -> tuple[Read | None, Read | None]:
        async with Receiver(behave) as receiver:
            return await ours(both.sender, receiver.url()), await theirs(both.session, receiver.url())

    one, other = both.runner.run(read())
    assert other == one
