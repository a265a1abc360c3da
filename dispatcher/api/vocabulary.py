"""The types of single fields, each with the words and the rules that OpenAPI shows for it.

Rules that msgspec checks stand as its own arguments; those that `core.webhook` and others judge stand in
`extra_json_schema`, for readers and generators of clients.
"""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Final, Literal, TypeAlias

from msgspec import Meta

from dispatcher.api.conditions import FILTER_SCHEMA
from dispatcher.core import ordering
from dispatcher.core.rate import MAX_RATE_PER_S, MIN_RATE_PER_S
from dispatcher.core.webhook import (
    MAX_AGE_S,
    MAX_EVENTS,
    MAX_HEADERS,
    MAX_NETWORKS,
    MAX_SECRET_CHARACTERS,
    MAX_SETTLE_S,
    MIN_SECRET_CHARACTERS,
)
from dispatcher.store import audience, history, recoveries, webhooks

EVENT_TYPE: Final = "x-event-type"  # marks a name whose values are the registered types
_NO_NUL: Final = r"^[^\u0000]*$"
_BASE64: Final = "[A-Za-z0-9+/]"
_PRINTED: Final = r"[^\u0000-\u001f\u007f-\u009f\u2028\u2029]"
_SEEN: Final = r"[^\s\u0000-\u001f\u007f-\u009f]"
EVENT_PATTERN: Final = "x-event-pattern"  # the same, or a pattern such as event.*

