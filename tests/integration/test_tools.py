"""`emit`, `listen`, `history`: each as a process, on a real database and real sockets."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from dispatcher.core.signature import Signer
from tests.commands import line, run, running
from tests.postgres import Database, wait_for

if TYPE_CHECKING:
    import asyncpg

SENSOR = '{"sensor_id":"s%d","station_code":"GRIL01","last_seen":"2024-01-15T14:30:00Z","x":10.0}'
DATA = Path(__file__).parents[1] / "data"


async def rows(database: Database) -> list[asyncpg.Record]:
    """Give the outbox."""
    connection = await database.connect()
    try:
        found: list[asyncpg.Record] = await connection.fetch(
            "select type, data::text as data, occurred_at, network_id, dedup_key from outbox order by id"
        )
        return found
    finally:
        await connection.close()


async def test_emit_inserts_envelopes_as_they_are(database: Database) -> None:
    """Types, times and the very text of `data` of a file of envelopes come into the outbox."""
    file = DATA / "comcat_updates.jsonl"
    ended = await run("emit", "-", str(file), url=database.url)
    assert (0, "45 inserted\n", "") == (ended.status, ended.out, ended.err)
    stored = await rows(database)
    for text, row in zip(file.read_text().splitlines(), stored, strict=True):
        envelope = json.loads(text)
        assert envelope["type"] == row["type"]
        assert dt.datetime.fromisoformat(envelope["timestamp"]) == row["occurred_at"]
        assert text.endswith(f'"data":{row["data"]}}}')


async def test_emit_takes_bare_data_from_standard_input(database: Database) -> None:
    """Type, network and time come from the arguments; a dedup key makes a repetition harmless."""
    arguments = ["emit", "sensor.offline", "--network-id", "net_1", "--occurred-at", "2024-01-15T14:32:50Z"]
    arguments += ["--dedup-key-field", "sensor_id"]
    first = await run(*arguments, url=database.url, stdin=f"{SENSOR % 1}\n{SENSOR % 2}\n")
    again = await run(*arguments, "--json", url=database.url, stdin=f"{SENSOR % 2}\n{SENSOR % 3}\n")
    assert (0, "2 inserted\n") == (first.status, first.out)
    assert (0, {"inserted": 1, "already_there": 1, "refused": 0}) == (again.status, json.loads(again.out))
    at = dt.datetime(2024, 1, 15, 14, 32, 50, tzinfo=dt.UTC)
    expected = [("sensor.offline", SENSOR % number, at, "net_1", f"s{number}") for number in (1, 2, 3)]
    assert expected == [tuple(row) for row in await rows(database)]
    beginning = "0001-01-01T00:00:00Z"  # what many programs write that know no time; the driver's -infinity
    last = await run("emit", "sensor.offline", "--occurred-at", beginning, url=database.url, stdin=SENSOR % 4)
    assert (0, "1 inserted\n") == (last.status, last.out), last.err


MIXED = f'{SENSOR % 1}\n{{"sensor_id":"s"}}\nnonsense\n{SENSOR % 4}\n'


async def test_emit_does_not_hold_good_rows_back(database: Database) -> None:
    """Refused lines are named, with the field; the others go in."""
    ended = await run("emit", "sensor.offline", url=database.url, stdin=MIXED)
    assert (1, "2 inserted, 2 refused\n") == (ended.status, ended.out)
    first, second = ended.err.splitlines()
    assert "standard input, line 2: data.station_code: missing; sensor.offline needs it" == first
    assert second.startswith("standard input, line 3: expected JSON")
    assert [SENSOR % 1, SENSOR % 4] == [row["data"] for row in await rows(database)]


async def test_emit_atomic_is_all_or_nothing(database: Database) -> None:
    """One refused line undoes the rest, and it is said."""
    ended = await run("emit", "sensor.offline", "--atomic", url=database.url, stdin=MIXED)
    assert (1, "0 inserted, 1 refused\n") == (ended.status, ended.out)
    assert "nothing was inserted" in ended.err
    assert [] == await rows(database)
    fine = await run("emit", "sensor.offline", "--atomic", url=database.url, stdin=SENSOR % 1)
    assert (0, 1) == (fine.status, len(await rows(database)))


async def test_emit_inserts_while_its_input_goes_on(database: Database) -> None:
    """A line is inserted when it comes, not when the input ends; an interrupt ends the wait."""
    async with running("emit", "sensor.offline", url=database.url) as process:
        assert process.stdin is not None
        process.stdin.write(f"{SENSOR % 1}\n".encode())
        await process.stdin.drain()

        async def inserted() -> Any:
            return len(await rows(database)) == 1

        await wait_for(inserted, "the row")
        process.send_signal(signal.SIGINT)
        assert 130 == await asyncio.wait_for(process.wait(), 30)


async def test_emit_names_the_file_that_cannot_be_read(database: Database, tmp_path: Path) -> None:
    """Nothing is connected to before the file is there."""
    for path in (tmp_path, tmp_path / "absent"):
        ended = await run("emit", "sensor.offline", str(path), url=database.url)
        assert 2 == ended.status
        assert f"{path}: cannot be read" in ended.err


async def post(
    session: aiohttp.ClientSession, url: str, *, secret: str, attempt: int = 1, delivery: str = "dlv_1"
) -> int:
    """Deliver an event by hand."""
    body = json.dumps({"type": "sensor.offline", "data": json.loads(SENSOR % 1)}).encode()
    headers = {
        "X-Grillo-Event": "sensor.offline",
        "X-Grillo-Delivery": delivery,
        "X-Grillo-Attempt": str(attempt),
    }
    headers |= dict(Signer(secret).sign(delivery, int(time.time()), body))
    async with session.post(url, data=body, headers=headers) as response:
        return response.status


async def test_listen_shows_and_checks_each_request() -> None:
    """Signatures, event, attempt and body are shown; the body in readable form; 200 is answered."""
    async with running("listen", "--secret", "s3cret") as process, aiohttp.ClientSession() as session:
        notice = await line(process)
        url = notice.split()[2].rstrip(";")
        assert "checks signatures" in notice
        assert 200 == await post(session, url, secret="s3cret")
        shown = [await line(process) for _ in range(4)]
        assert shown[1].endswith("sensor.offline  dlv_1  attempt 1  answered 200")
        assert "  GRIL01 went offline, last seen 2024-01-15T14:30:00Z" == shown[2]
        assert "  ✓ X-Grillo-Signature valid  ✓ webhook-signature valid" == shown[3]
        process.send_signal(signal.SIGTERM)
        assert 143 == await asyncio.wait_for(process.wait(), 30)


async def test_listen_fails_the_first_attempts_and_tells_programs() -> None:
    """`--fail` counts attempts of each delivery; `--json` gives one object a line, nothing else on stdout."""
    arguments = ["listen", "--fail", "1", "--status", "429", "--secret", "right", "--json"]
    async with running(*arguments) as process, aiohttp.ClientSession() as session:
        assert process.stderr is not None
        notice = (await process.stderr.readline()).decode()
        assert "answers 429 to the first attempt of each delivery, then 200" in notice
        url = notice.split()[2].rstrip(";")
        assert 429 == await post(session, url, secret="right")
        assert 429 == await post(session, url, secret="wrong", delivery="dlv_2")
        assert 200 == await post(session, url, secret="right", attempt=2)
        told = [json.loads(await line(process)) for _ in range(3)]
    assert [("valid", 429), ("invalid", 429), ("valid", 200)] == [
        (one["x_grillo_signature"], one["status"]) for one in told
    ]
    assert told[0]["webhook_signature"] == "valid"
    assert told[0]["body"]["data"]["station_code"] == "GRIL01"


async def test_listen_can_hang_and_still_end() -> None:
    """A sender gets no answer; it can give up, and the listener can end meanwhile."""
    async with running("listen", "--hang") as process, aiohttp.ClientSession() as session:
        url = (await line(process)).split()[2].rstrip(";")
        hung = asyncio.create_task(post(session, url, secret="x"))
        assert "" == await line(process)
        assert (await line(process)).endswith("no answer")
        assert not hung.done()
        process.send_signal(signal.SIGINT)
        assert 130 == await asyncio.wait_for(process.wait(), 30)
        with pytest.raises(aiohttp.ClientError):
            await hung


async def test_listen_takes_its_time() -> None:
    """`--delay` comes before the answer."""
    async with running("listen", "--delay", "0.3") as process, aiohttp.ClientSession() as session:
        url = (await line(process)).split()[2].rstrip(";")
        started = time.monotonic()
        assert 200 == await post(session, url, secret="x")
        assert time.monotonic() - started >= 0.3


async def test_listen_names_what_it_cannot_use() -> None:
    """An unusable secret and a taken port end with 2."""
    assert 2 == (await run("listen", "--secret", "whsec_!")).status
    async with running("listen") as process:
        port = (await line(process)).split()[2].rstrip(";").rpartition(":")[2]
        ended = await run("listen", "--port", port)
    assert 2 == ended.status
    assert "cannot listen on 127.0.0.1" in ended.err


async def test_a_reader_that_goes_away_is_no_error() -> None:
    """`dispatcher … | head -1` ends quietly."""
    async with running("listen", "--json") as process, aiohttp.ClientSession() as session:
        assert process.stderr is not None
        assert process.stdout is not None
        url = (await process.stderr.readline()).decode().split()[2].rstrip(";")
        process._transport.get_pipe_transport(1).close()  # type: ignore[attr-defined]  # noqa: SLF001, as head does
        await post(session, url, secret="x")
        assert 141 == await asyncio.wait_for(process.wait(), 30)
        assert b"" == await process.stderr.read()


WEBHOOK = """
insert into webhook (public_id, organization_id, url, events, secret)
select $1, id, 'https://example.org/', '{*}', '' from organization limit 1 returning id"""
MESSAGE = """
insert into message (day, outbox_id, lane, batch, type, occurred_at, recorded_at, fan_out, body)
values (current_date, $1, 0, 1, 'event.detected', now(), now(), 1, '{}')"""
DELIVERY = "insert into delivery (day, outbox_id, webhook_id, lane) values (current_date, $1, $2, 0)"
FACT = """
insert into delivery_event (day, outbox_id, webhook_id, attempt_no, step, kind, state, trigger, started_at,
                            duration_ms, status_code, error_class, next_attempt_at)
