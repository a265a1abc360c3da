"""`dispatcher rebase`: takes over a database that was restored or moved, before the dispatcher goes on."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import msgspec

from dispatcher.core.errors import LeaseLost, OperatorError
from dispatcher.core.sharing import Shard
from dispatcher.store.installation import Installation
from dispatcher.store.lease import TERM_S, Lease
from dispatcher.store.membership import Membership
from dispatcher.store.rebase import Moved, Rebase, Report
from dispatcher.store.registry import Registry
from dispatcher.store.vault import configured_vault
from dispatcher.tools.session import open_database
from dispatcher.tools.terminal import result

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from dispatcher.config import Config
    from dispatcher.core.ids import RunId
    from dispatcher.store.connection import Database

_ASK_EVERY_S: Final = 0.5
_WAIT_S: Final = TERM_S + 1.0  # the lease of a daemon that was killed lasts this long at most


async def rebase(config: Config, *, yes: bool, same_xids: bool, as_json: bool = False) -> int:
    """Take the database over; without `yes`, say what that would do, change nothing and give 1.

    Raises `OperatorError` while a dispatcher leads.
    """
    async with open_database(config) as database:
        vault = configured_vault(config)
        await Installation.load(database, vault)
        try:
            async with _lead(database) as runs:
                registry = Registry(database.link("registry"), vault)
                work = Rebase(database.link("rebase"), runs, registry, rehearse=not yes)
                if same_xids:
                    moved = await work.same_xids()
                    found, words = msgspec.structs.asdict(moved), list(_moved(moved))
                else:
                    report = await work.restored()
                    found, words = msgspec.structs.asdict(report), list(_restored(report))
        except LeaseLost as error:
            raise OperatorError("another process took the lead meanwhile: nothing was changed") from error
    words.append(
        "done: `dispatcher serve` goes on from here"
        if yes
        else "nothing was changed; with --yes, this is done"
    )
    result({"done": yes, **found}, *words, as_json=as_json)
    return 0 if yes else 1


@asynccontextmanager
async def _lead(database: Database) -> AsyncIterator[list[RunId]]:
    """Hold every shard, so that no dispatcher does; raises `OperatorError` where one goes on holding one.

    Gives the runs; the last is the one that leads.
    """
    link = database.link("lease")
    count = await Membership(link).shard_count()
    deadline = asyncio.get_running_loop().time() + _WAIT_S
    held: list[tuple[Lease, RunId]] = []
    try:
        for number in reversed(range(count)):
            lease = Lease(link, Shard(number, count))
            while (run_id := await lease.take()) is None:
                if asyncio.get_running_loop().time() >= deadline:
                    raise OperatorError(
                        "a dispatcher runs on this database: stop it first (`dispatcher status`)"
                    )
                await asyncio.sleep(_ASK_EVERY_S)
                for taken, _ in held:
                    await taken.renew()
            held.append((lease, run_id))
        yield [run_id for _, run_id in held]
    finally:
        for lease, run_id in held:
            await link.execute("run_ended", run_id, [run_id], "clean")
            await lease.release()


def _moved(moved: Moved) -> Iterator[str]:
    if moved.lanes:
        yield f"the positions of {moved.lanes} lanes are taken over as they are: nothing is sent again"
    elif moved.database:
        yield "the database is taken over as it is: nothing is sent again"
    else:
        yield "the positions were written on this server already: there is nothing to take over"


def _restored(report: Report) -> Iterator[str]:
    yield (
        f"{report.scheduled_events:,} events that had not been read are scheduled: "
        f"{report.scheduled_deliveries:,} deliveries"
    )
    yield (
        f"{report.interrupted:,} deliveries were pending in the backup and may have been sent after it: each "
        "gets a fact that says so (`interrupted`, `restored`) and is sent, perhaps again, with its old id"
    )
    if report.recoveries:
        yield (
            f"{report.recoveries:,} recoveries were under way and are stopped: how far they got is not "
            "known, so ask again"
        )
