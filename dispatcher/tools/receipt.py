"""What a receiver can say about one request: which delivery it is, and whether both signatures hold."""

from __future__ import annotations

import enum
import json
from typing import TYPE_CHECKING, Any, Final

import msgspec

from dispatcher.core.signature import verify_grillo, verify_standard
from dispatcher.core.timestamps import parse_rfc3339

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Sequence

TOLERANCE_S: Final = 300  # how old or early a Standard Webhooks timestamp may be
_LONGEST_NUMBER: Final = 15  # digits; more is no attempt and no time


class Check(enum.StrEnum):
    """What came of checking one signature."""

    VALID = "valid"
    INVALID = "invalid"
    MISSING = "missing"  # the request carries none
    STALE = "stale"  # it is right, but its timestamp is not of these minutes: perhaps a replay
    UNCHECKED = "unchecked"  # no secret is known here


class Receipt(msgspec.Struct, frozen=True):
    """One request as it arrived, examined."""

    arrived_at: dt.datetime
    method: str
    path: str  # with its query
    headers: tuple[tuple[str, str], ...]
    body: bytes
    event: str  # empty where the header is missing; the same for delivery_id
    delivery_id: str
    attempt: int  # 1 where the header is missing or nonsense
    grillo: Check
    standard: Check

    @property
    def verified(self) -> bool:
        """Whether both signatures hold."""
        return self.grillo is Check.VALID and self.standard is Check.VALID

    def envelope(self) -> dict[str, Any] | None:
        """Give the body as an object; None where it is none."""
        try:
            value = json.loads(self.body)
        except (ValueError, RecursionError):
            return None
        return value if isinstance(value, dict) else None

    def age_s(self) -> float | None:
        """Give the seconds from the envelope's timestamp to the arrival; None where it has no timestamp."""
        timestamp = (self.envelope() or {}).get("timestamp")
        if not isinstance(timestamp, str):
            return None
        try:
            return (self.arrived_at - parse_rfc3339(timestamp)).total_seconds()
        except ValueError:
            return None


def examine(
    *,
    method: str,
    path: str,
    headers: Sequence[tuple[str, str]],
    body: bytes,
    secrets: Sequence[str],
    arrived_at: dt.datetime,
) -> Receipt:
    """Examine a request; any one of `secrets` may have signed it. ValueError for an unusable secret."""
    first: dict[str, str] = {}
    for name, value in headers:
        first.setdefault(name.lower(), value)
    return Receipt(
        arrived_at=arrived_at,
        method=method,
        path=path,
        headers=tuple(headers),
        body=body,
        event=first.get("x-grillo-event", ""),
        delivery_id=first.get("x-grillo-delivery", ""),
        attempt=_number(first.get("x-grillo-attempt", "")) or 1,
        grillo=_check_grillo(first, body, secrets),
        standard=_check_standard(first, body, secrets, arrived_at),
    )


def _check_grillo(headers: dict[str, str], body: bytes, secrets: Sequence[str]) -> Check:
    """Check the guide's header, or the coming secret's beside it while a secret rotates."""
    names = ("x-grillo-signature", "x-grillo-signature-next")
    signatures = [headers[name] for name in names if name in headers]
    if not signatures:
        return Check.MISSING
    if not secrets:
        return Check.UNCHECKED
    valid = any(verify_grillo(secret, body, signature) for secret in secrets for signature in signatures)
    return Check.VALID if valid else Check.INVALID


def _check_standard(
    headers: dict[str, str], body: bytes, secrets: Sequence[str], arrived_at: dt.datetime
) -> Check:
    if not {"webhook-id", "webhook-timestamp", "webhook-signature"} <= headers.keys():
        return Check.MISSING
    if not secrets:
        return Check.UNCHECKED
    timestamp = _number(headers["webhook-timestamp"])
    if timestamp is None or not any(
        verify_standard(secret, headers["webhook-id"], timestamp, body, headers["webhook-signature"])
        for secret in secrets
    ):
        return Check.INVALID
    return Check.STALE if abs(arrived_at.timestamp() - timestamp) > TOLERANCE_S else Check.VALID


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _LONGEST_NUMBER else None
