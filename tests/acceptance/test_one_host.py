"""Ten thousand webhooks on one host that hangs: memory and sockets stay bounded, slots come free."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

from dispatcher.store.vault import Vault
from tests.acceptance.daemon import ENCRYPTION_KEY, daemons
from tests.acceptance.harness import Harness
from tests.acceptance.producer import real_events
from tests.acceptance.subscriber import SECRET, prompt
from tests.acceptance.waiting import eventually
from tests.parts import insert
from tests.postgres import Database, cloned, wait_for
from tests.receiver import Exchange, Receiver, response

if TYPE_CHECKING:
    import asyncpg

WEBHOOKS: Final = 10_000
SLOTS: Final = 1_000
TIMEOUT_S: Final = 2
QUEUED: Final = 2_000
SETTINGS: Final = {
    "DELIVERY__MAX_IN_FLIGHT": str(SLOTS),
    "DELIVERY__MAX_QUEUED": str(QUEUED),
    "DELIVERY__TIMEOUT_S": str(TIMEOUT_S),
    "DELIVERY__CONNECT_TIMEOUT_S": str(TIMEOUT_S),
    "DELIVERY__RETRY_DELAYS_S": "86400",
}
BYTES_A_SLOT: Final = 64 * 1024  # what is read of an answer, at most


class Memory(NamedTuple):
    """Of a process, in bytes."""

    resident: int
    most: int


def memory_of(pid: int) -> Memory:
    """Read what a process takes."""
    fields = dict(line.split(":") for line in Path(f"/proc/{pid}/status").read_text("ascii").splitlines())
    return Memory(*(int(fields[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM")))


def sockets_of(pid: int) -> int:
    """Count the sockets that a process has open."""
    links = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            links.append(str(entry.readlink()))
        except FileNotFoundError:  # closed at this moment
            continue
    return sum(link.startswith("socket:") for link in links)


class Host:
    """The one host: it counts, and answers at once or never."""

    def __init__(self, *, hangs: bool) -> None:
        self.receiver = Receiver(self._answer)
        self._hangs = hangs
        self.open = self.most_open = self.count = 0

    async def _answer(self, exchange: Exchange) -> None:
        self.count += 1
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            if self._hangs:
                await exchange.reader.read(1)  # until the other side goes away
                exchange.close()
            else:
                await exchange.send(response(200))
        finally:
            self.open -= 1


async def subscribe(connection: asyncpg.Connection, url: str) -> None:
    """Make the webhooks, each with a path of its own on one host."""
    vault = Vault(ENCRYPTION_KEY)
    ids = [f"whk_{number:026}" for number in range(WEBHOOKS)]
    await connection.execute(
        "insert into webhook (organization_id, public_id, url, events, secret)"
        " select (select min(id) from organization), one.public_id, $1 || one.public_id, '{event.detected}',"
        " one.secret from unnest($2::text[], $3::bytea[]) as one (public_id, secret)",
        url,
        ids,
        [vault.seal(SECRET, public_id) for public_id in ids],
    )


class Measured(NamedTuple):
    """What one run took."""

    before: Memory
    after: Memory
    most_sockets: int
    idle_sockets: int
    most_open: int
    outcomes: list[tuple[str | None, int]]  # error classes, and how often


async def alert(database: Database, directory: Path, *, hangs: bool) -> Measured:
    """Let one alert go to everybody on the host, and to one webhook elsewhere, another one meanwhile."""
    host = Host(hangs=hangs)
    async with Harness(database.url, seed=51) as world, host.receiver:
        async with world.connection() as connection:
            await subscribe(connection, host.receiver.url("/"))
            elsewhere = await world.subscribe(["event.*"], prompt)
            async with daemons(database.url, directory, **SETTINGS) as house:
                daemon = await house.start()
                await daemon.says("leading")
                before, idle_sockets = memory_of(daemon.pid), sockets_of(daemon.pid)
                most_sockets = idle_sockets

                async def attempted() -> bool:
                    nonlocal most_sockets
                    most_sockets = max(most_sockets, sockets_of(daemon.pid))
                    count = "select count(*) from delivery_event where kind = 'attempted'"
                    return bool(await connection.fetchval(count) == WEBHOOKS + 2)

                event, revision = real_events("comcat_updates.jsonl")[:2]
                await insert(connection, event.data)
                if hangs:
                    await wait_for(lambda: host.open >= SLOTS // 4, "many slots hang")
                await insert(connection, revision.data, revision.type)
                if hangs:
                    await wait_for(lambda: len(elsewhere.delivered) == 2, "the other host's webhook got both")
                    assert host.count < WEBHOOKS // 2, "long before everybody's turn"
                await eventually(attempted, "every first attempt is recorded", 300)
                rows = await connection.fetch(
                    "select error_class, count(*) from delivery_event where kind = 'attempted' group by 1"
                )
                assert [] == house.complaints()
                after = memory_of(daemon.pid)
        assert 2 == len(elsewhere.delivered), "the other host's webhook got both"
    outcomes = sorted((tuple(row) for row in rows), key=str)
    return Measured(before, after, most_sockets, idle_sockets, host.most_open, outcomes)


@pytest.mark.slow
async def test_ten_thousand_webhooks_on_a_host_that_hangs(
    database: Database, postgres_server: str, template_database: str, tmp_path: Path
) -> None:
    """Every attempt ends by the deadline and is recorded; memory and sockets are bounded by the slots.

    The webhook elsewhere gets its alerts at once: the host has all slots but some.
    """
    async with cloned(postgres_server, template_database) as another:
        prompt_run = await alert(another, tmp_path, hangs=False)
    hung_run = await alert(database, tmp_path, hangs=True)
    print(prompt_run, hung_run, sep="\n")  # noqa: T201 - pytest shows it with a failure
    assert [(None, WEBHOOKS + 2)] == prompt_run.outcomes
    assert [("timeout", WEBHOOKS), (None, 2)] == sorted(hung_run.outcomes, key=lambda one: one[1])[::-1]
    for run in (prompt_run, hung_run):
        assert run.most_open <= SLOTS
    assert hung_run.most_sockets - hung_run.idle_sockets <= SLOTS + 16
    assert hung_run.after.most <= prompt_run.after.most + SLOTS * BYTES_A_SLOT
