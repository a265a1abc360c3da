"""Which URLs and addresses are refused, in whatever notation they are written."""

from __future__ import annotations

import sys
from ipaddress import ip_address

import pytest

from dispatcher.core.addresses import (
    AddressPolicy,
    InvalidUrlError,
    check_url,
    embedded_ipv4,
    host_address,
    read_url,
)

STRICT = AddressPolicy()
LOCAL = AddressPolicy(["127.0.0.0/8"])


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("0.0.0.0", "unspecified"),
        ("0.1.2.3", "this network"),
        ("10.0.0.1", "private"),
        ("10.255.255.255", "private"),
        ("100.64.0.1", "carrier-grade"),
        ("100.127.255.255", "carrier-grade"),
        ("127.0.0.1", "loopback"),
        ("127.255.255.254", "loopback"),
        ("169.254.169.254", "link-local"),
        ("172.16.0.1", "private"),
        ("172.31.255.255", "private"),
        ("192.0.0.8", "reserved"),
        ("192.0.2.1", "documentation"),
        ("192.88.99.1", "6to4"),
        ("192.168.1.1", "private"),
        ("198.18.0.1", "benchmarking"),
        ("198.19.255.255", "benchmarking"),
        ("198.51.100.7", "documentation"),
        ("203.0.113.7", "documentation"),
        ("224.0.0.1", "multicast"),
        ("239.255.255.255", "multicast"),
        ("240.0.0.1", "reserved"),
        ("255.255.255.255", "broadcast"),
        ("::", "unspecified"),
        ("::1", "loopback"),
        ("::7f00:1", "IPv4 address in IPv6 form"),
        ("::ffff:127.0.0.1", "IPv4 address in IPv6 form"),
        ("::ffff:8.8.8.8", "IPv4 address in IPv6 form"),
        ("64:ff9b::10.0.0.1", "NAT64"),
        ("64:ff9b::8.8.8.8", "NAT64"),
        ("64:ff9b:1::1", "NAT64"),
        ("100::1", "discard"),
        ("fc00::1", "unique-local"),
        ("fd12:3456::1", "unique-local"),
        ("fe80::1", "link-local"),
        ("fe80::1%eth0", "link-local"),
        ("fec0::1", "site-local"),
        ("ff02::1", "multicast"),
        ("2001::1", "Teredo"),
        ("2001:2::1", "benchmarking"),
        ("2001:20::1", "reserved"),
        ("2001:db8::1", "documentation"),
        ("2002:7f00:1::1", "6to4"),
        ("2002:808:808::1", "6to4"),
        ("3fff::1", "documentation"),
        ("4000::1", "reserved"),
        ("5f00::1", "reserved"),
        ("1::1", "reserved"),
    ],
)
def test_special_addresses_are_refused(address: str, reason: str) -> None:
    """Everything but a global unicast address is refused, with the reason in words."""
    refused = STRICT.blocked(address)
    assert refused is not None
    assert reason in refused
    assert STRICT.blocked(ip_address(address)) == refused


@pytest.mark.parametrize(
    "address",
    [
        "8.8.8.8",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.1",
        "169.253.255.255",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.1.1",
        "192.167.255.255",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
        "2001:4860:4860::8888",
        "2001:200::1",
        "2003::1",
        "2606:4700::1111",
    ],
)
def test_global_addresses_pass(address: str) -> None:
    """Neighbours of the special networks, and ordinary addresses, are allowed."""
    assert STRICT.blocked(address) is None


def test_exceptions_open_what_they_name_and_nothing_else() -> None:
    """`allowed_networks` opens its CIDRs only."""
    policy = AddressPolicy(["10.1.0.0/16", "fd00::/8"])
    assert policy.blocked("10.1.2.3") is None
    assert policy.blocked("fd00::5") is None
    assert policy.blocked("10.2.0.1") is not None
    assert policy.blocked("fc00::5") is not None
    assert policy.blocked("127.0.0.1") is not None


@pytest.mark.parametrize("form", ["::ffff:{}", "64:ff9b::{}"])
def test_embedded_address_must_pass_as_well(form: str) -> None:
    """An exception for an IPv6 form does not open the private IPv4 addresses within it."""
    everything_v6 = AddressPolicy(["::/0"])
    assert everything_v6.blocked(form.format("8.8.8.8")) is None
    refused = everything_v6.blocked(form.format("169.254.169.254"))
    assert refused is not None
    assert "169.254.169.254" in refused


