"""What comes back, when it is an answer and when it is none."""

from __future__ import annotations

import asyncio
import time

import msgspec
import pytest

from dispatcher.core.outcome import Answered, ErrorClass, NoAnswer, error_class
from dispatcher.sender import HttpSender
from tests.backlog import full_backlog
from tests.receiver import (
    Behaviour,
    Exchange,
    Receiver,
    answer,
    close,
    drip,
    free_port,
    hang,
    interim,
    raw,
    reset,
    response,
)
from tests.sending import LOCAL, message, outcome_of


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (200, None),
        (202, None),
        (204, None),
        (299, None),
        (301, ErrorClass.REDIRECT),
        (304, ErrorClass.REDIRECT),
        (308, ErrorClass.REDIRECT),
        (400, ErrorClass.CLIENT_ERROR),
        (410, ErrorClass.CLIENT_ERROR),
        (500, ErrorClass.SERVER_ERROR),
        (503, ErrorClass.SERVER_ERROR),
        (600, ErrorClass.UNEXPECTED_STATUS),
        (999, ErrorClass.UNEXPECTED_STATUS),
    ],
)
async def test_status_decides(status: int, expected: ErrorClass | None) -> None:
    """Any 2xx is success; every other final status has its class, and none is acted upon."""
    async with Receiver() as target, Receiver(answer(status, [("Location", target.url())])) as receiver:
        async with HttpSender(LOCAL) as sender:
            outcome = await sender.send(message(receiver.url()))
        assert isinstance(outcome, Answered)
        assert outcome.status == status
        assert error_class(outcome) is expected
        assert target.connections == 0
        assert len(receiver.requests) == 1


async def test_answer_is_kept_as_received() -> None:
    """Headers keep order, case and bytes; the body is kept as it came, compressed or not."""
    headers = [("X-b", "1"), ("content-ENCODING", "gzip"), ("X-B", "\xe9")]
    outcome = await outcome_of(answer(200, headers, b"\x1f\x8b not really"))
    assert isinstance(outcome, Answered)
    assert outcome.headers == (*headers, ("Content-Length", "13"))
    assert outcome.body == b"\x1f\x8b not really"
    assert outcome.body_truncated is False
    assert outcome.address == "127.0.0.1"


async def test_timings_of_a_new_and_of_a_kept_connection(sender: HttpSender) -> None:
    """Connecting is timed where it happened, the first byte always, DNS and TLS not without them."""
    async with Receiver() as receiver:
        first = await sender.send(message(receiver.url()))
        second = await sender.send(message(receiver.url()))
    assert first.timings.connect_ms is not None
    assert first.timings.connect_ms > 0
    assert second.timings.connect_ms is None
    for outcome in (first, second):
        assert outcome.timings.first_byte_ms is not None
        assert outcome.timings.dns_ms is None
        assert outcome.timings.tls_ms is None


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\n\r\nok",
        b"HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok",
    ],
    ids=["chunked", "until the end", "HTTP/1.0", "no reason phrase"],
)
async def test_body_framings(data: bytes) -> None:
    """Every way in which HTTP/1 marks the end of a body is understood."""
    outcome = await outcome_of(raw(data))
    assert isinstance(outcome, Answered)
    assert outcome.body == b"ok"


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nOK",
        b"HTTP/1.1 204 No Content\r\n\r\nOK",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n\x00",
    ],
)
async def test_excess_after_a_complete_answer(data: bytes) -> None:
    """A receiver that counts its body wrong has answered; only the connection cannot be trusted any more."""
    async with Receiver([raw(data, then=hang()), answer(201)]) as receiver, HttpSender(LOCAL) as sender:
        assert error_class(await sender.send(message(receiver.url()))) is None
        outcome = await sender.send(message(receiver.url()))
        assert isinstance(outcome, Answered)
        assert outcome.status == 201
        assert receiver.connections == 2


