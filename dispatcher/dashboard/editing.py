"""The form of a webhook: shown, judged by the API's own rules, and saved."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dispatcher.core.webhook import patterns
from dispatcher.dashboard import acting, finding, manners
from dispatcher.dashboard.drafts import FIELDS, Draft, blank, is_shown, of_webhook, read
from dispatcher.dashboard.visit import BASE
from dispatcher.store import accounts, drills, event_types, webhooks
from dispatcher.store.vault import new_secret

if TYPE_CHECKING:
    from aiohttp import web

    from dispatcher.dashboard.visit import Visit
    from dispatcher.store.connection import Database


async def new(visit: Visit) -> web.Response:
    """Show the empty form."""
    return await _form(visit, blank(), None)


async def create(visit: Visit) -> web.Response:
    """Add a webhook and show its secret, this once."""
    context = visit.context
    draft = await read(visit, None)
    if draft.fields is None:
        return await _form(visit, draft, None, status=422)
    fields, secret = draft.fields, draft.secret or new_secret()

    async def act(database: Database) -> str:
        made = await webhooks.create(
            database,
            context.vault,
            visit.key.organization_id,
            fields,
            secret=secret,
            actor=visit.key.public_id,
        )
        return made.public_id

    done = await finding.once(visit, act)
    if done is None:
        return visit.conflict("twice")
    made = await webhooks.get(context.database, context.vault, visit.key.organization_id, done[0])
    if made is None or not done[1]:
        return visit.go(f"{BASE}/{done[0]}")
    return visit.page(
        "secret.html",
        201,
        webhook=made,
        secret=secret,
        own=bool(draft.secret),
        rotated=False,
        **await acting.test_choices(visit),
    )


async def edit(visit: Visit) -> web.Response:
    """Show the form as the webhook is."""
    webhook = await finding.webhook(visit)
    return visit.not_found() if webhook is None else await _form(visit, of_webhook(webhook), webhook)


async def update(visit: Visit) -> web.Response:
    """Change the webhook."""
    webhook = await finding.webhook(visit)
    if webhook is None:
        return visit.not_found()
    draft = await read(visit, webhook)
    if draft.fields is None:
        return await _form(visit, draft, webhook, status=422, seen=visit.field("seen"))
    if visit.field("seen") not in {"", _version(webhook)}:
        if is_shown(draft.fields, webhook):
            return visit.go(f"{BASE}/{webhook.public_id}")  # it was sent twice
        return await _form(visit, draft, webhook, status=409, overtaken=True)
    # What the form does not show stays as it is: `active` has buttons of its own, the rest is the API's.
    changes = {name: getattr(draft.fields, name) for name in FIELDS}
    changed = await webhooks.change(
        visit.context.database,
        visit.context.vault,
        visit.key.organization_id,
        webhook.public_id,
        changes,
        secret=None,
        actor=visit.key.public_id,
    )
    return visit.not_found() if changed is None else visit.go(f"{BASE}/{webhook.public_id}")


async def _form(
    visit: Visit,
    draft: Draft,
    webhook: webhooks.Webhook | None,
    status: int = 200,
    *,
    seen: str | None = None,
    overtaken: bool = False,
) -> web.Response:
    """Show the form; `seen`: which version of the webhook it was opened for, where not the present one."""
    database = visit.context.database
    types = await event_types.all_of_them(database)
    owned = await accounts.owned_networks(database, visit.key.organization_id)
    known = {one.name for one in types}
    choices = [(name, "") for name in patterns(known)] + [
        (one.name, one.description)
        for one in types
        if one.name != drills.TEST_TYPE or one.name in draft.events
    ]
    return visit.page(
        "form.html",
        status,
        draft=draft,
        webhook=webhook,
        seen=_version(webhook) if webhook and seen is None else seen,
        overtaken=overtaken,
        choices=choices,
        unknown=[name for name in draft.events if name not in dict(choices)],
        networks=sorted(owned - {"*"}),
        orderings=manners.ORDERINGS,
        require_https=visit.context.config.delivery.require_https,
    )


def _version(webhook: webhooks.Webhook) -> str:
    return webhook.updated_at.isoformat()
