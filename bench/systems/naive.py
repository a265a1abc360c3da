"""What one writes in an afternoon: poll a table, POST each event to everybody, write each attempt down.

aiohttp and asyncpg, a page of fifty events at a time, all their requests at once, one INSERT for each answer,
100 ms of sleep when there is nothing. It signs the body. It does not retry, has no order and no bound on
what one receiver takes, and what a crash interrupts is sent again. `python -m bench.systems.naive URL` is the
loop.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import aiohttp
import asyncpg

from bench.child import pinned
from bench.systems import Place

_ROOT: Final = Path(__file__).parents[2]
_KEY: Final = b"a shared secret"
_PAGE_ROWS: Final = 50
_POLL_S: Final = 0.1
_SCHEMA: Final = """
create table naive_webhook (id int primary key, url text not null);
create table naive_event (id bigint generated always as identity primary key, data json not null,
                          done boolean not null default false);
create index on naive_event (id) where not done;
create table naive_attempt (event_id bigint not null, webhook_id int not null, status int,
                            ended_at timestamptz not null default clock_timestamp());
"""


class Naive:
    """The loop, as a process of its own."""

    def __init__(self) -> None:
        self._producer: asyncpg.Connection | None = None
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, place: Place, webhooks: Sequence[str]) -> None:
        """Make the tables and start the loop; it works when it has asked for events once."""
        self._producer = await asyncpg.connect(place.database_url, ssl=False)
        await self._producer.execute(_SCHEMA)
        await self._producer.executemany("insert into naive_webhook values ($1, $2)", enumerate(webhooks))
        self._process = await asyncio.create_subprocess_exec(
            *pinned(place.core),
            *(sys.executable, "-m", __name__, place.database_url),
            stdout=asyncio.subprocess.PIPE,
            cwd=_ROOT,
        )
        assert self._process.stdout is not None
        if not await self._process.stdout.readline():
            raise RuntimeError("the naive loop ended before it began")

    async def insert(self, events: Sequence[str]) -> None:
        """Insert into its table."""
        assert self._producer is not None
        await self._producer.execute(
            "insert into naive_event (data) select e::json from unnest($1::text[]) e", events
        )

    def pids(self) -> Sequence[int]:
        """Name the loop."""
        return [] if self._process is None else [self._process.pid]

    async def stop(self) -> None:
        """End the loop."""
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            await self._process.wait()
        if self._producer is not None:
            await self._producer.close()


async def _serve(database_url: str) -> None:
    async with (
        asyncpg.create_pool(database_url, ssl=False, min_size=1, max_size=10) as pool,
        aiohttp.ClientSession() as session,
    ):

        async def attempt(event: asyncpg.Record, webhook: asyncpg.Record) -> None:
            body = event["data"].encode()
            signature = "sha256=" + hmac.new(_KEY, body, hashlib.sha256).hexdigest()
            headers = {"Content-Type": "application/json", "X-Signature": signature}
            status: int | None = None
            try:
                async with session.post(webhook["url"], data=body, headers=headers) as response:
                    await response.read()
                    status = response.status
            except aiohttp.ClientError as error:
                print(error, file=sys.stderr)
            await pool.execute(
                "insert into naive_attempt (event_id, webhook_id, status) values ($1, $2, $3)",
                event["id"],
                webhook["id"],
                status,
            )

        webhooks = await pool.fetch("select id, url from naive_webhook order by id")
        begun = False
        while True:
            events = await pool.fetch(
                "select id, data::text as data from naive_event where not done order by id limit $1",
                _PAGE_ROWS,
            )
            if not begun:
                begun = True
                print("ready", flush=True)
            if not events:
                await asyncio.sleep(_POLL_S)
                continue
            async with asyncio.TaskGroup() as group:
                for event in events:
                    for webhook in webhooks:
                        group.create_task(attempt(event, webhook))
            await pool.execute(
                "update naive_event set done = true where id = any ($1::bigint[])",
                [event["id"] for event in events],
            )


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1]))
