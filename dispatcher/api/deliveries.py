"""The history of a webhook over HTTP, and what adds to it: tests and redeliveries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from dispatcher.api.delivery_shapes import delivery_shape, detail_shape
from dispatcher.api.form import NoFields
from dispatcher.api.moments import read_moment
from dispatcher.api.problems import Detail, Problem, conflict, invalid_request, not_found
from dispatcher.api.routing import Answer, Call, Route, pages
from dispatcher.api.shapes import DeliveriesQuery, Delivery, DeliveryDetail, SendTest
from dispatcher.api.webhooks import find
from dispatcher.core.cursor import read_cursor, write_cursor
from dispatcher.core.webhook import closest
from dispatcher.store import drills, event_types, history, redelivery, webhooks

if TYPE_CHECKING:
    from collections.abc import Sequence


async def list_all(call: Call) -> Answer | Problem:
    """Give a page of a webhook's deliveries, the newest first; of a deleted one too."""
    webhook = await find(call, deleted=True)
    if isinstance(webhook, Problem):
        return webhook
    form = call.query
    since = form.replace("since", read_moment)
    until = form.replace("until", read_moment)
    before = form.replace("cursor", read_cursor)
    if form.given("event"):
        known = await event_types.names(call.context.database)
        form.check("event", lambda name: _type_problems(name, known))
    if form.given("cursor") and form.given("page"):
        form.refuse("page", "cannot be combined with cursor")
    query: DeliveriesQuery | Problem = form.read()
    if isinstance(query, Problem):
        return query
    page = query.page or 1
    offset = (page - 1) * query.limit
    if offset >= history.COUNTED:
        too_far = f"reaches beyond {history.COUNTED} deliveries; walk with cursor instead"
        return invalid_request([Detail("page", too_far)])
    found = await history.search(
        call.context.database,
        webhook.id,
        history.Search(
            state=query.status,
            type=query.event,
            since=since,
            until=until,
            before=before,
            offset=offset,
            limit=query.limit,
        ),
    )
    pagination = msgspec.structs.replace(
        pages(found.total, page, query.limit),
        next_cursor=None if found.next_before is None else write_cursor(found.next_before),
    )
    ids = call.context.ids
    return Answer(
        data=[delivery_shape(row, ids, webhook.public_id) for row in found.rows], pagination=pagination
    )


async def show(call: Call) -> Answer | Problem:
    """Give one delivery with its payload and everything that happened to it; of a deleted webhook too."""
    named = await _find_delivery(call, deleted=True)
    if isinstance(named, Problem):
        return named
    webhook, found = named
    return Answer(data=detail_shape(found, call.context.ids, webhook.public_id))


async def send_test(call: Call) -> Answer | Problem:
    """Send a sample to this webhook alone: one attempt, marked as a test, whether it is active or not."""
    webhook = await find(call)
    if isinstance(webhook, Problem):
        return webhook
    if call.body.given("event"):
        known = await event_types.names(call.context.database)
        call.body.check("event", lambda name: _type_problems(name, known))
    wanted: SendTest | Problem = call.body.read()
    if isinstance(wanted, Problem):
        return wanted
    sent = await drills.send(call.context.database, webhook, wanted.event, actor=call.key.public_id)
    if sent is None:
        return not_found("event type")
    delivery = history.Delivery(
        key=sent.key,
        type=wanted.event,
        occurred_at=sent.occurred_at,
        recorded_at=sent.recorded_at,
        test=True,
    )
    shown = delivery_shape(delivery, call.context.ids, webhook.public_id)
    return Answer(202, shown, headers={"Location": f"/v1/webhooks/{webhook.public_id}/deliveries/{shown.id}"})


async def redeliver(call: Call) -> Answer | Problem:
    """Ask for one more attempt of a delivery, now."""
    found = await _find_delivery(call)
    if isinstance(found, Problem):
        return found
    webhook, before = found
    if not webhook.active and not before.delivery.test:
        return conflict("The webhook is not active: nothing but tests is sent to it. Activate it first.")
    database, key = call.context.database, before.delivery.key
    await redelivery.redeliver(database, key, actor=call.key.public_id)
    after = await history.get(database, key)
    if after is None:
        return not_found("delivery")  # retention dropped its month at this moment
    shown = delivery_shape(after.delivery, call.context.ids, webhook.public_id)
    return Answer(202, shown, headers={"Location": f"/v1/webhooks/{webhook.public_id}/deliveries/{shown.id}"})


async def _find_delivery(
    call: Call, *, deleted: bool = False
) -> tuple[webhooks.Webhook, history.FullDelivery] | Problem:
    webhook = await find(call, deleted=deleted)
    if isinstance(webhook, Problem):
        return webhook
    key = call.context.ids.decode(call.path["delivery_id"])
    if key is None or key.webhook_id != webhook.id:
        return not_found("delivery")
    found = await history.get(call.context.database, key)
    return not_found("delivery") if found is None else (webhook, found)


def _type_problems(name: str, known: Sequence[str]) -> list[str]:
    if name in known:
        return []
    return [f'"{name[:100]}" is not a known event type{closest(name, known)}']


ROUTES: Final = (
    Route(
        "listDeliveries",
        "GET",
        "/v1/webhooks/{webhook_id}/deliveries",
        "read:webhooks",
        list_all,
        "List a webhook's deliveries",
        200,
        list[Delivery],
        query=DeliveriesQuery,
    ),
    Route(
        "getDelivery",
        "GET",
        "/v1/webhooks/{webhook_id}/deliveries/{delivery_id}",
        "read:webhooks",
        show,
        "Get a delivery",
        200,
        DeliveryDetail,
    ),
    Route(
        "sendTest",
        "POST",
        "/v1/webhooks/{webhook_id}/test",
        "write:webhooks",
        send_test,
        "Send a test",
        202,
        Delivery,
        body=SendTest,
    ),
    Route(
        "redeliver",
        "POST",
        "/v1/webhooks/{webhook_id}/deliveries/{delivery_id}/redeliver",
        "write:webhooks",
        redeliver,
        "Deliver again",
        202,
        Delivery,
        body=NoFields,
        conflict="the webhook is not active",
    ),
)
