"""What was delivered, failed or missed is sent again on request, by the real daemon, over its real API."""

from __future__ import annotations

import datetime as dt
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp

from dispatcher.config import Database as DatabaseConfig
from dispatcher.core.access import WRITE
from dispatcher.store import accounts
from dispatcher.store.connection import Database as Store
from tests import commands
from tests.acceptance.daemon import daemons
from tests.postgres import Database, wait_for
from tests.receiver import Exchange, Receiver, response

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.acceptance.daemon import Daemon
    from tests.receiver import Request

SENSOR = '{"sensor_id":"sen_1","station_code":"GRIL01","last_seen":"2024-01-15T14:30:00Z"}'
ONLINE = '{"sensor_id":"sen_1","station_code":"GRIL01","offline_duration_seconds":3600}'


class Server:
    """A subscriber's server whose health the test decides on."""

    def __init__(self) -> None:
        self.status = 500
        self.receiver = Receiver(self._answer)

    async def _answer(self, exchange: Exchange) -> None:
        await exchange.send(response(self.status))

    def arrived(self, delivery: str) -> list[Request]:
        """Give the requests of one delivery."""
        return [one for one in self.receiver.requests if one.header("x-grillo-delivery") == delivery]


class Client:
    """Asks a daemon's API."""

    def __init__(self, session: aiohttp.ClientSession, key: str, daemon: Daemon) -> None:
        self._session = session
        self._headers = {"Authorization": f"Bearer {key}"}
        self.daemon = daemon

    async def __call__(self, method: str, path: str, body: object = None) -> Any:
        """Give the `data` of an answer."""
        url = f"{self.daemon.address('api')}{path}"
        async with self._session.request(method, url, json=body, headers=self._headers) as answer:
            text = await answer.text()
            assert answer.status < 300, text
            return (await answer.json())["data"]


