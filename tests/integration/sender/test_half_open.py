"""A connection that is open in one direction only, or whose other end is gone without a word."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import pytest

from dispatcher.core.outcome import Answered, ErrorClass, NoAnswer, error_class
from dispatcher.sender import HttpSender
from tests.acceptance.cable import Cable
from tests.receiver import Behaviour, Exchange, Receiver, answer, half_close, hang, interim, raw, response
from tests.sending import HASTY, LOCAL, message

if TYPE_CHECKING:
    from collections.abc import Callable

SENT_NO_MORE: Final = half_close()
_HEAD: Final = b"HTTP/1.1 200 OK\r\n%s\r\n\r\n"


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: Receiver(on_connect=SENT_NO_MORE), ErrorClass.RESET),
        (lambda: Receiver(on_head=SENT_NO_MORE), ErrorClass.RESET),
        (lambda: Receiver(SENT_NO_MORE), ErrorClass.RESET),
        (lambda: Receiver(raw(b"HTTP/1.1 200 OK\r\nContent-", then=SENT_NO_MORE)), ErrorClass.RESET),
        (lambda: Receiver(raw(_HEAD % b"Content-Length: 9" + b"short", then=SENT_NO_MORE)), ErrorClass.RESET),
        (
            lambda: Receiver(raw(_HEAD % b"Transfer-Encoding: chunked" + b"2\r\nok\r\n", then=SENT_NO_MORE)),
            ErrorClass.RESET,
        ),
        (lambda: Receiver(interim(3, then=SENT_NO_MORE)), ErrorClass.INFORMATIONAL_ONLY),
    ],
    ids=[
        "before the request",
        "amid the request",
        "before the answer",
        "in its header",
        "in its body",
        "between its chunks",
        "after 1xx",
    ],
)
async def test_half_closed_before_the_answer_was_whole(
    make: Callable[[], Receiver], expected: ErrorClass
) -> None:
    """Who says that nothing more will come has ended the exchange; nobody waits for the deadline."""
    async with make() as receiver, HttpSender(LOCAL) as sender:
        outcome = await sender.send(message(receiver.url()))
        assert isinstance(outcome, NoAnswer)
        assert outcome.error is expected
        await receiver.wait_until(lambda: receiver.open == 0)


@pytest.mark.parametrize(
    "data", [response(200, body=b"all"), b"HTTP/1.1 200 OK\r\n\r\nall"], ids=["by its length", "by its end"]
)
async def test_half_closed_after_the_answer(data: bytes) -> None:
    """The answer counts, and the connection is let go although it would still take requests."""
    script: list[Behaviour] = [raw(data, then=SENT_NO_MORE), answer(201)]
    async with Receiver(script) as receiver, HttpSender(LOCAL) as sender:
        first = await sender.send(message(receiver.url()))
        assert isinstance(first, Answered)
        assert (b"all", False) == (first.body, first.body_truncated)
        await receiver.wait_until(lambda: receiver.open == 0)
        second = await sender.send(message(receiver.url()))
        assert isinstance(second, Answered)
        assert (201, 2) == (second.status, receiver.connections)


async def test_half_closed_while_idle() -> None:
    """An idle connection on which no answer can come takes no request."""
    gate = asyncio.Event()

    async def behave(exchange: Exchange) -> None:
        await exchange.send(response())
        await gate.wait()
        exchange.half_close()
        await hang()(exchange)

    async with Receiver([behave, answer()]) as receiver, HttpSender(LOCAL) as sender:
        assert error_class(await sender.send(message(receiver.url()))) is None
        gate.set()
        await receiver.wait_until(lambda: receiver.open == 0)
        assert error_class(await sender.send(message(receiver.url()))) is None
        assert 2 == receiver.connections


async def test_kept_connections_that_were_forgotten_cost_one_request() -> None:
    """Where nothing comes back on one, those that were idle beside it are not used any more."""
    async with Receiver() as receiver, Cable(receiver.url()) as cable, HttpSender(HASTY) as sender:
        async with asyncio.TaskGroup() as tasks:
            both = [tasks.create_task(sender.send(message(cable.url))) for _ in range(2)]
        assert [None, None] == [error_class(one.result()) for one in both]
        cable.forget("")  # both, as a firewall does; new ones work
        assert ErrorClass.TIMEOUT is error_class(await sender.send(message(cable.url)))
        assert error_class(await sender.send(message(cable.url))) is None
        assert (3, 3) == (receiver.connections, len(receiver.requests))


async def test_receiver_that_vanished_without_a_word() -> None:
    """A kept connection that leads nowhere any more costs one attempt its time, and is not used again."""
    async with Receiver() as receiver, Cable(receiver.url()) as cable, HttpSender(HASTY) as sender:
        assert error_class(await sender.send(message(cable.url))) is None
        cable.swallow()
        lost = await sender.send(message(cable.url))
        assert isinstance(lost, NoAnswer)
        assert lost.error is ErrorClass.TIMEOUT
        assert lost.timings.connect_ms is None, "it went out on the kept connection"
        assert 1 == len(receiver.requests)
        cable.restore()
        await receiver.wait_until(lambda: receiver.open == 0)  # the sender let go of its end
        after = await sender.send(message(cable.url))
        assert error_class(after) is None
        assert after.timings.connect_ms is not None
        assert (2, 2) == (receiver.connections, len(receiver.requests))
