"""The way to a webhook's server, walked step by step without a request: URL, name, addresses, port, TLS.

How this works: each step needs what the step before found; after the first that fails, the others are
skipped. What the sender would do is done here too: every address is judged before any is connected to, the
egress proxy is used where one is configured, TLS trusts the webhook's own authorities where it has some.
"""

from __future__ import annotations

import asyncio
import socket
import time
from typing import TYPE_CHECKING, Final

from dispatcher.core.addresses import AddressPolicy, InvalidUrlError, Target, read_url
from dispatcher.core.outcome import ErrorClass
from dispatcher.diagnosis.advice import BY_CLASS
from dispatcher.diagnosis.finding import Finding, fail, ok, short_time, skipped, warn, words
from dispatcher.diagnosis.tls import examine_tls
from dispatcher.sender.failure import SendError, connect_error
from dispatcher.sender.proxy import Proxy, Stage
from dispatcher.sender.resolver import Lookup, Resolver, getaddrinfo

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dispatcher.config import Delivery
    from dispatcher.core.addresses import Address

STEPS: Final = ("url", "name", "addresses", "connect", "tls")
_SLOW_CONNECT_S: Final = 1.0


class _Refused(Exception):
    """A step failed; carries its finding."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(str(finding.found))
        self.finding: Final = finding


async def walk(
    url: str, ca_certificates: str, config: Delivery, *, lookup: Lookup = getaddrinfo
) -> list[Finding]:
    """Go the way and give a finding for each of `STEPS`; takes at most three times the connect timeout."""
    route = _Route(config, lookup)
    try:
        await route.go(url, ca_certificates)
    except _Refused as refused:
        route.findings.append(refused.finding)
    reached = {finding.check for finding in route.findings}
    reason = words("an earlier check failed")
    return route.findings + [skipped(step, reason) for step in STEPS if step not in reached]


class _Route:
    def __init__(self, config: Delivery, lookup: Lookup) -> None:
        self._config: Final = config
        self._policy: Final = AddressPolicy(config.allowed_networks)
        self._resolver: Final = Resolver(lookup)
        self._proxy: Final = (
            Proxy(config.proxy_url, self._resolver, config.connect_timeout_s) if config.proxy_url else None
        )
        self.findings: list[Finding] = []

    async def go(self, url: str, ca_certificates: str) -> None:
        target = self._target(url)
        addresses = await self._resolve(target)
        self._judge(target, addresses)
        sock = await self._connect(target, addresses)
        try:
            await self._secure(sock, target, ca_certificates)
        finally:
            sock.close()

    def _target(self, url: str) -> Target:
        try:
            target = read_url(url)
        except InvalidUrlError as error:
            raise _Refused(
                fail("url", words("the URL {problem}", problem=error), words("Correct the webhook's URL."))
            ) from None
        if target.tls:
            self.findings.append(ok("url", words("it is well-formed and uses https")))
        else:
            self.findings.append(
                warn(
                    "url",
                    words("it is well-formed, but plain http: anyone on the way can read and change it"),
                    words("Use an https URL."),
                )
            )
        return target

    async def _resolve(self, target: Target) -> tuple[Address, ...]:
        if target.address is not None:
            self.findings.append(
                skipped("name", words("the URL names an address, there is no name to resolve"))
            )
            return (target.address,)
        started = time.monotonic()
        try:
            async with asyncio.timeout(self._config.connect_timeout_s):
                addresses = await self._resolver.resolve(target.host)
        except SendError as error:
            raise _Refused(
                fail("name", words("{problem}", problem=error.message), BY_CLASS[error.error])
            ) from None
        except TimeoutError:
            raise _Refused(
                fail(
                    "name",
                    words(
                        "{host} was not resolved within {limit} s",
                        host=target.host,
                        limit=f"{self._config.connect_timeout_s:g}",
                    ),
                    words("Check the name's servers, and the resolver of the dispatcher's machine."),
                )
            ) from None
        self.findings.append(
            ok(
                "name",
                words(
                    "{host} resolves to {addresses} in {time}",
                    host=target.host,
                    addresses=", ".join(map(str, addresses)),
                    time=short_time(time.monotonic() - started),
                ),
            )
        )
        return addresses

    def _judge(self, target: Target, addresses: Sequence[Address]) -> None:
        blocked = [
            f"{address} is {reason}"
            for address in addresses
            if (reason := self._policy.blocked(address)) is not None
        ]
        if blocked:
            raise _Refused(
                fail(
                    "addresses",
                    words(
                        "{host} leads where requests may not go: {blocked}",
                        host=target.host,
                        blocked="; ".join(blocked),
                    ),
                    words(
                        "Every address of the name must be public. An operator can open exceptions in "
                        "delivery.allowed_networks."
                    ),
                )
            )
        self.findings.append(ok("addresses", words("each address may be reached")))

    async def _connect(self, target: Target, addresses: Sequence[Address]) -> socket.socket:
        """Connect to every address, and give the socket of the first one that answers."""
        started = time.monotonic()
        made = await asyncio.gather(*(self._one(address, target.port) for address in addresses))
        took_s = time.monotonic() - started
        sockets = [one for one in made if isinstance(one, socket.socket)]
        troubles = [one for one in made if isinstance(one, SendError)]
        if not sockets:
            first = troubles[0]
            raise _Refused(
                fail(
                    "connect",
                    words(
                        "port {port} of {host} cannot be reached: {problem}",
                        port=target.port,
                        host=target.host,
                        problem="; ".join(dict.fromkeys(one.message for one in troubles)),
                    ),
                    BY_CLASS[first.error],
                )
            )
        for one in sockets[1:]:
            one.close()
        where = words(
            "port {port} takes connections on {reached} of {all} addresses, in {time}{way}",
            port=target.port,
            reached=len(sockets),
            all=len(addresses),
            time=short_time(took_s),
            way=" through the egress proxy" if self._proxy else "",
        )
        if troubles:
            dead = words(
                "Each attempt may first try the address that does not answer: mend it or drop its record."
            )
            self.findings.append(warn("connect", where, dead))
        elif took_s > _SLOW_CONNECT_S:
            far = words("The server, or the way to it, is slow: every first alert waits for this.")
            self.findings.append(warn("connect", where, far))
        else:
            self.findings.append(ok("connect", where))
        return sockets[0]

    async def _one(self, address: Address, port: int) -> socket.socket | SendError:
        stage = Stage("no connection was made")
        try:
            async with asyncio.timeout(self._config.connect_timeout_s):
                if self._proxy is not None:
                    return (await self._proxy.connect((address,), port, stage))[0]
                return await _connected(address, port)
        except SendError as error:
            return error
        except TimeoutError as error:
            if error.errno is not None:
                return connect_error(error, stage.words, str(address))
            message = f"{stage.words} within {self._config.connect_timeout_s:g} s"
            return SendError(ErrorClass.CONNECT_TIMEOUT, message, str(address))
        except (OSError, RuntimeError) as error:
            return connect_error(error, stage.words, str(address))

    async def _secure(self, sock: socket.socket, target: Target, ca_certificates: str) -> None:
        if not target.tls:
            self.findings.append(skipped("tls", words("the URL is plain http")))
            return
        limit_s = self._config.connect_timeout_s
        self.findings.append(await examine_tls(sock, target.host, ca_certificates, limit_s))


async def _connected(address: Address, port: int) -> socket.socket:
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, (str(address), port))
    except BaseException:
        sock.close()
        raise
    return sock
