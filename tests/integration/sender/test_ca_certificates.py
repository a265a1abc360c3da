"""A webhook's own authorities: trusted instead of the system's, for it alone, verified like all others."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import msgspec
import pytest

from dispatcher.core.outcome import ErrorClass, NoAnswer, error_class
from dispatcher.sender import HttpSender
from dispatcher.sender.trust import Trust
from tests.certificates import Authority
from tests.proxy import EgressProxy
from tests.receiver import Receiver
from tests.sending import LOCAL, message, names

if TYPE_CHECKING:
    from pathlib import Path

    from dispatcher.core.message import Message

HOOK = names(hook=["127.0.0.1"], other=["127.0.0.1"])


@pytest.fixture
def private(tmp_path: Path) -> Authority:
    """Make an authority that the system does not trust."""
    directory = tmp_path / "private"
    directory.mkdir()
    return Authority(directory)


@pytest.fixture
def public(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """Make an authority that the system trusts."""
    directory = tmp_path / "public"
    directory.mkdir()
    authority = Authority(directory)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    return authority


def trusting(url: str, ca_certificates: str) -> Message:
    """Make a message of a webhook with its own authorities."""
    return msgspec.structs.replace(message(url), ca_certificates=ca_certificates)


async def test_own_authority_is_trusted_for_its_webhook_alone(public: Authority, private: Authority) -> None:
    """With it the receiver is reached; without it, at the same URL, not even on the open connection."""
    pem = private.file.read_text()
    async with (
        Receiver(ssl_context=private.server("hook.test")) as receiver,
        HttpSender(LOCAL, lookup=HOOK) as sender,
    ):
        url = receiver.url(host="hook.test")
        assert error_class(await sender.send(trusting(url, pem))) is None
        without = await sender.send(message(url))
        assert isinstance(without, NoAnswer)
        assert ErrorClass.TLS is without.error
        assert without.message.startswith("the certificate was not accepted")
        assert error_class(await sender.send(trusting(url, pem))) is None
        other = await sender.send(trusting(url, public.file.read_text()))
        assert ErrorClass.TLS is error_class(other)
        assert (2, 1) == (len(receiver.requests), receiver.connections)  # agreed on


async def test_own_authority_takes_the_place_of_the_systems(public: Authority, private: Authority) -> None:
    """A certificate of a public authority is not accepted for a webhook that names its own."""
    async with (
        Receiver(ssl_context=public.server("hook.test")) as receiver,
        HttpSender(LOCAL, lookup=HOOK) as sender,
    ):
        url = receiver.url(host="hook.test")
        assert error_class(await sender.send(message(url))) is None
        pinned = await sender.send(trusting(url, private.file.read_text()))
        assert ErrorClass.TLS is error_class(pinned)
        both = private.file.read_text() + public.file.read_text()
        assert error_class(await sender.send(trusting(url, both))) is None
        assert 2 == len(receiver.requests)


@pytest.mark.parametrize("fault", ["wrong name", "expired"])
async def test_own_authority_is_verified_like_all_others(private: Authority, fault: str) -> None:
    """Name and dates are checked whoever signed."""
    host = "other.test" if fault == "wrong name" else "hook.test"
    async with (
        Receiver(ssl_context=private.server(host, expired=fault == "expired")) as receiver,
        HttpSender(LOCAL, lookup=HOOK) as sender,
    ):
        outcome = await sender.send(trusting(receiver.url(host="hook.test"), private.file.read_text()))
        assert ErrorClass.TLS is error_class(outcome)
        assert [] == receiver.requests


async def test_receivers_own_certificate_may_be_trusted(private: Authority) -> None:
    """A self-signed certificate is trusted by naming it, and another one of the same name is not."""
    first, second = (private.server("hook.test", self_signed=True) for _ in range(2))
    pem = (private.file.parent / "server-1.pem").read_text().partition("-----BEGIN PRIVATE")[0]
    async with HttpSender(LOCAL, lookup=HOOK) as sender:
        for context, expected in ((first, None), (second, ErrorClass.TLS)):
            async with Receiver(ssl_context=context) as receiver:
                outcome = await sender.send(trusting(receiver.url(host="hook.test"), pem))
                assert expected is error_class(outcome)


async def test_own_authority_through_a_proxy(private: Authority) -> None:
    """TLS goes through the tunnel, with the webhook's own trust."""
    async with (
        Receiver(ssl_context=private.server("hook.test")) as receiver,
        EgressProxy(lead={"93.184.216.34:443": ("127.0.0.1", receiver.port)}) as proxy,
        HttpSender(
            msgspec.structs.replace(LOCAL, proxy_url=proxy.url()), lookup=names(hook=["93.184.216.34"])
        ) as sender,
    ):
        url = "https://hook.test/"
        assert error_class(await sender.send(trusting(url, private.file.read_text()))) is None
        assert ErrorClass.TLS is error_class(await sender.send(message(url)))


async def test_certificates_that_openssl_cannot_read() -> None:
    """What the database holds may be older than the rules: a failed attempt, and no exception."""
    async with HttpSender(LOCAL, lookup=HOOK) as sender:
        outcome = await sender.send(trusting("https://hook.test/", "-----BEGIN CERTIFICATE-----\nx"))
    assert isinstance(outcome, NoAnswer)
    assert ErrorClass.TLS is outcome.error
    assert "ca_certificates" in outcome.message


def test_no_context_leaves_the_verification_out(private: Authority) -> None:
    """Whatever is trusted: a certificate is required, its name is checked, and TLS is 1.2 or newer."""
    trust = Trust()
    pem = private.file.read_text()
    contexts = [trust.context(), trust.context(pem)]
    for context in contexts:
        assert ssl.CERT_REQUIRED is context.verify_mode
        assert context.check_hostname
        assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert contexts[1] is trust.context(pem)
    assert contexts[0] is not contexts[1]
