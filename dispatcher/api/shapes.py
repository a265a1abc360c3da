"""The JSON that goes in and out: one struct for each resource, read by the server and by OpenAPI alike."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta, UnsetType

from dispatcher.store.history import Kind, State, Trigger
from dispatcher.store.webhooks import HealthState

Timestamp: TypeAlias = Annotated[dt.datetime, Meta(description="RFC 3339, UTC")]
Status: TypeAlias = Annotated[State, Meta(description="The state of a delivery")]
FactKind: TypeAlias = Annotated[
    Kind, Meta(description="What happened: an attempt, or what was said about one")
]
FactTrigger: TypeAlias = Annotated[Trigger, Meta(description="Why the attempt was made")]
WebhookState: TypeAlias = Annotated[HealthState, Meta(description="A webhook's health in a word")]
Description: TypeAlias = Annotated[str, Meta(max_length=500)]
Page: TypeAlias = Annotated[int, Meta(ge=1, le=1_000_000)]
Limit: TypeAlias = Annotated[int, Meta(ge=1, le=100)]


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
    event: str | None = None
    since: str | None = None
    until: str | None = None
    page: Page | None = None
    limit: Limit = 20
    cursor: str | None = None


class CreateWebhook(msgspec.Struct, frozen=True):
    """A new webhook."""

    url: str
    events: list[str]
    secret: str | None = None
    description: Description | None = None
    filter: dict[str, Any] | None = None
    headers: dict[str, str] | None = None
    network_ids: list[str] | None = None
    active: bool = True


class UpdateWebhook(msgspec.Struct, frozen=True):
    """What is to change: an absent field stays as it is, null resets it."""

    url: str | UnsetType = UNSET
    events: list[str] | UnsetType = UNSET
    secret: str | UnsetType = UNSET
    description: Description | UnsetType | None = UNSET
    filter: dict[str, Any] | UnsetType | None = UNSET
    headers: dict[str, str] | UnsetType | None = UNSET
    network_ids: list[str] | UnsetType | None = UNSET
    active: bool | UnsetType = UNSET


class SendTest(msgspec.Struct, frozen=True):
    """Which event type's sample to send."""

    event: str = "webhook.test"


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
    network_ids: tuple[str, ...] | None
    headers: dict[str, str]
    created_at: Timestamp
    updated_at: Timestamp
    disabled_reason: str | None
    health: Health
    secret: str | UnsetType = UNSET


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
    body_base64: str | UnsetType = UNSET  # the bytes themselves, where they are not UTF-8
    truncated: bool


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened to a delivery: an attempt, or a request or cancellation of one."""

    number: int
    kind: FactKind
    trigger: FactTrigger | None
    recorded_at: Timestamp
    started_at: Timestamp | None
    duration_ms: float | None
    address: str | None
    request: AttemptRequest | None
    status_code: int | None
    error: AttemptError | None
    response: AttemptResponse | None
    reason: str | None
    next_attempt_at: Timestamp | None
    timings: dict[str, float] | None


class DeliveryDetail(Delivery, frozen=True, kw_only=True):
    """A delivery with its payload and everything that happened to it."""

    payload: msgspec.Raw
    attempts: list[Attempt]


class EventType(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of event; `schema` (JSON Schema 2020-12) and `sample` are of the envelope's `data`."""

    name: str
    description: str
    priority: Literal["alert", "event", "routine"]
    built_in: bool
    schema: dict[str, Any]
    sample: msgspec.Raw
