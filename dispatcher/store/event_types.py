"""The registered event types: the guide's, the dispatcher's own, and an operator's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import asyncpg
import msgspec

from dispatcher.core.errors import OperatorError
from dispatcher.store.accounts import write_audit
from dispatcher.store.queries import QUERIES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dispatcher.store.connection import Database


class EventType(msgspec.Struct, frozen=True):
    """A kind of event; `fields` names what `data` must hold (schema.sql, `event_type`)."""

    name: str
    description: str
    lane: int  # 0 alert, 1 event, 2 routine
    fields: Mapping[str, str]
    sample: msgspec.Raw  # an example of `data`, as it was written
    built_in: bool


async def names(database: Database) -> list[str]:
    """Give the names of all registered types."""
    return [row["name"] for row in await database.fetch("event_type_names")]


async def page(database: Database, *, offset: int, limit: int) -> tuple[list[EventType], int]:
    """Give a page of the types in the order of their names, and how many there are."""
    rows = await database.fetch("event_types", offset, limit)
    total = await database.fetchrow("event_type_count")
    return [_event_type(row) for row in rows], total[0] if total else 0


async def all_of_them(database: Database) -> list[EventType]:
    """Give every type in the order of their names: they are few, since a person registers each."""
    return [_event_type(row) for row in await database.fetch("event_types", 0, None)]


async def sample(database: Database, name: str) -> str | None:
    """Give the text of a type's sample `data`, None where the type is not registered."""
    row = await database.fetchrow("event_type_sample", name)
    return row["sample"] if row else None


async def add(
    database: Database,
    name: str,
    *,
    description: str,
    fields: Mapping[str, str],
    sample: Mapping[str, Any] | None,
    lane: int = 1,
    actor: str | None = None,
) -> bool:
    """Register a type; false where the name is taken. Raises `OperatorError` for what does not fit.

    Without `sample` the database makes one of the fields.
    """
    try:
        async with database.acquire() as connection, connection.transaction():
            added = await connection.fetchval(
                QUERIES["add_event_type"],
                name,
                description,
                lane,
                msgspec.json.encode(fields).decode(),
                None if sample is None else msgspec.json.encode(sample).decode(),
            )
            if added is None:
                return False
            await write_audit(connection, actor, "event_type.added", name, {"lane": lane})
    except asyncpg.CheckViolationError as error:
        raise OperatorError(_words(error)) from error
    return True


def _words(error: asyncpg.CheckViolationError) -> str:
    """Say what a check of the table wants; the trigger's own words are good as they are."""
    match error.constraint_name:
        case "event_type_name_check":
            return "name: expected lower-case words joined by points, such as station.moved"
        case "event_type_reserved":
            return "name: webhook.… is the dispatcher's own; choose another first word"
        case "event_type_description_check":
            return "description: expected a text that is not empty"
        case "event_type_lane_check":
            return "lane: expected 0 (alert), 1 (event) or 2 (routine)"
        case _:
            return str(error)


def _event_type(row: asyncpg.Record) -> EventType:
    return EventType(
        name=row["name"],
        description=row["description"],
        lane=row["lane"],
        fields=msgspec.json.decode(row["fields"], type=dict[str, str]),
        sample=msgspec.Raw(row["sample"]),
        built_in=row["built_in"],
    )
