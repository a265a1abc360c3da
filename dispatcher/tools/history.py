"""`dispatcher history`: the newest deliveries and, with `--follow`, every attempt as it is recorded."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import sys
import time
from typing import TYPE_CHECKING, Any, Final

import msgspec

from dispatcher.core.errors import OperatorError
from dispatcher.store.recent import MOST_FACTS, Fact, LatestDelivery, Recent
from dispatcher.tools.session import open_database
from dispatcher.tools.terminal import Paint, clock, duration, moment, printable, say, table

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from dispatcher.config import Config

_POLL_S: Final = 0.5
_REST: Final = 10  # looking takes at most a tenth of the time, however many webhooks there are
_OVERLAP: Final = dt.timedelta(seconds=5)  # a fact may be committed this much after its own time
_HEAD: Final = ("RECORDED", "DELIVERY", "WEBHOOK", "EVENT", "STATE", "ATTEMPTS", "LAST", "NEXT ATTEMPT")


async def history(
    config: Config, webhook: str | None, *, limit: int, follow: bool = False, as_json: bool = False
) -> int:
    """Print the newest deliveries, the newest last; raises `OperatorError` for an unknown webhook."""
    async with open_database(config) as database:
        recent = Recent(database)
        if webhook is not None and not await recent.has_webhook(webhook):
            raise OperatorError(f"there is no webhook {webhook}")
        since = await recent.now()
        deliveries = await recent.deliveries(webhook, limit)
        deliveries.reverse()
        if as_json:
            say(*(_json(delivery) for delivery in deliveries))
        elif deliveries:
            say(*table(_HEAD, [_cells(delivery) for delivery in deliveries]))
        else:
            say("no deliveries yet")
        if follow:
            paint = Paint(sys.stdout)
            async for fact in new_facts(recent, webhook, since):
                say(_json(fact) if as_json else fact_line(fact, paint))
    return 0


async def new_facts(recent: Recent, webhook: str | None, since: dt.datetime) -> AsyncIterator[Fact]:
    """Give facts recorded from `since` on, each once, as they are committed; never ends."""
    seen: dict[tuple[str, int, str], dt.datetime] = {}
    start, overlap = since, _OVERLAP
    while True:
        started = time.monotonic()
        facts = await recent.facts(webhook, max(start, since - overlap))
        # A page full of the last seconds would be read for ever: what is committed late is left out then.
        overlap = _OVERLAP if len(facts) < MOST_FACTS else dt.timedelta()
        for fact in facts:
            key = (fact.delivery, fact.attempt, fact.kind)
            if key not in seen:
                seen[key] = fact.recorded_at
                yield fact
        if facts:
            since = max(since, facts[-1].recorded_at)
        seen = {key: at for key, at in seen.items() if at >= since - _OVERLAP}
        await asyncio.sleep(max(_POLL_S, (time.monotonic() - started) * _REST))


def fact_line(fact: Fact, paint: Paint) -> str:
    """Give a fact as a line for a person."""
    colours = {"delivered": "green", "failed": "red", "pending": "yellow"}
    parts = [
        paint(clock(fact.recorded_at), "dim"),
        fact.delivery,
        fact.webhook,
        fact.event,
        f"attempt {fact.attempt}" + (f" ({fact.trigger})" if fact.trigger not in {None, "first"} else ""),
        "" if fact.kind == "attempted" else fact.kind,
        _result(fact.status_code, fact.error, fact.duration_ms)
        if fact.kind == "attempted"
        else fact.reason or "",
        paint(fact.state, colours.get(fact.state, "dim")),
        f"again at {clock(fact.next_attempt_at)}" if fact.next_attempt_at else "",
    ]
    return "  ".join(printable(part, keep="\x1b") for part in parts if part)


def _cells(delivery: LatestDelivery) -> tuple[str, ...]:
    return (
        moment(delivery.event_recorded_at),
        delivery.delivery,
        delivery.webhook,
        delivery.event,
        delivery.state + (f" ({delivery.reason})" if delivery.reason else ""),
        str(delivery.attempts),
        _result(delivery.status_code, delivery.error, delivery.duration_ms),
        moment(delivery.next_attempt_at),
    )


def _result(status_code: int | None, error: str | None, duration_ms: float | None) -> str:
    """Say what came of an attempt: `200 in 3.4 ms`, `500 server_error in 2.1 ms`, `timeout in 30 s`."""
    parts = [str(status_code)] if status_code is not None else []
    parts += [error] if error else []
    if duration_ms is not None:
        parts.append(f"in {duration(duration_ms / 1000)}")
    return " ".join(parts) or "-"


def _json(record: LatestDelivery | Fact) -> str:
    builtins: dict[str, Any] = msgspec.to_builtins(record)
    return json.dumps(builtins)
