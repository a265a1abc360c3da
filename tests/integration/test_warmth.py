"""To whom connections are kept open ahead: few, one for each host, made anew before they end."""

from __future__ import annotations

import pytest

from dispatcher.daemon.warmth import Warmth
from tests.parts import new_webhook, parts, running
from tests.postgres import Database, wait_for
from tests.receiver import WAIT_S, Receiver


async def test_hosts_are_few(database: Database) -> None:
    """As many as the setting says, whoever comes first; the webhooks of one host need one connection."""
    async with parts(database, warm_connections=1) as one, Receiver() as first, Receiver() as second:
        for url in (first.url("/a"), first.url("/b"), second.url("/")):
            await new_webhook(one.connection, url)
        await one.shared.registry.refresh()
        warmth = Warmth(one.shared)
        async with running(warmth.run()):
            await wait_for(lambda: warmth.open == 1, "a connection is open", WAIT_S)
            await wait_for(lambda: first.connections == 1, "it is accepted", WAIT_S)
        assert (1, 0) == (warmth.wanted, second.connections)
        assert [] == first.requests


async def test_receiver_that_is_away_is_no_error(database: Database) -> None:
    """The others get their connections."""
    async with parts(database) as one, Receiver() as receiver:
        await new_webhook(one.connection, "http://127.0.0.1:1/")
        await new_webhook(one.connection, receiver.url())
        await one.shared.registry.refresh()
        warmth = Warmth(one.shared)
        async with running(warmth.run()):
            await wait_for(lambda: receiver.connections == 1, "it is accepted", WAIT_S)
        assert (2, 1) == (warmth.wanted, warmth.open)


@pytest.mark.slow
async def test_connection_is_replaced_before_it_ends(database: Database) -> None:
    """Whenever an alert comes, one is open."""
    async with parts(database, keepalive_s=12) as one, Receiver() as receiver:
        await new_webhook(one.connection, receiver.url())
        await one.shared.registry.refresh()
        async with running(Warmth(one.shared).run()):
            await wait_for(lambda: receiver.connections == 1, "it is accepted", WAIT_S)
            await wait_for(lambda: receiver.connections == 2, "and another one", 60)
            assert 2 == receiver.open, "the first is not closed yet"
