"""Names whose servers lie: what was checked is what is connected to, whatever is answered the next time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
import pytest

from dispatcher.core.outcome import Answered, ErrorClass, NoAnswer, error_class
from dispatcher.sender import HttpSender
from tests.dns import NameServer
from tests.proxy import EgressProxy
from tests.receiver import Receiver, answer
from tests.sending import LOCAL, message, names

if TYPE_CHECKING:
    from collections.abc import Sequence

PUBLIC = "93.184.216.34"
STRICT = msgspec.structs.replace(LOCAL, allowed_networks=())
# One address of this host stands for a public one: it is allowed. The other one is what must not be reached.
OUTSIDE = msgspec.structs.replace(LOCAL, allowed_networks=("127.0.0.2/32",))


async def test_answer_that_changes_between_check_and_connect() -> None:
    """The name is asked for once: the second answer, which leads inside, is not even fetched."""
    async with (
        NameServer({"rebind.test": [["127.0.0.2"], ["127.0.0.1"]]}) as dns,
        Receiver(host="127.0.0.2") as outside,
        Receiver(port=outside.port) as inside,
        HttpSender(OUTSIDE, lookup=dns.look_up) as sender,
    ):
        outcome = await sender.send(message(outside.url(host="rebind.test")))
        assert isinstance(outcome, Answered)
        assert ("127.0.0.2", 1) == (outcome.address, dns.times_asked("rebind.test"))
        assert (1, 0) == (outside.connections, inside.connections)


async def test_each_answer_is_judged() -> None:
    """A sender that did not see the first answer judges the second one like the first."""
    async with (
        NameServer({"rebind.test": [["127.0.0.2"], ["127.0.0.1"]]}) as dns,
        Receiver(host="127.0.0.2") as outside,
        Receiver(port=outside.port) as inside,
    ):
        outcomes = []
        for _ in range(2):
            async with HttpSender(OUTSIDE, lookup=dns.look_up) as sender:
                outcomes.append(await sender.send(message(outside.url(host="rebind.test"))))
        assert [None, ErrorClass.BLOCKED_ADDRESS] == [error_class(one) for one in outcomes]
        assert (2, 1, 0) == (dns.times_asked("rebind.test"), outside.connections, inside.connections)


@pytest.mark.parametrize(
    "answers",
    [
        [PUBLIC, "127.0.0.1"],
        ["127.0.0.1", PUBLIC],
        [PUBLIC, "8.8.8.8", "10.0.0.1"],
        [PUBLIC, "::1"],
        ["2606:4700::1111", "169.254.169.254"],
        [PUBLIC, "::ffff:127.0.0.1"],
        [PUBLIC, "::ffff:8.8.8.8"],
        ["::127.0.0.1"],
        ["64:ff9b::127.0.0.1"],
        ["64:ff9b::8.8.8.8"],
        ["64:ff9b:1::8.8.8.8"],
        ["2002:7f00:1::"],
        ["2002:808:808::1"],
        ["2001:0:4136:e378:8000:63bf:3fff:fdd2"],
        ["fc00::1"],
        ["fd00:ec2::254"],
        ["fe80::1"],
        ["fec0::1"],
        ["ff02::1"],
        ["::"],
        ["0.0.0.0"],
        ["100.100.100.200"],
        ["192.0.0.192"],
    ],
)
async def test_answers_that_lead_inside(answers: Sequence[str]) -> None:
    """One address that is not public is enough to refuse the name, in every form that IPv6 has for it."""
    async with (
        NameServer({"hook.test": [answers]}) as dns,
        Receiver() as receiver,
        EgressProxy() as proxy,
    ):
        for config in (STRICT, msgspec.structs.replace(STRICT, proxy_url=proxy.url())):
            async with HttpSender(config, lookup=dns.look_up) as sender:
                outcome = await sender.send(message(receiver.url(host="hook.test")))
            assert isinstance(outcome, NoAnswer)
            assert ErrorClass.BLOCKED_ADDRESS is outcome.error
        assert (0, []) == (receiver.connections, proxy.asked)


async def test_proxy_cannot_be_rebound() -> None:
    """The proxy is asked for the address that was checked, so what the name leads to by then is no matter."""
    async with (
        NameServer({"rebind.test": [[PUBLIC], ["127.0.0.1"]]}) as dns,
        Receiver() as receiver,
        EgressProxy(lead={f"{PUBLIC}:{receiver.port}": ("127.0.0.1", receiver.port)}) as proxy,
        HttpSender(msgspec.structs.replace(STRICT, proxy_url=proxy.url()), lookup=dns.look_up) as sender,
    ):
        outcome = await sender.send(message(receiver.url(host="rebind.test")))
        assert (None, PUBLIC) == (error_class(outcome), outcome.address)
        assert [f"{PUBLIC}:{receiver.port}"] == proxy.asked
        assert f"rebind.test:{receiver.port}" == receiver.requests[0].header("Host")


async def test_zone_of_an_address_is_no_way_around() -> None:
    """`fe80::1%lo`, which only the system's resolver can give, is link-local with or without its zone."""
    async with Receiver() as receiver:
        for address in ("fe80::1%lo", "fe80::1%1", "::1%lo"):
            async with HttpSender(STRICT, lookup=names(zone=[address])) as sender:
                outcome = await sender.send(message(receiver.url(host="zone.test")))
            assert ErrorClass.BLOCKED_ADDRESS is error_class(outcome)
        assert 0 == receiver.connections


async def test_redirects_lead_nowhere() -> None:
    """A public receiver cannot send us inside by a redirect, and a kept-alive connection stays its own."""
    async with Receiver() as inside:
        redirect = answer(307, [("Location", inside.url("/admin"))])
        async with (
            NameServer({"hook.test": [["127.0.0.2"]]}) as dns,
            Receiver(redirect, host="127.0.0.2") as outside,
            HttpSender(OUTSIDE, lookup=dns.look_up) as sender,
        ):
            outcomes = await asyncio.gather(
                *(sender.send(message(outside.url(host="hook.test"))) for _ in range(2))
            )
        assert {ErrorClass.REDIRECT} == {error_class(one) for one in outcomes}
        assert 0 == inside.connections
