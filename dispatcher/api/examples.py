"""One example of each shape, made of the shapes themselves, so that none can differ from what is served."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any, Final, get_args, get_origin

import msgspec

from dispatcher.api import shapes

if TYPE_CHECKING:
    from collections.abc import Mapping

_MADE: Final = dt.datetime(2026, 1, 15, 14, 30, 0, tzinfo=dt.UTC)
_SENT: Final = dt.datetime(2026, 1, 15, 14, 32, 50, 120_000, tzinfo=dt.UTC)
_WEBHOOK: Final = "whk_01hm6t3v5x7z9b1d3f5h7k9m1p"
_DELIVERY: Final = "dlv_7q2r4t6w8y0a2c4e6g8j0k2m4n"
_RECOVERY: Final = "rcv_3b5d7f9h1k3m5p7r9t1v3x5z7b"
_KEY: Final = "key_5d7f9h1k3m5p7r9t1v3x5z7b9d"
_SECRET: Final = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwAbCdEfGhIjk="  # noqa: S105 - an example
_BODY: Final = (
    b'{"type":"event.detected","timestamp":"2026-01-15T14:32:50Z","data":{"event_id":"evt_abc123"}}'
)

_ATTEMPT: Final = shapes.Attempt(
    number=1,
    kind="attempted",
    trigger="first",
    recorded_at=_SENT + dt.timedelta(milliseconds=95),
    started_at=_SENT,
    duration_ms=84.3,
    address="203.0.113.7",
    request=shapes.AttemptRequest(
        {
            "Content-Type": "application/json",
            "X-Grillo-Event": "event.detected",
            "X-Grillo-Delivery": _DELIVERY,
            "X-Grillo-Signature": "sha256=" + "5d" * 32,
            "X-Grillo-Attempt": "1",
            "X-Grillo-Occurred-At": "2026-01-15T14:32:50Z",
            "X-Grillo-Sequence": "4711",
        }
    ),
    status_code=503,
    error=shapes.AttemptError("server_error", None),
    response=shapes.AttemptResponse(
        headers={"Content-Type": "text/plain"}, body="try later", body_bytes=9, truncated=False
    ),
    reason=None,
    actor=None,
    next_attempt_at=_SENT + dt.timedelta(minutes=1),
    timings=shapes.Timings(dns_ms=1.2, connect_ms=8.1, tls_ms=21.4, first_byte_ms=52.9, total_ms=84.3),
)
_DELIVERED: Final = shapes.Delivery(
    id=_DELIVERY,
    webhook_id=_WEBHOOK,
    event="event.detected",
    event_occurred_at=_SENT,
    created_at=_SENT,
    status="pending",
    attempt_count=1,
    next_attempt_at=_ATTEMPT.next_attempt_at,
    status_code=503,
    error=_ATTEMPT.error,
    test=False,
)
_WEBHOOK_SHOWN: Final = shapes.Webhook(
    id=_WEBHOOK,
    url="https://your-server.com/grillo-webhook",
    events=("event.detected", "sensor.offline"),
    active=True,
    description="Alert gateway",
    filter={"min_magnitude": 4.5, "lat": 19.43, "lon": -99.13, "radius": 500},
    payload="standard",
    ordering="subject",
    coalesce=False,
    max_age_s=None,
    settle_s=None,
    rate_limit_per_s=None,
    network_ids=None,
    headers={},
    ca_certificates=None,
    created_at=_MADE,
    updated_at=_MADE,
    disabled_reason=None,
    health=shapes.Health("healthy", None, _SENT, _SENT),
    next_secret_at=None,
)

_EXAMPLES: Final[Mapping[Any, msgspec.Struct]] = {
    shapes.CreateWebhook: shapes.CreateWebhook(
        url="https://your-server.com/grillo-webhook",
        events=["event.detected", "sensor.offline"],
        filter={"min_magnitude": 4.5, "lat": 19.43, "lon": -99.13, "radius": 500},
    ),
    shapes.UpdateWebhook: shapes.UpdateWebhook(events=["event.detected"], active=True),
    shapes.RotateSecret: shapes.RotateSecret(grace_seconds=3600),
    shapes.SendTest: shapes.SendTest(event="event.detected"),
    shapes.Recover: shapes.Recover(
        since="2026-01-15T00:00:00Z", until="2026-01-16T00:00:00Z", include=["failed", "missing"]
    ),
    shapes.Webhook: _WEBHOOK_SHOWN,
    shapes.RotatedSecret: shapes.RotatedSecret(_WEBHOOK, _SECRET, _MADE + dt.timedelta(hours=1)),
    shapes.Delivery: _DELIVERED,
    shapes.DeliveryDetail: shapes.DeliveryDetail(
        **msgspec.structs.asdict(_DELIVERED),
        reason=None,
        payload=msgspec.Raw(_BODY),
        payload_bytes=len(_BODY),
        attempts=[_ATTEMPT],
        facts=[
            shapes.Fact(
                number=_ATTEMPT.number,
                kind=_ATTEMPT.kind,
                trigger=_ATTEMPT.trigger,
                recorded_at=_ATTEMPT.recorded_at,
                reason=_ATTEMPT.reason,
                actor=_ATTEMPT.actor,
                next_attempt_at=_ATTEMPT.next_attempt_at,
            )
        ],
    ),
    shapes.Recovery: shapes.Recovery(
        id=_RECOVERY,
        webhook_id=_WEBHOOK,
        status="running",
        since=_MADE,
        until=_SENT,
        include=("failed", "missing"),
        count=12,
        counts=shapes.RecoveryCounts(failed=4, cancelled=0, missing=8),
        counted_all=True,
        requested=shapes.RecoveryCounts(failed=4, cancelled=0, missing=1),
        reason=None,
        actor=_KEY,
        created_at=_SENT,
        updated_at=_SENT,
    ),
    shapes.EventRouting: shapes.EventRouting(
        outbox_id=4711,
        event="sensor.offline",
        network_id="net_xyz789",
        occurred_at=_SENT,
        recorded_at=_SENT,
        test=False,
        scheduled=True,
        webhooks=[
            shapes.RoutedWebhook(_WEBHOOK, "delivered_to", _DELIVERY, "delivered"),
            shapes.RoutedWebhook("whk_9m1p01hm6t3v5x7z9b1d3f5h7k", "not_subscribed", None, None),
        ],
    ),
    shapes.EventType: shapes.EventType(
        name="sensor.offline",
        description="A sensor went offline",
        priority="routine",
        built_in=True,
        schema={
            "type": "object",
            "properties": {"sensor_id": {"type": "string", "minLength": 1}},
            "required": ["sensor_id"],
        },
        sample=msgspec.Raw(b'{"sensor_id":"sen_abc123"}'),
    ),
}


def example_of(shape: Any) -> Any:
    """Give an example of a struct, or of a list of them, as JSON reads; KeyError where there is none."""
    if get_origin(shape) is list:
        return [example_of(get_args(shape)[0])]
    return msgspec.json.decode(msgspec.json.encode(_EXAMPLES[shape]))