@pytest.mark.parametrize("address", ["::ffff:10.1.2.3", "64:ff9b::10.1.2.3", "2002:a01:203::1"])
def test_exception_for_the_embedded_address_is_enough(address: str) -> None:
    """An exception for an IPv4 network holds for its addresses in any form."""
    assert AddressPolicy(["10.1.0.0/16"]).blocked(address) is None
    assert AddressPolicy(["10.2.0.0/16"]).blocked(address) is not None


def test_loopback_is_no_embedded_address() -> None:
    """`::1` is loopback, not 0.0.0.1 in another form."""
    assert embedded_ipv4(ip_address("::1")) is None
    assert AddressPolicy(["::1/128"]).blocked("::1") is None


@pytest.mark.parametrize("network", ["10.0.0.1/8", "nonsense", "10.0.0.0/33"])
def test_exception_that_is_no_network(network: str) -> None:
    """An exception that is no CIDR is an error, not a hole."""
    with pytest.raises(ValueError, match=network.partition("/")[0]):
        AddressPolicy([network])


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1.", "127.0.0.1"),
        ("2130706433", "127.0.0.1"),
        ("0x7f000001", "127.0.0.1"),
        ("0X7F.1", "127.0.0.1"),
        ("0177.0.0.1", "127.0.0.1"),
        ("127.1", "127.0.0.1"),
        ("127.0.1", "127.0.0.1"),
        ("0", "0.0.0.0"),
        ("0x", "0.0.0.0"),
        ("010.1", "8.0.0.1"),
        ("10.65535", "10.0.255.255"),
        ("4294967295", "255.255.255.255"),
        ("::1", "::1"),
        ("[::ffff:127.0.0.1]", "::ffff:127.0.0.1"),
        ("FE80::1", "fe80::1"),
    ],
)
def test_host_that_is_an_address(host: str, expected: str) -> None:
    """Every notation that a resolver takes for an address is read as one."""
    assert host_address(host) == ip_address(expected)


@pytest.mark.parametrize(
    "host",
    [
        "",
        ".",
        "example.com",
        "127.0.0.1.example.com",
        "256.1",
        "1.256.1.1",
        "1.2.3.4.5",
        "4294967296",
        "08.1.1.1",
        "1_0.1.1.1",
        "+1.1.1.1",
        "1..1",
        "127.0.0.1..",
        "fe80::1%eth0",
        ":::",
        "١٢٧.0.0.1",
    ],
)
def test_host_that_is_no_address(host: str) -> None:
    """What no resolver takes for an address is not read as one."""
    assert host_address(host) is None


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "2130706433",
        "0x7f.1",
        "0177.0.0.1",
        "127.1",
        "127.0.0.1.",
        "127。0。0。1",
        "①②⑦.0.0.1",
        "\uff11\uff12\uff17.\uff10.\uff10.\uff11",
        "[::1]",
        "[0:0:0:0:0:0:0:1]",
        "[::ffff:127.0.0.1]",
        "localhost",
        "LOCALHOST",
        "localhost.",
        "ⓛocalhost",
        "app.localhost",
        "app.LocalHost.",
    ],
)
@pytest.mark.parametrize("rest", ["/", ":8080/hook", "?a=b", ""])
def test_own_host_is_refused_unless_it_is_opened(host: str, rest: str) -> None:
    """This host is refused under all its names and notations, and allowed under all where it is opened."""
    url = f"http://{host}{rest}"
    refused = check_url(url, require_https=False, policy=STRICT)
    assert refused is not None
    assert "not allowed" in refused
    opened = AddressPolicy(["127.0.0.0/8", "::1/128"])
    assert check_url(url, require_https=False, policy=opened) is None


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com",
        "https://example.com/hook?token=a%2Fb",
        "https://example.com.:8443/hook",
        "HTTPS://EXAMPLE.com/",
        "https://exämple.com/",
        "https://a-b.c_d.example/",
        "https://xn--exmple-cua.com/@user:pass",
        "https://8.8.8.8/",
        "https://[2606:4700::1111]:444/",
        "https://localhost.example.com/",
        "https://notlocalhost/",
        "https://1.2.3.4.example/",
    ],
)
def test_ordinary_urls_pass(url: str) -> None:
    """An https URL with a public host may be registered."""
    assert check_url(url, require_https=True, policy=STRICT) is None


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://example.com/", "https"),
        ("ftp://example.com/", "begin with"),
        ("//example.com/", "begin with"),
        ("example.com", "begin with"),
        ("", "begin with"),
        ("javascript:alert(1)", "begin with"),
        ("https:example.com", "host"),
        ("https:///hook", "host"),
        ("https://?a", "host"),
        ("https://user@example.com/", "user name"),
        ("https://user:pass@example.com/", "user name"),
        ("https://@example.com/", "user name"),
        ("https://example.com@evil.example/", "user name"),
        ("https://example.com/#part", "fragment"),
        ("https://example.com/#", "fragment"),
        ("https://example.com:0/", "port"),
        ("https://example.com:65536/", "valid"),
        ("https://example.com:x/", "valid"),
        ("https://[::1/", "valid"),
        ("https://exa mple.com/", "spaces"),
        ("https://example.com/a\nb", "spaces"),
        ("https://example.com\\@evil.example/", "backslash"),
        ("https://example.com/\u00a0", "spaces"),
        ("https://a..b/", "name a host"),
        ("https://-a.example/", "name a host"),
        ("https://a,b/", "name a host"),
        ("https://%31%32%37.0.0.1/", "name a host"),
        ("https://[fe80::1%25eth0]/", "name a host"),
        ("https://[1:2:3]/", "name a host"),
        ("https://" + "a" * 64 + ".example/", "name a host"),
        ("https://" + "a." * 127 + "example/", "name a host"),
        ("https://1.2.3.4.5/", "neither"),
        ("https://256.1.1.1/", "neither"),
        ("https://08.1.1.1/", "neither"),
        ("https://0x100000000/", "neither"),
        ("https://10.0.0.1/", "a private address"),
        ("https://[64:ff9b::a00:1]/", "a NAT64 address"),
        ("https://169.254.169.254/latest/meta-data", "a link-local address"),
        ("https://[2606:4700:4700::1111]@", "is not a valid URL"),
    ],
)
def test_problems_are_named(url: str, problem: str) -> None:
    """What is wrong with a URL is said in words that name it."""
    said = check_url(url, require_https=True, policy=STRICT)
    assert said is not None
    assert problem in said


