"""No receiver holds an exchange beyond its deadline, or makes memory grow."""

from __future__ import annotations

import asyncio
import zlib
from typing import TYPE_CHECKING

import pytest

from dispatcher.core.outcome import Answered, ErrorClass, NoAnswer, error_class
from dispatcher.sender import HttpSender
from tests.bombs import deflate_bomb, gzip_bomb
from tests.receiver import (
    Behaviour,
    Exchange,
    Receiver,
    answer,
    endless,
    hang,
    interim,
    later,
    raw,
    response,
    stall,
)
from tests.sending import HASTY, LOCAL, message, outcome_of

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (hang(), ErrorClass.TIMEOUT),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", then=hang()), ErrorClass.TIMEOUT),
        (raw(b"HTTP/1.1 200 OK\r\n\r\nshort", then=hang()), ErrorClass.TIMEOUT),
        (endless(b"x", start=b"HTTP/1.1 200 OK\r\n\r\n", every_s=0.01), ErrorClass.TIMEOUT),
        (endless(b"x", start=b"HTTP/1.1 200 OK\r\nX: ", every_s=0.01), ErrorClass.TIMEOUT),
        (raw(response(100), then=hang()), ErrorClass.INFORMATIONAL_ONLY),
        (endless(response(103), every_s=0.01), ErrorClass.INFORMATIONAL_ONLY),
    ],
    ids=["silence", "body", "body to the end", "dripping body", "dripping header", "100", "many 103"],
)
async def test_deadline(script: Behaviour, expected: ErrorClass) -> None:
    """Whatever a receiver does to hold an exchange open, the deadline ends it and its connection."""
    async with Receiver(script) as receiver, HttpSender(HASTY) as sender:
        outcome = await sender.send(message(receiver.url()))
        assert isinstance(outcome, NoAnswer)
        assert outcome.error is expected
        await receiver.wait_until(lambda: receiver.open == 0)


@pytest.mark.parametrize("cancelled", [False, True])
async def test_receiver_that_reads_nothing(*, cancelled: bool) -> None:
    """When an exchange ends early, at the deadline or cancelled, what was unsent is dropped at once."""
    gate = asyncio.Event()
    received = 0

    async def read_late(exchange: Exchange) -> None:
        nonlocal received
        await gate.wait()
        while data := await exchange.reader.read(65_536):
            received += len(data)
        exchange.close()

    body = b"x" * 16_000_000
    async with Receiver(on_connect=read_late) as receiver, HttpSender(HASTY) as sender:
        sending = asyncio.ensure_future(sender.send(message(receiver.url(), body=body)))
        if cancelled:
            await receiver.wait_until(lambda: receiver.connections == 1)
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
        else:
            assert error_class(await sending) is ErrorClass.TIMEOUT
        gate.set()
        await receiver.wait_until(lambda: receiver.open == 0)
        assert received < len(body)


async def test_answer_before_the_request_was_read() -> None:
    """An early answer counts, and the connection, on which the rest of the request waits, is not reused."""

    async def answer_early(exchange: Exchange) -> None:
        await exchange.send(response(413))
        await stall()(exchange)

    async with Receiver(on_head=answer_early) as receiver, HttpSender(LOCAL) as sender:
        for connections in (1, 2):
            outcome = await sender.send(message(receiver.url(), body=b"x" * 16_000_000))
            assert isinstance(outcome, Answered)
            assert outcome.status == 413
            assert receiver.connections == connections


async def test_deadline_of_a_kept_connection() -> None:
    """Each exchange has its whole time, also on a connection that served one before."""
    loop = asyncio.get_running_loop()
    async with Receiver([later(0.15), hang()]) as receiver, HttpSender(HASTY) as sender:
        first = await sender.send(message(receiver.url()))
        before = loop.time()
        second = await sender.send(message(receiver.url()))
        took_s = loop.time() - before
    assert receiver.connections == 1
    assert error_class(first) is None
    assert error_class(second) is ErrorClass.TIMEOUT
    assert took_s >= HASTY.timeout_s - 0.01


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n\x1f\x8b",
    ],
    ids=["a gigabyte", "for ever", "compressed"],
)
async def test_endless_body(head: bytes) -> None:
    """Of a body without end a bounded amount is read and less is kept; the status decides."""
    async with Receiver(endless(b"y" * 65_536, start=head)) as receiver, HttpSender(LOCAL) as sender:
        outcome = await sender.send(message(receiver.url()))
        assert isinstance(outcome, Answered)
        assert error_class(outcome) is None
        assert outcome.body_truncated is True
        assert len(outcome.body) == LOCAL.keep_response_bytes
        await receiver.wait_until(lambda: receiver.open == 0)
        assert receiver.sent_bytes < 16_000_000  # the kernel's buffers, at the most


@pytest.mark.parametrize("mebibytes", [32, 1024], ids=["read whole", "a gibibyte"])
@pytest.mark.parametrize(
    ("coding", "make", "window_bits"), [("gzip", gzip_bomb, 31), ("deflate", deflate_bomb, 15)]
)
async def test_compressed_body_is_kept_as_it_came(
    coding: str, make: Callable[[int], bytes], window_bits: int, mebibytes: int
) -> None:
    """Nothing is inflated: what is kept are the first bytes on the wire, and bounds are those of the wire."""
    bomb = make(mebibytes)
    whole = len(bomb) <= LOCAL.max_response_bytes
    bombing = answer(200, [("Content-Encoding", coding)], bomb)
    async with Receiver([bombing, answer()]) as receiver, HttpSender(LOCAL) as sender:
        outcome = await sender.send(message(receiver.url()))
        assert isinstance(outcome, Answered)
        assert bomb[: LOCAL.keep_response_bytes] == outcome.body
        assert outcome.body_truncated is True
        assert error_class(await sender.send(message(receiver.url()))) is None
        assert (1 if whole else 2) == receiver.connections
    inflated = zlib.decompressobj(window_bits).decompress(outcome.body)
    assert len(inflated) > 500 * len(outcome.body), "a true bomb"


