"""Real revisions of real earthquakes: whoever was told is told again, and whom one newly concerns is told."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest

from dispatcher.core.ids import OutboxId, WebhookId
from dispatcher.core.pending import Lane
from dispatcher.core.snapshot import BEGINNING, Position
from dispatcher.store import recoveries
from dispatcher.store.outbox import OutboxReader
from dispatcher.store.recoveries import Asked, Counts, Window
from dispatcher.store.recovering import RecoveryLedger
from tests.management import Management, management
from tests.parts import Parts, detected, insert, new_webhook, parts
from tests.postgres import Database

STORY: Final[list[dict[str, Any]]] = [
    json.loads(line)
    for line in (Path(__file__).parents[1] / "data" / "comcat_updates.jsonl").read_text().splitlines()
]


@pytest.fixture
async def one(database: Database) -> AsyncIterator[Parts]:
    """Lead over a fresh database."""
    async with parts(database) as made:
        yield made


@pytest.fixture
async def api(database: Database) -> AsyncIterator[Management]:
    """Run the API over the same database."""
    async with management(database.url) as running:
        yield running


async def routed(one: Parts, *lanes: Lane) -> dict[OutboxId, list[WebhookId]]:
    """Read lanes of the outbox and say who is told of each event, as the tail does."""
    found: dict[OutboxId, list[WebhookId]] = {}
    registry = one.shared.registry
    for lane in lanes:
        reader = OutboxReader(one.store.link("tail"), lane)
        page = await reader.read(Position.after(BEGINNING), dt.date(2000, 1, 3), 10_000)
        await registry.refresh(page.registry_version)
        told = await registry.told_before(one.store.link("tail"), page.rows)
        found |= {row.id: registry.match(row, told) for row in page.rows}
    return found


def revised(event_id: str = "evt_abc123", **changes: tuple[Any, Any]) -> str:
    """Write the data of a revision."""
    pairs = {name: {"old": old, "new": new} for name, (old, new) in changes.items()}
    return json.dumps({"event_id": event_id, "changes": pairs})


def expected_of(wants: Any) -> list[bool]:
    """Go through the story as a subscriber of threshold `wants` would wish: told once, told of everything."""
    current: dict[str, dict[str, Any]] = {}
    told: set[str] = set()
    answers = []
    for line in STORY:
        data = line["data"]
        name = data["event_id"]
        if line["type"] == "event.detected":
            current[name] = dict(data)
        else:
            current[name] |= {field: change["new"] for field, change in data["changes"].items()}
        if wants(current[name]):
            told.add(name)
        answers.append(name in told)
    return answers


def strong(quake: dict[str, Any], least: float) -> bool:
    """Say whether it is known to be that strong."""
    return quake["magnitude"] is not None and quake["magnitude"] >= least


CASES: Final[list[tuple[dict[str, Any], Any]]] = [
    ({"min_magnitude": 5.1}, lambda one: strong(one, 5.1)),  # nc72852151: null, 4.92, 5.07, 5.11, 5.08
    ({"min_magnitude": 7.0}, lambda one: strong(one, 7.0)),  # ci38457511: 7.1, 6.9, 7.1
    ({"min_magnitude": 7.5}, lambda one: strong(one, 7.5)),  # us1000778i: 7.4, then 7.8
    ({"max_magnitude": 5.65}, lambda one: one["magnitude"] is not None and one["magnitude"] <= 5.65),
    ({"max_depth_km": 12}, lambda one: one["depth_km"] <= 12),
    ({"bbox": [-180, -90, 180, -6.22]}, lambda one: one["latitude"] <= -6.22),  # moves over a border
    (
        {"min_magnitude": 7.85, "max_depth_km": 140},
        lambda one: strong(one, 7.85) and one["depth_km"] <= 140,
    ),
]


async def test_the_real_revisions_reach_whom_they_should(one: Parts, api: Management) -> None:
    """In the tail, however the lanes read, and in a recovery of what is missing."""
    ids = [(await insert(one.connection, json.dumps(line["data"]), line["type"]))[1] for line in STORY]
    numbers = [await new_webhook(one.connection, filter=json.dumps(given)) for given, _ in CASES]
    told = await routed(one, Lane.EVENT, Lane.ALERT)
    await one.connection.execute(
        "insert into message (day, outbox_id, lane, batch, type, occurred_at, recorded_at, fan_out, body)"
        " select day, id, lane, 1, type, occurred_at, recorded_at, 0, '{}' from outbox"
    )
    names = {row["id"]: row["public_id"] for row in await one.connection.fetch("select * from webhook")}
    since = (dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)).isoformat()
    for number, (given, wants) in zip(numbers, CASES, strict=True):
        expected = expected_of(wants)
        assert 0 < sum(expected) < len(expected), given
        assert expected == [number in told[outbox_id] for outbox_id in ids], given
        wanted = {"since": since, "include": ["missing"], "dry_run": True}
        reply = await api.ask("POST", f"/v1/webhooks/{names[number]}/recover", wanted)
        assert sum(expected) == reply.data["count"], given


async def test_what_is_recovered_in_full_has_the_bytes_of_its_routing(one: Parts) -> None:
    """Nobody wanted it in full then: the body is rebuilt from the revisions, as the tail would have done."""
    for line in STORY:
        await insert(one.connection, json.dumps(line["data"]), line["type"])
    await one.connection.execute(
        "insert into message (day, outbox_id, lane, batch, type, occurred_at, recorded_at, fan_out, body)"
        " select day, id, lane, 1, type, occurred_at, recorded_at, 0, convert_to(data::text, 'utf8')"
        " from outbox"
    )
    number = await new_webhook(one.connection, payload="full")
    link, registry = one.store.link("tail"), one.shared.registry
    expected: dict[OutboxId, bytes | None] = {}
    for lane in (Lane.ALERT, Lane.EVENT):
        reader = OutboxReader(link, lane)
        page = await reader.read(Position.after(BEGINNING), dt.date(2000, 1, 3), 10_000)
        await registry.refresh(page.registry_version)
        told = await registry.told_before(link, page.rows)
        expected |= {row.id: registry.full_body(row, [number], told)[0] for row in page.rows}
    assert {"event.detected", "event.updated"} == {line["type"] for line in STORY}
    assert 0 < list(expected.values()).count(None) < len(STORY)

    now = dt.datetime.now(dt.UTC)
    window = Window(number, now - dt.timedelta(hours=1), now + dt.timedelta(hours=1), ("missing",))
    asked = Asked(bytes(16), "key_test", Counts(), counted_all=True)
    made = await recoveries.insert(one.connection, window, asked)
    assert not isinstance(made, str)
    ledger = RecoveryLedger(one.store.link("recoveries"), one.shared.run_id, one.shared.shard)
    walk = await ledger.walk(made)
    found = await walk.page(window.beginning, len(STORY))
    while found.following.phase != "completed" and not found.missing:
        found = await walk.page(found.following, len(STORY))
    await ledger.request(made, found)
    bodies = await one.connection.fetch("select outbox_id, body from delivery order by outbox_id")
    assert expected == {row["outbox_id"]: row["body"] for row in bodies}
    due = await one.backlog().due((now, OutboxId(0), number), now + dt.timedelta(hours=1), 10_000)
    standard = dict(await one.connection.fetch("select outbox_id, body from message"))
    assert {key: body or standard[key] for key, body in expected.items()} == {
        row.key.outbox_id: row.body for row in due
    }


async def test_told_once_told_of_every_revision(one: Parts) -> None:
    """Weaker and weaker: who heard of it as a 4.2 hears that it was none; nobody else does."""
    strong_ones = await new_webhook(one.connection, filter='{"min_magnitude":4}')
    await new_webhook(one.connection, filter='{"min_magnitude":5}')
    rows = [await insert(one.connection, detected())]
    for old, new in ((4.2, 3.9), (3.9, 3.7), (3.7, 3.6)):
        rows.append(await insert(one.connection, revised(magnitude=(old, new)), "event.updated"))
    told = await routed(one, Lane.ALERT, Lane.EVENT)
    assert [[strong_ones]] * 4 == [told[row[1]] for row in rows]


async def test_newly_crossing_is_told_now(one: Parts, api: Management) -> None:
    """The revision that makes it a 4.1 is the first that the webhook hears of; the reasons agree."""
    webhook = await api.new_webhook(events=["event.*"], filter={"min_magnitude": 4})
    number = await one.connection.fetchval("select id from webhook")
    rows = [
        await insert(one.connection, detected(magnitude=None)),
        await insert(one.connection, revised(magnitude=(None, 3.9)), "event.updated"),
        await insert(one.connection, revised(magnitude=(3.9, 4.1)), "event.updated"),
    ]
    told = await routed(one, Lane.ALERT, Lane.EVENT)
    assert [[], [], [number]] == [told[row[1]] for row in rows]
    await one.connection.execute(
        "insert into message (day, outbox_id, lane, batch, type, occurred_at, recorded_at, fan_out, body)"
        " select day, id, lane, 1, type, occurred_at, recorded_at, 0, '{}' from outbox"
    )
    replies = [await api.ask("GET", f"/v1/events/{row[1]}/routing") for row in rows]
    assert [(webhook["id"], reason) for reason in ("filtered_out", "filtered_out", "not_matching_then")] == [
        (reply.data["webhooks"][0]["webhook_id"], reply.data["webhooks"][0]["reason"]) for reply in replies
    ]


async def test_a_cancellation_goes_to_whoever_was_told(one: Parts) -> None:
    """An operator's type that names an event is matched as a revision of it is."""
    await one.connection.execute(
        "insert into event_type (name, description, lane, fields, sample) values ('event.cancelled',"
        """ 'A false alarm', 1, '{"event_id":"string"}', '{"event_id":"evt_abc123"}')"""
    )
    told_of_it = await new_webhook(one.connection, filter='{"min_magnitude":4}')
    await new_webhook(one.connection, filter='{"min_magnitude":5}')
    await insert(one.connection, detected())
    cancelled = await insert(one.connection, '{"event_id":"evt_abc123"}', "event.cancelled")
    assert [told_of_it] == (await routed(one, Lane.EVENT))[cancelled[1]]


