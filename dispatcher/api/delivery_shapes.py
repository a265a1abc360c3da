"""Gives deliveries and what happened to them as clients see them."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import msgspec

from dispatcher.api.shapes import Attempt, AttemptError, AttemptRequest, AttemptResponse, Delivery, Timings

if TYPE_CHECKING:
    from dispatcher.core.ids import DeliveryIds
    from dispatcher.store import history


def delivery_shape(row: history.Delivery, ids: DeliveryIds, webhook_id: str) -> Delivery:
    """Give a delivery; `webhook_id` is its webhook's public id."""
    return Delivery(
        id=ids.encode(row.key),
        webhook_id=webhook_id,
        event=row.type,
        event_occurred_at=row.occurred_at,
        created_at=row.recorded_at,
        status=row.state,
        attempt_count=row.attempts,
        next_attempt_at=row.next_attempt_at,
        status_code=row.status_code,
        error=_error(row.error_class, row.error_message),
        test=row.test,
    )


def attempt_shape(fact: history.Fact) -> Attempt:
    """Give one thing that happened."""
    request = None
    if fact.request_headers is not None:
        request = AttemptRequest(_headers(fact.request_headers))
    return Attempt(
        number=fact.attempt_no,
        kind=fact.kind,
        trigger=fact.trigger,
        recorded_at=fact.recorded_at,
        started_at=fact.started_at,
        duration_ms=fact.duration_ms,
        address=fact.address,
        request=request,
        status_code=fact.status_code,
        error=_error(fact.error_class, fact.error_message),
        response=_response(fact),
        reason=fact.reason,
        actor=fact.actor,
        next_attempt_at=fact.next_attempt_at,
        timings=_timings(fact),
    )


def _response(fact: history.Fact) -> AttemptResponse | None:
    if fact.response_headers is None:
        return None
    body = fact.response_body or b""
    text = body.decode(errors="replace")
    exact = text.encode() == body
    return AttemptResponse(
        headers=_headers(fact.response_headers),
        body=text,
        body_bytes=len(body),
        body_base64=msgspec.UNSET if exact else base64.b64encode(body).decode(),
        truncated=bool(fact.response_truncated),
    )


def _timings(fact: history.Fact) -> Timings | None:
    if fact.timings is None:
        return None
    phases = msgspec.json.decode(fact.timings, type=Timings)
    return msgspec.structs.replace(phases, total_ms=fact.duration_ms)


def _headers(recorded: str) -> dict[str, str]:
    """Give recorded headers as an object; values of a repeated name are joined (RFC 9110, 5.3)."""
    headers: dict[str, str] = {}
    spelling: dict[str, str] = {}
    for name, value in msgspec.json.decode(recorded, type=list[tuple[str, str]]):
        first = spelling.setdefault(name.lower(), name)
        headers[first] = f"{headers[first]}, {value}" if first in headers else value
    return headers


def _error(name: str | None, message: str | None) -> AttemptError | None:
    return None if name is None else AttemptError(name, message)
