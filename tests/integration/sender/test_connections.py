"""Connections are kept, and never trusted further than they should be."""

from __future__ import annotations

import asyncio
import socket

import msgspec
import pytest

from dispatcher.core.outcome import Answered, ErrorClass, error_class
from dispatcher.sender import HttpSender
from dispatcher.sender.exchange import _hint_s
from tests.receiver import (
    WAIT_S,
    Behaviour,
    Exchange,
    Receiver,
    after,
    answer,
    close,
    hang,
    interim,
    raw,
    reset,
    response,
)
from tests.sending import BODY, LOCAL, message, names


async def test_connection_is_kept_alive(sender: HttpSender) -> None:
    """Requests one after the other share a connection."""
    async with Receiver([answer(200, [], b"a" * 9000), answer(500), answer(204)]) as receiver:
        for expected in (200, 500, 204):
            outcome = await sender.send(message(receiver.url()))
            assert isinstance(outcome, Answered)
            assert outcome.status == expected
        assert receiver.connections == 1


async def test_exchanges_on_a_connection_share_nothing_else(sender: HttpSender) -> None:
    """What was seen in one exchange does not colour the next."""
    async with Receiver([interim(2), close()]) as receiver:
        first = await sender.send(message(receiver.url()))
        second = await sender.send(message(receiver.url()))
        assert receiver.connections == 1
    assert error_class(first) is None
    assert error_class(second) is ErrorClass.RESET


async def test_concurrent_requests_do_not_wait_for_each_other(sender: HttpSender) -> None:
    """There is no limit of connections here: the lanes have it."""
    gate = asyncio.Event()
    async with Receiver(after(gate)) as receiver, asyncio.TaskGroup() as tasks:
        sending = [tasks.create_task(sender.send(message(receiver.url()))) for _ in range(150)]
        await receiver.wait_for(150)
        gate.set()
        outcomes = [await task for task in sending]
    assert {error_class(outcome) for outcome in outcomes} == {None}


@pytest.mark.parametrize(
    "script",
    [
        answer(200, [("Connection", "close")]),
        answer(200, [("Keep-Alive", "timeout=0")]),
        raw(response() + response(500), then=hang()),
    ],
    ids=["told to close", "told not to keep", "two answers to one request"],
)
async def test_connection_that_must_not_be_reused(script: Behaviour) -> None:
    """A connection that the receiver ends, or whose state is doubtful, serves no other request."""
    async with Receiver([script, answer()]) as receiver, HttpSender(LOCAL) as sender:
        first = await sender.send(message(receiver.url()))
        second = await sender.send(message(receiver.url()))
        assert [error_class(first), error_class(second)] == [None, None]
        assert receiver.connections == 2


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("timeout=5", 4.0),
        ("timeout=5, max=100", 4.0),
        ("max=100, Timeout=60", 59.0),
        ("timeout=2", 1.0),
        ("timeout=1", 0.5),
        ("timeout=0", 0.0),
        ("timeout=", None),
        ("timeout=-5", None),
        ("timeout=5.5", None),
        ("timeout=²", None),
        ("max=100", None),
        ("", None),
    ],
)
def test_how_long_a_receiver_keeps_a_connection(header: str, expected: float | None) -> None:
    """Reuse is safe until a second before the receiver closes; nonsense says nothing."""
    assert _hint_s(header) == expected


async def test_unasked_answer_is_nobodys() -> None:
    """What a receiver sends on an idle connection is never taken for the answer to the next request."""
    gate = asyncio.Event()

    async def behave(exchange: Exchange) -> None:
        await exchange.send(response(200))
        await gate.wait()
        await exchange.send(response(500))

    async with Receiver([behave, answer(201)]) as receiver, HttpSender(LOCAL) as sender:
        await sender.send(message(receiver.url()))
        gate.set()
        await receiver.wait_until(lambda: receiver.open == 0)
        outcome = await sender.send(message(receiver.url()))
        assert isinstance(outcome, Answered)
        assert outcome.status == 201


async def test_one_send_is_one_request_on_a_connection_that_dies() -> None:
    """When a kept connection turns out dead, that is the outcome: nothing is sent a second time."""
    async with Receiver([answer(), reset(), answer()]) as receiver, HttpSender(LOCAL) as sender:
        first = await sender.send(message(receiver.url()))
        second = await sender.send(message(receiver.url()))
        assert error_class(first) is None
        assert error_class(second) is ErrorClass.RESET
        assert len(receiver.requests) == 2
        assert receiver.connections == 1


async def test_closed_idle_connection_is_replaced() -> None:
    """A receiver that closed the idle connection gets the next request on a new one."""
    gate = asyncio.Event()

    async def behave(exchange: Exchange) -> None:
        await exchange.send(response())
        await gate.wait()
        exchange.close()

    async with Receiver([behave, answer()]) as receiver, HttpSender(LOCAL) as sender:
        await sender.send(message(receiver.url()))
        gate.set()
        await receiver.wait_until(lambda: receiver.open == 0)
        assert error_class(await sender.send(message(receiver.url()))) is None
        assert receiver.connections == 2


