"""The part of the OpenAPI document about the requests that we send: `webhooks`, one for each event type."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from dispatcher.api.event_types import data_schema

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dispatcher.store.event_types import EventType

_SHA256: Final = r"^sha256=[0-9a-f]{64}$"
_HEADERS: Final[Sequence[tuple[str, bool, str, Mapping[str, Any]]]] = (
    ("X-Grillo-Event", True, "The event type", {"type": "string"}),
    (
        "X-Grillo-Delivery",
        True,
        "One event for one webhook, the same in every attempt: deduplicate by it",
        {"type": "string", "pattern": "^dlv_[0-9a-hjkmnp-tv-z]{26}$"},
    ),
    (
        "X-Grillo-Signature",
        True,
        "HMAC-SHA256 of the body under the secret's text",
        {"type": "string", "pattern": _SHA256},
    ),
    (
        "X-Grillo-Signature-Next",
        False,
        "While a secret rotates: the same under the one to come",
        {"type": "string", "pattern": _SHA256},
    ),
    ("X-Grillo-Attempt", True, "1 for the first attempt", {"type": "integer", "minimum": 1}),
    (
        "X-Grillo-Occurred-At",
        True,
        "When the event occurred, as in the envelope: how late it is can be judged without reading the body",
        {"type": "string", "format": "date-time"},
    ),
    (
        "X-Grillo-Sequence",
        True,
        "The event's position: of two deliveries about one earthquake or sensor the greater is the later",
        {"type": "integer", "minimum": 1},
    ),
    ("webhook-id", True, "The delivery id (Standard Webhooks)", {"type": "string"}),
    (
        "webhook-timestamp",
        True,
        "When this attempt was made, in Unix seconds (Standard Webhooks)",
        {"type": "integer"},
    ),
    (
        "traceparent",
        False,
        "Where the operator passes traces on: the span of this attempt (W3C Trace Context)",
        {"type": "string", "pattern": "^00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]$"},
    ),
    (
        "webhook-signature",
        True,
        "HMAC-SHA256 of id.timestamp.body, one for each secret in force (Standard Webhooks)",
        {"type": "string", "pattern": "^v1,[A-Za-z0-9+/]{43}=( v1,[A-Za-z0-9+/]{43}=)*$"},
    ),
)


def outgoing(types: Sequence[EventType]) -> dict[str, Any]:
    """Give the `webhooks` section."""
    return {one.name: {"post": _operation(one)} for one in types}


def _operation(one: EventType) -> dict[str, Any]:
    sample = msgspec.json.decode(one.sample)
    return {
        # Unlike for every two names: a part begins with a capital, and underscores stay.
        "operationId": "On" + "".join(part.capitalize() for part in one.name.split(".")),
        "summary": one.description,
        "description": "Sent to webhooks that subscribe to it. Answer 2xx to acknowledge; anything else is"
        " retried on schedule.",
        "tags": ["Outgoing"],
        "security": [],
        "parameters": [
            {"name": name, "in": "header", "required": required, "description": words, "schema": dict(schema)}
            for name, required, words, schema in _HEADERS
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "properties": {
                            "type": {"const": one.name},
                            "timestamp": {"type": "string", "format": "date-time"},
                            "data": data_schema(one.fields),
                            "test": {"const": True, "description": "There on drills alone"},
                        },
                        "required": ["type", "timestamp", "data"],
                    },
                    "example": {"type": one.name, "timestamp": "2024-01-15T14:32:50Z", "data": sample},
                }
            },
        },
        "responses": {
            "2XX": {"description": "Acknowledged; the body is kept for the history and otherwise ignored"},
            "default": {"description": "Not acknowledged: retried on schedule, then failed"},
        },
    }