async def test_slow_answer_within_the_deadline() -> None:
    """An answer that drips in byte by byte is an answer, if it ends in time."""
    outcome = await outcome_of(drip(response(200, [], b"slow"), every_s=0.001))
    assert isinstance(outcome, Answered)
    assert outcome.body == b"slow"


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (close(), ErrorClass.RESET),
        (reset(), ErrorClass.RESET),
        (raw(b"HTTP/1.1 200 OK\r\nContent-"), ErrorClass.RESET),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort"), ErrorClass.RESET),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", then=reset()), ErrorClass.RESET),
        (raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n"), ErrorClass.RESET),
        (raw(b"\x00\x01 not HTTP \xff"), ErrorClass.MALFORMED_RESPONSE),
        (raw(b"SSH-2.0-OpenSSH_9.7\r\n"), ErrorClass.MALFORMED_RESPONSE),
        (raw(b"HTTP/2 200 OK\r\n\r\n"), ErrorClass.MALFORMED_RESPONSE),
        (raw(b"HTTP/1.1 twohundred OK\r\n\r\n"), ErrorClass.MALFORMED_RESPONSE),
        (
            raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"),
            ErrorClass.MALFORMED_RESPONSE,
        ),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"), ErrorClass.MALFORMED_RESPONSE),
        (
            raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", then=hang()),
            ErrorClass.MALFORMED_RESPONSE,
        ),
        (interim(3, then=close()), ErrorClass.INFORMATIONAL_ONLY),
        (interim(3, then=reset()), ErrorClass.INFORMATIONAL_ONLY),
        (interim(1, status=100, then=raw(b"garbage\r\n\r\n")), ErrorClass.MALFORMED_RESPONSE),
    ],
)
async def test_broken_answers(script: Behaviour, expected: ErrorClass) -> None:
    """What is no complete, well-formed answer has the class of what went wrong, and the peer's address."""
    outcome = await outcome_of(script)
    assert isinstance(outcome, NoAnswer)
    assert outcome.error is expected
    assert outcome.address == "127.0.0.1"
    assert outcome.message


async def test_unclean_end_of_a_body_without_length() -> None:
    """Where the end of the connection is the end of the body, a reset does not complete it."""
    ready = asyncio.Event()

    async def behave(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\n\r\nhalf")
        await ready.wait()
        exchange.reset()

    async with Receiver(behave) as receiver, HttpSender(LOCAL) as sender, asyncio.TaskGroup() as tasks:
        sending = tasks.create_task(sender.send(message(receiver.url())))
        await receiver.wait_until(lambda: receiver.sent_bytes > 0)
        ready.set()
        outcome = await sending
    assert isinstance(outcome, NoAnswer)
    assert outcome.error is ErrorClass.RESET


@pytest.mark.parametrize("early", [True, False])
async def test_reset_before_the_request_was_read(*, early: bool) -> None:
    """A receiver that resets before or while the request is read has reset, nothing else."""
    resetting = Receiver(on_connect=reset()) if early else Receiver(on_head=reset())
    async with resetting as receiver, HttpSender(LOCAL) as sender:
        outcome = await sender.send(message(receiver.url(), body=b"x" * 4_000_000))
        assert isinstance(outcome, NoAnswer)
        assert outcome.error is ErrorClass.RESET
        assert receiver.requests == []


async def test_refused(sender: HttpSender) -> None:
    """Where nothing listens, the connection was refused, and the address is known."""
    outcome = await sender.send(message(f"http://127.0.0.1:{free_port()}/"))
    assert isinstance(outcome, NoAnswer)
    assert outcome.error is ErrorClass.REFUSED
    assert outcome.address == "127.0.0.1"


async def test_unreachable() -> None:
    """An address to which there is no way is unreachable."""
    config = msgspec.structs.replace(LOCAL, allowed_networks=("255.255.255.255/32",))
    async with HttpSender(config) as sender:
        outcome = await sender.send(message("http://255.255.255.255/"))
    assert isinstance(outcome, NoAnswer)
    assert outcome.error is ErrorClass.UNREACHABLE


async def test_connect_timeout_of_a_process_that_was_stopped() -> None:
    """Whatever had arrived meanwhile was not looked at: a fault of our own, and no attempt is used up."""
    config = msgspec.structs.replace(LOCAL, connect_timeout_s=0.3)
    async with (
        Receiver(on_connect=hang()) as receiver,
        HttpSender(config) as sender,
        asyncio.TaskGroup() as tasks,
    ):
        sending = tasks.create_task(sender.send(message(f"https://127.0.0.1:{receiver.port}/")))
        await receiver.wait_until(lambda: receiver.open == 1)
        time.sleep(1.5)  # noqa: ASYNC251 - as if the machine had stood still
        outcome = await sending
    assert isinstance(outcome, NoAnswer)
    assert (ErrorClass.CONNECT_TIMEOUT, True) == (outcome.error, outcome.own_fault)
    assert "this process was stopped" in outcome.message


async def test_connect_timeout() -> None:
    """A host that does not even accept is given up after the connect timeout."""
    config = msgspec.structs.replace(LOCAL, connect_timeout_s=0.2)
    with full_backlog() as url:
        async with HttpSender(config) as sender, asyncio.timeout(LOCAL.connect_timeout_s):
            outcome = await sender.send(message(url))
    assert isinstance(outcome, NoAnswer)
    assert outcome.error is ErrorClass.CONNECT_TIMEOUT
    assert outcome.address == "127.0.0.1"
