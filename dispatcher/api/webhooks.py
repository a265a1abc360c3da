"""Webhooks over HTTP: made, listed, read, changed, deleted, their secrets rotated."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import msgspec

from dispatcher.api.preconditions import etag, matches
from dispatcher.api.problems import Problem, not_found, precondition_failed
from dispatcher.api.routing import Answer, Call, Route, pages
from dispatcher.api.shapes import (
    CreateWebhook,
    Health,
    ListQuery,
    RotatedSecret,
    RotateSecret,
    UpdateWebhook,
    Webhook,
)
from dispatcher.core.addresses import check_url
from dispatcher.core.certificates import certificates_problems, read_certificates
from dispatcher.core.filter_form import filter_problems
from dispatcher.core.webhook import (
    events_problems,
    headers_problems,
    network_problems,
    secret_problems,
    shown_headers,
    unhidden_headers,
)
from dispatcher.store import accounts, event_types, webhooks
from dispatcher.store.vault import new_secret

if TYPE_CHECKING:
    from collections.abc import Mapping

_FIELDS: Final = (
    "url",
    "events",
    "description",
    "headers",
    "ca_certificates",
    "network_ids",
    "filter",
    "payload",
    "ordering",
    "coalesce",
    "max_age_s",
    "settle_s",
    "rate_limit_per_s",
    "active",
)
_DEFAULTS: Final[Mapping[str, Any]] = {"description": "", "headers": {}}  # what null resets them to


async def create(call: Call) -> Answer | Problem:
    """Make a webhook; where no secret was given, one is made and shown this once."""
    await _judge(call)
    wanted: CreateWebhook | Problem = call.body.read()
    if isinstance(wanted, Problem):
        return wanted
    secret = wanted.secret or new_secret()
    made = await webhooks.create(
        call.context.database,
        call.context.vault,
        call.key.organization_id,
        webhooks.WebhookFields(**_stored(wanted)),
        secret=secret,
        actor=call.key.public_id,
    )
    shown = shape(made)
    if wanted.secret is None:
        shown = msgspec.structs.replace(shown, secret=secret)
    return Answer(201, shown, headers={"Location": f"/v1/webhooks/{made.public_id}", "ETag": etag(shown)})


async def list_all(call: Call) -> Answer | Problem:
    """Give a page of the organization's webhooks, the newest first."""
    query: ListQuery | Problem = call.query.read()
    if isinstance(query, Problem):
        return query
    rows, total = await webhooks.page(
        call.context.database,
        call.context.vault,
        call.key.organization_id,
        offset=(query.page - 1) * query.limit,
        limit=query.limit,
    )
    return Answer(data=[shape(row) for row in rows], pagination=pages(total, query.page, query.limit))


async def show(call: Call) -> Answer | Problem:
    """Give one webhook."""
    found = await find(call)
    return found if isinstance(found, Problem) else _shown(found)


async def update(call: Call) -> Answer | Problem:
    """Change the fields that are given."""
    found = await find(call)
    if isinstance(found, Problem):
        return found
    await _judge(call, found.headers)
    wanted: UpdateWebhook | Problem = call.body.read()
    if isinstance(wanted, Problem):
        return wanted
    changed = await webhooks.change(
        call.context.database,
        call.context.vault,
        call.key.organization_id,
        found.public_id,
        _stored(wanted),
        secret=wanted.secret if isinstance(wanted.secret, str) else None,
        actor=call.key.public_id,
        expected=lambda present: matches(call.if_match, shape(present)),
    )
    if isinstance(changed, webhooks.Stale):
        return precondition_failed()
    return _shown(changed) if changed else not_found("webhook")


async def delete(call: Call) -> Answer | Problem:
    """Delete a webhook: what is still pending is cancelled."""
    deleted = await webhooks.delete(
        call.context.database,
        call.context.vault,
        call.key.organization_id,
        call.path["webhook_id"],
        actor=call.key.public_id,
        expected=lambda present: matches(call.if_match, shape(present)),
    )
    if isinstance(deleted, webhooks.Stale):
        return precondition_failed()
    return Answer(204) if deleted else not_found("webhook")


async def rotate_secret(call: Call) -> Answer | Problem:
    """Let a new secret take over, after a grace during which requests are signed with both."""
    call.body.check("secret", secret_problems)
    wanted: RotateSecret | Problem = call.body.read()
    if isinstance(wanted, Problem):
        return wanted
    webhook_id = call.path["webhook_id"]
    secret = wanted.secret or new_secret()
    takes_over_at = await webhooks.rotate_secret(
        call.context.database,
        call.context.vault,
        call.key.organization_id,
        webhook_id,
        secret=secret,
        grace_s=wanted.grace_seconds,
        actor=call.key.public_id,
    )
    if takes_over_at is None:
        return not_found("webhook")
    return Answer(data=RotatedSecret(webhook_id, secret, takes_over_at))


