"""To whom connections are kept open ahead: few, one for each host, made anew before they end."""

from __future__ import annotations

import pytest

from dispatcher.daemon.warmth import Warmth
from tests.parts import Parts, new_webhook, parts, running
from tests.postgres import Database, wait_for
from tests.receiver import WAIT_S, Receiver, answer
from tests.sending import message


async def answered(one: Parts, receiver: Receiver) -> None:
    """Let a receiver answer a request and then end the connection, if it is open still."""
    await one.shared.process.sender.send(message(receiver.url()), None)
    await receiver.hang_up()
    await wait_for(
        lambda: not one.shared.process.sender.ready(receiver.url(), "", for_s=0), "its end was seen", WAIT_S
    )


async def test_hosts_are_few(database: Database) -> None:
    """As many as the setting says, whoever comes first; the webhooks of one host need one connection."""
    async with parts(database, warm_connections=1) as one, Receiver() as first, Receiver() as second:
        for url in (first.url("/a"), first.url("/b"), second.url("/")):
            await new_webhook(one.connection, url)
        await one.shared.registry.refresh()
        await answered(one, first)
        await answered(one, second)
        warmth = Warmth(one.shared)
        async with running(warmth.run()):
            await wait_for(lambda: warmth.open == 1, "a connection is open", WAIT_S)
            await wait_for(lambda: first.connections == 2, "it is accepted", WAIT_S)
        assert (1, 1) == (warmth.wanted, second.connections)
        assert 1 == len(first.requests)


async def test_none_is_kept_open_to_who_keeps_none(database: Database) -> None:
    """A receiver that ends its connections may serve one at a time: an idle one would be in its way."""
    async with (
        parts(database) as one,
        Receiver() as keeping,
        Receiver(answer(200, [("Connection", "close")])) as ending,
        Receiver() as unknown,
    ):
        for receiver in (ending, unknown, keeping):
            await new_webhook(one.connection, receiver.url())
        await one.shared.registry.refresh()
        await answered(one, ending)
        await answered(one, keeping)
        warmth = Warmth(one.shared)
        async with running(warmth.run()):
            await wait_for(lambda: warmth.open == 1, "a connection is open", WAIT_S)
        assert (2, 1, 0) == (keeping.connections, ending.connections, unknown.connections)


async def test_receiver_that_is_away_is_no_error(database: Database) -> None:
    """The others get their connections."""
    async with parts(database) as one, Receiver() as receiver, Receiver() as gone:
        await new_webhook(one.connection, gone.url())
        await new_webhook(one.connection, receiver.url())
        await one.shared.registry.refresh()
        await answered(one, gone)
        await answered(one, receiver)
        await gone.stop()
        warmth = Warmth(one.shared)
        async with running(warmth.run()):
            await wait_for(lambda: receiver.connections == 2, "it is accepted", WAIT_S)
            await wait_for(lambda: warmth.open == 1, "it is counted", WAIT_S)
        assert (2, 1) == (warmth.wanted, warmth.open)


@pytest.mark.slow
async def test_connection_is_replaced_before_it_ends(database: Database) -> None:
    """Whenever an alert comes, one is open."""
    async with parts(database, keepalive_s=12) as one, Receiver() as receiver:
        await new_webhook(one.connection, receiver.url())
        await one.shared.registry.refresh()
        await answered(one, receiver)
        async with running(Warmth(one.shared).run()):
            await wait_for(lambda: receiver.connections == 2, "it is accepted", WAIT_S)
            await wait_for(lambda: receiver.connections == 3, "and another one", 60)
            assert 2 == receiver.open, "the first is not closed yet"


async def test_url_that_cannot_be_read_is_no_error(database: Database) -> None:
    """Whatever is stored, the others get their connections."""
    async with parts(database) as one, Receiver() as receiver:
        await new_webhook(one.connection, "https://[2606:4700:4700::1111.]/")
        await new_webhook(one.connection, receiver.url())
        await one.shared.registry.refresh()
        await answered(one, receiver)
        warmth = Warmth(one.shared)
        async with running(warmth.run()):
            await wait_for(lambda: warmth.open == 1, "a connection is open", WAIT_S)
