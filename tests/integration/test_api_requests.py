"""The management API: keys, limits, and every way in which a request can be wrong."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import re
import socket
from collections.abc import AsyncIterator
from typing import Self
from urllib.parse import urlsplit

import pytest

from dispatcher.api.app import ROUTES
from dispatcher.config import Api, Config
from dispatcher.core.access import SCOPES
from dispatcher.store import accounts
from tests.management import Management, management
from tests.past import Past, delivery_id
from tests.postgres import Database

REQUEST_ID = re.compile(r"req_[0-9a-hjkmnp-tv-z]{26}")


class Wire:
    """The network between the API and PostgreSQL: it can be cut and mended."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._target = (parts.hostname or "", parts.port or 0)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port: int = probe.getsockname()[1]
        self.url = url.replace(f"{parts.hostname}:{parts.port}", f"127.0.0.1:{self._port}")
        self._open: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        await self.mend()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.cut()

    async def mend(self) -> None:
        """Let connections through."""
        self._server = await asyncio.start_server(self._join, "127.0.0.1", self._port)

    async def cut(self) -> None:
        """End all connections, and let no new one through."""
        if self._server is not None:
            self._server.close()
            for writer in self._open:
                writer.transport.abort()
            await self._server.wait_closed()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(*self._target)
        ends = {writer, far_writer}
        self._open |= ends
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pass(reader, far_writer))
                both.create_task(self._pass(far_reader, writer))
        finally:
            self._open -= ends

    @staticmethod
    async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):  # the wire was cut
            while data := await reader.read(65_536):
                writer.write(data)
        writer.close()


@pytest.fixture
async def api(database: Database) -> AsyncIterator[Management]:
    """Run the API over a fresh database, with a client that may read and write."""
    async with management(database.url) as running:
        yield running


async def test_every_answer_is_an_envelope_with_a_request_id(api: Management) -> None:
    """Answers carry the id in the body and in a header; good ones also the time."""
    good = await api.ask("GET", "/v1/webhooks")
    assert REQUEST_ID.fullmatch(good.body["meta"]["request_id"])
    assert good.body["meta"]["request_id"] == good.headers["X-Request-Id"]
    written = dt.datetime.fromisoformat(good.body["meta"]["timestamp"])
    assert written.utcoffset() == dt.timedelta()
    bad = await api.ask("GET", "/v1/nothing")
    assert REQUEST_ID.fullmatch(bad.body["meta"]["request_id"])
    assert bad.body["meta"]["request_id"] == bad.headers["X-Request-Id"] != good.headers["X-Request-Id"]
    assert ("application/json", "no-store") == (bad.headers["Content-Type"], bad.headers["Cache-Control"])


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (b"no request at all\r\n\r\n", "it is not HTTP"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS hello\r\n\r\n", "it is not HTTP"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n", "it is not HTTP"),
        (b"GET /v1/webhooks?" + b"a" * 9_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", "is too long"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX-Long: " + b"a" * 9_000 + b"\r\n\r\n", "is too long"),
    ],
)
async def test_what_cannot_be_read_is_answered_in_an_envelope(
    api: Management, caplog: pytest.LogCaptureFixture, sent: bytes, why: str
) -> None:
    """400, and no traceback in the log: anybody can send such bytes, as often as they like."""
    where = urlsplit(api.base_url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    writer.write(sent)
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    envelope = json.loads(body)
    assert head.startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 "))
    assert b"Content-Type: application/json" in head
    assert ("invalid_request", []) == (envelope["error"]["code"], envelope["error"]["details"])
    assert envelope["error"]["message"].endswith(f"{why}.")
    assert REQUEST_ID.fullmatch(envelope["meta"]["request_id"])
    assert [] == caplog.records


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Basic grk_x", "grk_x", "Bearer grk_unknown", "Bearer \u00e9"]
)
async def test_without_a_valid_key_there_is_no_answer(api: Management, header: str) -> None:
    """401 with the scheme that is expected, whatever was sent instead of a key."""
    reply = await api.ask("GET", "/v1/webhooks", headers={"Authorization": header})
    assert (401, "unauthorized") == (reply.status, reply.code)
    assert reply.headers["WWW-Authenticate"].startswith("Bearer")


async def test_expired_and_revoked_keys_open_nothing(api: Management) -> None:
    """A key ends at its time, or at once when it is revoked."""
    now = dt.datetime.now(dt.UTC)
    expired = await api.new_key(expires_at=now - dt.timedelta(seconds=1))
    lasting = await api.new_key(expires_at=now + dt.timedelta(hours=1))
    assert (await api.ask("GET", "/v1/webhooks", key=expired)).status == 401
    assert (await api.ask("GET", "/v1/webhooks", key=lasting)).status == 200
    store = api.context.database
    keys = await accounts.list_keys(store)
    assert keys is not None
    assert keys[-1].hint == lasting[-4:]
    assert keys[-1].last_used_at is not None
    assert await accounts.revoke_key(store, keys[-1].public_id)
    assert not await accounts.revoke_key(store, keys[-1].public_id)
    assert (await api.ask("GET", "/v1/webhooks", key=lasting)).status == 401


