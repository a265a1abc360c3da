"""Requests as the dispatcher would send them, examined as a receiver would: for tests of the tools."""

from __future__ import annotations

import datetime as dt
from types import MappingProxyType
from typing import TYPE_CHECKING

from dispatcher.core.signature import Signer
from dispatcher.tools.receipt import Receipt, examine

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NOW = dt.datetime(2024, 1, 15, 14, 32, 50, tzinfo=dt.UTC)
SECRET = "the shared secret"
NOTHING: Mapping[str, str | None] = MappingProxyType({})


def request(
    body: bytes = b"{}",
    changes: Mapping[str, str | None] = NOTHING,
    *,
    secrets: Sequence[str] = (SECRET,),
    signer: str = SECRET,
) -> Receipt:
    """Examine a request as the dispatcher would send it; `changes` replace headers (None: leave out)."""
    headers: dict[str, str | None] = {
        "X-Grillo-Event": "event.detected",
        "X-Grillo-Delivery": "dlv_1",
        "X-Grillo-Attempt": "2",
    }
    headers |= dict(Signer(signer).sign("dlv_1", int(NOW.timestamp()), body))
    headers |= changes
    return examine(
        method="POST",
        path="/alerts",
        headers=[(name.upper(), value) for name, value in headers.items() if value is not None],
        body=body,
        secrets=secrets,
        arrived_at=NOW,
    )
