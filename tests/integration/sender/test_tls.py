"""TLS is verified, always: there is nothing to switch off."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
import warnings
from typing import TYPE_CHECKING

import msgspec
import pytest

from dispatcher.core.outcome import ErrorClass, NoAnswer, error_class
from dispatcher.sender import HttpSender
from tests.certificates import Authority
from tests.receiver import Exchange, Receiver, answer, close, endless, hang, reset, response
from tests.sending import HASTY, LOCAL, message, names

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from tests.receiver import Behaviour

HOOK = names(hook=["127.0.0.1"])


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """Make an authority that the sender trusts, as an operator adds one: by `SSL_CERT_FILE`."""
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    return authority


async def test_trusted_certificate(authority: Authority) -> None:
    """A receiver with a certificate for its name is sent to, on one connection."""
    async with (
        Receiver(ssl_context=authority.server("hook.test")) as receiver,
        HttpSender(LOCAL, lookup=HOOK) as sender,
    ):
        first = await sender.send(message(receiver.url(host="hook.test.")))
        second = await sender.send(message(receiver.url(host="hook.test")))
    assert [error_class(first), error_class(second)] == [None, None]
    assert first.timings.tls_ms is not None
    assert first.timings.tls_ms > 0
    assert first.address == "127.0.0.1"
    assert receiver.connections == 1


async def test_session_keys_are_written_nowhere(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`SSLKEYLOGFILE`, left behind in the environment by somebody who debugged, opens nobody's traffic."""
    keys = tmp_path / "keys"
    monkeypatch.setenv("SSLKEYLOGFILE", str(keys))
    pem = authority.file.read_text()
    async with (
        Receiver(ssl_context=authority.server("hook.test")) as receiver,
        HttpSender(LOCAL, lookup=HOOK) as sender,
    ):
        for certificates in ("", pem):
            sent = message(receiver.url(host="hook.test"))
            outcome = await sender.send(msgspec.structs.replace(sent, ca_certificates=certificates))
            assert error_class(outcome) is None
    assert not keys.exists()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_session_is_resumed(authority: Authority, version: ssl.TLSVersion) -> None:
    """The next connection to a host goes on with the session of the one before, under the same trust."""
    context = authority.server("hook.test", "other.test")
    context.minimum_version = context.maximum_version = version
    resumed: list[bool] = []

    async def behave(exchange: Exchange) -> None:
        resumed.append(exchange.writer.get_extra_info("ssl_object").session_reused)
        await answer(200, [("Connection", "close")])(exchange)

    lookup = names(hook=["127.0.0.1"], other=["127.0.0.1"])
    pem = authority.file.read_text()
    async with Receiver(behave, ssl_context=context) as receiver, HttpSender(LOCAL, lookup=lookup) as sender:
        for host, certificates in (("hook", ""), ("hook", ""), ("other", ""), ("hook", pem), ("hook", "")):
            sent = msgspec.structs.replace(
                message(receiver.url(host=f"{host}.test")), ca_certificates=certificates
            )
            assert error_class(await sender.send(sent)) is None
    assert [False, True, False, False, True] == resumed


async def test_trusted_certificate_for_an_address(authority: Authority) -> None:
    """A certificate can name an address."""
    async with (
        Receiver(ssl_context=authority.server("127.0.0.1")) as receiver,
        HttpSender(LOCAL) as sender,
    ):
        assert error_class(await sender.send(message(receiver.url()))) is None


