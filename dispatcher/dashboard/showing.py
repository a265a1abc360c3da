"""The page of one webhook: how it is, why it fails, what it answered lately, what it is set to."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Final

from dispatcher.core.webhook import shown_headers
from dispatcher.dashboard import acting, clipping, finding, words
from dispatcher.dashboard.charts import Charts
from dispatcher.dashboard.delivering import rows
from dispatcher.dashboard.maps import Map
from dispatcher.store import attempts, history, recoveries

if TYPE_CHECKING:
    from aiohttp import web

    from dispatcher.dashboard.visit import Visit

_SPANS: Final = {"day": dt.timedelta(days=1), "week": dt.timedelta(days=7)}
_PARTS: Final = 28  # bars of a chart
_RECENT: Final = 8
_ANSWER_CHARACTERS: Final = 800


async def show(visit: Visit) -> web.Response:
    """Show a webhook."""
    webhook = await finding.webhook(visit)
    if webhook is None:
        return visit.not_found()
    database = visit.context.database
    span = visit.query("span") if visit.query("span") in _SPANS else "day"
    statistics = await attempts.statistics(
        database, webhook.id, since=dt.datetime.now(dt.UTC) - _SPANS[span], parts=_PARTS
    )
    found = await history.search(database, webhook.id, history.Search(limit=_RECENT, total=False))
    jobs, _ = await recoveries.page(database, webhook.id, offset=0, limit=1)
    last = None
    if webhook.health.failing_since is not None:
        last = await attempts.last_failure(database, webhook.id)
    return visit.page(
        "webhook.html",
        webhook=webhook,
        state=words.state_of(webhook),
        headers=shown_headers(webhook.headers),
        charts=Charts(statistics, visit.speech),
        span=span,
        spans=_SPANS,
        map=Map(webhook.filter, await attempts.epicentres(database, webhook.id)),
        rows=rows(found.rows, visit.context.ids),
        last=last,
        last_id=None if last is None else visit.context.ids.encode(last.key),
        last_answer=None if last is None else clipping.clip(last.answer, _ANSWER_CHARACTERS),
        running=jobs[0] if jobs and jobs[0].place.phase in {"closed", "missing"} else None,
        **await acting.test_choices(visit),
    )