values (current_date, $1, $2, $3, 2, 'attempted', $4, 'first', now(), 3.4, $5, $6, $7)"""


async def test_history_shows_where_each_delivery_stands(database: Database) -> None:
    """Newest last, with attempts and the next one; of one webhook or of all; for people and programs."""
    due = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
    connection = await database.connect()
    try:
        one, other = [await connection.fetchval(WEBHOOK, f"whk_{name}") for name in ("one", "other")]
        for number, webhook in ((1, one), (2, one), (3, other)):
            await connection.execute(MESSAGE, number)
            await connection.execute(DELIVERY, number, webhook)
        await connection.execute(FACT, 1, one, 1, "pending", 500, "server_error", due)
        await connection.execute(FACT, 1, one, 2, "delivered", 200, None, None)
        await connection.execute(FACT, 3, other, 1, "pending", None, "timeout", due)
    finally:
        await connection.close()

    listed = await run("history", "--json", url=database.url)
    assert 0 == listed.status, listed.err
    told = [json.loads(text) for text in listed.lines]
    assert [
        ("whk_one", "delivered", 2, 200, None),
        ("whk_one", "pending", 0, None, None),
        ("whk_other", "pending", 1, None, "timeout"),
    ] == [(row["webhook"], row["state"], row["attempts"], row["status_code"], row["error"]) for row in told]
    assert "2030-01-01T00:00:00Z" == told[2]["next_attempt_at"]
    assert told[0]["delivery"].startswith("dlv_")

    shown = await run("history", "whk_one", "--limit", "1", url=database.url)
    head, row = shown.lines
    assert head.split()[:5] == ["RECORDED", "DELIVERY", "WEBHOOK", "EVENT", "STATE"]
    assert told[1]["delivery"] in row

    unknown = await run("history", "whk_none", url=database.url)
    assert 2 == unknown.status
    assert "there is no webhook whk_none" in unknown.err


async def test_history_follows(database: Database) -> None:
    """After the list, every fact is shown once, when it is recorded; earlier ones are not."""
    connection = await database.connect()
    try:
        webhook = await connection.fetchval(WEBHOOK, "whk_one")
        await connection.execute(MESSAGE, 1)
        await connection.execute(DELIVERY, 1, webhook)
        await connection.execute(FACT, 1, webhook, 1, "pending", 500, "server_error", None)
        async with running("history", "--follow", "--json", url=database.url) as process:
            assert json.loads(await line(process))["attempts"] == 1
            for number in (2, 3):
                await connection.execute(FACT, 1, webhook, number, "pending", 500, "server_error", None)
                assert number == json.loads(await line(process))["attempt"]
            process.send_signal(signal.SIGINT)
            assert 130 == await asyncio.wait_for(process.wait(), 30)
    finally:
        await connection.close()


async def test_an_empty_history_says_so(database: Database) -> None:
    """For people in words, for programs by nothing at all."""
    assert "no deliveries yet\n" == (await run("history", url=database.url)).out
    assert "" == (await run("history", "--json", url=database.url)).out
