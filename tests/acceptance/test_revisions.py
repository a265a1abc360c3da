"""Real revisions, told by the real daemon: whom they concern, and with the whole event if that is wished."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import asyncpg

from dispatcher.store import recoveries
from dispatcher.store.recoveries import Asked, Counts, Window
from tests.acceptance.daemon import daemons
from tests.acceptance.subscriber import create_webhook
from tests.postgres import Database, wait_for
from tests.receiver import Exchange, Receiver, Request, response

STORY: Final[list[dict[str, Any]]] = [
    json.loads(line)
    for line in (Path(__file__).parents[1] / "data" / "comcat_updates.jsonl").read_text().splitlines()
    if "evt_nc72852151" in line  # null, 4.92, 5.07, 5.07 and elsewhere, 5.11, 5.08
]


class Server:
    """A receiver that answers 500 to the first attempt of each delivery, if it is told to."""

    def __init__(self, *, stumbles: bool = False) -> None:
        self._stumbles = stumbles
        self.receiver = Receiver(self._answer)

    async def _answer(self, exchange: Exchange) -> None:
        assert exchange.request is not None
        first = exchange.request.header("x-grillo-attempt") == "1"
        await exchange.send(response(500 if self._stumbles and first else 200))

    def accepted(self) -> list[Request]:
        """Give the requests that were answered 200."""
        return [
            one
            for one in self.receiver.requests
            if not self._stumbles or one.header("x-grillo-attempt") != "1"
        ]


def data_of(request: Request) -> dict[str, Any]:
    """Read the data of a body."""
    data: dict[str, Any] = json.loads(request.body)["data"]
    return data


@asynccontextmanager
async def opened(database: Database) -> AsyncIterator[asyncpg.Connection]:
    """Open a connection for the block."""
    connection = await database.connect()
    try:
        yield connection
    finally:
        await connection.close()


async def test_revisions_reach_whom_they_concern(database: Database, tmp_path: Path) -> None:
    """A filter's threshold is crossed by the third revision, and everything after is told as well.

    With `payload` "full" each revision carries the event as it is then, in the same bytes at each attempt,
    beside what the guide's payload holds.
    """
    plain, full = Server(), Server(stumbles=True)
    async with AsyncExitStack() as stack:
        for server in (plain, full):
            await stack.enter_async_context(server.receiver)
        house = await stack.enter_async_context(
            daemons(database.url, tmp_path, DELIVERY__RETRY_DELAYS_S="0.2,1,1")
        )
        daemon = await house.start()
        events, condition = ["event.*"], {"min_magnitude": 5}
        await create_webhook(database.url, plain.receiver.url("/a"), events, filter=condition)
        await create_webhook(database.url, full.receiver.url("/b"), events, filter=condition, payload="full")
        connection = await stack.enter_async_context(opened(database))
        for line in STORY:
            await connection.execute(
                "insert into outbox (type, data) values ($1, $2)", line["type"], json.dumps(line["data"])
            )
        await wait_for(lambda: len(plain.accepted()) == len(full.accepted()) == 4, "four revisions each", 30)
        expected = {json.dumps(line["data"]["changes"]): line["data"] for line in STORY[2:]}
        assert sorted(expected) == sorted(json.dumps(data_of(one)["changes"]) for one in plain.accepted())
        for request in full.accepted():
            data = data_of(request)
            number = data.pop("revision")
            event = data.pop("event")
            assert STORY[number]["data"] == data
            known = dict(STORY[0]["data"])
            for line in STORY[1 : number + 1]:
                known |= {name: change["new"] for name, change in line["data"]["changes"].items()}
            assert known == event
            delivery = request.header("x-grillo-delivery")
            tries = [one for one in full.receiver.requests if one.header("x-grillo-delivery") == delivery]
            assert {request.body} == {one.body for one in tries}
            assert len(tries) == 2

        late = Server()  # subscribes now, and recovers what it missed: in full, and in the same bytes
        await stack.enter_async_context(late.receiver)
        number = await create_webhook(
            database.url, late.receiver.url("/c"), events, filter=condition, payload="full"
        )
        now = dt.datetime.now(dt.UTC)
        window = Window(number, now - dt.timedelta(days=1), now + dt.timedelta(minutes=1), ("missing",))
        await recoveries.insert(connection, window, Asked(bytes(16), "test", Counts(), counted_all=True))
        await wait_for(lambda: len(late.accepted()) == 4, "the four revisions once more", 30)
        bodies = [{one.header("x-grillo-sequence"): one.body for one in to.accepted()} for to in (full, late)]
        assert bodies[0] == bodies[1]
        assert [] == daemon.complaints()
