"""One real request: a test in the outbox, sent by the dispatcher; this waits for what came of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from dispatcher.diagnosis.advice import advice_for
from dispatcher.diagnosis.finding import Finding, fail, ok, short_time, skipped, words
from dispatcher.store.history import Fact, get
from dispatcher.store.inspection import ask_test, inspect_webhook

if TYPE_CHECKING:
    from dispatcher.config import Delivery
    from dispatcher.core.ids import DeliveryKey
    from dispatcher.store.connection import Database

_LOOK_EVERY_S: Final = 0.1
_QUEUE_S: Final = 10.0  # granted beside the timeout: the dispatcher may be busy
_ENDED: Final = {"attempted", "interrupted", "cancelled", "superseded", "expired", "withheld"}


async def send_test(
    database: Database, config: Delivery, webhook: str, *, actor: str | None = None
) -> Finding:
    """Send `webhook.test` and give what came of it, at the latest ten seconds after `delivery.timeout_s`."""
    registered = await inspect_webhook(database, webhook)
    if registered is None or registered.deleted:
        return skipped("test", words("nothing is sent to a webhook that was deleted"))
    key = await ask_test(database, webhook, registered.id, actor=actor)
    limit_s = config.timeout_s + _QUEUE_S
    try:
        async with asyncio.timeout(limit_s):
            fact = await _outcome(database, key)
    except TimeoutError:
        return fail(
            "test",
            words("the test was not attempted within {limit} s", limit=f"{limit_s:g}"),
            words("Is the dispatcher running? `dispatcher doctor` without a webhook examines it."),
        )
    took = short_time((fact.duration_ms or 0) / 1000)
    if fact.state == "delivered":
        return ok("test", words("it was answered {status} in {time}", status=fact.status_code, time=took))
    what = " ".join(
        str(part) for part in (fact.status_code, fact.error_class, fact.error_message, fact.reason) if part
    )
    return fail(
        "test",
        words("it did not arrive: {what}, after {time}", what=what or fact.kind, time=took),
        advice_for(fact.error_class, fact.status_code),
    )


async def _outcome(database: Database, key: DeliveryKey) -> Fact:
    while True:
        found = await get(database, key)
        ended = [fact for fact in found.facts if fact.kind in _ENDED] if found else []
        if ended:
            return ended[-1]
        await asyncio.sleep(_LOOK_EVERY_S)
