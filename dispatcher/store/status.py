"""Says at a glance where everything stands: who leads, how far each lane is, what is pending.

Everything is counted up to a bound, along indexes, so that asking costs the same on a quiet day and in the
midst of a backlog.
"""

from __future__ import annotations

import datetime as dt
from typing import Final

import msgspec

from dispatcher.core.errors import OperatorError
from dispatcher.core.lanes import TAILED, Lane
from dispatcher.store.backlog import Backlog
from dispatcher.store.connection import Link
from dispatcher.store.lease import is_dead
from dispatcher.store.outbox import OutboxReader
from dispatcher.store.transaction import Transaction, transaction

COUNTED: Final = 10_000  # one more stands for "more than that"
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class Leader(msgspec.Struct, frozen=True):
    """The run that leads or was the last to."""

    run: int
    host: str
    process: int | None
    version: str
    since: dt.datetime
    lease_left_s: float  # 0 when it is over, or was given back
    dead: bool  # it ran on this machine, and no such process lives


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
    lanes: list[LaneStatus]
    scheduled: Scheduled
    first_month: str  # of the partitions, as 2026-11
    last_month: str
    key_check: bytes | None  # of the encryption key that the secrets were sealed with
    restored: str | None  # why the positions mean nothing on this server


async def read_status(link: Link) -> Status:
    """Look at everything once, in one snapshot."""
    async with transaction(link, snapshot=True) as snapshot:
        server = await snapshot.fetchrow("status_server")
        if server is None:
            raise OperatorError("the database has no installation row: run `dispatcher migrate`")
        now: dt.datetime = server["clock"]
        lanes: list[LaneStatus] = []
        restored = None
        try:
            lanes = [await _lane(snapshot, lane, now) for lane in TAILED]
        except OperatorError as error:
            restored = str(error)
        return Status(
            at=now,
            server_version=server["version"],
            leader=await _leader(snapshot),
            lanes=lanes,
            scheduled=await _scheduled(snapshot, now),
            first_month=server["first"].replace("m", "-"),
            last_month=server["last"].replace("m", "-"),
            key_check=server["key_check"],
            restored=restored,
        )


async def _leader(snapshot: Transaction) -> Leader | None:
    row = await snapshot.fetchrow("status_leader")
    if row is None:
        return None
    # As `process_identity` wrote it: host, boot, pid namespace, pid, start time.
    host, *rest = row["owner"].rsplit(" ", 4)
    return Leader(
        run=row["run_id"],
        host=host,
        process=int(rest[2]) if len(rest) == 4 and rest[2].isdigit() else None,
        version=row["version"],
        since=row["started_at"],
        lease_left_s=round(max(0.0, row["left_s"]), 1),
        dead=is_dead(row["owner"]),
    )


async def _lane(snapshot: Transaction, lane: Lane, now: dt.datetime) -> LaneStatus:
    start = await OutboxReader(snapshot, lane).newest_position()
    position = start.position
    xid, outbox_id = position.range_start()
    late = sorted(position.done.open_xids | position.target.open_xids)
    late_xids = [str(one) for one in late]
    unread = await snapshot.fetchrow(
        "status_unread", lane, str(xid), outbox_id, late_xids, start.day, start.floor, COUNTED + 1
    )
    batch, waiting = await Backlog(snapshot).checkpoint(lane)
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


async def _scheduled(snapshot: Transaction, now: dt.datetime) -> Scheduled:
    low_us, _ = await Backlog(snapshot).checkpoint(Lane.RETRY)
    low = _EPOCH + dt.timedelta(microseconds=low_us)
    row = await snapshot.fetchrow("status_scheduled", low, COUNTED + 1)
    assert row is not None  # noqa: S101 - an aggregate has one row
    return Scheduled(row["due"], row["later"], row["first"], _age_s(row["oldest"], now))


def _age_s(at: dt.datetime | None, now: dt.datetime) -> float | None:
    return None if at is None else round(max(0.0, (now - at).total_seconds()), 3)