Timestamp: TypeAlias = Annotated[dt.datetime, Meta(description="RFC 3339, UTC")]
Status: TypeAlias = Annotated[history.State, Meta(description="The state of a delivery")]
FactKind: TypeAlias = Annotated[
    history.Kind, Meta(description="What happened: an attempt, or what was said about one")
]
AttemptKind: TypeAlias = Annotated[
    Literal["attempted", "interrupted"],
    Meta(description="interrupted: the dispatcher was cut off, and the request may have arrived"),
]
FactTrigger: TypeAlias = Annotated[history.Trigger, Meta(description="Why the attempt was made")]
WebhookState: TypeAlias = Annotated[webhooks.HealthState, Meta(description="A webhook's health in a word")]
Include: TypeAlias = Annotated[
    recoveries.Include,
    Meta(
        description="failed, cancelled: deliveries that ended so; missing: events that match the webhook now"
        " and were never scheduled for it"
    ),
]
Includes: TypeAlias = Annotated[
    list[Include], Meta(min_length=1, max_length=3, extra_json_schema={"uniqueItems": True})
]
RecoveryStatus: TypeAlias = Annotated[
    Literal["dry_run", "running", "completed", "stopped"],
    Meta(description="Only counted; under way; done; ended before its window did"),
]
RoutingReason: TypeAlias = Annotated[
    audience.Reason, Meta(description="Why a webhook was told of an event, or was not")
]
Page: TypeAlias = Annotated[int, Meta(ge=1, le=1_000_000, description="The page, from 1")]
Limit: TypeAlias = Annotated[int, Meta(ge=1, le=100, description="How many to a page")]
Moment: TypeAlias = Annotated[
    str,
    Meta(description="RFC 3339, such as 2026-01-15T14:32:50Z", extra_json_schema={"format": "date-time"}),
]
Cursor: TypeAlias = Annotated[
    str,
    Meta(
        description="`pagination.next_cursor` of the page before; takes the place of `page`",
        extra_json_schema={"format": "cursor"},
    ),
]
EventTypeName: TypeAlias = Annotated[
    str, Meta(description="A registered event type", extra_json_schema={EVENT_TYPE: True})
]
Url: TypeAlias = Annotated[
    str,
    Meta(
        description="Where events are sent: http or https (https only where the operator says so), without"
        " user information, fragment or private address",
        extra_json_schema={"format": "uri", "maxLength": 2048},
    ),
]
Events: TypeAlias = Annotated[
    list[Annotated[str, Meta(extra_json_schema={EVENT_PATTERN: True})]],
    Meta(
        description="What to be told of: registered types, a family such as event.*, or * for everything but"
        " the operational webhook.… types",
        extra_json_schema={"minItems": 1, "maxItems": MAX_EVENTS, "uniqueItems": True},
    ),
]
Secret: TypeAlias = Annotated[
    str,
    Meta(
        description="The shared secret: printable, no spaces at its ends; behind whsec_ base64 must follow",
        extra_json_schema={
            "minLength": MIN_SECRET_CHARACTERS,
            "maxLength": MAX_SECRET_CHARACTERS,
            "pattern": rf"^(?:whsec_(?:{_BASE64}{{4}})*{_BASE64}{{2,4}}={{0,2}}"
            rf"|(?!whsec_){_SEEN}(?:{_PRINTED}*{_SEEN})?)$",
        },
    ),
]
Description: TypeAlias = Annotated[
    str, Meta(max_length=500, description="For people", extra_json_schema={"pattern": _NO_NUL})
]
Filter: TypeAlias = Annotated[
    dict[str, Any],
    Meta(
        description="Which events of the subscribed types: all conditions must hold; each applies to the"
        " events that have the field it asks for",
        extra_json_schema=FILTER_SCHEMA,
    ),
]
PayloadKind: TypeAlias = Annotated[
    webhooks.PayloadKind,
    Meta(
        description="full: what follows an event's detection (event.updated) carries the event's complete"
        " parameters (event) and the number of the revision (revision) besides"
    ),
]
Ordering: TypeAlias = Annotated[
    ordering.Ordering,
    Meta(
        description="The order of deliveries about one earthquake or sensor. subject: a later one waits"
        " while an earlier one is under way or due within 5 seconds; strict: until it is over; none: never"
    ),
]
Coalesce: TypeAlias = Annotated[
    bool,
    Meta(description="Revisions that wait for their turn and were never attempted give way to a newer one"),
]
Settle: TypeAlias = Annotated[
    int,
    Meta(
        ge=1,
        le=MAX_SETTLE_S,
        description="Seconds for which a sensor must stay offline before sensor.offline is sent",
    ),
]
RateLimit: TypeAlias = Annotated[
    float,
    Meta(
        ge=MIN_RATE_PER_S,
        le=MAX_RATE_PER_S,
        description="At most so many requests are started in a second; a tenth of that, or one, at once",
    ),
]
MaxAge: TypeAlias = Annotated[
    int,
    Meta(
        ge=1, le=MAX_AGE_S, description="Seconds since an event occurred after which it is not sent any more"
    ),
]
Headers: TypeAlias = Annotated[
    dict[str, Annotated[str, Meta(extra_json_schema={"pattern": r"^(?:[!-~](?:[\t -~]*[!-~])?)?$"})]],
    Meta(
        description="Sent with every request, 4 KiB in total; the dispatcher's own and the connection's"
        " cannot be overridden, User-Agent can",
        extra_json_schema={"maxProperties": MAX_HEADERS, "propertyNames": {"format": "header-name"}},
    ),
]
Certificates: TypeAlias = Annotated[
    str,
    Meta(
        description="PEM: authorities trusted instead of the system's, for a receiver with a private one",
        extra_json_schema={"format": "pem-certificates"},
    ),
]
NetworkIds: TypeAlias = Annotated[
    list[
        Annotated[
            str,
            Meta(extra_json_schema={"minLength": 1, "maxLength": 100, "pattern": rf"^(?!\*$){_NO_NUL[1:]}"}),
        ]
    ],
    Meta(
        description="Only events of these networks of your organization; null: of all of them",
        extra_json_schema={"minItems": 1, "maxItems": MAX_NETWORKS, "uniqueItems": True},
    ),
]
Grace: TypeAlias = Annotated[
    int,
    Meta(
        ge=0,
        le=2_592_000,
        description="How long the old secret stays in force beside the new one; 0: it ends at once",
    ),
]
Priority: TypeAlias = Annotated[
    Literal["alert", "event", "routine"], Meta(description="The order in which events are sent")
]
