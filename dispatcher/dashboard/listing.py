"""The list: every webhook of the organization, its health at a glance."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from dispatcher.dashboard import words
from dispatcher.store import attempts, webhooks

if TYPE_CHECKING:
    from aiohttp import web

    from dispatcher.dashboard.visit import Visit

_PER_PAGE: Final = 20
_LAST_PAGE: Final = 1_000_000
_NUMBER: Final = re.compile("[0-9]{1,9}")
_LONGEST_SEARCH: Final = 200
_ACTIVE: Final = {"active": True, "paused": False}


async def show(visit: Visit) -> web.Response:
    """Show a page of the list, or what a webhook is for where there is none yet."""
    context = visit.context
    number = visit.query("page")
    page = min(max(int(number), 1), _LAST_PAGE) if _NUMBER.fullmatch(number) else 1
    search, state = visit.query("q")[:_LONGEST_SEARCH], visit.query("state")
    rows, total = await webhooks.page(
        context.database,
        context.vault,
        visit.key.organization_id,
        offset=(page - 1) * _PER_PAGE,
        limit=_PER_PAGE,
        containing=search or None,
        active=_ACTIVE.get(state),
    )
    recent = await attempts.recent(context.database, [row.id for row in rows])
    return visit.page(
        "list.html",
        rows=[(row, words.state_of(row), recent.get(row.id, ())) for row in rows],
        total=total,
        page=page,
        pages=-(-total // _PER_PAGE),
        search=search,
        state=state if state in _ACTIVE else "",
        narrowed=bool(search) or state in _ACTIVE,
    )