@pytest.mark.skipif(sys.version_info < (3, 11, 4), reason="the standard library takes it, too")
@pytest.mark.parametrize("host", ["[2606:4700:4700::1111.]", "[2606:4700:4700::111\u00b9]"])
def test_disguised_ipv6_is_refused(host: str) -> None:
    """What the standard library takes for no URL is none: others read what is stored."""
    said = check_url(f"https://{host}/", require_https=True, policy=STRICT)
    assert said is not None
    assert "is not a valid URL" in said


def test_length_is_bounded() -> None:
    """2,048 characters are enough, one more is too many."""
    longest = "https://example.com/" + "a" * 2028
    assert check_url(longest, require_https=True, policy=STRICT) is None
    assert "2048" in str(check_url(longest + "a", require_https=True, policy=STRICT))


@pytest.mark.parametrize(
    ("url", "host", "port", "authority", "path"),
    [
        ("http://Example.COM", "example.com", 80, "example.com", "/"),
        ("https://example.com:443/a", "example.com", 443, "example.com", "/a"),
        ("https://example.com.:8443?x=1", "example.com", 8443, "example.com:8443", "/?x=1"),
        ("http://exämple.com/ü", "xn--exmple-cua.com", 80, "xn--exmple-cua.com", "/%C3%BC"),
        ("http://[::1]:8080/a/../b;c?d=%2F&e=f+g", "::1", 8080, "[::1]:8080", "/a/../b;c?d=%2F&e=f+g"),
    ],
)
def test_where_a_url_leads(url: str, host: str, port: int, authority: str, path: str) -> None:
    """Host and port are normalised; path and query are sent as they were written."""
    target = read_url(url)
    assert (host, port, authority, path) == (target.host, target.port, target.authority, target.path)


def test_check_and_connect_see_the_same_address() -> None:
    """A host in a disguise is the same address to the check and to the one who connects."""
    assert read_url("http://0x7f.1/").address == ip_address("127.0.0.1")
    assert read_url("http://\uff11\uff12\uff17.1/").address == ip_address("127.0.0.1")
    with pytest.raises(InvalidUrlError):
        read_url("http://127.0.0.0.1/")


def test_own_host_by_either_loopback() -> None:
    """One of the two loopback addresses is enough to allow the local names."""
    assert check_url("http://localhost/", require_https=False, policy=LOCAL) is None
    assert LOCAL.allows_loopback
    assert not STRICT.allows_loopback
    assert not AddressPolicy(["10.0.0.0/8"]).allows_loopback
