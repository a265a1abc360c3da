"""Connections are kept, and never trusted further than they should be."""

from __future__ import annotations

import asyncio

import pytest

from dispatcher.core.outcome import Answered, ErrorClass, error_class
from dispatcher.sender import AiohttpSender
from dispatcher.sender.connection import _hint_s
from tests.receiver import (
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
from tests.sending import LOCAL, message


async def test_connection_is_kept_alive(sender: AiohttpSender) -> None:
    """Requests one after the other share a connection."""
    async with Receiver([answer(200, [], b"a" * 9000), answer(500), answer(204)]) as receiver:
        for expected in (200, 500, 204):
            outcome = await sender.send(message(receiver.url()))
            assert isinstance(outcome, Answered)
            assert outcome.status == expected
        assert receiver.connections == 1


async def test_exchanges_on_a_connection_share_nothing_else(sender: AiohttpSender) -> None:
    """What was seen in one exchange does not colour the next."""
    async with Receiver([interim(2), close()]) as receiver:
        first = await sender.send(message(receiver.url()))
        second = await sender.send(message(receiver.url()))
        assert receiver.connections == 1
    assert error_class(first) is None
    assert error_class(second) is ErrorClass.RESET


async def test_concurrent_requests_do_not_wait_for_each_other(sender: AiohttpSender) -> None:
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
    async with Receiver([script, answer()]) as receiver, AiohttpSender(LOCAL) as sender:
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

    async with Receiver([behave, answer(201)]) as receiver, AiohttpSender(LOCAL) as sender:
        await sender.send(message(receiver.url()))
        gate.set()
        await receiver.wait_until(lambda: receiver.open == 0)
        outcome = await sender.send(message(receiver.url()))
        assert isinstance(outcome, Answered)
        assert outcome.status == 201


async def test_one_send_is_one_request_on_a_connection_that_dies() -> None:
    """When a kept connection turns out dead, that is the outcome: nothing is sent a second time."""
    async with Receiver([answer(), reset(), answer()]) as receiver, AiohttpSender(LOCAL) as sender:
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

    async with Receiver([behave, answer()]) as receiver, AiohttpSender(LOCAL) as sender:
        await sender.send(message(receiver.url()))
        gate.set()
        await receiver.wait_until(lambda: receiver.open == 0)
        assert error_class(await sender.send(message(receiver.url()))) is None
        assert receiver.connections == 2


async def test_cancellation_passes_through_and_leaves_nothing() -> None:
    """A cancelled send raises, and its connection is gone."""
    async with Receiver(hang()) as receiver, AiohttpSender(LOCAL) as sender:
        task = asyncio.ensure_future(sender.send(message(receiver.url())))
        await receiver.wait_for(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await receiver.wait_until(lambda: receiver.open == 0)


async def test_end_of_the_sender_closes_its_connections() -> None:
    """Leaving the context leaves no connection behind."""
    async with Receiver() as receiver:
        async with AiohttpSender(LOCAL) as sender:
            await sender.send(message(receiver.url()))
        await receiver.wait_until(lambda: receiver.open == 0)
