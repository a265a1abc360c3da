"""`python -m bench`: runs every scenario in turns, checks that nothing was lost, and writes the results."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Final

import msgspec
import uvloop

from bench.check import check
from bench.figures import FULL, QUICK, Figure, Rounds
from bench.machine import cores
from bench.plot import draw
from bench.report import PLOT, details, table, write
from bench.scale import measure_scale
from bench.scenarios.history import measure_history
from bench.scenarios.latency import QUIET, Latency
from bench.scenarios.matching import Matching
from bench.scenarios.throughput import FAST, FAST_WEBHOOKS, SLOW, SLOW_WEBHOOKS, Throughput
from bench.scenarios.upstream import Upstream
from bench.site import Site, running_site

_UNDISTURBED_SHARE: Final = 0.9
_HERE: Final = Path(__file__).parent


class Measured(msgspec.Struct, frozen=True):
    """What one half of the bench found."""

    figures: list[Figure]
    remarks: list[str]
    more: str = ""


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two short rounds, to see that it works")
    parser.add_argument(
        "--only",
        choices=("small", "scale", "history"),
        help="one part of it; writes nothing. `history`, ten million deliveries long, is run by itself only",
    )
    parser.add_argument("--facts", type=int, default=10_000_000, help="how long `--only history` is")
    parser.add_argument(
        "--output", type=Path, help="folder of the results (default: bench/, none with --quick or --only)"
    )
    parsed = parser.parse_args()
    rounds = QUICK if parsed.quick else FULL
    whole = not parsed.quick and parsed.only is None
    output: Path | None = parsed.output or (_HERE if whole else None)
    if parsed.only == "history":
        print(uvloop.run(measure_history(parsed.facts)))
        return
    uvloop.run(_bench(rounds, output, parsed.only, " ".join(["python -m bench", *sys.argv[1:]])))


async def _bench(rounds: Rounds, output: Path | None, only: str | None, command: str) -> None:
    started = time.monotonic()

    def say(what: str) -> None:
        print(f"{time.monotonic() - started:6.1f} s  {what}", flush=True)

    halves = []
    if only != "scale":
        halves.append(await _measure_small(rounds, say))
    if only != "small":
        scale = await measure_scale(rounds, say)
        halves.append(Measured(scale.figures, scale.remarks))
    figures = [figure for half in halves for figure in half.figures]
    remarks = [remark for half in halves for remark in half.remarks]
    more = "\n\n".join(half.more for half in halves if half.more)
    print(f"\n{table(figures)}\n\n{more}\n\n" + "\n".join(remarks))
    if output is not None:
        write(output, figures=figures, more=more, rounds=rounds, command=command, remarks=remarks)
        draw(figures, output / PLOT)
        say(f"written to {output / 'RESULTS.md'}")


async def _measure_small(rounds: Rounds, say: Callable[[str], None]) -> Measured:
    measured, other = cores()
    matching = Matching()
    async with running_site({FAST: FAST_WEBHOOKS, SLOW: SLOW_WEBHOOKS, QUIET: 1}) as site:
        throughput = Throughput(site, rounds.seconds)
        latency = Latency(site, rounds.events)
        upstream = Upstream(site, throughput.fast_feed, rounds.seconds)
        for scenario in (throughput, latency, upstream):
            await scenario.prepare()
        say("idle")
        await upstream.idle(rounds.idle_s)
        for number in range(1, rounds.count + 1):
            say(f"round {number} of {rounds.count}")
            for scenario in (throughput, latency, upstream):
                await scenario.round()
            matching.round()
        say("checking")
        verified = await _check(site, throughput, latency)
        postgresql: str = await site.producer.fetchval("show server_version")
    remarks = [
        f"PostgreSQL {postgresql.split(maxsplit=1)[0]} (fsync on, same machine)",
        f"{verified[0]:,} deliveries: none lost, none twice, all recorded",
        f"{verified[1]:,} requests sampled: all signatures right",
        f"matching: {matching.told:,.0f} webhooks an event on average, {matching.longest_ms:.1f} ms at most",
    ]
    if measured == other:
        remarks.append("**only one core could be used: what is measured shared it with everything else**")
    if not upstream.bare:
        remarks.append("pgbench is not installed: the producers' INSERT rate was not measured")
    share = median(rate.core_share for rate in throughput.bare)
    if share < _UNDISTURBED_SHARE:
        remarks.append(
            f"**disturbed: others left the bare client {share:.0%} of its core, so figures may be far off**"
        )
    return Measured(
        [*throughput.figures(), *latency.figures(), *upstream.figures(), *matching.figures()],
        remarks,
        details(throughput, latency, upstream),
    )


async def _check(site: Site, throughput: Throughput, latency: Latency) -> tuple[int, int]:
    feeds = (throughput.fast_feed, throughput.slow_feed, latency.feed)
    for feed in feeds:
        await feed.drained()
    verified = sum([await check(site, feed) for feed in feeds])
    return sum(feed.inserted * feed.webhooks for feed in feeds), verified


if __name__ == "__main__":
    main()
