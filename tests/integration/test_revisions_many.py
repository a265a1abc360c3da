"""Of an earthquake that is revised hundreds of times nothing that was told is forgotten."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest

from dispatcher.core.ids import OutboxId
from dispatcher.core.pending import Lane
from dispatcher.core.snapshot import BEGINNING, Position
from dispatcher.store.outbox import OutboxReader
from tests.parts import DETECTED, Parts, detected, insert, new_webhook, parts
from tests.postgres import Database

MANY: Final = 260
REVISIONS: Final[list[dict[str, Any]]] = [
    {"depth_km": {"old": None, "new": number}}
    | ({"magnitude": {"old": 4.2, "new": 5.5}, "place": "Oaxaca"} if number == 10 else {})
    | ({"magnitude": {"note": "held"}} if number == 11 else {})
    for number in range(1, MANY + 1)
]


@pytest.fixture
async def one(database: Database) -> AsyncIterator[Parts]:
    """Lead over a fresh database in which an earthquake was revised many times."""
    async with parts(database) as made:
        await insert(made.connection, detected())
        rows = [json.dumps({"event_id": "evt_abc123", "changes": one, "tag": "\0"}) for one in REVISIONS]
        await made.connection.execute(
            "insert into outbox (type, data) select 'event.updated', unnest($1::text[])::json", rows
        )
        yield made


async def told(one: Parts, page_rows: int) -> dict[OutboxId, tuple[int, dict[str, Any]]]:
    """Read the revisions so many at a time; give who is told of each, and what it says in full."""
    reader = OutboxReader(one.store.link("tail"), Lane.EVENT)
    registry, found, position = one.shared.registry, {}, Position.after(BEGINNING)
    while (page := await reader.read(position, dt.date(2000, 1, 3), page_rows)).rows:
        await registry.refresh(page.registry_version)
        tellings = await registry.told_before(one.store.link("tail"), page.rows)
        for row in page.rows:
            webhook_ids = registry.match(row, tellings)
            body, _ = registry.full_body(row, webhook_ids, tellings)
            assert body is not None
            found[row.id] = len(webhook_ids), json.loads(body)["data"]
        position = page.position_after(len(page.rows))
    return found


@pytest.mark.parametrize("page_rows", [7, 1000])
async def test_parameters_in_full_are_those_after_the_revision(one: Parts, page_rows: int) -> None:
    """However many there were before it, and however many are read at once."""
    await new_webhook(one.connection, payload="full")
    expected = []
    for number in range(1, MANY + 1):
        strong = {"magnitude": 5.5, "place": "Oaxaca"} if number >= 10 else {}
        expected.append({**DETECTED, "tag": "\0", **strong, "depth_km": number})
    found = [data for _, data in (await told(one, page_rows)).values()]
    assert list(range(1, MANY + 1)) == [data["revision"] for data in found]
    # What PostgreSQL reads for us may have other characters in the place of U+0000.
    assert expected == [{**data["event"], "tag": "\0"} for data in found]


@pytest.mark.parametrize("page_rows", [7, 1000])
async def test_filter_meets_the_event_as_it_is_now(one: Parts, page_rows: int) -> None:
    """Also where the revision that made it so is one of very many."""
    await new_webhook(one.connection, payload="full")
    await new_webhook(one.connection, filter='{"min_magnitude":5}')
    expected = [1 if number < 10 else 2 for number in range(1, MANY + 1)]
    assert expected == [count for count, _ in (await told(one, page_rows)).values()]
