"""The real daemon among receivers that hurt: nobody waits, nothing grows, each attempt says what it met."""

from __future__ import annotations

import base64
from collections import defaultdict
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Final, Self

import pytest

from tests.acceptance.daemon import daemons
from tests.acceptance.hostile import (
    BOMB_MEBIBYTES,
    DELIVERED,
    NO_TEXT,
    TIMEOUT,
    Attack,
    Expected,
    attacks,
    start,
)
from tests.acceptance.test_again import SENSOR, Client, client
from tests.acceptance.test_one_host import BYTES_A_SLOT, memory_of, sockets_of
from tests.acceptance.waiting import eventually
from tests.bombs import gzip_bomb
from tests.certificates import Authority
from tests.parts import detected, insert
from tests.receiver import Receiver

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import asyncpg

    from tests.postgres import Database

EVENTS: Final = 4
SLOTS: Final = 2  # of a webhook: who hangs needs twice the deadline
SLACK_BYTES: Final = 4 * 1024 * 1024
OTHER_SOCKETS: Final = 4  # to PostgreSQL, which come and go
SETTINGS: Final = {
    "API__RATE_LIMIT_PER_MINUTE": "100000",
    "DELIVERY__TIMEOUT_S": "4",
    "DELIVERY__CONNECT_TIMEOUT_S": "4",
    "DELIVERY__MAX_IN_FLIGHT_PER_WEBHOOK": str(SLOTS),
    "DELIVERY__RETRY_DELAYS_S": "86400",
    "DELIVERY__KEEPALIVE_S": "1",
    "DELIVERY__WARM_CONNECTIONS": "0",  # the sockets are counted
}
_ATTEMPTS: Final = """
    select w.public_id, e.error_class, e.status_code, e.error_message, e.started_at
      from delivery_event e join webhook w on w.id = e.webhook_id
      join message m on (m.day, m.outbox_id) = (e.day, e.outbox_id)
     where e.kind = 'attempted' and m.type = 'event.detected'
     order by e.started_at"""


class World:
    """The daemon's webhooks, by the names of those behind them."""

    def __init__(self, ask: Client, stack: AsyncExitStack) -> None:
        self._ask = ask
        self._stack = stack
        self.ids: dict[str, str] = {}
        self.wanted = 0

    async def subscribe(self, name: str, url: str, *events: str) -> None:
        """Make a webhook."""
        made = await self._ask("POST", "/v1/webhooks", {"url": url, "events": events})
        self.ids[name] = made["id"]

    async def prompt(self, name: str, authority: Authority | None, *events: str) -> None:
        """Make a webhook whose server answers 200 at once."""
        context = None if authority is None else authority.server("127.0.0.1")
        receiver = await self._stack.enter_async_context(Receiver(ssl_context=context))
        await self.subscribe(name, receiver.url("/hook"), *events)

    async def pages(self, name: str) -> list[dict[str, Any]]:
        """Give every delivery's page."""
        path = f"/v1/webhooks/{self.ids[name]}/deliveries"
        return [await self._ask("GET", f"{path}/{one['id']}") for one in await self._ask("GET", path)]


class History:
    """The attempts of `event.detected`, by the names of those behind the webhooks."""

    def __init__(self) -> None:
        self.outcomes: defaultdict[str, list[Expected]] = defaultdict(list)
        self.messages: defaultdict[str, list[str | None]] = defaultdict(list)
        self.last_at: dict[str, dt.datetime] = {}  # when the last attempt started

    @classmethod
    async def read(cls, connection: asyncpg.Connection, world: World) -> Self:
        """Read all of them."""
        history = cls()
        names = {public_id: name for name, public_id in world.ids.items()}
        for row in await connection.fetch(_ATTEMPTS):
            name = names[row["public_id"]]
            history.outcomes[name].append(Expected(row["error_class"], row["status_code"]))
            history.messages[name].append(row["error_message"])
            history.last_at[name] = row["started_at"]
        return history

    def unlike(self, expected: Mapping[str, Expected]) -> dict[str, object]:
        """Give the attempts of those whose every event did not come to this."""
        return {
            name: list(zip(self.outcomes[name], self.messages[name], strict=True))
            for name, outcome in expected.items()
            if self.outcomes[name] != [outcome] * EVENTS
        }


