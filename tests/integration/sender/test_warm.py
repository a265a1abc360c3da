"""Connections that are made ahead of any request: checked as a request's, and in nobody's way."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from dispatcher.core.outcome import Answered
from dispatcher.sender import HttpSender
from tests.certificates import Authority
from tests.postgres import wait_for
from tests.receiver import WAIT_S, Receiver, answer, close
from tests.sending import LOCAL, message, names


async def test_request_takes_the_connection_that_was_made_ahead(sender: HttpSender) -> None:
    """And pays for no phase of it; nothing was sent before."""
    async with Receiver(answer(200)) as receiver:
        assert not sender.ready(receiver.url("/a"), "", for_s=0)
        assert await sender.warm(receiver.url("/a"), "")
        assert sender.ready(receiver.url("/b"), "", for_s=10)
        assert not sender.ready(receiver.url("/b"), "", for_s=LOCAL.keepalive_s + 1)
        await wait_for(lambda: receiver.connections == 1, "the connection is accepted", WAIT_S)
        assert [] == receiver.requests
        outcome = await sender.send(message(receiver.url("/b")))
        assert isinstance(outcome, Answered)
        timings = outcome.timings
        assert (None, None, None) == (timings.dns_ms, timings.connect_ms, timings.tls_ms)
        assert 1 == receiver.connections


async def test_tls_session_is_kept_from_its_first_answer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As from that of any connection: the next one resumes it."""
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    context = authority.server("127.0.0.1")
    url = "https://127.0.0.1:{}/"
    async with Receiver(answer(200, [("Connection", "close")]), ssl_context=context) as receiver:
        async with HttpSender(LOCAL) as sender:
            assert await sender.warm(url.format(receiver.port), "")
            for _ in range(2):
                outcome = await sender.send(message(url.format(receiver.port)))
                assert isinstance(outcome, Answered)
        assert [(2, 1)] == [(receiver.connections, context.session_stats()["hits"])]


async def test_address_that_is_not_allowed_is_not_connected_to() -> None:
    """By the same rules as a request's, by name or not."""
    nothing = msgspec.structs.replace(LOCAL, allowed_networks=())
    async with Receiver() as receiver, HttpSender(nothing, lookup=names(rebound=["127.0.0.1"])) as sender:
        assert not await sender.warm(receiver.url(), "")
        assert not await sender.warm(f"http://rebound.test:{receiver.port}/", "")
        assert 0 == receiver.connections


async def test_nothing_leaves_once_it_may_not(sender: HttpSender) -> None:
    """Who was frozen may have lost the lead, on a new connection or a kept one: it stays for others."""
    async with Receiver(answer(200)) as receiver:
        assert await sender.send(message(receiver.url()), lambda: False) is None
        await wait_for(lambda: receiver.connections == 1, "the connection is accepted", WAIT_S)
        assert [] == receiver.requests
        assert isinstance(await sender.send(message(receiver.url()), lambda: True), Answered)
        assert await sender.send(message(receiver.url()), lambda: False) is None
        assert (1, 1) == (receiver.connections, len(receiver.requests))
        assert isinstance(await sender.send(message(receiver.url()), lambda: True), Answered)
        assert (1, 2) == (receiver.connections, len(receiver.requests))


async def test_no_other_connection_gives_way() -> None:
    """Half of what may be open is left to requests."""
    few = msgspec.structs.replace(LOCAL, max_in_flight=2)
    async with Receiver() as first, Receiver() as second, HttpSender(few) as sender:
        assert await sender.warm(first.url(), "")
        assert not await sender.warm(second.url(), "")
        assert sender.ready(first.url(), "", for_s=0)


@pytest.mark.parametrize("url", ["http://[nonsense/", "http://127.0.0.1:1/"])
async def test_what_cannot_be_connected_to_is_no_error(sender: HttpSender, url: str) -> None:
    """A request will say why."""
    assert not await sender.warm(url, "")
    assert not sender.ready(url, "", for_s=0)


async def test_connection_that_the_receiver_ended_is_not_used() -> None:
    """The request makes its own."""
    async with Receiver(on_connect=close()) as ending, HttpSender(LOCAL) as sender:
        await sender.warm(ending.url(), "")
        await wait_for(lambda: not sender.ready(ending.url(), "", for_s=0), "its end was seen", WAIT_S)
