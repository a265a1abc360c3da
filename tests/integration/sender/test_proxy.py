"""Through an egress proxy: a tunnel to the address that was checked, and the proxy's troubles are ours."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
import pytest

from dispatcher.core.outcome import Answered, ErrorClass, NoAnswer, error_class
from dispatcher.sender import HttpSender
from tests.certificates import Authority
from tests.proxy import CONNECTED, EgressProxy
from tests.receiver import Receiver, free_port, hang
from tests.sending import BODY, LOCAL, message, names

if TYPE_CHECKING:
    from pathlib import Path

    from dispatcher.config import Delivery

PUBLIC = "93.184.216.34"
PUBLIC_V6 = "2606:2800:220:1:248:1893:25c8:1946"
HOOK = names(hook=[PUBLIC])


def through(proxy_url: str, **changes: object) -> Delivery:
    """Give settings that lead through a proxy, to public addresses alone."""
    return msgspec.structs.replace(LOCAL, allowed_networks=(), proxy_url=proxy_url, **changes)


async def test_plain_http_goes_through_a_tunnel_to_the_checked_address() -> None:
    """The proxy hears an address and no name, and the receiver gets the bytes as ever."""
    async with (
        Receiver() as receiver,
        EgressProxy(lead={f"{PUBLIC}:80": ("127.0.0.1", receiver.port)}) as proxy,
    ):
        async with HttpSender(through(proxy.url()), lookup=HOOK) as sender:
            first = await sender.send(message("http://hook.test/x"))
            second = await sender.send(message("http://hook.test/y"))
        assert isinstance(first, Answered)
        assert (None, None, PUBLIC) == (error_class(first), error_class(second), first.address)
        assert [f"{PUBLIC}:80"] == proxy.asked  # one tunnel, kept alive
        assert [f"CONNECT {PUBLIC}:80 HTTP/1.1\r\nHost: {PUBLIC}:80\r\n\r\n".encode()] == proxy.heads
        request = receiver.requests[0]
        assert ("POST", "/x", BODY, "hook.test") == (
            request.method,
            request.path,
            request.body,
            request.header("Host"),
        )


async def test_tls_is_spoken_with_the_receiver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The certificate is checked against the name, end to end: the proxy reads nothing."""
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    for host, expected in (("hook.test", None), ("other.test", ErrorClass.TLS)):
        async with (
            Receiver(ssl_context=authority.server(host)) as receiver,
            EgressProxy(
                credentials="user:p@ss word", lead={f"{PUBLIC}:443": ("127.0.0.1", receiver.port)}
            ) as proxy,
            HttpSender(through(proxy.url("user", "p%40ss%20word")), lookup=HOOK) as sender,
        ):
            outcome = await sender.send(message("https://hook.test/"))
            assert expected is error_class(outcome)
            assert [f"{PUBLIC}:443"] == proxy.asked


async def test_ipv6_addresses_are_in_brackets() -> None:
    """CONNECT names an IPv6 address as a URL would."""
    async with Receiver() as receiver:
        authority = f"[{PUBLIC_V6}]:80"
        async with (
            EgressProxy(lead={authority: ("127.0.0.1", receiver.port)}) as proxy,
            HttpSender(through(proxy.url()), lookup=names(hook=[PUBLIC_V6])) as sender,
        ):
            assert error_class(await sender.send(message("http://hook.test/"))) is None
            assert [authority] == proxy.asked


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1/", "http://0x7f.1/", "http://[::1]/", "http://inside.test/"]
)
async def test_address_rules_hold(url: str) -> None:
    """The proxy may stand at a private address; what it is asked for may not."""
    lookup = names(inside=[PUBLIC, "10.0.0.1"])
    async with EgressProxy() as proxy, HttpSender(through(proxy.url()), lookup=lookup) as sender:
        outcome = await sender.send(message(url))
        assert isinstance(outcome, NoAnswer)
        assert (ErrorClass.BLOCKED_ADDRESS, False) == (outcome.error, outcome.own_fault)
        assert [] == proxy.asked


async def test_next_address_is_asked_for() -> None:
    """Where the proxy cannot connect to the first address of a name, it is asked for the second."""
    async with Receiver() as receiver:
        lead = {"8.8.8.8:80": ("127.0.0.1", free_port()), "8.8.4.4:80": ("127.0.0.1", receiver.port)}
        async with (
            EgressProxy(lead=lead) as proxy,
            HttpSender(through(proxy.url()), lookup=names(hook=["8.8.8.8", "8.8.4.4"])) as sender,
        ):
            outcome = await sender.send(message("http://hook.test/"))
            assert (None, "8.8.4.4") == (error_class(outcome), outcome.address)
            assert ["8.8.8.8:80", "8.8.4.4:80"] == proxy.asked


