"""Which URLs may be registered and which addresses may be connected to.

How this works: `read_url` takes a URL apart once, with its host normalised, and tells by `host_address`
whether that host is an address, in any notation that a resolver would take for one. The check at create
(`check_url`) and the connect both start from what it returns, so they cannot disagree about where a URL
leads. A name is judged when it is resolved: `AddressPolicy` is asked about every address it gives.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias
from urllib.parse import quote, urlsplit

from yarl import URL

if TYPE_CHECKING:
    from collections.abc import Sequence

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

MAX_URL_LENGTH: Final = 2048  # characters

# IANA's special-purpose registries (RFC 6890 and its updates). Written out, because what Python's own
# `is_private` and `is_global` answer differs between the versions we run on. The first match speaks.
_SPECIAL: Final[tuple[tuple[Network, str], ...]] = tuple(
    (ip_network(network), reason)
    for network, reason in (
        ("0.0.0.0/32", "an unspecified address"),
        ("0.0.0.0/8", "an address of this network"),
        ("10.0.0.0/8", "a private address"),
        ("100.64.0.0/10", "a carrier-grade NAT address"),
        ("127.0.0.0/8", "a loopback address"),
        ("169.254.0.0/16", "a link-local address"),
        ("172.16.0.0/12", "a private address"),
        ("192.0.0.0/24", "a reserved address"),
        ("192.0.2.0/24", "a documentation address"),
        ("192.88.99.0/24", "a 6to4 relay address"),
        ("192.168.0.0/16", "a private address"),
        ("198.18.0.0/15", "a benchmarking address"),
        ("198.51.100.0/24", "a documentation address"),
        ("203.0.113.0/24", "a documentation address"),
        ("224.0.0.0/4", "a multicast address"),
        ("255.255.255.255/32", "the broadcast address"),
        ("240.0.0.0/4", "a reserved address"),
        ("::/128", "an unspecified address"),
        ("::1/128", "a loopback address"),
        ("::ffff:0:0/96", "an IPv4 address in IPv6 form"),
        ("::/96", "an IPv4 address in IPv6 form"),
        ("64:ff9b::/96", "a NAT64 address"),
        ("64:ff9b:1::/48", "a NAT64 address"),
        ("100::/64", "a discard address"),
        ("fc00::/7", "a unique-local address"),
        ("fe80::/10", "a link-local address"),
        ("fec0::/10", "a site-local address"),
        ("ff00::/8", "a multicast address"),
        ("2001::/32", "a Teredo address"),
        ("2001:2::/48", "a benchmarking address"),
        ("2001::/23", "a reserved address"),
        ("2001:db8::/32", "a documentation address"),
        ("2002::/16", "a 6to4 address"),
        ("3fff::/20", "a documentation address"),
    )
)
_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")  # all the others of IPv6 are reserved (RFC 4291, 2.4)
_LOOPBACKS: Final = (IPv4Address("127.0.0.1"), IPv6Address("::1"))

# Forms of IPv6 that lead to an IPv4 address, and how many bits stand to the right of it.
_EMBEDDINGS: Final = (
    (IPv6Network("::ffff:0:0/96"), 0),
    (IPv6Network("::/96"), 0),
    (IPv6Network("64:ff9b::/96"), 0),
    (IPv6Network("2002::/16"), 80),
)

_UNPRINTABLE: Final = re.compile(r"[\x00-\x20\x7f-\xa0\\]")
_AUTHORITY_END: Final = re.compile(r"[/?#]")
_AS_WRITTEN: Final = "".join(map(chr, range(0x21, 0x7F)))
_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER: Final = re.compile(r"0x([0-9a-f]*)|(0[0-7]*)|([1-9][0-9]*)")
_NUMERIC_LABEL: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")


class InvalidUrlError(ValueError):
    """Whoever wrote the URL has to change it; the message says in plain words what is wrong."""


class Target(NamedTuple):
    """Where a URL leads."""

    tls: bool
    host: str  # lower case, IDNA-encoded, without a trailing dot and brackets
    address: Address | None  # the host, where it is an address and no name
    port: int
    authority: str  # for the `Host` header: without the scheme's default port
    path: str  # the request target: path and query as written, other than ASCII percent-encoded


class AddressPolicy:
    """Says which addresses are refused; `allowed_networks` (CIDRs) opens exceptions."""

    def __init__(self, allowed_networks: Sequence[str] = ()) -> None:
        """Raise `ValueError` for what is no network, or has bits set beyond its prefix."""
        self._allowed: Final = tuple(ip_network(network) for network in allowed_networks)

    def blocked(self, address: Address | str) -> str | None:
        """Give the reason why an address must not be connected to, None where it may.

        An IPv4 address inside an IPv6 one (mapped, compatible, NAT64, 6to4) must pass as well, and is
        enough where an exception names it. Raises `ValueError` for a text that is no address.
        """
        if isinstance(address, str):
            address = ip_address(address)
        inner = embedded_ipv4(address)
        if inner is not None and self._is_allowed(inner):
            return None
        if not self._is_allowed(address):
            return _special(address)
        if inner is not None and (reason := _special(inner)):
            return f"{reason} ({inner}) in IPv6 form"
        return None

    @property
    def allows_loopback(self) -> bool:
        """Whether an exception opens this very host."""
        return any(self.blocked(address) is None for address in _LOOPBACKS)

    def _is_allowed(self, address: Address) -> bool:
        return any(address in network for network in self._allowed)


def embedded_ipv4(address: Address) -> IPv4Address | None:
    """Give the IPv4 address that an IPv6 address is only another form of."""
    if isinstance(address, IPv6Address) and address not in _LOOPBACKS:
        for network, shift in _EMBEDDINGS:
            if address in network:
                return IPv4Address((int(address) >> shift) & 0xFFFFFFFF)
    return None


def host_address(host: str) -> Address | None:
    """Read a URL's host as an address: IPv6, or IPv4 in any notation that `inet_aton` takes.

    These are one to four parts, each decimal, octal (`0177`) or hexadecimal (`0x7f`), the last one
    filling all the bytes that remain: `127.1`, `2130706433`. One trailing dot is ignored, an IPv6 zone is
    not accepted. None: the host is a name, or nothing at all.
    """
    host = host.lower().removesuffix(".")
    if ":" in host:
        try:
            return None if "%" in host else IPv6Address(host.removeprefix("[").removesuffix("]"))
        except ValueError:
            return None
    numbers = [_number(part) for part in host.split(".")]
    *high, low = numbers
    if len(numbers) > 4 or low is None or low >= 256 ** (5 - len(numbers)):
        return None
    value = 0
    for number in high:
        if number is None or number > 255:
            return None
        value = value << 8 | number
    return IPv4Address(value << 8 * (5 - len(numbers)) | low)


def authority_of(url: str) -> str:
    """Give what stands between the scheme of a URL and its path, query or fragment, as it was written."""
    return _AUTHORITY_END.split(url.partition("://")[2], maxsplit=1)[0]


def read_url(url: str) -> Target:
    """Take a webhook's URL apart; raises `InvalidUrlError` where it is not one.

    http or https, a host, a valid port, no user information, no fragment, at most 2,048 characters.
    """
    if len(url) > MAX_URL_LENGTH:
        raise InvalidUrlError(f"must have at most {MAX_URL_LENGTH} characters, has {len(url)}")
    if _UNPRINTABLE.search(url):
        raise InvalidUrlError("must not contain spaces, control characters or backslashes")
    if "#" in url:
        raise InvalidUrlError("must not contain a fragment (#…)")
    try:
        parsed = URL(url)
        host, port = parsed.raw_host or "", parsed.port
    except IndexError:  # yarl's, where "@" follows upon an IPv6 address
        raise InvalidUrlError("is not a valid URL: no host follows upon @") from None
    except ValueError as error:
        raise InvalidUrlError(f"is not a valid URL: {error}") from None
    if parsed.scheme not in {"http", "https"}:
        raise InvalidUrlError("must begin with https:// or http://")
    authority = authority_of(url)
    if "@" in authority:
        raise InvalidUrlError("must not contain a user name or password")
    if not port:
        raise InvalidUrlError("must have a port from 1 to 65535")
    name = host.lower().removesuffix(".")
    address = _address_or_name(name)
    try:
        urlsplit(url)  # refuses disguises of IPv6 addresses that yarl takes
    except ValueError as error:
        raise InvalidUrlError(f"is not a valid URL: {error}") from None
    path = quote(url.partition("://")[2].removeprefix(authority), safe=_AS_WRITTEN)
    return Target(
        tls=parsed.scheme == "https",
        host=name,
        address=address,
        port=port,
        authority=parsed.host_port_subcomponent or "",
        path=path if path.startswith("/") else f"/{path}",
    )


def check_url(url: str, *, require_https: bool, policy: AddressPolicy) -> str | None:
    """Say in plain words why a webhook may not have this URL, None where it may.

    The sentence has no subject: it follows the name of the field.
    """
    try:
        target = read_url(url)
    except InvalidUrlError as error:
        return str(error)
    if require_https and not target.tls:
        return "must begin with https://"
    if target.address is not None:
        reason = policy.blocked(target.address)
        return f"leads to {target.address}, {reason}, which is not allowed" if reason else None
    if _is_local_name(target.host) and not policy.allows_loopback:
        return f"leads to {target.host}, a name of the sender's own host, which is not allowed"
    return None


def _special(address: Address) -> str | None:
    for network, reason in _SPECIAL:
        if address in network:
            return reason
    if isinstance(address, IPv6Address) and address not in _GLOBAL_UNICAST:
        return "a reserved address"
    return None


def _number(text: str) -> int | None:
    match = _NUMBER.fullmatch(text)
    if match is None or len(text) > 40:
        return None
    hexadecimal, octal, decimal = match.groups()
    if decimal is not None:
        return int(decimal)
    return int(octal, 8) if octal is not None else int(hexadecimal or "0", 16)


def _address_or_name(host: str) -> Address | None:
    """Give the host as an address, None for a domain name; raises `InvalidUrlError` for neither."""
    address = host_address(host)
    if address is not None:
        return address
    labels = host.split(".")
    if not host or len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise InvalidUrlError("must name a host, by its domain name or its address")
    if _NUMERIC_LABEL.fullmatch(labels[-1]):  # no such domain exists: a mistyped or disguised address
        raise InvalidUrlError("must name a host: what it names is neither a domain name nor an address")
    return None


def _is_local_name(host: str) -> bool:
    return host == "localhost" or host.endswith(".localhost")
