"""The fault harness: producers, subscribers and the daemon on one database, and the count at the end.

    async with Harness(database.url, seed=7) as world:
        await world.subscribe(["*"], prompt)
        async with daemons(world.url, tmp_path) as house:
            daemon = await house.start()
            async with world.producing(events):
                …  any fault, at any time drawn from `world.rng`  …
            await world.settled()
        await world.conserved()

Every choice comes from the seed, which is printed: a failure can be looked for again with the same one
(processes and clocks differ each time, so it need not come back at once).
"""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Final, Self

import asyncpg

from tests.acceptance.conservation import UNFINISHED, History, violations
from tests.acceptance.producer import Ledger, endlessly, produce
from tests.acceptance.subscriber import Subscriber
from tests.acceptance.waiting import eventually
from tests.losses import NotConserved
from tests.postgres import wait_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from types import TracebackType

    from tests.acceptance.producer import Event
    from tests.acceptance.subscriber import Manner

RETRY_DELAYS_S: Final = "0.3,0.6,1.2"
MOST_ATTEMPTS: Final = 4
SETTLE_S: Final = 60.0
_ARMED: Final = """
    select a.pid from pg_locks l join pg_stat_activity a using (pid)
     where a.application_name = 'dispatcher doorbell' and l.locktype = 'advisory'
     group by a.pid having count(*) = 3
"""


class Harness:
    """The world around the daemon; an async context manager."""

    def __init__(self, url: str, seed: int) -> None:
        self.url = url
        self.rng = random.Random(seed)
        self.ledger = Ledger()
        self.subscribers: list[Subscriber] = []
        self._stack = AsyncExitStack()
        print(f"seed {seed}")  # noqa: T201 - pytest shows it with a failure

    async def __aenter__(self) -> Self:
        await self._stack.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    async def subscribe(self, events: Sequence[str], manner: Manner) -> Subscriber:
        """Add a webhook whose server behaves like this."""
        one = Subscriber(events, manner)
        await one.register(self._stack, self.url)
        self.subscribers.append(one)
        return one

    @asynccontextmanager
    async def producing(
        self,
        events: Sequence[Event],
        *,
        pause_s: float,
        producers: int = 3,
        to_the_end: bool = False,
        apart: int | None = None,
    ) -> AsyncIterator[None]:
        """Insert events while the block runs, by several producers; `to_the_end`: and then the rest.

        `apart`: again and again, as long as the block runs, each time with serials so much greater.
        """
        stop = asyncio.Event()
        seeds = [random.Random(self.rng.random()) for _ in range(producers)]
        async with asyncio.TaskGroup() as group:
            for index, rng in enumerate(seeds):
                share = events[index::producers]
                stream = share if apart is None else endlessly(share, apart)
                group.create_task(produce(self.url, stream, self.ledger, rng, pause_s=pause_s, stop=stop))
            yield
            if not to_the_end:
                stop.set()

    @property
    def open(self) -> int:
        """How many requests are being answered at this moment."""
        return sum(one.open for one in self.subscribers)

    async def under_way(self, count: int = 4) -> None:
        """Wait for a moment at which so many requests are being answered."""
        await wait_for(lambda: self.open >= count, f"{count} requests are under way", SETTLE_S)

    async def more(self, count: int) -> None:
        """Wait until so many requests have come, all told."""
        await wait_for(
            lambda: sum(len(one.seen) for one in self.subscribers) >= count, f"{count} requests", SETTLE_S
        )

    async def settled(self, timeout_s: float = SETTLE_S) -> None:
        """Wait until every committed event is scheduled and no delivery is unfinished."""
        async with self.connection() as connection:

            async def finished() -> bool:
                scheduled = await connection.fetchval("select count(*) from message")
                return scheduled == len(self.ledger.committed) and not await connection.fetchval(UNFINISHED)

            try:
                await eventually(finished, "every delivery is finished", timeout_s)
            except AssertionError:
                await self.conserved()  # says what is missing
                raise

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection]:
        """Open a connection of the test's own."""
        connection = await asyncpg.connect(self.url, ssl=False)
        try:
            yield connection
        finally:
            await connection.close()

    async def armed(self) -> int | None:
        """Give the session that has armed the bells of all lanes; None while the daemon is not idle."""
        async with self.connection() as connection:
            pid: int | None = await connection.fetchval(_ARMED)
            return pid

    async def history(self) -> History:
        """Read what the database says now."""
        async with self.connection() as connection:
            return await History.read(connection)

    async def conserved(self) -> History:
        """Fail with a list of everything that was lost or cannot be explained; give the history."""
        history = await self.history()
        found = violations(history, self.ledger.committed, self.subscribers, MOST_ATTEMPTS)
        if found:
            raise NotConserved("\n".join([f"{len(found)} violations", *found[:20]]))
        return history
