"""Deliveries: the history of a webhook, and one delivery with everything that happened to it."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Final, get_args
from urllib.parse import urlencode

from aiohttp import web

from dispatcher.core.cursor import read_cursor, write_cursor
from dispatcher.core.timestamps import parse_rfc3339
from dispatcher.dashboard import clipping, finding
from dispatcher.dashboard.visit import BASE
from dispatcher.store import event_types, history, redelivery

if TYPE_CHECKING:
    from dispatcher.core.ids import DeliveryIds, OutboxId
    from dispatcher.dashboard.visit import Visit
    from dispatcher.store.connection import Database

STATES: Final = get_args(history.State)
_PER_PAGE: Final = 25
_FILTERS: Final = ("status", "event", "since", "until")


async def history_page(visit: Visit) -> web.Response:
    """Show a page of the deliveries that are looked for, the newest first."""
    webhook = await finding.webhook(visit)
    if webhook is None:
        return visit.not_found()
    database = visit.context.database
    names = await event_types.names(database)
    given = {name: visit.query(name)[:100] for name in _FILTERS}
    wanted = history.Search(
        state=next((state for state in STATES if state == given["status"]), None),
        type=given["event"] if given["event"] in names else None,
        since=moment(given["since"]),
        until=moment(given["until"]),
        before=_position(visit.query("cursor")),
        limit=_PER_PAGE,
        total=not any(given.values()),  # counting what matches may take longer than finding it
    )
    found = await history.search(database, webhook.id, wanted)
    kept = {name: value for name, value in given.items() if value}
    understood = {"status": wanted.state, "event": wanted.type, "since": wanted.since, "until": wanted.until}
    unread = [name for name in kept if understood[name] is None]
    older = None
    if found.next_before is not None:
        older = "?" + urlencode({**kept, "cursor": write_cursor(found.next_before)})
    return visit.page(
        "history.html",
        webhook=webhook,
        rows=rows(found.rows, visit.context.ids),
        total=found.total,
        counted=history.COUNTED,
        given={**given, "since": typed(wanted.since), "until": typed(wanted.until)},
        unread=unread,
        narrowed=bool(kept),
        told=wanted.total,
        first=wanted.before is None,
        newest="?" + urlencode(kept),
        older=older,
        names=names,
        states=STATES,
    )


async def show(visit: Visit) -> web.Response:
    """Show one delivery."""
    named = await finding.delivery(visit)
    if named is None:
        return visit.not_found()
    webhook, full = named
    return visit.page(
        "delivery.html",
        webhook=webhook,
        delivery=full.delivery,
        delivery_id=visit.context.ids.encode(full.delivery.key),
        payload=clipping.json_text(full.body, clipping.PAYLOAD_CHARACTERS),
        payload_bytes=len(full.body),
        facts=clipping.shown(full.facts),
        more_facts=max(0, len(full.facts) - clipping.MOST_FACTS),
        may_redeliver=webhook.active or full.delivery.test,
    )


async def payload(visit: Visit) -> web.Response:
    """Give the body that is sent, byte by byte, as a file."""
    named = await finding.delivery(visit)
    if named is None:
        return visit.not_found()
    name = visit.request.match_info["delivery_id"]
    return web.Response(
        body=named[1].body,
        content_type="application/json",
        headers={"Content-Disposition": f'attachment; filename="{name}.json"'},
    )


async def redeliver(visit: Visit) -> web.Response:
    """Ask for one more attempt, now."""
    named = await finding.delivery(visit)
    if named is None:
        return visit.not_found()
    webhook, full = named
    if not webhook.active and not full.delivery.test:
        return visit.conflict("inactive")

    async def act(database: Database) -> str:
        await redelivery.redeliver(database, full.delivery.key, actor=visit.key.public_id)
        return ""

    if await finding.once(visit, act) is None:
        return visit.conflict("twice")
    return visit.go(f"{BASE}/{webhook.public_id}/deliveries/{visit.request.match_info['delivery_id']}")


def rows(found: list[history.Delivery], ids: DeliveryIds) -> list[tuple[str, history.Delivery]]:
    """Give deliveries with their public ids."""
    return [(ids.encode(one.key), one) for one in found]


def moment(text: str) -> dt.datetime | None:
    """Read a time: RFC 3339, or what a browser's field gives (`2026-01-15T14:32`), which is in UTC."""
    if not text:
        return None
    try:
        return parse_rfc3339(text)
    except ValueError:
        pass
    try:
        at = dt.datetime.fromisoformat(text)
    except ValueError:
        return None
    return at.replace(tzinfo=dt.UTC) if at.tzinfo is None else None


def typed(at: dt.datetime | None) -> str:
    """Write a time as a browser's field holds it, in UTC; to the second."""
    if at is None:
        return ""
    return at.astimezone(dt.UTC).isoformat(timespec="seconds" if at.second else "minutes")[:-6]


def _position(cursor: str) -> OutboxId | None:
    try:
        return read_cursor(cursor) if cursor else None
    except ValueError:
        return None
