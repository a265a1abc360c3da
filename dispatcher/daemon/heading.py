"""The header of an attempt's request (PRODUCT, section 2)."""

from __future__ import annotations

import datetime as dt
from typing import Final

from dispatcher import __version__
from dispatcher.core.pending import Pending
from dispatcher.store.registry import Webhook
from dispatcher.telemetry.traces import Traces

_TYPE: Final = (("Content-Type", "application/json"),)
_TYPE_AND_AGENT: Final = (*_TYPE, ("User-Agent", f"Grillo-Webhooks/{__version__}"))


def heading(
    pending: Pending, delivery_id: str, webhook: Webhook, started_at: dt.datetime, traces: Traces | None
) -> tuple[tuple[str, str], ...]:
    """Give its fields in their order; a webhook may override `User-Agent` only. `traces`: if they are on."""
    payload = pending.payload
    signer = webhook.signer if webhook.next_signer is None else webhook.signer_at(started_at)
    grillo, *standard = signer.sign(delivery_id, int(started_at.timestamp()), payload.body)
    fields = (
        *(_TYPE if webhook.names_user_agent else _TYPE_AND_AGENT),
        ("X-Grillo-Event", payload.type),
        ("X-Grillo-Delivery", delivery_id),
        grillo,
        ("X-Grillo-Attempt", str(pending.attempt_no)),
        ("X-Grillo-Occurred-At", payload.occurred_at),
        ("X-Grillo-Sequence", str(pending.key.outbox_id)),
        *standard,
        *webhook.headers,
    )
    return fields if traces is None else fields + traces.headers(pending, webhook.headers)