async def test_keys_are_stored_as_hashes_only(api: Management, database: Database) -> None:
    """Nothing in the database opens the API."""
    key = await api.new_key(name="probe")
    connection = await database.connect()
    for table in ("api_key", "audit"):
        dump = await connection.fetchval(f"select string_agg(t::text, ' ') from {table} t")
        assert key not in dump
        assert "probe" in dump
    await connection.close()


async def test_scopes_open_what_they_say(api: Management) -> None:
    """Reading needs a scope to read, changing one to write; writing includes reading, admin both."""
    webhook = (await api.new_webhook())["id"]
    keys = {scope: await api.new_key([scope]) for scope in SCOPES}
    keys["none"] = await api.new_key([])
    for route in ROUTES:
        path = route.path.format(webhook_id=webhook, delivery_id="dlv_x", recovery_id="rcv_x", outbox_id="1")
        for scope, key in keys.items():
            allowed = scope in {"admin", "write:webhooks", route.scope}
            if route.method == "DELETE" and allowed:
                continue  # the webhook is still needed
            reply = await api.ask(route.method, path, {} if route.body else None, key=key)
            assert allowed == (reply.status != 403), (route, scope, reply.text)
            if not allowed:
                assert reply.code == "forbidden"


async def test_one_organization_never_finds_anothers_things(api: Management, database: Database) -> None:
    """Every route answers another organization's ids as it answers ids that nobody has."""
    mine = (await api.new_webhook(events=["*"]))["id"]
    connection = await database.connect()
    past = await Past.of(connection, mine)
    failed = await past.delivery()
    await past.attempt(failed, 1, 500)
    since = (dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)).isoformat()
    window = {"since": since, "include": ["failed"]}
    recovery = (await api.ask("POST", f"/v1/webhooks/{mine}/recover", window)).data["id"]
    await accounts.create_organization(api.context.database, "elsewhere", network_ids=["net_z"])
    stranger = await api.new_key(["admin"], "elsewhere")
    own = (
        await api.ask("POST", "/v1/webhooks", {"url": "https://r.example/", "events": ["*"]}, key=stranger)
    ).data["id"]
    names = {
        "delivery_id": await delivery_id(connection, failed),
        "recovery_id": recovery,
        "outbox_id": failed.outbox_id,
    }
    unknown = {"delivery_id": "dlv_x", "recovery_id": "rcv_x", "outbox_id": 2**62}
    await connection.close()
    for route in ROUTES:
        if "{" not in route.path:
            continue
        body = window if route.name == "recover" else {} if route.body else None
        theirs = await api.ask(route.method, route.path.format(webhook_id=mine, **names), body, key=stranger)
        nobodys = await api.ask(
            route.method, route.path.format(webhook_id="whk_x", **unknown), body, key=stranger
        )
        assert (404, 404) == (theirs.status, nobodys.status), route.name
        assert theirs.body["error"] == nobodys.body["error"]
        if "delivery_id" in route.path or "recovery_id" in route.path:
            through = route.path.format(webhook_id=own, **names)
            assert (await api.ask(route.method, through, body, key=stranger)).status == 404
    listed = await api.ask("GET", "/v1/webhooks", key=stranger)
    assert [own] == [one["id"] for one in listed.data]


async def test_a_key_has_a_rate(database: Database) -> None:
    """A key that asks too often is told when to come back; another key is not affected."""
    async with management(database.url, Config(api=Api(rate_limit_per_minute=3))) as api:
        other = await api.new_key()
        left = [(await api.ask("GET", "/v1/webhooks")).headers["X-RateLimit-Remaining"] for _ in range(3)]
        assert ["2", "1", "0"] == left
        reply = await api.ask("GET", "/v1/webhooks")
        assert (429, "rate_limit_exceeded") == (reply.status, reply.code)
        assert 1 <= int(reply.headers["Retry-After"]) <= 60
        assert ("3", "0") == (reply.headers["X-RateLimit-Limit"], reply.headers["X-RateLimit-Remaining"])
        assert int(reply.headers["X-RateLimit-Reset"]) > 1_700_000_000
        assert (await api.ask("GET", "/v1/webhooks", key=other)).status == 200


async def test_unknown_paths_and_methods_are_envelopes(api: Management) -> None:
    """404 and 405 come in the same form as everything else."""
    for path in ("/", "/v1", "/v2/webhooks", "/v1/webhooks/", "//v1/webhooks", "/v1/webhooks/%2e%2e/x"):
        reply = await api.ask("GET", path)
        assert (404, "not_found") == (reply.status, reply.code), path
    reply = await api.ask("PUT", "/v1/webhooks", {})
    assert (405, "method_not_allowed") == (reply.status, reply.code)
    assert {"GET", "HEAD", "POST"} == set(reply.headers["Allow"].split(", "))


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"[]",
        b'"x"',
        b"null",
        b"NaN",
        b'{"url": "\xff"}',
        b'{"url": "\\ud800"}',
        b"[" * 100_000,
        b'{"filter":' + b'{"a":' * 20_000,
        b'{"active": ' + b"1" * 5_000 + b"}",
        b'{"active": 1e999}',
        b"\xef\xbb\xbf{}",
        b"{} {}",
        b"\x00",
    ],
)
async def test_what_is_not_json_is_refused(api: Management, content: bytes) -> None:
    """No body, however strange, does more than make a 400."""
    reply = await api.ask("POST", "/v1/webhooks", raw=content)
    assert (400, ["body"]) == (reply.status, [field for field, _ in reply.details])


