"""Whatever receivers do, an answer is that of its own request; nothing is sent twice or left over."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from dispatcher.core.outcome import Answered
from dispatcher.sender import HttpSender
from tests.receiver import Exchange, Receiver, answer, close, interim, raw, reset, response
from tests.sending import LOCAL, message

SENDS = 400
AT_A_TIME = 24
CANCELLED_ONE_IN = 10


@pytest.mark.parametrize("seed", range(3))
async def test_every_answer_is_its_own_requests(seed: int) -> None:
    """Connections are shared by hundreds of requests that end well, badly and early."""
    chance = random.Random(seed)

    async def behave(exchange: Exchange) -> None:
        assert exchange.request is not None
        number = exchange.request.body
        echo = answer(200, [("X-Number", number.decode())], number)
        unasked = response(200, [("X-Number", "unasked")])
        kinds = {
            echo: 10,
            answer(200, [("X-Number", number.decode()), ("Connection", "close")], number): 1,
            interim(2, then=echo): 2,
            raw(response(200, [("X-Number", number.decode())], number) + unasked, then=_nothing): 2,
            close(): 1,
            reset(): 1,
            raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort"): 1,
        }
        await chance.choices(list(kinds), list(kinds.values()))[0](exchange)

    async with Receiver(behave) as receiver:
        async with HttpSender(LOCAL) as sender:
            slots = asyncio.Semaphore(AT_A_TIME)

            async def send(number: int) -> None:
                async with slots:
                    sending = asyncio.ensure_future(sender.send(message(receiver.url(), body=b"%d" % number)))
                    if chance.randrange(CANCELLED_ONE_IN) == 0:
                        for _ in range(chance.randrange(8)):
                            await asyncio.sleep(0)
                        sending.cancel()
                    await asyncio.wait([sending])
                if not sending.cancelled():
                    outcome = sending.result()
                    if isinstance(outcome, Answered):
                        assert (b"%d" % number, ("X-Number", str(number))) == (
                            outcome.body,
                            outcome.headers[0],
                        )

            async with asyncio.TaskGroup() as tasks:
                for number in range(SENDS):
                    tasks.create_task(send(number))
        await receiver.wait_until(lambda: receiver.open == 0)
    assert {1} == set(Counter(request.body for request in receiver.requests).values())
    assert receiver.connections < len(receiver.requests)  # they were shared


async def _nothing(_: Exchange) -> None:
    """Go on with the next request."""
