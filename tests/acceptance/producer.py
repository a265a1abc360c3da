"""Upstream: producers that insert real events by SQL and keep their own ledger of what was committed."""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import asyncpg

from dispatcher.core.timestamps import parse_rfc3339

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable, Iterator, Sequence

DATA: Final = Path(__file__).parents[1] / "data"
INSERT: Final = (
    "insert into outbox (type, data, occurred_at, dedup_key) values ($1, $2, $3, $4) on conflict do nothing"
)
_LONGEST_HOLD_S: Final = 0.3
_AWAY: Final = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)


@dataclass(frozen=True)
class Event:
    """One event of the replay; `serial` also stands in its data."""

    serial: int
    type: str
    data: str
    occurred_at: dt.datetime


def real_events(*names: str) -> list[Event]:
    """Give every event of these files of `tests/data`, all without names, in their order."""
    events: list[Event] = []
    for name in names or ("comcat_updates.jsonl", "usgs_week_2018.jsonl"):
        for line in (DATA / name).read_text().splitlines():
            event = json.loads(line)
            data = json.dumps({**event["data"], "serial": len(events)})
            events.append(Event(len(events), event["type"], data, parse_rfc3339(event["timestamp"])))
    return events


def endlessly(events: Sequence[Event], apart: int) -> Iterator[Event]:
    """Give the events again and again, each time with serials that are so much greater."""
    for more in itertools.count(0, apart):
        for event in events:
            data = json.dumps({**json.loads(event.data), "serial": event.serial + more})
            yield replace(event, serial=event.serial + more, data=data)


class Ledger:
    """What the producers know to be committed, by serial."""

    def __init__(self) -> None:
        self.committed: dict[int, Event] = {}

    def serials(self, *types: str) -> set[int]:
        """Give the serials of all committed events, or of those of some types."""
        return {one.serial for one in self.committed.values() if not types or one.type in types}


async def produce(
    url: str,
    events: Iterable[Event],
    ledger: Ledger,
    rng: random.Random,
    *,
    pause_s: float = 0,
    stop: asyncio.Event | None = None,
) -> None:
    """Insert events as a careful producer does: a few at a time, and again until they are committed.

    Some transactions are rolled back first, which leaves holes in the ids, and some stay open for a while,
    so that later ones commit before them; `dedup_key` makes repeating one harmless whose commit was not
    acknowledged. Goes on through any outage of the database, until all events are committed or, between two
    transactions, `stop` is set.
    """
    connection: asyncpg.Connection | None = None
    try:
        for batch in _batches(events, rng):
            if stop is not None and stop.is_set():
                return
            roll_back = rng.random() < 0.1
            hold_s = rng.random() * _LONGEST_HOLD_S if rng.random() < 0.05 else 0
            while True:
                try:
                    if connection is None or connection.is_closed():
                        connection = await asyncpg.connect(url, ssl=False, timeout=5, command_timeout=60)
                    if roll_back:
                        await _insert(connection, batch, commit=False)
                        roll_back = False
                    await _insert(connection, batch, commit=True, hold_s=hold_s)
                except _AWAY:
                    if connection is not None:
                        connection.terminate()
                    connection = None
                    await asyncio.sleep(0.05)
                else:
                    break
            ledger.committed.update({event.serial: event for event in batch})
            await asyncio.sleep(rng.random() * 2 * pause_s)
    finally:
        if connection is not None:
            connection.terminate()


async def _insert(
    connection: asyncpg.Connection, batch: Sequence[Event], *, commit: bool, hold_s: float = 0
) -> None:
    transaction = connection.transaction()
    await transaction.start()
    for event in batch:
        await connection.execute(INSERT, event.type, event.data, event.occurred_at, f"serial {event.serial}")
    await asyncio.sleep(hold_s)
    await (transaction.commit() if commit else transaction.rollback())


def _batches(events: Iterable[Event], rng: random.Random) -> Iterator[Sequence[Event]]:
    left = iter(events)
    while batch := tuple(itertools.islice(left, rng.choice((1, 1, 1, 2, 5, 20)))):
        yield batch
