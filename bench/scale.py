"""The second half of the bench, with dispatchers of its own: very many webhooks, rows and deliveries."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from bench.figures import Figure, Rounds
from bench.scenarios.company import Bulkheads, Storm
from bench.scenarios.growth import Growth
from bench.scenarios.throughput import FAST, FAST_WEBHOOKS, Throughput
from bench.scenarios.wide import Wide
from bench.site import Site, running_site


class Scale(msgspec.Struct, frozen=True):
    """What was measured."""

    figures: list[Figure]
    remarks: list[str]


async def measure_growth(rounds: Rounds, say: Callable[[str], None]) -> Scale:
    """Measure a million pending by itself, to see what it costs and where."""
    async with running_site({}) as site:
        growth = Growth(site, rounds)
        say("ten webhooks")
        await growth.begin()
        say("a million pending")
        await growth.beside_pending()
    return Scale(growth.figures()[1:], [])


async def measure_storm(rounds: Rounds, say: Callable[[str], None]) -> Scale:
    """Measure alerts behind unread sensor rows; a dispatcher and a database for that alone."""
    async with running_site({}) as site:
        say("storm")
        storm = Storm(site, rounds)
        await storm.run()
    behind = f"while the last alerts were measured, {storm.behind:,} sensor deliveries were unsent"
    return Scale(storm.figures(), [behind])


async def measure_scale(rounds: Rounds, say: Callable[[str], None]) -> Scale:
    """Measure from small to large: what comes later would disturb what comes before.

    The storm has a dispatcher and a database to itself: it is about 100,000 rows, not about a million more.
    """
    async with running_site({}) as site:
        growth, bulkheads = Growth(site, rounds), Bulkheads(site, rounds)
        wides = _wides(site)
        say("ten webhooks")
        await growth.begin()
        say("bulkheads")
        await bulkheads.run()
        await _measure_wides(wides, rounds, say)
        say("ten webhooks beside the others")
        await growth.beside_webhooks()
        say("a million pending")
        await growth.beside_pending()
    storm = await measure_storm(rounds, say)
    figures = [figure for wide in wides for figure in wide.figures()]
    figures += [*bulkheads.figures(), *storm.figures, *growth.figures()]
    return Scale(
        figures,
        [
            *storm.remarks,
            f"{growth.deliveries_pending:,} deliveries were pending towards receivers that never answer",
        ],
    )


async def measure_wide(rounds: Rounds, say: Callable[[str], None]) -> Scale:
    """Measure one event for very many webhooks alone."""
    async with running_site({}) as site:
        throughput = Throughput(site, rounds.seconds)
        await site.subscribe({FAST: FAST_WEBHOOKS})
        await throughput.prepare()  # the bare client's requests are the dispatcher's
        wides = _wides(site)
        await _measure_wides(wides, rounds, say)
        return Scale([figure for wide in wides for figure in wide.figures()], [])


def _wides(site: Site) -> list[Wide]:
    return [Wide(site, 1_000), Wide(site, 10_000)]


async def _measure_wides(wides: list[Wide], rounds: Rounds, say: Callable[[str], None]) -> None:
    for wide in wides:
        say(f"one event for {wide.feed.webhooks:,} webhooks")
        await wide.prepare()
        for _ in range(rounds.count):
            await wide.round(rounds.seconds)
