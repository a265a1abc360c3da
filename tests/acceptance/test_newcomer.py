"""A webhook that is made today gets last week's earthquakes, through its filter, when it asks for them."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any, Final

from tests import commands
from tests.acceptance.daemon import daemons
from tests.acceptance.test_again import client, until
from tests.parts import DETECTED
from tests.postgres import Database, wait_for
from tests.receiver import Receiver

DATA: Final = Path(__file__).parents[1] / "data"
WEEK: Final = [json.loads(line) for line in (DATA / "usgs_week_2018.jsonl").read_text().splitlines()]
STRONG: Final = 4.8


async def test_last_week_through_a_filter(database: Database, tmp_path: Path) -> None:
    """First counted, then sent, each once and in the lane of recoveries; what happens meanwhile comes too."""
    expected = {
        one["data"]["event_id"]
        for one in WEEK
        if one["data"]["magnitude"] is not None and one["data"]["magnitude"] >= STRONG
    }
    assert 20 < len(expected) < len(WEEK) / 4
    async with Receiver() as receiver, daemons(database.url, tmp_path) as house:
        daemon = await house.start()
        connection = await database.connect()
        await connection.executemany(
            "insert into outbox (type, data) values ($1, $2)",
            [(one["type"], json.dumps(one["data"])) for one in WEEK],
        )

        async def routed() -> bool:
            count: int = await connection.fetchval("select count(*) from message")
            return count == len(WEEK)

        await until(routed, "the week is history")
        async with client(database.url, daemon) as ask:
            wanted: dict[str, Any] = {
                "url": receiver.url("/"),
                "events": ["event.*"],
                "filter": {"min_magnitude": STRONG},
            }
            webhook = (await ask("POST", "/v1/webhooks", wanted))["id"]
            since = (dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)).isoformat()
            window = {"since": since, "include": ["missing"]}
            counted = await ask("POST", f"/v1/webhooks/{webhook}/recover", {**window, "dry_run": True})
            assert (len(expected), "dry_run") == (counted["count"], counted["status"])
            assert [] == receiver.requests
            asked = await ask("POST", f"/v1/webhooks/{webhook}/recover", window)
            assert len(expected) == asked["count"]
            live = {**DETECTED, "event_id": "evt_live", "magnitude": 7}
            await connection.execute(
                "insert into outbox (type, data) values ('event.detected', $1)", json.dumps(live)
            )
            await wait_for(lambda: len(receiver.requests) == len(expected) + 1, "everything arrived", 60)
            again = await ask("POST", f"/v1/webhooks/{webhook}/recover", {**window, "dry_run": True})
            assert 0 == again["count"]
        triggers = {
            row["trigger"]: row["count"]
            for row in await connection.fetch(
                "select trigger, count(*) from delivery_event where kind = 'attempted' group by trigger"
            )
        }
        await connection.close()
        arrived = [json.loads(one.body)["data"]["event_id"] for one in receiver.requests]
        assert sorted([*expected, "evt_live"]) == sorted(arrived)
        assert {"recover": len(expected), "first": 1} == triggers
        assert [] == daemon.complaints()
    verified = await commands.run("verify", url=database.url)
    assert 0 == verified.status, verified.out