async def test_long_body_is_not_read_further_than_its_bound() -> None:
    """Once the bound is passed, nothing more is waited for."""
    start = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"y" * (LOCAL.max_response_bytes + 1)
    outcome = await outcome_of(raw(start, then=hang()))
    assert isinstance(outcome, Answered)
    assert outcome.body_truncated is True


async def test_endless_tiny_chunks() -> None:
    """A body in chunks of one byte is bounded in what is read of it on the wire as well."""
    head = b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with (
        Receiver(endless(b"1\r\nz\r\n" * 1000, start=head)) as receiver,
        HttpSender(LOCAL) as sender,
    ):
        outcome = await sender.send(message(receiver.url()))
        assert isinstance(outcome, Answered)
        assert outcome.status == 500
        assert outcome.body == b"z" * LOCAL.keep_response_bytes
        assert outcome.body_truncated is True


async def test_endless_trailers_and_chunk_extensions() -> None:
    """What surrounds a body cannot go on for ever either."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    for start, more in ((head + b"1;", b"a" * 1000), (head + b"0\r\n", b"X-T: a\r\n" * 100)):
        outcome = await outcome_of(endless(more, start=start))
        assert isinstance(outcome, Answered | NoAnswer)
        assert error_class(outcome) in {None, ErrorClass.MALFORMED_RESPONSE}


@pytest.mark.parametrize(
    "script",
    [
        endless(b"X-Filler: " + b"a" * 100 + b"\r\n", start=b"HTTP/1.1 200 OK\r\n"),
        endless(b"a" * 1000, start=b"HTTP/1.1 200 OK\r\nX: "),
        endless(b"a" * 1000, start=b"HTTP/1.1 200 "),
        raw(
            b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: %s\r\n" % (i, b"a" * 4000) for i in range(10)) + b"\r\n"
        ),
    ],
    ids=["many fields", "one long field", "long reason", "forty kilobytes"],
)
async def test_header_beyond_bounds(script: Behaviour) -> None:
    """A header that is longer than 32 KiB, or has no end, is no answer."""
    outcome = await outcome_of(script)
    assert isinstance(outcome, NoAnswer)
    assert outcome.error is ErrorClass.MALFORMED_RESPONSE


async def test_endless_informational_answers() -> None:
    """A flood of 1xx ends at 32 KiB of them, long before the deadline."""
    async with Receiver(endless(response(103) * 100)) as receiver, HttpSender(LOCAL) as sender:
        outcome = await sender.send(message(receiver.url()))
        assert isinstance(outcome, NoAnswer)
        assert outcome.error is ErrorClass.INFORMATIONAL_ONLY


async def test_informational_answers_before_the_final_one() -> None:
    """1xx answers are passed over; the final one decides."""
    outcome = await outcome_of(interim(5, then=answer(201)))
    assert isinstance(outcome, Answered)
    assert outcome.status == 201


@pytest.mark.parametrize(
    ("headers", "expected"),
    [((), None), ((("Link", "</style.css>; rel=preload"),), ErrorClass.INFORMATIONAL_ONLY)],
    ids=["25 kilobytes", "60 kilobytes"],
)
async def test_a_thousand_informational_answers(
    headers: tuple[tuple[str, str], ...], expected: ErrorClass | None
) -> None:
    """It is their bytes that are bounded, not their number: 32 KiB with the final answer's header."""
    thousand = response(103, headers) * 1000
    outcome = await outcome_of(raw(thousand, then=answer(200, [("X-Last", "yes")])))
    assert error_class(outcome) is expected
    if isinstance(outcome, Answered):
        assert (("X-Last", "yes"), ("Content-Length", "0")) == outcome.headers


@pytest.mark.parametrize("headers", [b"", b"Upgrade: websocket\r\nConnection: upgrade\r\n"])
async def test_switching_protocols_is_a_failure(headers: bytes) -> None:
    """101 is no success, since nobody asked for another protocol, and ends the connection."""
    switching = raw(b"HTTP/1.1 101 Sure\r\n" + headers + b"\r\n", then=hang())
    async with Receiver([switching, answer()]) as receiver, HttpSender(LOCAL) as sender:
        assert error_class(await sender.send(message(receiver.url()))) is ErrorClass.UNEXPECTED_STATUS
        assert error_class(await sender.send(message(receiver.url()))) is None
        assert receiver.connections == 2


@pytest.mark.parametrize("length", [0, 4095, 4096, 4097, 65_536])
async def test_kept_part_of_a_body(length: int) -> None:
    """Of a body within the bounds, the first part is kept, and it is said whether that was all."""
    body = bytes(range(256)) * 256
    outcome = await outcome_of(answer(200, [], body[:length]))
    assert isinstance(outcome, Answered)
    assert outcome.body == body[: min(length, LOCAL.keep_response_bytes)]
    assert outcome.body_truncated is (length > LOCAL.keep_response_bytes)
