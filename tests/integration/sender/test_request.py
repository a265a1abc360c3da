"""What is sent: the message, to the last byte, and nothing else."""

from __future__ import annotations

import pytest

from dispatcher.core.outcome import ErrorClass, NoAnswer, error_class
from dispatcher.sender import HttpSender
from tests.receiver import (
    Receiver,
)
from tests.sending import BODY, message


async def test_request_is_exactly_the_message(sender: HttpSender) -> None:
    """Headers arrive in order and as written, after Host and before Content-Length, and nothing else."""
    headers = (
        ("Content-Type", "application/json"),
        ("X-Grillo-Event", "a.b"),
        ("x-LOWER", "é"),
        ("X-Two", "1"),
    )
    async with Receiver() as receiver:
        outcome = await sender.send(message(receiver.url("/hook?a=%2F&b=c"), (*headers, ("X-Two", "2"))))
    request = receiver.requests[0]
    assert error_class(outcome) is None
    assert request.method == "POST"
    assert request.path == "/hook?a=%2F&b=c"
    assert request.version == "HTTP/1.1"
    assert request.body == BODY
    assert request.headers == [
        ("Host", f"127.0.0.1:{receiver.port}"),
        ("Content-Type", "application/json"),
        ("X-Grillo-Event", "a.b"),
        ("x-LOWER", "é".encode().decode("latin-1")),
        ("X-Two", "1"),
        ("X-Two", "2"),
        ("Content-Length", str(len(BODY))),
    ]


async def test_big_body_arrives_whole(sender: HttpSender) -> None:
    """A body far beyond the socket's buffers is sent to its last byte."""
    body = bytes(range(256)) * 16_384
    async with Receiver() as receiver:
        outcome = await sender.send(message(receiver.url(), body=body))
    assert error_class(outcome) is None
    assert receiver.requests[0].body == body


@pytest.mark.parametrize(
    "header",
    [
        ("X-A", "1\r\nX-Injected: 2"),
        ("X-A", "1\nX-Injected: 2"),
        ("X-A", "1\r"),
        ("X-A", "nul\0"),
        ("X-A", "\ud800"),
        ("X A", "1"),
        ("X:A", "1"),
        ("", "1"),
        ("X-\r\nA", "1"),
        ("Host", "elsewhere"),
        ("content-length", "3"),
        ("Transfer-Encoding", "chunked"),
        ("Connection", "close"),
    ],
)
async def test_header_that_cannot_be_sent(sender: HttpSender, header: tuple[str, str]) -> None:
    """A header that would break the request's framing makes it invalid, and nothing is sent."""
    async with Receiver() as receiver:
        outcome = await sender.send(message(receiver.url(), (header,)))
        assert isinstance(outcome, NoAnswer)
        assert outcome.error is ErrorClass.INVALID_REQUEST
        assert receiver.connections == 0


@pytest.mark.parametrize(
    "url", ["ftp://127.0.0.1/", "http://", "http://127.0.0.1:99999/", "http://u@127.0.0.1/"]
)
async def test_url_that_cannot_be_sent_to(sender: HttpSender, url: str) -> None:
    """A URL that leads nowhere is an invalid request, not an exception."""
    outcome = await sender.send(message(url))
    assert isinstance(outcome, NoAnswer)
    assert outcome.error is ErrorClass.INVALID_REQUEST
