"""Recoveries over HTTP: a part of a webhook's past is counted, sent again, and followed."""

from __future__ import annotations

import datetime as dt
import secrets
from typing import TYPE_CHECKING, Final

from dispatcher.api.moments import read_moment
from dispatcher.api.problems import Detail, Problem, conflict, invalid_request, not_found
from dispatcher.api.routing import Answer, Call, Route, pages
from dispatcher.api.shapes import ListQuery, Recover, Recovery, RecoveryCounts
from dispatcher.api.webhooks import find
from dispatcher.store import recoveries
from dispatcher.store.recovery_count import LONGEST_WINDOW, count

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dispatcher.api.vocabulary import RecoveryStatus
    from dispatcher.store.recoveries import Asked, Counts, Phase, Window
    from dispatcher.store.webhooks import Webhook

_STATUS: Final[Mapping[Phase, RecoveryStatus]] = {
    "closed": "running",
    "missing": "running",
    "completed": "completed",
    "stopped": "stopped",
}


async def recover(call: Call) -> Answer | Problem:
    """Count what a window holds, and let it be sent again unless only the count was wanted."""
    webhook = await find(call)
    if isinstance(webhook, Problem):
        return webhook
    asked_for = _read(call, webhook)
    if isinstance(asked_for, Problem):
        return asked_for
    window, wanted = asked_for
    database = call.context.database
    walk = await recoveries.Walk.of(database, window)
    if walk.why_inactive is not None and not wanted.dry_run:
        return conflict("The webhook is not active: nothing but tests is sent to it. Activate it first.")
    counted, counted_all = await count(walk, window)
    asked = recoveries.Asked(secrets.token_bytes(16), call.key.public_id, counted, counted_all)
    if wanted.dry_run:
        return Answer(202, _only_counted(webhook, window, asked))
    async with database.acquire() as connection:
        made = await recoveries.insert(connection, window, asked)
    if isinstance(made, str):
        return conflict(f"The recovery {made} of this webhook has not ended yet.", retry_after_s=10)
    location = f"/v1/webhooks/{webhook.public_id}/recoveries/{made.public_id}"
    return Answer(202, _shape(made, webhook), headers={"Location": location})


async def list_all(call: Call) -> Answer | Problem:
    """Give a page of a webhook's recoveries, the newest first."""
    webhook = await find(call)
    if isinstance(webhook, Problem):
        return webhook
    query: ListQuery | Problem = call.query.read()
    if isinstance(query, Problem):
        return query
    rows, total = await recoveries.page(
        call.context.database, webhook.id, offset=(query.page - 1) * query.limit, limit=query.limit
    )
    return Answer(
        data=[_shape(row, webhook) for row in rows], pagination=pages(total, query.page, query.limit)
    )


async def show(call: Call) -> Answer | Problem:
    """Give a recovery and how far it has come."""
    webhook = await find(call)
    if isinstance(webhook, Problem):
        return webhook
    found = await recoveries.get(call.context.database, webhook.id, call.path["recovery_id"])
    return not_found("recovery") if found is None else Answer(data=_shape(found, webhook))


def _read(call: Call, webhook: Webhook) -> tuple[Window, Recover] | Problem:
    """Judge the request; `until` is now at the latest, since nothing is recorded later."""
    form, now = call.body, dt.datetime.now(dt.UTC)
    since: dt.datetime | None = form.replace("since", read_moment)
    given: dt.datetime | None = form.replace("until", read_moment)
    form.check("include", _repetitions)
    wanted: Recover | Problem = form.read()
    if isinstance(wanted, Problem):
        return wanted
    assert since is not None  # noqa: S101 - it is required, and was read
    until = now if given is None else min(given, now)
    if since >= until:
        return invalid_request([Detail("since", "must be before until, and in the past")])
    if until - since > LONGEST_WINDOW:
        return invalid_request([Detail("since", f"must be at most {LONGEST_WINDOW.days} days before until")])
    return recoveries.Window(webhook.id, since, until, tuple(wanted.include)), wanted


def _repetitions(include: list[str]) -> list[str]:
    return ["must not name anything twice"] if len(set(include)) < len(include) else []


def _shape(row: recoveries.Recovery, webhook: Webhook) -> Recovery:
    return Recovery(
        id=row.public_id,
        webhook_id=webhook.public_id,
        status=_STATUS[row.place.phase],
        since=row.window.since,
        until=row.window.until,
        include=row.window.include,
        count=row.counted.total,
        counts=_counts(row.counted),
        counted_all=row.counted_all,
        requested=_counts(row.requested),
        reason=row.reason,
        actor=row.actor,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def _only_counted(webhook: Webhook, window: Window, asked: Asked) -> Recovery:
    return Recovery(
        id=None,
        webhook_id=webhook.public_id,
        status="dry_run",
        since=window.since,
        until=window.until,
        include=window.include,
        count=asked.counted.total,
        counts=_counts(asked.counted),
        counted_all=asked.counted_all,
        requested=RecoveryCounts(0, 0, 0),
        reason=None,
        actor=asked.actor,
        created_at=dt.datetime.now(dt.UTC),
        updated_at=None,
    )


def _counts(counts: Counts) -> RecoveryCounts:
    return RecoveryCounts(counts.failed, counts.cancelled, counts.missing)


ROUTES: Final = (
    Route(
        "recover",
        "POST",
        "/v1/webhooks/{webhook_id}/recover",
        "write:webhooks",
        recover,
        "Recover a window",
        202,
        Recovery,
        body=Recover,
        conflict="the webhook is not active, or a recovery of it has not ended",
    ),
    Route(
        "listRecoveries",
        "GET",
        "/v1/webhooks/{webhook_id}/recoveries",
        "read:webhooks",
        list_all,
        "List recoveries",
        200,
        list[Recovery],
        query=ListQuery,
    ),
    Route(
        "getRecovery",
        "GET",
        "/v1/webhooks/{webhook_id}/recoveries/{recovery_id}",
        "read:webhooks",
        show,
        "Get a recovery",
        200,
        Recovery,
    ),
)
