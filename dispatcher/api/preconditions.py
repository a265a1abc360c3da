"""ETags of webhooks, and changes that are made only if the webhook is still what the client saw.

An ETag stands for what a client can change, with the time of the last change; not for the health, which
changes with every attempt. It is a hash, so it says nothing about how often anything changed.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from dispatcher.api.shapes import Webhook


def etag(shown: Webhook) -> str:
    """Give the ETag of a webhook as it is shown."""
    fields = msgspec.structs.asdict(shown)
    del fields["health"], fields["secret"]
    return f'"{hashlib.sha256(msgspec.json.encode(fields)).hexdigest()[:32]}"'


def matches(if_match: str | None, shown: Webhook) -> bool:
    """Say whether an If-Match header allows a change (RFC 9110, 13.1.1: strong comparison)."""
    if if_match is None:
        return True
    candidates = {candidate.strip() for candidate in if_match.split(",")}
    return "*" in candidates or etag(shown) in candidates