async def attempted(connection: asyncpg.Connection, count: int) -> None:
    """Wait until so many attempts are recorded."""

    async def recorded() -> bool:
        return bool(
            count <= await connection.fetchval("select count(*) from delivery_event where kind = 'attempted'")
        )

    await eventually(recorded, f"{count} attempts are recorded", 120)


@pytest.mark.slow
async def test_hostile_receivers(database: Database, tmp_path: Path) -> None:
    """Each attempt is recorded as what it was and can be read, memory and sockets are as among friends.

    Those who answer promptly are told of every event while those who hang still hold their slots.
    """
    authority = Authority(tmp_path)
    hostile = attacks(authority)
    environ = {"SSL_CERT_FILE": str(authority.file)}
    async with AsyncExitStack() as stack:
        connection = await database.connect()
        stack.push_async_callback(connection.close)
        house = await stack.enter_async_context(daemons(database.url, tmp_path, environ, **SETTINGS))
        daemon = await house.start()
        await daemon.says("leading")
        world = World(await stack.enter_async_context(client(database.url, daemon)), stack)
        prompt = ("prompt", "prompt with TLS")
        for attack in hostile:  # as many friends, for the comparison
            trusted = authority if attack.tls else None
            await world.prompt(f"friend of {attack.name}", trusted, "sensor.offline")
            await world.subscribe(attack.name, await start(attack, stack), "event.detected")
        # After all others: their turn comes last.
        for name, trusted in zip(prompt, (None, authority), strict=True):
            await world.prompt(name, trusted, "sensor.offline", "event.detected")
        idle = sockets_of(daemon.pid)
        everybody = EVENTS * (len(prompt) + len(hostile))
        for _ in range(EVENTS):
            await insert(connection, SENSOR, "sensor.offline")
        await attempted(connection, everybody)
        friendly = memory_of(daemon.pid)

        for number in range(EVENTS):
            await insert(connection, detected(event_id=f"evt_{number}"))
        await attempted(connection, 2 * everybody)

        among_strangers = memory_of(daemon.pid)
        print(friendly, among_strangers, f"{len(hostile)} attacks")  # noqa: T201 - shown with a failure
        history = await History.read(connection, world)
        expected = {one.name: one.expected for one in hostile} | dict.fromkeys(prompt, DELIVERED)
        assert {} == history.unlike(expected)
        hanging = [history.last_at[one.name] for one in hostile if one.expected == TIMEOUT]
        assert max(history.last_at[name] for name in prompt) < min(hanging)
        assert among_strangers.most - friendly.most < len(hostile) * SLOTS * BYTES_A_SLOT + SLACK_BYTES

        await read_back(world, hostile)
        await eventually(lambda: _at_most(daemon.pid, idle + OTHER_SOCKETS), "the sockets are closed", 60)
        assert [] == house.complaints()


async def _at_most(pid: int, sockets: int) -> bool:
    return sockets_of(pid) <= sockets


async def read_back(world: World, hostile: Sequence[Attack]) -> None:
    """Every page of every delivery can be read, and says the same."""
    kept = {"gzip bomb": gzip_bomb(BOMB_MEBIBYTES)[:4096], "NUL and no UTF-8 in a body": NO_TEXT}
    for attack in hostile:
        pages = await world.pages(attack.name)
        assert EVENTS == len(pages)
        for page in pages:
            (attempt,) = page["attempts"]
            error = attempt["error"]["class"] if attempt["error"] else None
            assert attack.expected == Expected(error, attempt["status_code"]), attack.name
            if attack.name in kept:
                assert kept[attack.name] == base64.b64decode(attempt["response"]["body_base64"])