async def test_end_that_the_loop_has_not_seen_is_found_out() -> None:
    """An idle connection is looked at before it is used: what was closed meanwhile takes no request."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        listener.setblocking(False)
        async with HttpSender(LOCAL) as sender:
            for number in (1, 2):
                # Until it waits for something, `send` runs on without the loop.
                async with asyncio.timeout(WAIT_S), asyncio.TaskGroup() as tasks:
                    sending = tasks.create_task(sender.send(message(url)))
                    served = tasks.create_task(_serve_one(listener))
                assert error_class(sending.result()) is None
                if number == 1:
                    await asyncio.sleep(0.06)  # idle for as long as a connection is trusted unseen
                served.result().close()
                # No await stands between this close and the next send.


async def _serve_one(listener: socket.socket) -> socket.socket:
    """Answer the first request of a new connection, and give the connection."""
    loop = asyncio.get_running_loop()
    connection, _ = await loop.sock_accept(listener)
    received = b""
    while not received.endswith(BODY):
        received += await loop.sock_recv(connection, 65_536)
    await loop.sock_sendall(connection, response())
    return connection


async def test_idle_connections_make_way_for_new_ones() -> None:
    """There are never more connections open than requests may be under way, and the newest stays."""
    hosts = [f"hook{number}" for number in range(17)]
    lookup = names(**{host: ["127.0.0.1"] for host in hosts})
    config = msgspec.structs.replace(LOCAL, max_in_flight=16)
    async with Receiver() as receiver, HttpSender(config, lookup=lookup) as sender:
        for host in hosts:
            await sender.send(message(receiver.url(host=f"{host}.test")))
        await receiver.wait_until(lambda: receiver.open < 17)
        await sender.send(message(receiver.url(host=f"{hosts[-1]}.test")))
        assert 17 == receiver.connections


async def test_idle_connections_make_way_for_those_that_are_being_made() -> None:
    """Before that: each needs a file of its own, however long it takes and whatever comes of it."""
    hosts = [f"hook{number}" for number in range(16)]
    lookup = names(**{host: ["127.0.0.1"] for host in hosts})
    config = msgspec.structs.replace(LOCAL, max_in_flight=16)
    async with (
        Receiver() as receiver,
        Receiver(on_connect=hang()) as silent,
        HttpSender(config, lookup=lookup) as sender,
        asyncio.TaskGroup() as tasks,
    ):
        for host in hosts:
            await sender.send(message(receiver.url(host=f"{host}.test")))
        assert 16 == receiver.open
        url = f"https://127.0.0.1:{silent.port}/"
        connecting = [tasks.create_task(sender.send(message(url))) for _ in range(16)]
        await receiver.wait_until(lambda: receiver.open == 0)
        for task in connecting:
            task.cancel()


@pytest.mark.parametrize("keepalive_s", [0.0, 0.1])
async def test_idle_connections_end(keepalive_s: float) -> None:
    """Nobody keeps a connection for longer than `keepalive_s`, and none at all without one."""
    config = msgspec.structs.replace(LOCAL, keepalive_s=keepalive_s)
    async with Receiver() as receiver, HttpSender(config) as sender:
        await sender.send(message(receiver.url()))
        await receiver.wait_until(lambda: receiver.open == 0)
        await sender.send(message(receiver.url()))
        assert 2 == receiver.connections


async def test_cancellation_passes_through_and_leaves_nothing() -> None:
    """A cancelled send raises, and its connection is gone."""
    async with Receiver(hang()) as receiver, HttpSender(LOCAL) as sender:
        task = asyncio.ensure_future(sender.send(message(receiver.url())))
        await receiver.wait_for(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await receiver.wait_until(lambda: receiver.open == 0)


async def test_end_of_the_sender_closes_its_connections() -> None:
    """Leaving the context leaves no connection behind."""
    async with Receiver() as receiver:
        async with HttpSender(LOCAL) as sender:
            await sender.send(message(receiver.url()))
        await receiver.wait_until(lambda: receiver.open == 0)


async def test_who_closes_behind_each_answer_is_found_out_once(sender: HttpSender) -> None:
    """Without a word in the header: one request crosses the end on its way, and no other one does."""
    async with Receiver(raw(response(200, body=b"ok"), then=close())) as receiver:
        outcomes = [await sender.send(message(receiver.url())) for _ in range(20)]
    failures = [error_class(outcome) for outcome in outcomes if error_class(outcome) is not None]
    assert failures in ([], [ErrorClass.RESET])


async def test_who_sends_a_body_behind_204_is_found_out_once(sender: HttpSender) -> None:
    """What comes late is taken for the beginning of the next answer, once."""

    async def behave(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 204 No Content\r\n\r\n")
        await asyncio.sleep(0.002)  # it is another segment
        await exchange.send(b"ok")

    async with Receiver(behave) as receiver:
        outcomes = [await sender.send(message(receiver.url())) for _ in range(20)]
    failures = [error_class(outcome) for outcome in outcomes if error_class(outcome) is not None]
    assert failures in ([], [ErrorClass.MALFORMED_RESPONSE])


async def test_who_was_found_out_is_trusted_again(sender: HttpSender) -> None:
    """As soon as a connection that was idle for a while has carried an answer."""
    async with Receiver([raw(response(200), then=close()), answer(200)]) as receiver:
        url = receiver.url()
        endpoint = sender._endpoint(url, "")  # noqa: SLF001 - what is known of a receiver has no other witness
        assert endpoint is not None
        await sender.send(message(url))
        endpoint.origin.closes = True
        loop = asyncio.get_running_loop()
        deadline = loop.time() + WAIT_S
        while endpoint.origin.closes and loop.time() < deadline:
            assert isinstance(await sender.send(message(url)), Answered)
        made = receiver.connections
        assert isinstance(await sender.send(message(url)), Answered)
        assert (False, made) == (endpoint.origin.closes, receiver.connections)