async def until(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    """Wait for something to be true."""
    holds: bool = await wait_for(condition, what, 60)
    assert holds


@asynccontextmanager
async def client(url: str, daemon: Daemon) -> AsyncIterator[Client]:
    """Make a key, and a client that uses it."""
    store = Store(url, DatabaseConfig())
    made = await accounts.create_key(store, scopes=[WRITE])
    await store.close()
    assert made is not None
    async with aiohttp.ClientSession() as session:
        yield Client(session, made.key, daemon)


async def test_a_delivery_is_attempted_again_on_request(database: Database, tmp_path: Path) -> None:
    """A retry that waits is made at once, a failed and a delivered one once more, with the same id and bytes.

    While a secret rotates, every request is signed with both.
    """
    server = Server()
    async with server.receiver, daemons(database.url, tmp_path, DELIVERY__RETRY_DELAYS_S="3600") as house:
        daemon = await house.start()
        async with client(database.url, daemon) as ask:
            wanted = {"url": server.receiver.url("/hook"), "events": ["sensor.offline"]}
            webhook = (await ask("POST", "/v1/webhooks", wanted))["id"]
            connection = await database.connect()
            await connection.execute("insert into outbox (type, data) values ('sensor.offline', $1)", SENSOR)
            await connection.close()
            await server.receiver.wait_for(1)
            delivery = server.receiver.requests[0].header("x-grillo-delivery") or ""
            path = f"/v1/webhooks/{webhook}/deliveries/{delivery}"

            async def amounts_to(status: str, attempts: int) -> bool:
                shown = await ask("GET", path)
                return bool((status, attempts) == (shown["status"], shown["attempt_count"]))

            await until(lambda: amounts_to("pending", 1), "the first attempt failed")
            await ask("POST", f"{path}/redeliver")
            await until(lambda: amounts_to("failed", 2), "the last retry was made")
            server.status = 200
            await ask("POST", f"{path}/redeliver")
            await until(lambda: amounts_to("delivered", 3), "the redelivery arrived")
            await ask("POST", f"/v1/webhooks/{webhook}/rotate-secret")
            server.status = 500
            await ask("POST", f"{path}/redeliver")
            await until(lambda: amounts_to("delivered", 4), "one more arrived, which changes nothing")
            shown = await ask("GET", path)

        requests = server.arrived(delivery)
        assert ["1", "2", "3", "4"] == [one.header("x-grillo-attempt") for one in requests]
        assert 1 == len({one.body for one in requests})
        assert [False, False, False, True] == [
            one.header("x-grillo-signature-next") is not None for one in requests
        ]
        assert 2 == len((requests[-1].header("webhook-signature") or "").split())
        assert ["first", "manual", "manual", "manual"] == [one["trigger"] for one in shown["attempts"]]
        made = [(one["kind"], one["trigger"]) for one in shown["facts"]]
        assert [
            ("attempted", "first"),
            ("requested", "manual"),
            ("attempted", "manual"),
            ("requested", "manual"),
            ("attempted", "manual"),
            ("requested", "manual"),
            ("attempted", "manual"),
        ] == made
        assert {"127.0.0.1"} == {
            one["address"].rpartition(":")[0] or one["address"] for one in shown["attempts"]
        }
        daemon.terminate()
        assert 0 == await daemon.ended(), daemon.last_words()
        assert [] == house.complaints()
    verified = await commands.run("verify", url=database.url)
    assert 0 == verified.status, verified.out


async def test_a_window_is_recovered_across_a_kill(database: Database, tmp_path: Path) -> None:
    """What failed is retried, what was never scheduled arrives, whoever kills the daemon meanwhile."""
    server = Server()
    since = dt.datetime.now(dt.UTC) - dt.timedelta(minutes=1)
    settings = {"DELIVERY__RETRY_DELAYS_S": "0.1", "DELIVERY__MAX_IN_FLIGHT_PER_WEBHOOK": "2"}
    async with server.receiver, daemons(database.url, tmp_path, **settings) as house:
        daemon = await house.start()
        async with client(database.url, daemon) as ask:
            wanted = {"url": server.receiver.url("/hook"), "events": ["sensor.offline"]}
            webhook = (await ask("POST", "/v1/webhooks", wanted))["id"]
            path = f"/v1/webhooks/{webhook}"
            connection = await database.connect()
            for kind, data in (("sensor.offline", SENSOR), ("sensor.online", ONLINE)):
                await connection.execute(
                    "insert into outbox (type, data) select $1, $2::json from generate_series(1, 60)",
                    kind,
                    data,
                )

            async def counts(status: str) -> int:
                answer = await connection.fetchval(
                    "select count(*) from delivery d where (select e.state from delivery_event e"
                    " where (e.day, e.outbox_id, e.webhook_id) = (d.day, d.outbox_id, d.webhook_id)"
                    " order by e.attempt_no desc, e.step desc limit 1) = $1",
                    status,
                )
                return int(answer)

            async def all_are(status: str, count: int) -> bool:
                return await counts(status) == count

            await until(lambda: all_are("failed", 60), "every delivery failed")
            await until(
                lambda: connection.fetchval("select count(*) = 120 from message"), "everything is routed"
            )
            await ask("PATCH", path, {"events": ["sensor.*"]})
            server.status = 200
            window = {"since": since.isoformat(), "include": ["failed", "cancelled", "missing"]}
            counted = await ask("POST", f"{path}/recover", {**window, "dry_run": True})
            assert {"failed": 60, "cancelled": 0, "missing": 60} == counted["counts"]
            before = len(server.receiver.requests)
            made = await ask("POST", f"{path}/recover", window)
            assert 120 == made["count"]
            await server.receiver.wait_for(before + 30)
            daemon.kill()
            await daemon.ended()
            ask.daemon = daemon = await house.start()

            async def completed() -> bool:
                shown = await ask("GET", f"{path}/recoveries/{made['id']}")
                return bool(shown["status"] == "completed")

            await until(completed, "the recovery is completed")
            await until(lambda: all_are("delivered", 120), "all of them arrived")
            shown = await ask("GET", f"{path}/recoveries/{made['id']}")
            assert {"failed": 60, "cancelled": 0, "missing": 60} == shown["requested"]
            listed = await ask("GET", f"{path}/deliveries?event=sensor.online&limit=1")
            detail = await ask("GET", f"{path}/deliveries/{listed[0]['id']}")
            assert ("requested", "recover", 1) == tuple(
                detail["facts"][0][name] for name in ("kind", "trigger", "number")
            )
            assert "recover" == detail["attempts"][-1]["trigger"] or len(detail["attempts"]) > 2
            await connection.close()
        daemon.terminate()
        assert 0 == await daemon.ended(), daemon.last_words()
        assert [] == house.complaints()
    verified = await commands.run("verify", url=database.url)
    assert 0 == verified.status, verified.out


async def test_a_recovery_ends_with_its_webhook(database: Database, tmp_path: Path) -> None:
    """A webhook that is deactivated meanwhile is not sent to: the recovery says why it stopped."""
    server = Server()
    since = dt.datetime.now(dt.UTC) - dt.timedelta(minutes=1)
    async with server.receiver, daemons(database.url, tmp_path) as house:
        daemon = await house.start()
        async with client(database.url, daemon) as ask:
            wanted = {"url": server.receiver.url("/hook"), "events": ["sensor.offline"]}
            webhook = (await ask("POST", "/v1/webhooks", wanted))["id"]
            path = f"/v1/webhooks/{webhook}"
            daemon.freeze()
            connection = await database.connect()
            await connection.execute(
                "insert into recovery (public_id, webhook_id, since, until, include, counted, counted_all,"
                " actor) select 'rcv_test', id, $1, now(), '{missing}',"
                """ '{"failed":0,"cancelled":0,"missing":0}', true, 'key_x' from webhook""",
                since,
            )
            await connection.execute("update webhook set active = false")
            await connection.execute("notify dispatcher_outbox, 'due'")
            await connection.close()
            daemon.thaw()

            async def stopped() -> bool:
                shown = await ask("GET", f"{path}/recoveries/rcv_test")
                return bool(shown["status"] == "stopped" and shown["reason"] == "webhook deactivated")

            await until(stopped, "the recovery stopped, and says why")
