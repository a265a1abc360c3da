"""Refuses a run in which something was lost, sent twice, not recorded, or wrongly signed."""

from __future__ import annotations

import base64
import hashlib
import hmac

from bench.feed import Feed
from bench.site import Site


async def check(site: Site, feed: Feed) -> int:
    """Compare inserted, arrived and recorded deliveries, and verify a sample; give how many were verified.

    Raises RuntimeError for any difference.
    """
    expected = feed.inserted * feed.webhooks
    arrived = await site.sink.ask("count", series=feed.series)
    deliveries, successes = await site.recorded(feed.series)
    found = {**arrived, "rows of delivery": deliveries, "successful attempts": successes}
    wrong = {name: count for name, count in found.items() if count != expected}
    if wrong:
        raise RuntimeError(f"{feed.series}: expected {expected} everywhere, found {wrong}")
    samples = await site.sink.ask("samples", series=feed.series)
    for sample in samples:
        _verify(sample.encode("latin-1"), site.secret)
    return len(samples)


def _verify(request: bytes, secret: str) -> None:
    """Check both signatures as a receiver would, with nothing of the dispatcher's."""
    head, _, body = request.partition(b"\r\n\r\n")
    fields = dict(line.partition(": ")[::2] for line in head.decode().split("\r\n")[1:])
    simple = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    signed = f"{fields['webhook-id']}.{fields['webhook-timestamp']}.".encode() + body
    key = base64.b64decode(secret.removeprefix("whsec_"))
    standard = "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()
    if (fields["X-Grillo-Signature"], fields["webhook-signature"]) != (simple, standard):
        raise RuntimeError(f"a request's signature is wrong: {fields}")
