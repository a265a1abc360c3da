"""TLS of every other wrong kind: chains and keys that prove nothing, and handshakes that lead nowhere."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING

import msgspec
import pytest

from dispatcher.core.outcome import ErrorClass, NoAnswer, error_class
from dispatcher.sender import HttpSender
from tests.certificates import Authority, Flaw
from tests.receiver import Receiver, endless
from tests.sending import LOCAL, message, names

if TYPE_CHECKING:
    from pathlib import Path

    from tests.receiver import Behaviour

HOOK = names(hook=["127.0.0.1"])

# Records of TLS 1.2 (RFC 8446, 5.1), as far as they go.
_A_SERVER_HELLO_OF_16_KIB = b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc"
_WARNING = b"\x15\x03\x03\x00\x02\x01\x5a"  # an alert that ends nothing: user_canceled
_HELLO_REQUESTS = b"\x16\x03\x03\x40\x00" + bytes(16_384)  # messages to which clients pay no attention
_NOT_ACCEPTED = "the certificate was not accepted: "


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """Make an authority that the sender trusts, as an operator adds one: by `SSL_CERT_FILE`."""
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    return authority


@pytest.mark.parametrize("own", [False, True], ids=["the system's", "the webhook's own"])
@pytest.mark.parametrize(
    ("flaw", "why"),
    [
        (Flaw.NOT_YET_VALID, _NOT_ACCEPTED + "certificate is not yet valid"),
        (Flaw.CLIENTS_ONLY, _NOT_ACCEPTED),
        (Flaw.INTERMEDIATE_LEFT_OUT, _NOT_ACCEPTED + "unable to get local issuer certificate"),
        (Flaw.COMMON_NAME_ONLY, _NOT_ACCEPTED),
        (Flaw.SIGNER_NO_AUTHORITY, _NOT_ACCEPTED),
        (Flaw.WEAK_KEY, _NOT_ACCEPTED + "EE certificate key too weak"),
        (Flaw.ENDLESS_CHAIN, "TLS failed: excessive message size"),
    ],
    ids=lambda value: value.value if isinstance(value, Flaw) else "",
)
async def test_certificate_with_a_flaw(authority: Authority, flaw: Flaw, why: str, *, own: bool) -> None:
    """A certificate of a trusted authority is refused for any flaw, whoever named the authority."""
    context = authority.flawed("hook.test", flaw)
    async with Receiver(ssl_context=context) as receiver, HttpSender(LOCAL, lookup=HOOK) as sender:
        sent = message(receiver.url(host="hook.test"))
        if own:
            sent = msgspec.structs.replace(sent, ca_certificates=authority.file.read_text())
        outcome = await sender.send(sent)
        assert isinstance(outcome, NoAnswer)
        assert outcome.error is ErrorClass.TLS
        assert outcome.message.startswith(why)
        assert [] == receiver.requests
        await receiver.wait_until(lambda: receiver.open == 0)


async def test_intermediate_that_is_sent_along(authority: Authority) -> None:
    """Only its absence was wrong."""
    context = authority.chained("hook.test")
    async with Receiver(ssl_context=context) as receiver, HttpSender(LOCAL, lookup=HOOK) as sender:
        assert error_class(await sender.send(message(receiver.url(host="hook.test")))) is None


async def test_no_cipher_in_common(authority: Authority) -> None:
    """Ciphers without forward secrecy or authenticated encryption are not agreed on."""
    context = authority.server("127.0.0.1")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0")
    async with Receiver(ssl_context=context) as receiver, HttpSender(LOCAL) as sender:
        outcome = await sender.send(message(receiver.url()))
        assert isinstance(outcome, NoAnswer)
        assert outcome.error in {ErrorClass.TLS, ErrorClass.RESET}  # asyncio does not always send its alert
        assert [] == receiver.requests


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (endless(b"\0", start=_A_SERVER_HELLO_OF_16_KIB, every_s=0.02), ErrorClass.CONNECT_TIMEOUT),
        (endless(_HELLO_REQUESTS), ErrorClass.CONNECT_TIMEOUT),
        (endless(_WARNING), ErrorClass.TLS),
    ],
    ids=["a byte at a time", "endless requests to begin", "endless warnings"],
)
async def test_handshake_without_end(script: Behaviour, expected: ErrorClass) -> None:
    """A handshake has the time to connect and no more, and what is no handshake ends at once."""
    hasty = msgspec.structs.replace(LOCAL, connect_timeout_s=0.3)
    config = hasty if expected is ErrorClass.CONNECT_TIMEOUT else LOCAL
    async with Receiver(on_connect=script) as receiver, HttpSender(config) as sender:
        async with asyncio.timeout(LOCAL.timeout_s):
            outcome = await sender.send(message(receiver.url().replace("http:", "https:")))
        assert isinstance(outcome, NoAnswer)
        assert outcome.error is expected
        assert "TLS" in outcome.message
        await receiver.wait_until(lambda: receiver.open == 0)
