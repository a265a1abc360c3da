"""Recovers a window of a webhook's past: counted first, then asked for, then followed."""

from __future__ import annotations

import datetime as dt
import secrets
from typing import TYPE_CHECKING, Any, Final

from dispatcher.dashboard import finding
from dispatcher.dashboard.delivering import moment, typed
from dispatcher.dashboard.sentences import translated
from dispatcher.dashboard.visit import BASE
from dispatcher.store import recoveries
from dispatcher.store.recovery_count import LONGEST_WINDOW, count

if TYPE_CHECKING:
    from aiohttp import web

    from dispatcher.dashboard.visit import Visit
    from dispatcher.store.connection import Database
    from dispatcher.store.webhooks import Webhook

_SHOWN: Final = 10
_USUAL: Final = dt.timedelta(days=1)
_MINUTE: Final = dt.timedelta(minutes=1)  # finer is not typed


async def show(visit: Visit) -> web.Response:
    """Show the form, and the recoveries that there were."""
    webhook = await finding.webhook(visit)
    if webhook is None:
        return visit.not_found()
    now = dt.datetime.now(dt.UTC)
    since = max(webhook.health.failing_since or now - _USUAL, now - LONGEST_WINDOW + _MINUTE)
    given = {"since": typed(since.replace(second=0)), "until": ""}
    return await _page(visit, webhook, given=given, include=["failed", "cancelled"])


async def recover(visit: Visit) -> web.Response:
    """Count what a window holds; and let it be sent again where that was asked for."""
    webhook = await finding.webhook(visit)
    if webhook is None:
        return visit.not_found()
    given = {"since": visit.field("since"), "until": visit.field("until")}
    include = [one for one in recoveries.INCLUDES if one in visit.form.get("include", ())]
    window, errors = _read(webhook, given, include)
    if window is None:
        translations = {name: [translated(visit.speech, problem)] for name, problem in errors.items()}
        return await _page(visit, webhook, 422, given=given, include=include, errors=translations)
    database = visit.context.database
    walk = await recoveries.Walk.of(database, window)
    counted, counted_all = await count(walk, window)
    if visit.field("action") != "recover":
        return await _page(
            visit, webhook, given=given, include=include, counted=counted, counted_all=counted_all
        )
    if walk.why_inactive is not None:
        return visit.conflict("inactive")
    asked = recoveries.Asked(secrets.token_bytes(16), visit.key.public_id, counted, counted_all)

    async def act(database: Database) -> str:
        async with database.acquire() as connection:
            made = await recoveries.insert(connection, window, asked)
        return made if isinstance(made, str) else made.public_id

    if await finding.once(visit, act) is None:
        return visit.conflict("twice")
    return visit.go(f"{BASE}/{webhook.public_id}/recover#recoveries")


def _read(
    webhook: Webhook, given: dict[str, str], include: list[recoveries.Include]
) -> tuple[recoveries.Window | None, dict[str, str]]:
    """Judge a window as the API does; `until` is now at the latest."""
    now = dt.datetime.now(dt.UTC)
    since, until = moment(given["since"]), moment(given["until"])
    errors = {}
    if since is None:
        errors["since"] = "is not a date and time" if given["since"] else "is required"
    if until is None and given["until"]:
        errors["until"] = "is not a date and time"
    if not include:
        errors["include"] = "choose at least one"
    if since is None or errors:
        return None, errors
    until = now if until is None else min(until, now)
    if since >= until:
        return None, {"since": "must be before the end, and in the past"}
    if until - since > LONGEST_WINDOW:
        return None, {"since": f"must be at most {LONGEST_WINDOW.days} days before the end"}
    return recoveries.Window(webhook.id, since, until, tuple(include)), {}


async def _page(visit: Visit, webhook: Webhook, status: int = 200, **values: Any) -> web.Response:
    rows, total = await recoveries.page(visit.context.database, webhook.id, offset=0, limit=_SHOWN)
    return visit.page(
        "recover.html",
        status,
        **{
            "webhook": webhook,
            "rows": rows,
            "total": total,
            "errors": {},
            "counted": None,
            "counted_all": True,
            "days": LONGEST_WINDOW.days,
            **values,
        },
    )