async def find(call: Call, *, deleted: bool = False) -> webhooks.Webhook | Problem:
    """Give the webhook that the path names, if it is the organization's; a deleted one where asked for."""
    context, organization_id = call.context, call.key.organization_id
    found = await webhooks.get(
        context.database, context.vault, organization_id, call.path["webhook_id"], deleted=deleted
    )
    return found or not_found("webhook")


def shape(row: webhooks.Webhook) -> Webhook:
    """Give a webhook as clients see it."""
    health = row.health
    return Webhook(
        id=row.public_id,
        url=row.url,
        events=row.events,
        active=row.active,
        description=row.description,
        filter=None if row.filter is None else dict(row.filter),
        payload=row.payload,
        ordering=row.ordering,
        coalesce=row.coalesce,
        max_age_s=row.max_age_s,
        settle_s=row.settle_s,
        rate_limit_per_s=row.rate_limit_per_s,
        network_ids=row.network_ids,
        headers=shown_headers(row.headers),
        ca_certificates=row.ca_certificates,
        created_at=row.created_at,
        updated_at=row.updated_at,
        disabled_reason=row.disabled_reason,
        next_secret_at=row.next_secret_at,
        health=Health(
            health.state(active=row.active),
            health.failing_since,
            health.last_success_at,
            health.last_attempt_at,
        ),
    )


def _shown(row: webhooks.Webhook) -> Answer:
    shown = shape(row)
    return Answer(data=shown, headers={"ETag": etag(shown)})


async def _judge(call: Call, present: Mapping[str, str] = MappingProxyType({})) -> None:
    """Let the rules speak about every field that was given; `present` are the headers that there are."""
    form, context = call.body, call.context
    form.check("url", lambda url: _url_problems(call, url))
    form.check("secret", secret_problems)
    form.check("headers", lambda headers: headers_problems(unhidden_headers(headers, present)))
    form.check("ca_certificates", certificates_problems)
    form.check_parts("filter", filter_problems)
    if form.given("events"):
        known = await event_types.names(context.database)
        form.check("events", lambda events: events_problems(events, known))
    if form.given("network_ids"):
        owned = await accounts.owned_networks(context.database, call.key.organization_id)
        form.check("network_ids", lambda ids: network_problems(ids, owned))


def _url_problems(call: Call, url: str) -> list[str]:
    context = call.context
    problem = check_url(url, require_https=context.config.delivery.require_https, policy=context.policy)
    return [problem] if problem else []


def _stored(wanted: CreateWebhook | UpdateWebhook) -> dict[str, Any]:
    """Give the fields that were set, as the store knows them."""
    fields: dict[str, Any] = {}
    for name in _FIELDS:
        value = getattr(wanted, name)
        if value is msgspec.UNSET:
            continue
        if value is None:
            value = _DEFAULTS.get(name)
        fields[name] = tuple(value) if isinstance(value, list) else value
    if fields.get("ca_certificates"):
        fields["ca_certificates"] = read_certificates(fields["ca_certificates"])
    return fields


ROUTES: Final = (
    Route(
        "createWebhook",
        "POST",
        "/v1/webhooks",
        "write:webhooks",
        create,
        "Create a webhook",
        201,
        Webhook,
        body=CreateWebhook,
        etag=True,
    ),
    Route(
        "listWebhooks",
        "GET",
        "/v1/webhooks",
        "read:webhooks",
        list_all,
        "List webhooks",
        200,
        list[Webhook],
        query=ListQuery,
    ),
    Route(
        "getWebhook",
        "GET",
        "/v1/webhooks/{webhook_id}",
        "read:webhooks",
        show,
        "Get a webhook",
        200,
        Webhook,
        etag=True,
    ),
    Route(
        "updateWebhook",
        "PATCH",
        "/v1/webhooks/{webhook_id}",
        "write:webhooks",
        update,
        "Change a webhook",
        200,
        Webhook,
        body=UpdateWebhook,
        etag=True,
        conditional=True,
    ),
    Route(
        "deleteWebhook",
        "DELETE",
        "/v1/webhooks/{webhook_id}",
        "write:webhooks",
        delete,
        "Delete a webhook",
        204,
        None,
        conditional=True,
    ),
    Route(
        "rotateSecret",
        "POST",
        "/v1/webhooks/{webhook_id}/rotate-secret",
        "write:webhooks",
        rotate_secret,
        "Rotate the secret",
        200,
        RotatedSecret,
        body=RotateSecret,
    ),
)
