"""Whether an attempt still makes sense to its webhook, where the webhook has a say in it."""

from __future__ import annotations

import datetime as dt
from typing import NamedTuple

from dispatcher.core.delivery import Kind, Trigger
from dispatcher.core.lanes import Pending
from dispatcher.core.ordering import Order
from dispatcher.core.revisions import UPDATED
from dispatcher.core.timestamps import parse_rfc3339
from dispatcher.store.registry import Webhook


class Closing(NamedTuple):
    """How a delivery ends without the attempt."""

    kind: Kind
    reason: str


def irrelevant(pending: Pending, webhook: Webhook, order: Order, now: dt.datetime) -> Closing | None:
    """Say why an attempt is not worth making any more; None where it is.

    What somebody asked for is always made: tests, redeliveries, recoveries.
    """
    if pending.payload.test or pending.trigger not in {Trigger.FIRST, Trigger.RETRY}:
        return None
    if webhook.max_age_s is not None:
        age = now - parse_rfc3339(pending.payload.occurred_at)
        if age > dt.timedelta(seconds=webhook.max_age_s):
            return Closing(Kind.EXPIRED, f"older than {webhook.max_age_s} s")
    if webhook.coalesce and pending.attempt_no == 1 and pending.payload.type == UPDATED:
        newer = order.newest_behind(pending)
        if newer is not None:
            return Closing(Kind.SUPERSEDED, f"a newer revision waits: event {newer}")
    return None
