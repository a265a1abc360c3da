"""Examines one webhook: whether it is active and told, its server reachable, what came of the last ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dispatcher.diagnosis.deliveries import LOOKED_AT, judge_deliveries, judge_speed
from dispatcher.diagnosis.finding import Finding, fail, ok, words
from dispatcher.diagnosis.route import walk
from dispatcher.sender.resolver import Lookup, getaddrinfo
from dispatcher.store.inspection import RegisteredWebhook, inspect_webhook
from dispatcher.store.recent import Recent

if TYPE_CHECKING:
    from dispatcher.config import Delivery
    from dispatcher.store.connection import Database


async def examine_webhook(
    database: Database,
    config: Delivery,
    webhook: str,
    *,
    organization_id: int | None = None,
    lookup: Lookup = getaddrinfo,
) -> list[Finding] | None:
    """Examine a webhook by its public id, from this machine, and send it no request.

    None: there is no such webhook, or it belongs to another organization than the one given.
    """
    registered = await inspect_webhook(database, webhook, organization_id)
    if registered is None:
        return None
    latest = await Recent(database).deliveries(webhook, LOOKED_AT)
    return [
        _active(registered),
        _subscription(registered),
        *await walk(registered.url, registered.ca_certificates, config, lookup=lookup),
        judge_speed(latest),
        judge_deliveries(latest),
    ]


def _active(webhook: RegisteredWebhook) -> Finding:
    if webhook.deleted:
        return fail("active", words("it was deleted"), words("Register it again; its history stays."))
    if webhook.active:
        return ok("active", words("it is active"))
    again = words("Mend the cause, then activate it again, and recover what it missed.")
    if webhook.disabled_reason:
        return fail("active", words("it was deactivated: {reason}", reason=webhook.disabled_reason), again)
    return fail(
        "active", words("it is paused"), words("Activate it again, and recover what it missed meanwhile.")
    )


def _subscription(webhook: RegisteredWebhook) -> Finding:
    if webhook.unknown_events:
        return fail(
            "subscription",
            words("it subscribes to unknown types: {types}", types=", ".join(webhook.unknown_events)),
            words("Correct its events; `GET /v1/event-types` lists what there is."),
        )
    heard_of = set(webhook.heard_of)
    if not heard_of:
        return fail(
            "subscription",
            words("its organization hears of no network, so of no event"),
            words("An operator names the organization's networks."),
        )
    wanted = webhook.network_ids
    if wanted is not None and "*" not in heard_of and not heard_of & set(wanted):
        return fail(
            "subscription",
            words(
                "it wants networks that its organization does not hear of: {names}", names=", ".join(wanted)
            ),
            words("Correct its network_ids; the organization hears of others."),
        )
    return ok(
        "subscription",
        words(
            "it is told of {events}, of {networks}",
            events=", ".join(webhook.events),
            networks="all networks"
            if "*" in heard_of and wanted is None
            else ", ".join(wanted or sorted(heard_of)),
        ),
    )
