"""Over the edges of the address space: what may be registered and what may be connected to agree.

The blocks are those of IANA's IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890), and multicast;
written down here once more, from the registries, so that a slip in `core/addresses.py` does not agree with
itself.
"""

from __future__ import annotations

import asyncio
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING, TypeAlias

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dispatcher.core.addresses import AddressPolicy, check_url, host_address, read_url
from dispatcher.core.outcome import ErrorClass, error_class
from dispatcher.sender import HttpSender
from tests.proxy import EgressProxy
from tests.sending import LOCAL, message

if TYPE_CHECKING:
    from collections.abc import Iterator

Address: TypeAlias = IPv4Address | IPv6Address

POLICY = AddressPolicy()
STRICT = msgspec.structs.replace(LOCAL, allowed_networks=())

# Registered as not globally reachable, or as a way around (6to4, NAT64, Teredo), or multicast.
CLOSED_V4 = [
    ip_network(block)
    for block in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15"),
        *("198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4", "255.255.255.255/32"),
        *(
            "192.0.0.0/29",
            "192.0.0.8/32",
            "192.0.0.9/32",
            "192.0.0.10/32",
            "192.0.0.170/31",
            "233.252.0.0/24",
        ),
    )
]
CLOSED_V6 = [
    ip_network(block)
    for block in (
        *("::/128", "::1/128", "::/96", "::ffff:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64"),
        *("100:0:0:1::/64", "2001::/23", "2001::/32", "2001:1::1/128", "2001:1::2/128", "2001:1::3/128"),
        *("2001:2::/48", "2001:3::/32", "2001:4:112::/48", "2001:10::/28", "2001:20::/28", "2001:30::/28"),
        *("2001:db8::/32", "2002::/16", "3fff::/20", "5f00::/16", "fc00::/7", "fe80::/10", "fec0::/10"),
        *("ff00::/8", "4000::/2", "8000::/1", "::/3"),
    )
]
GLOBAL_V6 = ip_network("2000::/3")


def expected_closed(address: Address) -> bool:
    """Say what the registries say."""
    if isinstance(address, IPv4Address):
        return any(address in block for block in CLOSED_V4)
    return address not in GLOBAL_V6 or any(address in block for block in CLOSED_V6)


def edges() -> Iterator[Address]:
    """Give the first and last address of every block, and their neighbours."""
    for block in (*CLOSED_V4, *CLOSED_V6, GLOBAL_V6):
        kind = IPv4Address if block.version == 4 else IPv6Address
        for end in (int(block.network_address), int(block.broadcast_address)):
            for value in (end - 1, end, end + 1):
                if 0 <= value < 2**block.max_prefixlen:
                    yield kind(value)


EDGES = sorted(set(edges()), key=lambda one: (one.version, int(one)))


def notations(address: Address) -> list[str]:
    """Write an address as a URL's host in every way that some resolver reads."""
    if isinstance(address, IPv6Address):
        compressed, exploded = address.compressed, address.exploded
        low = IPv4Address(int(address) & 0xFFFFFFFF)
        dotted = f"{':'.join(exploded.split(':')[:6])}:{low}"
        return [f"[{one}]" for one in (compressed, compressed.upper(), exploded, dotted)]
    value = int(address)
    a, b, c, d = address.packed
    return [
        str(address),
        f"{address}.",
        str(value),
        hex(value),
        hex(value).upper().replace("0X", "0x"),
        f"0{value:o}",
        f"{a}.{value & 0xFFFFFF}",
        f"{a}.{b}.{value & 0xFFFF}",
        f"0x{a:x}.0x{b:x}.0x{c:x}.0x{d:x}",
        f"0{a:o}.0{b:o}.0{c:o}.0{d:o}",
        f"0x{a:02x}.0{b:03o}.{value & 0xFFFF}",
        f"{a}.{b}.{c}.0x{d:x}",
    ]


def agree(address: Address) -> None:
    """Check every notation of one address against the registries."""
    closed = expected_closed(address)
    assert closed == (POLICY.blocked(address) is not None), address
    for host in notations(address):
        assert address == host_address(host), host
        assert address == read_url(f"https://{host}/").address, host
        problem = check_url(f"https://{host}:8443/x", require_https=True, policy=POLICY)
        assert closed == (problem is not None), (host, problem)


