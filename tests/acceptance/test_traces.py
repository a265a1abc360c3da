"""One trace from the outbox to each attempt, as a real collector sees it."""

from __future__ import annotations

import signal
from pathlib import Path

from dispatcher.telemetry.traces import HEADER
from tests.acceptance.daemon import daemons
from tests.acceptance.subscriber import SECRET, create_webhook
from tests.collector import collecting
from tests.parts import detected, insert
from tests.postgres import Database
from tests.receiver import Receiver, answer, free_port, hang

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PRODUCER = "00f067aa0ba902b7"
CLIENT, CONSUMER = 3, 5  # OpenTelemetry's span kinds
UNSET, ERROR = 0, 2  # and its statuses


async def test_a_trace_survives_a_crash(database: Database, tmp_path: Path) -> None:
    """The producer's trace goes on in the fan-out and every attempt, also of a process after kill -9.

    Receivers are told of it; the collector learns of no secret, nor of a URL's path.
    """
    connection = await database.connect()
    script = [answer(500), hang(), answer(200)]
    async with collecting() as collector, Receiver(script) as receiver:
        await create_webhook(
            database.url, receiver.url("/token-in-path"), ["*"], headers={"X-Token": "token-in-header"}
        )
        settings = {
            "TRACING__ENDPOINT": collector.endpoint,
            "TRACING__PROPAGATE": "true",
            "DELIVERY__RETRY_DELAYS_S": "1,1,1",
        }
        async with daemons(database.url, tmp_path, **settings) as house:
            daemon = await house.start()
            await insert(connection, traceparent=f"00-{TRACE}-{PRODUCER}-01")
            await receiver.wait_for(2)
            await collector.has(2)
            daemon.kill()
            await daemon.ended()
            daemon = await house.start()
            await receiver.wait_for(3)
            await insert(connection, detected(event_id="evt_2"))
            await receiver.wait_for(4)
            await connection.close()
            daemon.terminate()  # what is gathered still goes out
            assert 0 == await daemon.ended(), daemon.last_words()
            assert [] == house.complaints()

        headers = [(request.header(HEADER) or "").split("-") for request in receiver.requests]
        fan_out, first, third, own_fan_out, own = sorted(collector.spans, key=lambda span: span.started_ns)

        assert [TRACE] * 3 == [header[1] for header in headers[:3]]
        assert 4 == len({header[2] for header in headers})
        assert (PRODUCER, "fan-out event.detected", CONSUMER) == (
            fan_out.parent_id,
            fan_out.name,
            fan_out.kind,
        )
        # The second attempt ended with the process: the receiver knows of it, the collector does not.
        assert ["1", "2", "3"] == [request.header("x-grillo-attempt") for request in receiver.requests[:3]]
        assert [(1, headers[0][2], ERROR), (3, headers[2][2], UNSET)] == [
            (span.attempt, span.span_id, span.status) for span in (first, third)
        ]
        for span in (fan_out, first, third):
            assert TRACE == span.trace_id
            assert span.started_ns <= span.ended_ns
        for span in (first, third):
            assert (fan_out.span_id, "attempt event.detected", CLIENT) == (
                span.parent_id,
                span.name,
                span.kind,
            )
            assert ("127.0.0.1", receiver.port) == (
                span.attributes["server.address"],
                span.attributes["server.port"],
            )
            assert span.attributes["grillo.first_byte_ms"] > 0
        assert (500, "server_error", "first") == tuple(
            first.attributes[name] for name in ("http.response.status_code", "error.type", "grillo.trigger")
        )
        assert 200 == third.attributes["http.response.status_code"]
        assert "error.type" not in third.attributes

        assert ("", own_fan_out.trace_id, own_fan_out.span_id) == (
            own_fan_out.parent_id,
            own.trace_id,
            own.parent_id,
        )
        assert headers[3][1:] == [own.trace_id, own.span_id, "01"]
        assert TRACE != own.trace_id
        assert "grillo-dispatcher" == collector.resource["service.name"]
        assert [] == [
            word for word in ("token-in", "X-Token", SECRET, SECRET[6:], "sha256=") if word in collector.text
        ]


async def test_deliveries_do_not_wait_for_a_collector(database: Database, tmp_path: Path) -> None:
    """Where none listens they go all the same, and the shutdown ends; what is not sampled stays so."""
    connection = await database.connect()
    endpoint = f"http://127.0.0.1:{free_port()}/v1/traces"
    async with Receiver() as receiver:
        await create_webhook(database.url, receiver.url("/hook"), ["*"])
        settings = {"TRACING__ENDPOINT": endpoint, "TRACING__PROPAGATE": "true"}
        async with daemons(database.url, tmp_path, **settings) as house:
            daemon = await house.start()
            for number in range(20):
                await insert(connection, detected(event_id=f"evt_{number}"))
            await insert(connection, traceparent=f"00-{TRACE}-{PRODUCER}-00")
            requests = await receiver.wait_for(21)
            await connection.close()
            daemon.process.send_signal(signal.SIGTERM)
            assert 0 == await daemon.ended(), daemon.last_words()
            assert not daemon.strays
            # The exporter's trouble is a line of our log, from its own thread; no delivery has one.
            loggers = {line["logger"] for line in daemon.log if line["level"] in {"warning", "error"}}
            assert {"opentelemetry"} == {name.partition(".")[0] for name in loggers}
        told = [(request.header(HEADER) or "").split("-") for request in requests]
        assert ["00"] == [one[3] for one in told if TRACE == one[1]]


async def test_tracing_is_off_by_default(database: Database, tmp_path: Path) -> None:
    """The requests are those of the contract, whatever the producer wrote."""
    connection = await database.connect()
    async with Receiver() as receiver:
        await create_webhook(database.url, receiver.url("/hook"), ["*"])
        async with daemons(database.url, tmp_path) as house:
            await house.start()
            await insert(connection, traceparent=f"00-{TRACE}-{PRODUCER}-01")
            (request,) = await receiver.wait_for(1)
    await connection.close()
    assert [
        *("Host", "Content-Type", "User-Agent", "X-Grillo-Event", "X-Grillo-Delivery"),
        *("X-Grillo-Signature", "X-Grillo-Attempt", "X-Grillo-Occurred-At", "X-Grillo-Sequence"),
        *("webhook-id", "webhook-timestamp", "webhook-signature", "Content-Length"),
    ] == [name for name, _ in request.headers]


async def test_without_the_extra_tracing_is_refused(database: Database, tmp_path: Path) -> None:
    """What is missing is named, and what to do about it: a setting that does nothing would deceive."""
    (tmp_path / "opentelemetry.py").touch()  # stands in the way of the packages, as if they were not there
    environ = {"PYTHONPATH": str(tmp_path)}
    settings = {"TRACING__ENDPOINT": "http://127.0.0.1:4318/v1/traces"}
    async with daemons(database.url, tmp_path, environ, **settings) as house:
        daemon = await house.start(wait=False)
        assert 2 == await daemon.ended()
        assert "tracing.endpoint: opentelemetry" in daemon.last_words()
        assert "pip install 'grillo-dispatcher[otel]'" in daemon.last_words()
