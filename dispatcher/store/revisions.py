"""Reads what was told of events before, so that a revision is matched against the event as it was and is."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from dispatcher.core.body import build_body
from dispatcher.core.ids import OutboxId
from dispatcher.core.parameters import Parameters, parse_data, read_parameters
from dispatcher.core.revisions import DETECTED, UPDATED, Telling, follows, states_of, with_parameters
from dispatcher.store.transaction import Statements

# Of an event that was told of more often, the first telling and this many of the latest are looked at.
_LATEST: Final = 200

Tellings = Mapping[str, Sequence[Telling]]  # by event id, in the order of outbox ids


async def tellings(statements: Statements, wanted: Iterable[tuple[str, OutboxId]]) -> Tellings:
    """Give what was told of events up to an outbox id each, with one query; tests are left out."""
    bounds: dict[str, OutboxId] = {}
    for event_id, outbox_id in wanted:
        bounds[event_id] = max(outbox_id, bounds.get(event_id, outbox_id))
    found: dict[str, list[Telling]] = {}
    if bounds:
        rows = await statements.fetch("tellings", list(bounds), list(bounds.values()), _LATEST)
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
    return states_of(Telling(outbox_id, event_type, data), earlier, declared)
