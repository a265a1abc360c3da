"""Gives deliveries and what happened to them as clients see them."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import msgspec

from dispatcher.api.shapes import (
    Attempt,
    AttemptError,
    AttemptRequest,
    AttemptResponse,
    Delivery,
    DeliveryDetail,
    Fact,
    Timings,
)
from dispatcher.core.delivery import CLOSING

if TYPE_CHECKING:
    from dispatcher.api.vocabulary import AttemptKind
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


def detail_shape(found: history.FullDelivery, ids: DeliveryIds, webhook_id: str) -> DeliveryDetail:
    """Give a delivery with everything that happened to it; `webhook_id` is its webhook's public id."""
    asked = {fact.attempt_no: fact for fact in found.facts if fact.kind == "requested"}
    return DeliveryDetail(
        **msgspec.structs.asdict(delivery_shape(found.delivery, ids, webhook_id)),
        reason=_reason(found),
        payload=msgspec.Raw(found.body),
        payload_bytes=len(found.body),
        attempts=[
            _attempt(fact, fact.kind, asked.get(fact.attempt_no))
            for fact in found.facts
            if fact.kind in ("attempted", "interrupted")
        ],
        facts=[_fact(fact, asked.get(fact.attempt_no)) for fact in found.facts],
    )


def _attempt(fact: history.Fact, kind: AttemptKind, asked: history.Fact | None) -> Attempt:
    request = None
    if fact.request_headers is not None:
        request = AttemptRequest(_headers(fact.request_headers))
    return Attempt(
        number=fact.attempt_no,
        kind=kind,
        trigger=_trigger(fact, asked),
        recorded_at=fact.recorded_at,
        started_at=fact.started_at,
        duration_ms=fact.duration_ms,
        address=fact.address,
        request=request,
        status_code=fact.status_code,
        error=_error(fact.error_class, fact.error_message),
        response=_response(fact),
        reason=fact.reason,
        actor=None if asked is None else asked.actor,
        next_attempt_at=fact.next_attempt_at,
        timings=_timings(fact),
    )


def _fact(fact: history.Fact, asked: history.Fact | None) -> Fact:
    return Fact(
        number=fact.attempt_no,
        kind=fact.kind,
        trigger=_trigger(fact, asked),
        recorded_at=fact.recorded_at,
        reason=fact.reason,
        actor=fact.actor,
        next_attempt_at=fact.next_attempt_at,
    )


def _reason(found: history.FullDelivery) -> str | None:
    if found.delivery.state != "cancelled":
        return None
    return next((fact.reason for fact in reversed(found.facts) if fact.kind in CLOSING), None)


def _trigger(fact: history.Fact, asked: history.Fact | None) -> history.Trigger | None:
    """Give what set the attempt off: a retry that somebody asked for before its time is `manual`.

    In the facts it stays the retry that it is, which uses up its place in the schedule.
    """
    return "manual" if asked is not None and asked.trigger == "retry" else fact.trigger


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
