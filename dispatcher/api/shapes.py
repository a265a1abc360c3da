"""The JSON that goes in and out: one struct for each resource, read by the server and by OpenAPI alike."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from dispatcher.api.vocabulary import (
    AttemptKind,
    Certificates,
    Coalesce,
    Cursor,
    Description,
    Events,
    EventTypeName,
    FactKind,
    FactTrigger,
    Filter,
    Grace,
    Headers,
    Include,
    Includes,
    Limit,
    MaxAge,
    Moment,
    NetworkIds,
    Ordering,
    Page,
    PayloadKind,
    Priority,
    RateLimit,
    RecoveryStatus,
    RoutingReason,
    Secret,
    Settle,
    Status,
    Timestamp,
    Url,
    WebhookState,
)


class ListQuery(msgspec.Struct, frozen=True):
    """Which page of a list."""

    page: Page = 1
    limit: Limit = 20


class EventTypesQuery(msgspec.Struct, frozen=True):
    """Which page of the event types: all of them fit one page, as a rule."""

    page: Page = 1
    limit: Limit = 100


class DeliveriesQuery(msgspec.Struct, frozen=True):
    """Which deliveries; `cursor` walks on from a page and takes the place of `page`."""

    status: Status | None = None
    event: EventTypeName | None = None
    since: Moment | None = None
    until: Moment | None = None
    page: Page | None = None
    limit: Limit = 20
    cursor: Cursor | None = None


class CreateWebhook(msgspec.Struct, frozen=True):
    """A new webhook."""

    url: Url
    events: Events
    secret: Secret | None = None
    description: Description | None = None
    filter: Filter | None = None
    payload: PayloadKind = "standard"
    ordering: Ordering = "subject"
    coalesce: Coalesce = False
    max_age_s: MaxAge | None = None
    settle_s: Settle | None = None
    rate_limit_per_s: RateLimit | None = None
    headers: Headers | None = None
    ca_certificates: Certificates | None = None
    network_ids: NetworkIds | None = None
    active: bool = True

    def __repr__(self) -> str:
        return f"CreateWebhook({self.url!r}, …)"


class UpdateWebhook(msgspec.Struct, frozen=True):
    """What is to change: an absent field stays as it is, null resets it."""

    url: Url | UnsetType = UNSET
    events: Events | UnsetType = UNSET
    secret: Secret | UnsetType = UNSET
    description: Description | UnsetType | None = UNSET
    filter: Filter | UnsetType | None = UNSET
    payload: PayloadKind | UnsetType = UNSET
    ordering: Ordering | UnsetType = UNSET
    coalesce: Coalesce | UnsetType = UNSET
    max_age_s: MaxAge | UnsetType | None = UNSET
    settle_s: Settle | UnsetType | None = UNSET
    rate_limit_per_s: RateLimit | UnsetType | None = UNSET
    headers: Headers | UnsetType | None = UNSET
    ca_certificates: Certificates | UnsetType | None = UNSET
    network_ids: NetworkIds | UnsetType | None = UNSET
    active: bool | UnsetType = UNSET

    def __repr__(self) -> str:
        return "UpdateWebhook(…)"


class SendTest(msgspec.Struct, frozen=True):
    """Which event type's sample to send."""

    event: EventTypeName = "webhook.test"


class RotateSecret(msgspec.Struct, frozen=True):
    """The secret to come, made where none is given, and how long the old one stays."""

    secret: Secret | None = None
    grace_seconds: Grace = 86_400

    def __repr__(self) -> str:
        return "RotateSecret(…)"


class Recover(msgspec.Struct, frozen=True):
    """Which part of a webhook's past is to be sent again: events recorded in [since, until)."""

    since: Moment
    include: Includes
    until: Moment | None = None  # now
    dry_run: bool = False  # count only


class Health(msgspec.Struct, frozen=True):
    """What a webhook answered lately."""

    state: WebhookState
    failing_since: Timestamp | None
    last_success_at: Timestamp | None
    last_attempt_at: Timestamp | None


class Webhook(msgspec.Struct, frozen=True, kw_only=True):
    """A webhook; `secret` is there only in the answer that made it."""

    id: str
    url: str
    events: tuple[str, ...]
    active: bool
    description: str
    filter: dict[str, Any] | None
    payload: PayloadKind
    ordering: Ordering
    coalesce: Coalesce
    max_age_s: int | None
    settle_s: int | None
    rate_limit_per_s: float | None
    network_ids: tuple[str, ...] | None
    headers: dict[str, str]  # values that look like credentials are hidden
    ca_certificates: str | None
    created_at: Timestamp
    updated_at: Timestamp
    disabled_reason: str | None
    health: Health
    next_secret_at: Timestamp | None  # while a secret is rotating: when the new one takes over
    secret: str | UnsetType = UNSET

    def __repr__(self) -> str:
        return f"Webhook({self.id})"


