"""The registered event types over HTTP, each with a JSON Schema of its `data`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from dispatcher.api.problems import Problem
from dispatcher.api.routing import Answer, Call, Route, pages
from dispatcher.api.shapes import EventType, EventTypesQuery
from dispatcher.store import event_types

if TYPE_CHECKING:
    from collections.abc import Mapping

_PRIORITY: Final = ("alert", "event", "routine")  # by lane
_KINDS: Final[Mapping[str, Mapping[str, Any]]] = {
    "string": {"type": "string", "minLength": 1},
    "number": {"type": "number"},
    "integer": {"type": "integer"},
    "boolean": {"type": "boolean"},
    "object": {"type": "object"},
    "array": {"type": "array"},
    "timestamp": {"type": "string", "format": "date-time"},
    "latitude": {"type": "number", "minimum": -90, "maximum": 90},
    "longitude": {"type": "number", "minimum": -180, "maximum": 180},
}


async def list_all(call: Call) -> Answer | Problem:
    """Give the event types in the order of their names."""
    query: EventTypesQuery | Problem = call.query.read()
    if isinstance(query, Problem):
        return query
    rows, total = await event_types.page(
        call.context.database, offset=(query.page - 1) * query.limit, limit=query.limit
    )
    return Answer(data=[_shape(row) for row in rows], pagination=pages(total, query.page, query.limit))


def data_schema(fields: Mapping[str, str]) -> dict[str, Any]:
    """Give the JSON Schema (2020-12) of what `event_type.fields` asks of `data`; more may be there."""
    properties = {name: _property(kind) for name, kind in fields.items()}
    required = [name for name, kind in fields.items() if not kind.endswith("?")]
    return {"type": "object", "properties": properties, "required": required}


def _property(kind: str) -> dict[str, Any]:
    base = kind.removesuffix("?").removesuffix("|null")
    found = dict(_KINDS[base])
    if kind.endswith("?"):
        found.pop("minLength", None)  # what may be absent may be empty
    if base != kind:
        found["type"] = [found["type"], "null"]
    return found


def _shape(row: event_types.EventType) -> EventType:
    return EventType(
        name=row.name,
        description=row.description,
        priority=_PRIORITY[row.lane],
        built_in=row.built_in,
        schema=data_schema(row.fields),
        sample=row.sample,
    )


ROUTES: Final = (
    Route(
        "listEventTypes",
        "GET",
        "/v1/event-types",
        "read:webhooks",
        list_all,
        "List the event types",
        200,
        list[EventType],
        query=EventTypesQuery,
    ),
)
