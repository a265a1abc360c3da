"""An alert finds a connection open, however long ago the last one was: real sockets, TLS and daemon."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Final

from tests.acceptance.daemon import daemons
from tests.acceptance.subscriber import create_webhook
from tests.acceptance.waiting import eventually
from tests.certificates import Authority
from tests.parts import insert
from tests.postgres import Database, wait_for
from tests.receiver import Receiver

WITHIN_S: Final = 60.0


async def test_alert_pays_no_handshake(database: Database, tmp_path: Path) -> None:
    """Its connection was made anew before; none to who subscribes to sensors alone, or is inactive."""
    authority = Authority(tmp_path)
    told, sensors, paused = (Receiver(ssl_context=authority.server("127.0.0.1")) for _ in range(3))
    connection = await database.connect()
    async with (
        told,
        sensors,
        paused,
        daemons(database.url, tmp_path, {"SSL_CERT_FILE": str(authority.file)}) as house,
    ):
        for receiver, events in ((told, ["*"]), (sensors, ["sensor.*"]), (paused, ["event.detected"])):
            number = await create_webhook(database.url, f"https://127.0.0.1:{receiver.port}/hook", events)
        await connection.execute("update webhook set active = false where id = $1", number)
        daemon = await house.start()

        async def warm() -> bool:
            return await daemon.metric('dispatcher_warm_connections{state="open"}') == 1

        async def recorded(count: int) -> str:
            found = await connection.fetch("select timings from delivery_event order by outbox_id")
            return found[-1]["timings"] if len(found) == count else ""

        await insert(connection)
        first = await eventually(partial(recorded, 1), "the fact of the first", WITHIN_S)
        assert {"dns_ms", "connect_ms", "tls_ms", "first_byte_ms"} >= json.loads(first).keys() > {"tls_ms"}
        await told.hang_up()
        await told.wait_until(lambda: told.connections == 2, WITHIN_S, "a connection that was made ahead")
        await eventually(warm, "a connection is open", WITHIN_S)
        assert 1 == await daemon.metric('dispatcher_warm_connections{state="wanted"}')
        assert 1 == len(told.requests)
        await insert(connection)
        await told.wait_for(2)
        assert (2, 2) == (told.connections, told.requests[1].connection)
        second = await eventually(partial(recorded, 2), "the fact of the second", WITHIN_S)
        assert {"first_byte_ms"} == json.loads(second).keys()
        phases = "dispatcher_attempt_phase_seconds_count"
        assert (0, 1, 1, 2) == (
            await daemon.metric(f'{phases}{{phase="dns"}}'),
            await daemon.metric(f'{phases}{{phase="connect"}}'),
            await daemon.metric(f'{phases}{{phase="tls"}}'),
            await daemon.metric(f'{phases}{{phase="first_byte"}}'),
        )
        assert (0, 0) == (sensors.connections, paused.connections)
        await connection.execute("update webhook set active = true where id = $1", number)
        await insert(connection)  # whatever is tailed brings the change along
        await paused.wait_for(1)
        await connection.close()
        await wait_for(lambda: paused.connections > 0, "it is told", WITHIN_S)
        assert [] == daemon.complaints()


async def test_none_is_kept_where_none_is_wanted(database: Database, tmp_path: Path) -> None:
    """`delivery.warm_connections = 0`: a connection is made for a request and not before."""
    connection = await database.connect()
    async with (
        Receiver() as receiver,
        daemons(database.url, tmp_path, DELIVERY__WARM_CONNECTIONS="0") as house,
    ):
        await create_webhook(database.url, receiver.url("/hook"), ["*"])
        daemon = await house.start()
        await daemon.says("leading")
        await insert(connection)
        await receiver.wait_for(1)

        async def connected() -> bool:
            return await daemon.metric('dispatcher_attempt_phase_seconds_count{phase="connect"}') == 1

        await eventually(connected, "the attempt made its connection", WITHIN_S)
        assert 0 == await daemon.metric('dispatcher_warm_connections{state="wanted"}')
        await connection.close()