class RotatedSecret(msgspec.Struct, frozen=True):
    """The secret to come, shown this once."""

    webhook_id: str
    secret: str
    takes_over_at: Timestamp

    def __repr__(self) -> str:
        return f"RotatedSecret({self.webhook_id})"


class AttemptError(msgspec.Struct, frozen=True, rename={"class_": "class"}):
    """Why an attempt failed."""

    class_: str
    message: str | None


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One event for one webhook; status code and error are the last attempt's."""

    id: str
    webhook_id: str
    event: str
    event_occurred_at: Timestamp
    created_at: Timestamp
    status: Status
    attempt_count: int
    next_attempt_at: Timestamp | None
    status_code: int | None
    error: AttemptError | None
    test: bool


class AttemptRequest(msgspec.Struct, frozen=True):
    """What was sent; the body is the delivery's payload."""

    headers: dict[str, str]


class AttemptResponse(msgspec.Struct, frozen=True, kw_only=True):
    """What came back, as much of it as is kept."""

    headers: dict[str, str]
    body: str  # bytes that are not UTF-8 are replaced
    body_bytes: int  # how many are kept
    body_base64: str | UnsetType = UNSET  # the bytes themselves, where they are not UTF-8
    truncated: bool


class Timings(msgspec.Struct, frozen=True, kw_only=True):
    """How long each phase took, in milliseconds; null where it did not happen, as on a kept connection."""

    dns_ms: float | None = None
    connect_ms: float | None = None
    tls_ms: float | None = None
    first_byte_ms: float | None = None  # from the request's last byte to the answer's first
    total_ms: float | None = None


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One request that left, or may have left."""

    number: int
    kind: AttemptKind
    trigger: FactTrigger | None
    recorded_at: Timestamp
    started_at: Timestamp | None
    duration_ms: float | None
    address: str | None
    request: AttemptRequest | None
    status_code: int | None
    error: AttemptError | None
    response: AttemptResponse | None
    reason: str | None  # of an interruption
    actor: str | None  # the API key that asked for it
    next_attempt_at: Timestamp | None
    timings: Timings | None


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened to a delivery, attempts included."""

    number: int
    kind: FactKind
    trigger: FactTrigger | None
    recorded_at: Timestamp
    reason: str | None
    actor: str | None  # the API key that asked for the attempt
    next_attempt_at: Timestamp | None


class DeliveryDetail(Delivery, frozen=True, kw_only=True):
    """A delivery with its payload, every attempt, and everything else that happened to it."""

    reason: str | None  # of a cancellation
    payload: msgspec.Raw
    payload_bytes: int
    attempts: list[Attempt]
    facts: list[Fact]


class EventType(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of event; `schema` (JSON Schema 2020-12) and `sample` are of the envelope's `data`."""

    name: str
    description: str
    priority: Priority
    built_in: bool
    schema: dict[str, Any]
    sample: msgspec.Raw


class RecoveryCounts(msgspec.Struct, frozen=True):
    """Deliveries, by what they were."""

    failed: int
    cancelled: int
    missing: int


class Recovery(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a webhook's past that is sent again; `id` is null where it was only counted."""

    id: str | None
    webhook_id: str
    status: RecoveryStatus
    since: Timestamp
    until: Timestamp
    include: tuple[Include, ...]
    count: int  # deliveries that were found when it was asked for
    counts: RecoveryCounts
    counted_all: bool  # false: there are more
    requested: RecoveryCounts  # attempts that were asked for so far
    reason: str | None  # of a stop
    actor: str  # the API key that asked for it
    created_at: Timestamp
    updated_at: Timestamp | None


class RoutedWebhook(msgspec.Struct, frozen=True):
    """What an event was to one webhook: a delivery, or the reason why there is none."""

    webhook_id: str
    reason: RoutingReason
    delivery_id: str | None
    status: Status | None


class EventRouting(msgspec.Struct, frozen=True, kw_only=True):
    """Whom of your organization's webhooks an event reached, and why the others were not told."""

    outbox_id: int
    event: str
    network_id: str | None
    occurred_at: Timestamp
    recorded_at: Timestamp
    test: bool
    scheduled: bool  # false: the dispatcher has not come to it yet
    webhooks: list[RoutedWebhook]
