"""The way to a webhook's server, walked on real sockets, with real certificates."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING

import msgspec
import pytest

from dispatcher.diagnosis.route import STEPS, walk
from tests.certificates import Authority
from tests.proxy import EgressProxy
from tests.receiver import Receiver, free_port, hang
from tests.sending import LOCAL, names

if TYPE_CHECKING:
    from pathlib import Path

    from dispatcher.config import Delivery
    from dispatcher.diagnosis import Finding

HOOK = names(hook=["127.0.0.1"], both=["127.0.0.1", "127.0.0.2"], inside=["127.0.0.1", "10.1.2.3"])
SHORT = msgspec.structs.replace(LOCAL, connect_timeout_s=0.3)


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """Make an authority that the system trusts, as an operator adds one: by `SSL_CERT_FILE`."""
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    return authority


async def walked(url: str, config: Delivery = LOCAL, ca_certificates: str = "") -> dict[str, Finding]:
    """Walk, and give the findings by check; each step has exactly one."""
    findings = await walk(url, ca_certificates, config, lookup=HOOK)
    assert sorted(STEPS) == sorted(finding.check for finding in findings)
    return {finding.check: finding for finding in findings}


def verdicts(findings: dict[str, Finding]) -> list[str]:
    """Give the verdicts in the order of the steps."""
    return [findings[step].verdict for step in STEPS]


async def tls_of(context: ssl.SSLContext, ca_certificates: str = "", host: str = "hook.test") -> Finding:
    """Give what is found about a server's TLS."""
    async with Receiver(ssl_context=context) as receiver:
        return (await walked(receiver.url(host=host), LOCAL, ca_certificates))["tls"]


async def test_a_way_without_obstacles(authority: Authority) -> None:
    """Every step is ok, nothing is sent, and it is told when the certificate ends."""
    async with Receiver(ssl_context=authority.server("hook.test", days=90)) as receiver:
        findings = await walked(receiver.url(host="hook.test"))
        assert ["ok"] * 5 == verdicts(findings)
        assert [] == receiver.requests
    assert "hook.test resolves to 127.0.0.1 in " in str(findings["name"].found)
    assert f"port {receiver.port} takes connections on 1 of 1 addresses" in str(findings["connect"].found)
    assert "trusted by a public authority" in str(findings["tls"].found)
    assert "in 89 days" in str(findings["tls"].found)


async def test_plain_http_is_a_warning() -> None:
    """It works, and there is no certificate to look at; a literal address needs no name."""
    async with Receiver() as receiver:
        findings = await walked(receiver.url())
    assert ["warn", "skipped", "ok", "ok", "skipped"] == verdicts(findings)


@pytest.mark.parametrize("url", ["ftp://hook.test/", "http://user@hook.test/", "http://hook.test/#x", "x"])
async def test_what_is_no_url_goes_nowhere(url: str) -> None:
    """The rest is skipped."""
    assert ["fail", *["skipped"] * 4] == verdicts(await walked(url))


async def test_a_name_that_does_not_exist() -> None:
    """The name is told."""
    findings = await walked("https://absent.test/")
    assert ["ok", "fail", *["skipped"] * 3] == verdicts(findings)
    assert "absent.test could not be resolved" in str(findings["name"].found)


async def test_one_forbidden_address_forbids_the_name() -> None:
    """As the sender does it; nothing is connected to."""
    findings = await walked("https://inside.test/")
    assert ["ok", "ok", "fail", "skipped", "skipped"] == verdicts(findings)
    assert "10.1.2.3 is a private address" in str(findings["addresses"].found)
    assert "127.0.0.1" not in str(findings["addresses"].found)


async def test_nothing_listens() -> None:
    """A refused connection, with the port in words."""
    port = free_port()
    findings = await walked(f"http://hook.test:{port}/")
    assert ["warn", "ok", "ok", "fail", "skipped"] == verdicts(findings)
    assert f"port {port} of hook.test cannot be reached" in str(findings["connect"].found)
    assert "refused" in str(findings["connect"].found)


async def test_one_of_two_addresses_is_dead() -> None:
    """The first attempt may meet the dead one, so that is worth a warning."""
    async with Receiver() as receiver:
        findings = await walked(receiver.url(host="both.test"))
    assert "warn" == findings["connect"].verdict
    assert "1 of 2 addresses" in str(findings["connect"].found)


async def test_certificates_that_are_not_accepted(authority: Authority) -> None:
    """Each with its own advice."""
    expired = await tls_of(authority.server("hook.test", expired=True))
    assert ("fail", True) == (expired.verdict, str(expired.advice).startswith("Renew"))
    other = await tls_of(authority.server("elsewhere.test"))
    assert ("fail", True) == (other.verdict, "names this host" in str(other.advice))
    own = await tls_of(authority.server("hook.test", self_signed=True))
    assert ("fail", True) == (own.verdict, "ca_certificates" in str(own.advice))


async def test_a_certificate_that_ends_soon_is_a_warning(authority: Authority) -> None:
    """Two weeks before."""
    assert "warn" == (await tls_of(authority.server("hook.test", days=13))).verdict
    assert "ok" == (await tls_of(authority.server("hook.test", days=16))).verdict


async def test_the_webhooks_own_authorities_are_trusted(tmp_path: Path) -> None:
    """Instead of the system's; an unknown authority advises to send the chain."""
    own = Authority(tmp_path)
    unknown = await tls_of(own.server("hook.test", days=90))
    assert ("fail", True) == (unknown.verdict, "full chain" in str(unknown.advice))
    trusted = await tls_of(own.server("hook.test", days=90), own.file.read_text())
    assert "ok" == trusted.verdict
    assert "the webhook's own ca_certificates" in str(trusted.found)


async def test_a_port_that_speaks_no_tls() -> None:
    """One that answers in plain http, and one that says nothing."""

    async def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1") as plain:
        port = plain.sockets[0].getsockname()[1]
        finding = (await walked(f"https://hook.test:{port}/"))["tls"]
    assert ("fail", True) == (finding.verdict, "Check that the port speaks TLS" in str(finding.advice))
    async with Receiver(hang()) as silent:
        finding = (await walked(f"https://hook.test:{silent.port}/", SHORT))["tls"]
    assert ("fail", True) == (finding.verdict, "did not agree on TLS" in str(finding.found))


async def test_the_way_leads_through_the_egress_proxy() -> None:
    """Where there is one, as requests do; that it is away is told."""
    public = msgspec.structs.replace(LOCAL, allowed_networks=())
    async with (
        Receiver() as receiver,
        EgressProxy(lead={"93.184.216.34:80": ("127.0.0.1", receiver.port)}) as proxy,
    ):
        config = msgspec.structs.replace(public, proxy_url=proxy.url())
        findings = await walked("http://93.184.216.34/", config)
        assert ["93.184.216.34:80"] == proxy.asked
    assert "through the egress proxy" in str(findings["connect"].found)
    config = msgspec.structs.replace(public, proxy_url=f"http://127.0.0.1:{free_port()}")
    findings = await walked("http://93.184.216.34/", config)
    assert "fail" == findings["connect"].verdict
    assert "egress proxy" in str(findings["connect"].found)
