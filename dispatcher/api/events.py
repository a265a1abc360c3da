"""Events over HTTP: whom of the organization's webhooks one reached, and why not the others."""

from __future__ import annotations

import re
from typing import Final

from dispatcher.api.problems import Problem, not_found
from dispatcher.api.routing import Answer, Call, Route, pages
from dispatcher.api.shapes import EventRouting, ListQuery, RoutedWebhook
from dispatcher.core.ids import OutboxId
from dispatcher.store import audience

_OUTBOX_ID: Final = re.compile(r"[1-9][0-9]{0,18}", re.ASCII)
_LARGEST: Final = 2**63 - 1


async def routing(call: Call) -> Answer | Problem:
    """Say of a page of webhooks, the newest first, what an event was to each."""
    query: ListQuery | Problem = call.query.read()
    if isinstance(query, Problem):
        return query
    text = call.path["outbox_id"]
    if not _OUTBOX_ID.fullmatch(text) or int(text) > _LARGEST:
        return not_found("event")
    database, organization_id = call.context.database, call.key.organization_id
    event = await audience.event(database, organization_id, OutboxId(int(text)))
    if event is None:
        return not_found("event")
    found, total = await audience.listeners(
        database, organization_id, event, offset=(query.page - 1) * query.limit, limit=query.limit
    )
    ids = call.context.ids
    shown = EventRouting(
        outbox_id=event.id,
        event=event.type,
        network_id=event.network_id,
        occurred_at=event.occurred_at,
        recorded_at=event.recorded_at,
        test=event.test,
        scheduled=event.scheduled,
        webhooks=[
            RoutedWebhook(
                one.webhook_id, one.reason, None if one.key is None else ids.encode(one.key), one.state
            )
            for one in found
        ],
    )
    return Answer(data=shown, pagination=pages(total, query.page, query.limit))


ROUTES: Final = (
    Route(
        "getEventRouting",
        "GET",
        "/v1/events/{outbox_id}/routing",
        "read:webhooks",
        routing,
        "See whom an event reached, and why not the others",
        200,
        EventRouting,
        query=ListQuery,
    ),
)
