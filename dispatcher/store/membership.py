"""Which daemons are there to share the webhooks, and who holds which shard."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from dispatcher import __version__
from dispatcher.core.errors import OperatorError
from dispatcher.core.ids import RunId
from dispatcher.store.lease import TERM_S, is_dead, process_identity
from dispatcher.store.transaction import Statements, transaction

if TYPE_CHECKING:
    from dispatcher.store.connection import Link

# Shorter than a lease's: when a killed daemon's shards are free, it counts no longer.
MEMBER_TERM_S: Final = TERM_S - 2.0
_RESHARD_S: Final = 600.0  # it looks at every delivery since the last checkpoints


class Holder(msgspec.Struct, frozen=True):
    """The run that holds a shard or was the last to."""

    shard: int
    run: int
    owner: str  # as `process_identity` wrote it
    version: str
    since: dt.datetime
    lease_left_s: float  # 0 when it is over, or was given back
    dead: bool  # it ran on this machine, and no such process lives


class View(msgspec.Struct, frozen=True):
    """Who is there, and who holds what."""

    members: Sequence[str]
    holders: Mapping[int, str | None]  # None: the shard is free


async def holders(statements: Statements) -> list[Holder | None]:
    """Give for each shard who holds it or was the last to; None where nobody ever did."""
    return [
        None
        if row["run_id"] is None
        else Holder(
            row["shard"],
            row["run_id"],
            row["owner"],
            row["version"],
            row["started_at"],
            round(max(0.0, row["left_s"]), 1),
            is_dead(row["owner"]),
        )
        for row in await statements.fetch("shard_holders")
    ]


class Membership:
    """This daemon among the others."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self.me = process_identity()

    async def shard_count(self) -> int:
        """Give into how many shards the webhooks are divided."""
        row = await self._link.fetchrow("shard_count")
        assert row is not None  # noqa: S101 - the installation has its row, or the daemon had not started
        count: int = row[0]
        return count

    async def look(self) -> View:
        """Say that we are still there, and see who else is."""
        async with transaction(self._link) as together:
            await together.execute("member_stays", self.me, __version__, MEMBER_TERM_S)
            members = [row["owner"] for row in await together.fetch("members")]
            found = await holders(together)
        return View(
            [one for one in members if not is_dead(one)],
            {
                number: None if one is None or not one.lease_left_s or one.dead else one.owner
                for number, one in enumerate(found)
            },
        )

    async def leave(self) -> None:
        """Say that we are not there any more."""
        await self._link.execute("member_leaves", self.me)


async def reshard(link: Link, count: int) -> int:
    """Divide the webhooks into another number of shards; give the number so far.

    Raises `OperatorError` while a daemon holds one, or where one that was killed left something open.
    """
    async with transaction(link, timeout_s=_RESHARD_S) as change:
        await change.execute("hold_shards")
        row = await change.fetchrow("shard_count")
        assert row is not None  # noqa: S101 - the installation has its row
        before: int = row[0]
        if before == count:
            return before
        held = [one["shard"] for one in await change.fetch("shards_held") if not is_dead(one["owner"])]
        if held:
            raise OperatorError(
                "a dispatcher runs on this database: stop every one of them first (`dispatcher status`)"
            )
        if await change.fetch("runs_unended"):
            raise OperatorError(
                "a dispatcher was killed, and what it had under way is not written down yet: start one, wait "
                "until it is ready, stop it, and try again"
            )
        begun = await change.fetchrow("run_begin", process_identity(), __version__, 0)
        assert begun is not None  # noqa: S101 - an INSERT gives its row
        run_id: RunId = begun[0]
        await change.execute("reshard", count, run_id)
        await change.execute("end_resharding", run_id)
        await change.execute("forget_leases")
        await change.execute("set_shard_count", count)
    return before