@pytest.mark.parametrize("fault", ["wrong name", "expired", "self-signed", "unknown authority"])
async def test_certificate_that_is_not_accepted(
    authority: Authority, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A certificate that does not prove the receiver's name gets no request."""
    host = "other.test" if fault == "wrong name" else "hook.test"
    context = authority.server(host, expired=fault == "expired", self_signed=fault == "self-signed")
    if fault == "unknown authority":
        monkeypatch.delenv("SSL_CERT_FILE")
    async with Receiver(ssl_context=context) as receiver, HttpSender(LOCAL, lookup=HOOK) as sender:
        outcome = await sender.send(message(receiver.url(host="hook.test")))
        assert isinstance(outcome, NoAnswer)
        assert outcome.error is ErrorClass.TLS
        assert outcome.message.startswith("the certificate was not accepted")
        assert outcome.address == "127.0.0.1"
        assert receiver.requests == []


async def test_plain_text_on_a_tls_port() -> None:
    """A receiver that speaks plain HTTP where TLS was asked for fails TLS."""
    async with Receiver(on_connect=answer()) as receiver, HttpSender(LOCAL) as sender:
        outcome = await sender.send(message(receiver.url().replace("http:", "https:")))
    assert isinstance(outcome, NoAnswer)
    assert outcome.error is ErrorClass.TLS


async def test_old_tls(authority: Authority) -> None:
    """TLS before 1.2 is not spoken."""
    context = authority.server("127.0.0.1")
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    assert (await _refusal_of(context)).error is ErrorClass.TLS


async def test_handshake_that_hangs() -> None:
    """A receiver that accepts and says nothing is given up after the connect timeout."""
    config = msgspec.structs.replace(LOCAL, connect_timeout_s=0.3)
    async with Receiver(on_connect=hang()) as receiver, HttpSender(config) as sender:
        outcome = await sender.send(message(receiver.url().replace("http:", "https:")))
        assert isinstance(outcome, NoAnswer)
        assert outcome.error is ErrorClass.CONNECT_TIMEOUT
        assert "TLS" in outcome.message
        await receiver.wait_until(lambda: receiver.open == 0)


@pytest.mark.parametrize("behaviour", [close(), reset()])
async def test_handshake_that_ends_early(behaviour: Behaviour) -> None:
    """A receiver that ends the connection before TLS was agreed on has ended the connection."""
    async with Receiver(on_connect=behaviour) as receiver, HttpSender(LOCAL) as sender:
        outcome = await sender.send(message(receiver.url().replace("http:", "https:")))
    assert isinstance(outcome, NoAnswer)
    assert outcome.error in {ErrorClass.RESET, ErrorClass.TLS}
    assert outcome.address == "127.0.0.1"


@pytest.mark.parametrize("behaviour", [close(), reset()])
async def test_connection_that_ends_after_the_handshake(authority: Authority, behaviour: Behaviour) -> None:
    """Without an answer, a TLS connection that ends is like any other."""
    context = authority.server("127.0.0.1")
    async with Receiver(behaviour, ssl_context=context) as receiver, HttpSender(LOCAL) as sender:
        outcome = await sender.send(message(receiver.url()))
    assert isinstance(outcome, NoAnswer)
    assert outcome.error is ErrorClass.RESET


async def test_client_certificate_is_not_there(authority: Authority) -> None:
    """A receiver that wants a certificate of ours fails TLS, although it says so only afterwards."""
    context = authority.server("127.0.0.1")
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority.file)
    assert (await _refusal_of(context)).error is ErrorClass.TLS


async def _refusal_of(context: ssl.SSLContext) -> NoAnswer:
    """Send to a server that refuses TLS with an alert, which asyncio's own does not always get to send."""

    def serve(connection: socket.socket) -> None:
        with connection.dup() as plain:
            with contextlib.suppress(OSError):
                context.wrap_socket(connection, server_side=True).close()
            plain.shutdown(socket.SHUT_WR)
            while plain.recv(65_536):  # closing with data unread would be a reset, which overtakes the alert
                pass

    async with _listening(serve) as url, HttpSender(LOCAL) as sender:
        outcome = await sender.send(message(url))
    assert isinstance(outcome, NoAnswer)
    return outcome


async def test_goodbye_that_is_not_returned(authority: Authority) -> None:
    """The end of the sender waits only shortly for receivers that do not answer TLS's goodbye."""
    context = authority.server("127.0.0.1")
    released = threading.Event()

    def serve(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as tls:
            tls.recv(65_536)
            tls.send(response())
            released.wait(30)

    async with _listening(serve) as url:
        async with asyncio.timeout(10), HttpSender(LOCAL) as sender:
            outcome = await sender.send(message(url))
        released.set()
    assert error_class(outcome) is None


@contextlib.asynccontextmanager
async def _listening(serve: Callable[[socket.socket], None]) -> AsyncIterator[str]:
    """Serve one connection in a thread, by the ssl module's own sockets."""

    def accept(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            serve(connection)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(asyncio.to_thread(accept, listener))
            yield f"https://127.0.0.1:{listener.getsockname()[1]}/"


@pytest.mark.parametrize(
    ("behaviour", "expected"),
    [
        (hang(), ErrorClass.TIMEOUT),
        (endless(b"y" * 65_536, start=b"HTTP/1.1 200 OK\r\n\r\n"), None),
    ],
)
async def test_bounds_hold_under_tls(
    authority: Authority, behaviour: Behaviour, expected: ErrorClass | None
) -> None:
    """Deadline and size are bounded as without TLS, and no goodbye is waited for."""
    context = authority.server("127.0.0.1")
    async with Receiver(behaviour, ssl_context=context) as receiver, HttpSender(HASTY) as sender:
        outcome = await sender.send(message(receiver.url()))
        assert error_class(outcome) is expected
        await receiver.wait_until(lambda: receiver.open == 0)
