"""Whether an attempt still makes sense to its webhook, where the webhook has a say in it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Final, NamedTuple

from dispatcher.core.delivery import STEP, Kind, Trigger
from dispatcher.core.ordering import Order
from dispatcher.core.pending import Pending
from dispatcher.core.revisions import UPDATED
from dispatcher.core.timestamps import parse_rfc3339
from dispatcher.store.ledger import FactRow, cancelled
from dispatcher.store.registry import Webhook

OFFLINE: Final = "sensor.offline"
ONLINE: Final = "sensor.online"


class Closing(NamedTuple):
    """How a delivery ends without the attempt; `with_it`, the one that waits behind does as well."""

    kind: Kind
    reason: str
    with_it: Pending | None = None


class Postponed(NamedTuple):
    """When to look again."""

    until: dt.datetime
    reason: str


def irrelevant(
    pending: Pending, webhook: Webhook, order: Order, now: dt.datetime
) -> Closing | Postponed | None:
    """Say why an attempt is not worth making now or any more; None where it is.

    What somebody asked for is always made: tests, redeliveries, recoveries with their retries.
    """
    payload = pending.payload
    if payload.test or pending.asked or pending.trigger not in {Trigger.FIRST, Trigger.RETRY}:
        return None
    if webhook.max_age_s is not None:
        age = now - parse_rfc3339(payload.occurred_at)
        if age > dt.timedelta(seconds=webhook.max_age_s):
            return Closing(Kind.EXPIRED, f"older than {webhook.max_age_s} s")
    if pending.attempt_no > 1:
        return None
    if webhook.coalesce and payload.type == UPDATED:
        newer = order.newest_behind(pending)
        if newer is not None:
            return Closing(Kind.SUPERSEDED, f"a newer revision waits: event {newer}")
    if webhook.settle_s is not None and payload.type == OFFLINE and payload.subject is not None:
        return _unsettled(pending, webhook.settle_s, order, now)
    return None


def _unsettled(pending: Pending, settle_s: int, order: Order, now: dt.datetime) -> Closing | Postponed | None:
    """Wait whether a sensor stays offline; tell nothing where it did not."""
    recorded_at = pending.payload.recorded_at
    # One that was put off keeps the time that its fact names, whatever has been set since: another one has no
    # place in the history, and nobody would look for it when the first is over.
    put_off = pending.due_at > recorded_at
    until = pending.due_at if put_off else recorded_at + dt.timedelta(seconds=settle_s)
    settle_s = round((until - recorded_at).total_seconds())
    if now < until:
        return Postponed(until, f"told if it lasts {settle_s} s")
    back = order.take_behind(pending, ONLINE)
    if back is None:
        return None
    if back.payload.recorded_at > until:
        order.push(back)  # it lasted; the looking was late
        return None
    return Closing(Kind.WITHHELD, f"the sensor was back within {settle_s} s", back)


def without_attempt(pending: Pending, found: Closing | Postponed) -> Iterator[tuple[FactRow, Pending]]:
    """Give the facts that are written instead of the attempt, each with the delivery whose room it frees."""
    if isinstance(found, Postponed):
        yield (
            FactRow(
                day=pending.key.day,
                outbox_id=pending.key.outbox_id,
                webhook_id=pending.key.webhook_id,
                attempt_no=pending.attempt_no,
                step=STEP[Kind.POSTPONED],
                kind=Kind.POSTPONED,
                state=pending.state,
                trigger=pending.trigger,
                failures=pending.failures,
                reason=found.reason,
                next_attempt_at=found.until,
            ),
            pending,
        )
        return
    for one in (pending, found.with_it):
        if one is not None:
            yield (
                cancelled(one.key, one.attempt_no, one.failures, found.reason, one.state, kind=found.kind),
                one,
            )
