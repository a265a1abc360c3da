"""Reads what was told of events before, so that a revision is matched against the event as it was and is."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import asyncpg

from dispatcher.core.body import build_body
from dispatcher.core.ids import OutboxId
from dispatcher.core.parameters import Parameters, parse_data, read_parameters
from dispatcher.core.revisions import (
    DETECTED,
    UPDATED,
    Telling,
    follows,
    shortened,
    states_of,
    with_parameters,
)
from dispatcher.store.transaction import Statements

# Of an event that was told of more often, the first telling and so many of the latest are looked at singly.
_LATEST: Final = 200

Tellings = Mapping[str, Sequence[Telling]]  # by event id, in the order of outbox ids


async def tellings(statements: Statements, wanted: Iterable[tuple[str, OutboxId]]) -> Tellings:
    """Give what was told of events up to an outbox id each; tests are left out.

    With one query, but where an event was told of very often.
    """
    bounds: dict[str, list[OutboxId]] = {}
    for event_id, outbox_id in wanted:
        bounds.setdefault(event_id, []).append(outbox_id)
    if not bounds:
        return {}
    found = await _latest(statements, {event_id: max(ids) for event_id, ids in bounds.items()})
    if long := {event_id: bounds[event_id] for event_id, told in found.items() if len(told) > _LATEST}:
        found.update(await _of_very_many(statements, long))
    return found


async def _latest(statements: Statements, until: Mapping[str, OutboxId]) -> dict[str, list[Telling]]:
    rows = await statements.fetch("tellings", list(until), list(until.values()), _LATEST)
    return _by_event(rows)


async def _of_very_many(
    statements: Statements, bounds: Mapping[str, Sequence[OutboxId]]
) -> dict[str, list[Telling]]:
    """Give the first telling, the latest up to the earliest id, and all up to the last.

    What lies between the first and the latest comes as one revision.
    """
    found = await _latest(statements, {event_id: min(ids) for event_id, ids in bounds.items()})
    if long := {event_id: told for event_id, told in found.items() if len(told) > _LATEST}:
        ends = [[told[place].outbox_id for told in long.values()] for place in (0, 1)]
        for row in await statements.fetch("skipped_tellings", list(long), *ends):
            data = parse_data(row["data_text"])
            found[row["event_id"]].insert(1, Telling(row["id"], UPDATED, data, row["revisions"]))
    spans = [[end(ids) for ids in bounds.values()] for end in (min, max)]
    later = _by_event(await statements.fetch("later_tellings", list(bounds), *spans))
    return {event_id: found.get(event_id, []) + later.get(event_id, []) for event_id in bounds}


def _by_event(rows: Iterable[asyncpg.Record]) -> dict[str, list[Telling]]:
    found: dict[str, list[Telling]] = {}
    for row in rows:
        told = Telling(row["id"], row["type"], parse_data(row["data_text"]))
        found.setdefault(row["event_id"], []).append(told)
    return found


def full_body(
    event_type: str,
    occurred_at: dt.datetime,
    data_text: str,
    told: Iterable[Telling],
    outbox_id: OutboxId,
) -> bytes:
    """Give a row's body with its event's parameters as they were after it, whatever `told` has of later.

    The same whenever it is made, as long as the outbox has the rows. Raises ValueError as `build_body` does.
    """
    known = [one for one in told if one.outbox_id <= outbox_id]
    return build_body(event_type, occurred_at, with_parameters(data_text, known)).content


def event_states(
    outbox_id: OutboxId,
    event_type: str,
    data_text: str,
    event_id: str | None,
    told: Tellings,
    fields: Mapping[str, frozenset[str]],
) -> tuple[Parameters, ...]:
    """Give the states of a row's event that filters are asked about; `fields` are those of each type."""
    declared = fields.get(event_type, frozenset())
    data = parse_data(data_text)
    if event_id is None or not follows(event_type, event_id):
        return (read_parameters(data, declared),)
    earlier = [one for one in told.get(event_id, ()) if one.outbox_id < outbox_id]
    if earlier or event_type == UPDATED:
        declared |= fields.get(DETECTED, frozenset())
    return states_of(Telling(outbox_id, event_type, data), shortened(earlier, _LATEST), declared)
