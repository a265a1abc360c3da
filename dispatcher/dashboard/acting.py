"""What is done to a webhook with one button: pause, resume, test, rotate its secret, delete."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from dispatcher.core.webhook import secret_problems
from dispatcher.dashboard import finding
from dispatcher.dashboard.sentences import translated
from dispatcher.dashboard.visit import BASE
from dispatcher.store import drills, event_types, webhooks
from dispatcher.store.vault import new_secret

if TYPE_CHECKING:
    from aiohttp import web

    from dispatcher.dashboard.visit import Visit
    from dispatcher.store.connection import Database

GRACES_S: Final = (86_400, 3_600, 604_800, 0)  # the first one is offered first


async def pause(visit: Visit) -> web.Response:
    """Deactivate: what is pending is cancelled."""
    return await _set_active(visit, active=False)


async def resume(visit: Visit) -> web.Response:
    """Activate, and forget why it was deactivated."""
    return await _set_active(visit, active=True)


async def _set_active(visit: Visit, *, active: bool) -> web.Response:
    context, webhook_id = visit.context, visit.request.match_info["webhook_id"]
    changed = await webhooks.change(
        context.database,
        context.vault,
        visit.key.organization_id,
        webhook_id,
        {"active": active},
        secret=None,
        actor=visit.key.public_id,
    )
    return visit.not_found() if changed is None else visit.go(f"{BASE}/{webhook_id}")


async def test(visit: Visit) -> web.Response:
    """Send a sample, and go where its answer will be seen."""
    webhook = await finding.webhook(visit)
    if webhook is None:
        return visit.not_found()
    event = visit.field("event") or drills.TEST_TYPE
    if event not in await event_types.names(visit.context.database):
        return visit.not_found()

    async def act(database: Database) -> str:
        sent = await drills.send(database, webhook, event, actor=visit.key.public_id)
        if sent is None:
            raise LookupError(event)
        return visit.context.ids.encode(sent.key)

    done = await finding.once(visit, act)
    if done is None:
        return visit.conflict("twice")
    return visit.go(f"{BASE}/{webhook.public_id}/deliveries/{done[0]}")


async def ask_rotate(visit: Visit) -> web.Response:
    """Explain what a rotation does, and ask how long the old secret stays."""
    webhook = await finding.webhook(visit)
    if webhook is None:
        return visit.not_found()
    return visit.page("rotate.html", webhook=webhook, graces=GRACES_S, grace=GRACES_S[0], errors={})


async def rotate(visit: Visit) -> web.Response:
    """Let a new secret take over, and show it this once."""
    webhook = await finding.webhook(visit)
    if webhook is None:
        return visit.not_found()
    context, given = visit.context, visit.field("secret")
    grace = visit.field("grace")
    grace_s = int(grace) if grace in map(str, GRACES_S) else GRACES_S[0]
    problems = secret_problems(given) if given else []
    if problems:
        errors = {"secret": [translated(visit.speech, one) for one in problems]}
        return visit.page("rotate.html", 422, webhook=webhook, graces=GRACES_S, grace=grace_s, errors=errors)
    secret = given or new_secret()

    async def act(database: Database) -> str:
        at = await webhooks.rotate_secret(
            database,
            context.vault,
            visit.key.organization_id,
            webhook.public_id,
            secret=secret,
            grace_s=grace_s,
            actor=visit.key.public_id,
        )
        if at is None:
            raise LookupError(webhook.public_id)
        return at.isoformat()

    done = await finding.once(visit, act)
    if done is None:
        return visit.conflict("twice")
    if not done[1]:
        return visit.go(f"{BASE}/{webhook.public_id}")
    after = await finding.webhook(visit)
    return visit.page(
        "secret.html",
        webhook=after or webhook,
        secret=secret,
        own=bool(given),
        rotated=True,
        **await test_choices(visit),
    )


async def ask_delete(visit: Visit) -> web.Response:
    """Say what is lost, and ask."""
    webhook = await finding.webhook(visit)
    return visit.not_found() if webhook is None else visit.page("delete.html", webhook=webhook)


async def delete(visit: Visit) -> web.Response:
    """Delete: what is pending is cancelled, the history stays in the database."""
    deleted = await webhooks.delete(
        visit.context.database,
        visit.context.vault,
        visit.key.organization_id,
        visit.request.match_info["webhook_id"],
        actor=visit.key.public_id,
    )
    return visit.go(BASE) if deleted else visit.not_found()


async def test_choices(visit: Visit) -> dict[str, Any]:
    """Give the event types that a test can be made of, the plain test first."""
    names = await event_types.names(visit.context.database)
    return {"test_events": [drills.TEST_TYPE, *(name for name in names if not name.startswith("webhook."))]}