@pytest.mark.parametrize("address", EDGES, ids=str)
def test_edges_of_every_special_block(address: Address) -> None:
    """First, last, and the ones beside them."""
    agree(address)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)))
def test_any_address(address: Address) -> None:
    """Hypothesis draws from the special blocks with preference."""
    agree(address)


@settings(max_examples=300, deadline=None)
@given(st.ip_addresses(v=4))
def test_ipv4_in_ipv6_is_never_a_way_around(address: IPv4Address) -> None:
    """Mapped, compatible, NAT64, 6to4, Teredo and ISATAP-like forms are closed, whatever they lead to."""
    value = int(address)
    for form in (
        f"::ffff:{address}",
        f"::{address}",
        f"64:ff9b::{address}",
        str(IPv6Address((0x2002 << 112) | value << 80)),
        str(IPv6Address((0x20010000 << 96) | (value ^ 0xFFFFFFFF))),
        f"fe80::5efe:{address}",
    ):
        assert POLICY.blocked(form) is not None, form
        assert check_url(f"https://[{form}]/", require_https=True, policy=POLICY) is not None, form


async def test_the_sender_refuses_what_is_closed_and_asks_for_what_is_open() -> None:
    """Each edge, in each notation: the connect does what the check at registration says.

    Through a proxy that connects to nothing, so that nothing leaves this host: what it is asked for is what
    would have been connected to.
    """
    async with (
        EgressProxy(answer=b"HTTP/1.1 502 Bad Gateway\r\n\r\n") as proxy,
        HttpSender(msgspec.structs.replace(STRICT, proxy_url=proxy.url())) as sender,
    ):
        for address in EDGES:
            for host in notations(address):
                before = len(proxy.asked)
                async with asyncio.timeout(10):
                    outcome = await sender.send(message(f"http://{host}/"))
                if expected_closed(address):
                    assert (ErrorClass.BLOCKED_ADDRESS, before) == (error_class(outcome), len(proxy.asked)), (
                        host
                    )
                else:
                    shown = f"[{address}]" if address.version == 6 else str(address)
                    assert ErrorClass.PROXY is error_class(outcome), host
                    assert [f"{shown}:80"] == proxy.asked[before:], host


@pytest.mark.parametrize("by_name", [False, True])
async def test_the_sender_connects_to_nothing_that_is_closed(*, by_name: bool) -> None:
    """The closed edges without a proxy, literally and by names; the open ones would leave this host."""
    closed = [address for address in EDGES if expected_closed(address)]
    assert len(closed) > len(EDGES) // 3
    async with HttpSender(
        STRICT, lookup=lambda host: [str(closed[int(host[4:].partition(".")[0])])]
    ) as sender:
        for number, address in enumerate(closed):
            for host in [f"edge{number}.test"] if by_name else notations(address):
                async with asyncio.timeout(10):
                    outcome = await sender.send(message(f"http://{host}/"))
                assert ErrorClass.BLOCKED_ADDRESS is error_class(outcome), host
                assert outcome.timings.connect_ms is None, host


async def test_the_sender_judges_what_names_lead_to() -> None:
    """The same by names: every edge, given by the resolution of a name."""
    async with (
        EgressProxy(answer=b"HTTP/1.1 502 Bad Gateway\r\n\r\n") as proxy,
        HttpSender(
            msgspec.structs.replace(STRICT, proxy_url=proxy.url()),
            lookup=lambda host: [str(EDGES[int(host.partition(".")[0].removeprefix("edge"))])],
        ) as sender,
    ):
        for number, address in enumerate(EDGES):
            outcome = await sender.send(message(f"http://edge{number}.test/"))
            wanted = ErrorClass.BLOCKED_ADDRESS if expected_closed(address) else ErrorClass.PROXY
            assert wanted is error_class(outcome), address
        assert sum(not expected_closed(one) for one in EDGES) == len(proxy.asked)


def test_an_address_that_is_no_address() -> None:
    """The strategy of the others cannot come to this: the text of a zone, which only the system gives."""
    assert POLICY.blocked(ip_address("fe80::1%eth0")) is not None