async def test_next_address_is_asked_for_where_the_proxy_says_nothing() -> None:
    """It may wait for an address at which nobody answers; the others have their share of the time."""
    async with Receiver() as receiver:
        lead = {"8.8.4.4:80": ("127.0.0.1", receiver.port)}
        async with (
            EgressProxy(lead=lead, silent="8.8.8.8:80") as proxy,
            HttpSender(
                through(proxy.url(), connect_timeout_s=1.0), lookup=names(hook=["8.8.8.8", "8.8.4.4"])
            ) as sender,
        ):
            outcome = await sender.send(message("http://hook.test/"))
            assert (None, "8.8.4.4") == (error_class(outcome), outcome.address)
            assert ["8.8.8.8:80", "8.8.4.4:80"] == proxy.asked


async def test_proxy_that_is_away() -> None:
    """Nothing listens there: an own fault, and nothing was asked of the receiver."""
    async with HttpSender(through(f"http://127.0.0.1:{free_port()}"), lookup=HOOK) as sender:
        outcome = await sender.send(message("http://hook.test/"))
    assert isinstance(outcome, NoAnswer)
    assert (ErrorClass.PROXY, True) == (outcome.error, outcome.own_fault)
    assert "the egress proxy could not be reached: the connection was refused" == outcome.message


@pytest.mark.parametrize(
    ("answer", "own_fault", "words"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", True, "delivery.proxy_url"),
        (b"HTTP/1.1 502 Bad Gateway\r\nX: y\r\n\r\n", False, "it answered 502"),
        (b"HTTP/1.0 503 Service Unavailable\r\n\r\n<html>", False, "it answered 503"),
        (b"HTTP/1.1 403\r\n\r\n", False, "it answered 403"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\n\r\n", False, "it answered 302"),
        (b"", True, "without an answer"),
        (b"HTTP/1.1 200 OK\r\n", True, "without an answer"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", True, "not HTTP/1.1"),
        (CONNECTED + b"HTTP/1.1 200 OK\r\n\r\n", True, "more than the header"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000, True, "more than 16384 bytes"),
    ],
)
async def test_proxy_that_makes_no_tunnel(answer: bytes, own_fault: bool, words: str) -> None:  # noqa: FBT001 - a parameter of the test
    """What is the proxy's own trouble is told from its failure to reach the receiver."""
    async with (
        EgressProxy(answer=answer) as proxy,
        HttpSender(through(proxy.url("user", "hunter2")), lookup=HOOK) as sender,
    ):
        outcome = await sender.send(message("http://hook.test/"))
        assert isinstance(outcome, NoAnswer)
        assert (ErrorClass.PROXY, own_fault) == (outcome.error, outcome.own_fault)
        assert words in outcome.message
        assert "hunter2" not in repr(outcome)


async def test_interim_answer_of_the_proxy() -> None:
    """Informational answers before the final one are skipped."""
    async with (
        EgressProxy(answer=b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 504 Gateway Timeout\r\n\r\n") as proxy,
        HttpSender(through(proxy.url()), lookup=HOOK) as sender,
    ):
        outcome = await sender.send(message("http://hook.test/"))
        assert isinstance(outcome, NoAnswer)
        assert outcome.message.endswith("it answered 504")


async def test_proxy_that_hangs() -> None:
    """A tunnel that is not made in time is given up; it may be the receiver that does not answer."""
    async with Receiver(on_connect=hang()) as silent:
        config = through(f"http://127.0.0.1:{silent.port}", connect_timeout_s=0.3)
        async with HttpSender(config, lookup=HOOK) as sender:
            outcome = await sender.send(message("http://hook.test/"))
        assert isinstance(outcome, NoAnswer)
        assert (ErrorClass.CONNECT_TIMEOUT, False) == (outcome.error, outcome.own_fault)
        assert "egress proxy" in outcome.message
        await silent.wait_until(lambda: silent.open == 0)


async def test_name_of_the_proxy() -> None:
    """The proxy may be named; a name that does not resolve is an own fault."""
    async with (
        Receiver() as receiver,
        EgressProxy(lead={f"{PUBLIC}:80": ("127.0.0.1", receiver.port)}) as proxy,
    ):
        lookup = names(hook=[PUBLIC], proxy=["127.0.0.1"])
        for host, expected in (("proxy.test", None), ("nowhere.test", ErrorClass.PROXY)):
            config = through(f"http://{host}:{proxy.port}")
            async with HttpSender(config, lookup=lookup) as sender:
                assert expected is error_class(await sender.send(message("http://hook.test/")))


async def test_the_environments_proxies_mean_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the configuration names a proxy: `http_proxy` and its like are not read."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    async with Receiver() as receiver, HttpSender(LOCAL) as sender:
        assert error_class(await sender.send(message(receiver.url()))) is None


async def test_no_socket_is_left_behind() -> None:
    """A send that is cancelled in the middle of CONNECT closes its connection to the proxy."""
    async with Receiver(on_connect=hang()) as silent:
        config = through(f"http://127.0.0.1:{silent.port}")
        async with HttpSender(config, lookup=HOOK) as sender:
            sending = asyncio.create_task(sender.send(message("http://hook.test/")))
            await silent.wait_until(lambda: silent.open == 1)
            sending.cancel()
            await silent.wait_until(lambda: silent.open == 0)
