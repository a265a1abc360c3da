"""Types that an operator adds with a line, as `docs/how-to/own-event-types.md` shows: from end to end."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any, Final

from tests import commands
from tests.acceptance.daemon import daemons
from tests.acceptance.test_again import client
from tests.parts import DETECTED
from tests.postgres import Database
from tests.receiver import Receiver, Request

PAGE: Final = (Path(__file__).parents[2] / "docs" / "how-to" / "own-event-types.md").read_text()
COMMANDS: Final = re.findall(r"^dispatcher (event-type add .*)$", PAGE, re.MULTILINE)
INSERTS: Final = re.findall(r"```sql\n(INSERT INTO outbox .*?)```", PAGE, re.DOTALL)


def body(request: Request) -> dict[str, Any]:
    """Read a body."""
    read: dict[str, Any] = json.loads(request.body)
    return read


async def test_own_types_behave_like_the_built_in_ones(database: Database, tmp_path: Path) -> None:
    """A running dispatcher learns of them; they are validated, filtered, sent in order, shown and tested."""
    async with Receiver() as receiver, daemons(database.url, tmp_path) as house:
        daemon = await house.start()
        assert 2 == len(COMMANDS) == len(INSERTS)
        for command in COMMANDS:
            done = await commands.run(*shlex.split(command), url=database.url)
            assert 0 == done.status, done.err
        async with client(database.url, daemon) as ask:
            types = {one["name"]: one for one in await ask("GET", "/v1/event-types")}
            assert ("alert", False) == (
                types["event.cancelled"]["priority"],
                types["event.cancelled"]["built_in"],
            )
            assert "GRIL01" == types["station.maintenance"]["sample"]["station_code"]
            wanted = {
                "url": receiver.url("/told"),
                "events": ["event.*", "station.*"],
                "filter": {"min_magnitude": 4, "station_codes": ["GRIL01"]},
                "payload": "full",
            }
            webhook = (await ask("POST", "/v1/webhooks", wanted))["id"]
            other = {**wanted, "url": receiver.url("/other"), "filter": {"min_magnitude": 5}}
            await ask("POST", "/v1/webhooks", {**other, "events": ["event.cancelled"]})
            connection = await database.connect()
            await connection.execute(
                "insert into outbox (type, data) values ('event.detected', $1)", json.dumps(DETECTED)
            )
            for statement in INSERTS:
                await connection.execute(statement)
            await connection.close()
            await receiver.wait_for(3)
            await ask("POST", f"/v1/webhooks/{webhook}/test", {"event": "event.cancelled"})
            await receiver.wait_for(4)
        told = [one for one in receiver.requests if one.header("x-grillo-event") != "station.maintenance"]
        assert {"/told"} == {one.path for one in receiver.requests}
        assert ["event.detected", "event.cancelled", "event.cancelled"] == [body(one)["type"] for one in told]
        assert DETECTED == body(told[1])["data"]["event"]
        assert "quarry blast" == body(told[1])["data"]["reason"]
        assert "event" not in body(told[2])["data"], "a drill is about no real event"
        assert [None, None, True] == [body(one).get("test") for one in told]
        assert [] == daemon.complaints()