@pytest.mark.parametrize(
    "fields",
    [
        {"a\x00b": 1},
        {"filter": {"a": ["\x00"]}},
        {"events": ["\x00"]},
        {"events": [{}] * 1000},
        {"events": ["x" * 100_000]},
        {"events": [f"event.{number}" for number in range(1000)]},
        {"secret": "\x00" * 8},
        {"description": "\x00"},
        {"network_ids": ["\x00"]},
        {"network_ids": [str(number) for number in range(10_000)]},
        {"active": 10**40},
        {"headers": {"x" * 100_000: ""}},
        {str(number): 1 for number in range(5_000)},
    ],
)
async def test_no_value_makes_an_error_of_ours(api: Management, fields: dict[str, object]) -> None:
    """Characters that PostgreSQL cannot hold, and values beyond all measure, are the client's to mend."""
    wanted = {"url": "https://receiver.example/", "events": ["event.detected"], **fields}
    reply = await api.ask("POST", "/v1/webhooks", wanted)
    assert reply.status == 400
    assert 1 <= len(reply.details) <= 100


async def test_a_body_has_a_size(database: Database) -> None:
    """What is longer than the configuration allows is refused, whether its length was announced or not."""
    async with management(database.url, Config(api=Api(max_body_bytes=1000))) as api:
        reply = await api.ask("POST", "/v1/webhooks", {"url": "x" * 1000})
        assert (413, "payload_too_large") == (reply.status, reply.code)


@pytest.mark.parametrize(
    "content_type",
    ["", "text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-16", "nonsense"],
)
async def test_a_body_must_say_that_it_is_json(api: Management, content_type: str) -> None:
    """Another content type is refused with the one that is expected; so are other charsets."""
    reply = await api.ask("POST", "/v1/webhooks", {}, headers={"Content-Type": content_type})
    assert (415, "unsupported_media_type") == (reply.status, reply.code)
    assert reply.headers["Accept"] == "application/json"


async def test_a_body_that_cannot_be_unpacked_is_refused(
    api: Management, caplog: pytest.LogCaptureFixture
) -> None:
    """A content encoding that the bytes do not have is the client's mistake, and no error of ours."""
    reply = await api.ask("POST", "/v1/webhooks", raw=b"not gzip", headers={"Content-Encoding": "gzip"})
    assert (400, "invalid_request") == (reply.status, reply.code)
    assert (await api.ask("GET", "/v1/webhooks")).status == 200
    assert [] == [record.message for record in caplog.records if record.levelname == "ERROR"]


async def test_no_answer_tells_of_versions(api: Management) -> None:
    """Nobody learns from a header which library to look up weaknesses of."""
    for path in ("/v1/webhooks", "/v1/nothing", "/v1/openapi.json"):
        assert "grillo-dispatcher" == (await api.ask("GET", path)).headers["Server"]


async def test_concurrent_changes_all_happen(api: Management) -> None:
    """Changes of one webhook take their turns; none is lost."""
    webhook = (await api.new_webhook())["id"]
    path = f"/v1/webhooks/{webhook}"
    changes = [{"description": "d"}, {"headers": {"X-A": "1"}}, {"events": ["*"]}, {"active": False}]
    replies = await asyncio.gather(*(api.ask("PATCH", path, change) for change in changes))
    assert [200] * 4 == [reply.status for reply in replies]
    shown = (await api.ask("GET", path)).data
    assert ("d", {"X-A": "1"}, ["*"], False) == (
        shown["description"],
        shown["headers"],
        shown["events"],
        shown["active"],
    )


async def test_without_the_database_clients_are_asked_to_wait(database: Database) -> None:
    """503 with Retry-After while PostgreSQL cannot be reached, and answers again once it can."""
    wire = Wire(database.url)
    async with wire, management(wire.url) as api:
        await wire.cut()
        reply = await api.ask("GET", "/v1/webhooks")
        assert (503, "unavailable") == (reply.status, reply.code)
        assert int(reply.headers["Retry-After"]) >= 1
        await wire.mend()
        assert (await api.ask("GET", "/v1/webhooks")).status == 200


async def test_a_bug_is_an_envelope_too(api: Management, database: Database) -> None:
    """What nobody foresaw answers 500 with the request's id and without its insides."""
    connection = await database.connect()
    await connection.execute("alter table webhook rename to webhook_elsewhere")
    reply = await api.ask("GET", "/v1/webhooks")
    await connection.close()
    assert (500, "internal_error") == (reply.status, reply.code)
    assert reply.headers["X-Request-Id"] in reply.body["error"]["message"]
    assert "webhook_elsewhere" not in reply.text