async def test_tests_and_what_comes_later_do_not_count(one: Parts) -> None:
    """A drill with the same event id tells nothing about the event, nor does a row that follows."""
    number = await new_webhook(one.connection, filter='{"min_magnitude":6}')
    await insert(one.connection, detected(magnitude=9), test=True, target_webhook_id=number)
    rows = [
        await insert(one.connection, detected()),
        await insert(one.connection, revised(magnitude=(4.2, 5)), "event.updated"),
        await insert(one.connection, revised(magnitude=(5, 6)), "event.updated"),
    ]
    told = await routed(one, Lane.ALERT, Lane.EVENT)
    assert [[], [], [number]] == [told[row[1]] for row in rows]


async def test_a_revision_of_an_event_that_nobody_told_of(one: Parts) -> None:
    """What it says of before and after counts; the place is unknown, and an unknown place matches no area."""
    anywhere = await new_webhook(one.connection, filter='{"min_magnitude":4}')
    await new_webhook(one.connection, filter='{"min_magnitude":4,"bbox":[-180,-90,180,90]}')
    row = await insert(one.connection, revised("evt_other", magnitude=(4.2, 3.9)), "event.updated")
    assert {row[1]: [anywhere]} == await routed(one, Lane.EVENT)


async def test_of_very_many_revisions_the_first_and_the_latest_count(one: Parts) -> None:
    """A producer that repeats itself every second does not make its events ever dearer."""
    number = await new_webhook(one.connection, filter='{"bbox":[-123,37,-122,38],"min_magnitude":5}')
    await insert(one.connection, detected())
    for _ in range(3):
        await one.connection.execute(
            "insert into outbox (type, data) select 'event.updated', $1::json from generate_series(1, 150)",
            revised(depth_km=(8, 8.5)),
        )
    last = await insert(one.connection, revised(magnitude=(4.2, 5)), "event.updated")
    assert [number] == (await routed(one, Lane.EVENT))[last[1]]
