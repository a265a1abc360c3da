"""Says at a glance where everything stands: who holds which shard, how far each lane is, what is pending.

Everything is counted up to a bound, along indexes, so that asking costs the same on a quiet day and in the
midst of a backlog.
"""

from __future__ import annotations

import datetime as dt
from typing import Final

import msgspec

from dispatcher.core.errors import OperatorError
from dispatcher.core.ids import OutboxId, WebhookId
from dispatcher.core.pending import TAILED, Lane
from dispatcher.core.sharing import Shard
from dispatcher.store.backlog import Backlog
from dispatcher.store.connection import Link
from dispatcher.store.incarnation import Branch, unacknowledged
from dispatcher.store.membership import Holder, holders
from dispatcher.store.outbox import OutboxReader
from dispatcher.store.transaction import Statements, Transaction, transaction

COUNTED: Final = 10_000  # one more stands for "more than that"
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class Leader(msgspec.Struct, frozen=True):
    """The run that holds a shard, or was the last to; of shard 0: that leads."""

    shard: int
    run: int
    host: str
    process: int | None
    version: str
    since: dt.datetime
    lease_left_s: float  # 0 when it is over, or was given back
    dead: bool  # it ran on this machine, and no such process lives

    @property
    def who(self) -> str:
        """Name the process in words."""
        return self.host if self.process is None else f"process {self.process} on {self.host}"

    @property
    def holds(self) -> bool:
        """Say whether it goes on."""
        return bool(self.lease_left_s) and not self.dead


class LaneStatus(msgspec.Struct, frozen=True):
    """How far one lane is."""

    lane: str
    batch: int  # of its position
    unread: int  # rows of the outbox after that, up to one more than `COUNTED`
    oldest_unread_s: float | None
    unattempted: int  # deliveries without a fact, up to the same
    oldest_unattempted_s: float | None
    webhooks_waiting: int  # that found no room in memory, at the last checkpoint


class Scheduled(msgspec.Struct, frozen=True):
    """Retries, and whatever else is to be tried again at a time; up to one more than `COUNTED` together."""

    due: int
    later: int
    first_at: dt.datetime | None
    oldest_event_s: float | None


class Status(msgspec.Struct, frozen=True):
    """Everything that `dispatcher status` tells."""

    at: dt.datetime  # by the database's clock
    server_version: str
    leader: Leader | None
    shards: list[Leader | None]  # in the order of their numbers; the first one's is the leader
    lanes: list[LaneStatus]
    scheduled: Scheduled
    first_month: str  # of the partitions, as 2026-11
    last_month: str
    key_check: bytes | None  # of the encryption key that the secrets were sealed with
    restored: str | None  # why the positions mean nothing on this server
    branch: Branch | None  # of the server's history, until it is acknowledged or a week old


async def read_status(link: Link) -> Status:
    """Look at everything once, in one snapshot."""
    async with transaction(link, snapshot=True) as snapshot:
        server = await snapshot.fetchrow("status_server")
        if server is None:
            raise OperatorError("the database has no installation row: run `dispatcher migrate`")
        now: dt.datetime = server["clock"]
        held = await read_holders(snapshot)
        lanes: list[LaneStatus] = []
        restored = None
        try:
            lanes = [await _lane(snapshot, len(held), lane, now) for lane in TAILED]
        except OperatorError as error:
            restored = str(error)
        return Status(
            at=now,
            server_version=server["version"],
            leader=held[0],
            shards=held,
            lanes=lanes,
            scheduled=await _scheduled(snapshot, len(held), now),
            first_month=server["first"].replace("m", "-"),
            last_month=server["last"].replace("m", "-"),
            key_check=server["key_check"],
            restored=restored,
            branch=await unacknowledged(snapshot),
        )


async def read_holders(statements: Statements) -> list[Leader | None]:
    """Give for each shard who holds it or was the last to; None where nobody ever did."""
    return [None if one is None else _leader(one) for one in await holders(statements)]


def _leader(holder: Holder) -> Leader:
    # As `process_identity` wrote it: host, boot, pid namespace, pid, start time.
    host, *rest = holder.owner.rsplit(" ", 4)
    return Leader(
        shard=holder.shard,
        run=holder.run,
        host=host,
        process=int(rest[2]) if len(rest) == 4 and rest[2].isdigit() else None,
        version=holder.version,
        since=holder.since,
        lease_left_s=holder.lease_left_s,
        dead=holder.dead,
    )


async def _lane(snapshot: Transaction, shards: int, lane: Lane, now: dt.datetime) -> LaneStatus:
    start = await OutboxReader(snapshot, lane).newest_position()
    position = start.position
    xid, outbox_id = position.range_start()
    late = sorted(position.done.open_xids | position.target.open_xids)
    late_xids = [str(one) for one in late]
    unread = await snapshot.fetchrow(
        "status_unread", lane, str(xid), outbox_id, late_xids, start.day, start.floor, COUNTED + 1
    )
    batch, waiting = await _checkpoint(snapshot, shards, lane)
    webhook_ids, after = [one for one, _ in waiting], [one for _, one in waiting]
    unattempted = await snapshot.fetchrow("status_unattempted", lane, batch, webhook_ids, after, COUNTED + 1)
    assert unread is not None  # noqa: S101 - an aggregate has one row
    assert unattempted is not None  # noqa: S101 - the same
    return LaneStatus(
        lane=lane.name.lower(),
        batch=start.batch,
        unread=min(unread["rows"], COUNTED + 1),
        oldest_unread_s=_age_s(unread["oldest"], now),
        unattempted=min(unattempted["deliveries"], COUNTED + 1),
        oldest_unattempted_s=_age_s(unattempted["oldest"], now),
        webhooks_waiting=len(waiting),
    )


async def _checkpoint(
    snapshot: Transaction, shards: int, lane: Lane
) -> tuple[int, list[tuple[WebhookId, OutboxId]]]:
    """Give the batch up to which all shards attempted everything, but for what webhooks wait for."""
    all_ = [await Backlog(snapshot, Shard(number, shards)).checkpoint(lane) for number in range(shards)]
    return min(batch for batch, _ in all_), [one for _, waiting in all_ for one in waiting]


async def _scheduled(snapshot: Transaction, shards: int, now: dt.datetime) -> Scheduled:
    low_us, _ = await _checkpoint(snapshot, shards, Lane.RETRY)
    low = _EPOCH + dt.timedelta(microseconds=low_us)
    row = await snapshot.fetchrow("status_scheduled", low, COUNTED + 1)
    assert row is not None  # noqa: S101 - an aggregate has one row
    return Scheduled(row["due"], row["later"], row["first"], _age_s(row["oldest"], now))


def _age_s(at: dt.datetime | None, now: dt.datetime) -> float | None:
    return None if at is None else round(max(0.0, (now - at).total_seconds()), 3)
