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
from bench.plot import goals_chart, latency_chart, soak_chart, systems_chart
from bench.report import Chart, details, table, write, write_history
from bench.scale import measure_growth, measure_scale, measure_storm, measure_wide
from bench.scenarios.history import measure_history
from bench.scenarios.latency import QUIET, Latency
from bench.scenarios.matching import Matching
from bench.scenarios.sharing import measure_sharing
from bench.scenarios.soak import Soak, retry_delays_s
from bench.scenarios.throughput import FAST, FAST_WEBHOOKS, SLOW, SLOW_WEBHOOKS, Throughput
from bench.scenarios.upstream import Upstream
from bench.side_by_side import check_names, measure_systems, systems_table
from bench.site import Site, running_site
from bench.systems import BUILT_IN

_UNDISTURBED_SHARE: Final = 0.9
_HERE: Final = Path(__file__).parent
_WHOLE: Final = ("small", "scale", "soak", "systems")
_HISTORY_FACTS: Final = 10_000_000
_PARTS: Final = (*_WHOLE, "growth", "storm", "wide", "sharing", "history")

Say = Callable[[str], None]


class Measured(msgspec.Struct, frozen=True):
    """What one part of the bench found."""

    figures: list[Figure]
    remarks: list[str]
    more: str = ""
    charts: tuple[Chart, ...] = ()


class Plan(msgspec.Struct, frozen=True):
    """What is to be measured, and for how long."""

    rounds: Rounds
    parts: tuple[str, ...]
    systems: tuple[str, ...]
    soak_s: float


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two short rounds, to see that it works")
    parser.add_argument(
        "--only",
        choices=_PARTS,
        help="one part of it; writes nothing. `growth`, `storm` and `wide` are parts of `scale`. `history`,"
        " ten million deliveries long, is run by itself only, and writes HISTORY.md",
    )
    parser.add_argument("--facts", type=int, default=_HISTORY_FACTS, help="how long `--only history` is")
    parser.add_argument(
        "--soak-s", type=float, help="how long the soak is, in seconds (default: 120, 24 with --quick)"
    )
    parser.add_argument(
        "--system",
        action="append",
        metavar="NAME",
        help="what `systems` measures: ours, naive or MODULE:CLASS (see bench/systems); may be repeated",
    )
    parser.add_argument(
        "--output", type=Path, help="folder of the results (default: bench/, none with --quick or --only)"
    )
    parsed = parser.parse_args()
    systems = tuple(parsed.system or BUILT_IN)
    if problem := check_names(systems):
        parser.error(problem)
    command = " ".join(["python -m bench", *sys.argv[1:]])
    if parsed.only == "history":
        figures, remarks = uvloop.run(measure_history(parsed.facts))
        print("\n" + "\n\n".join([table(figures), *remarks]))
        folder = parsed.output or (_HERE if parsed.facts == _HISTORY_FACTS else None)
        if folder is not None:
            write_history(folder, figures=figures, command=command, remarks=remarks)
        return
    plan = Plan(
        QUICK if parsed.quick else FULL,
        (parsed.only,) if parsed.only else _WHOLE,
        systems,
        parsed.soak_s or (24.0 if parsed.quick else 120.0),
    )
    whole = not parsed.quick and parsed.only is None
    output: Path | None = parsed.output or (_HERE if whole else None)
    uvloop.run(_bench(plan, output, command))


async def _bench(plan: Plan, output: Path | None, command: str) -> None:
    started = time.monotonic()

    def say(what: str) -> None:
        print(f"{time.monotonic() - started:6.1f} s  {what}", flush=True)

    measured = [await _measure(part, plan, say) for part in plan.parts]
    figures = [figure for one in measured for figure in one.figures]
    remarks = [remark for one in measured for remark in one.remarks]
    more = "\n\n".join(one.more for one in measured if one.more)
    charts = [Chart("results.svg", goals_chart(figures))] if figures else []
    charts += [chart for one in measured for chart in one.charts]
    tables = [table(figures)] * bool(figures) + [more] * bool(more)
    print("\n" + "\n\n".join([*tables, "\n".join(remarks)]))
    if output is not None:
        write(
            output,
            figures=figures,
            more=more,
            rounds=plan.rounds,
            command=command,
            remarks=remarks,
            charts=charts,
        )
        say(f"written to {output / 'RESULTS.md'}")


async def _measure(part: str, plan: Plan, say: Say) -> Measured:
    match part:
        case "small":
            return await _measure_small(plan.rounds, say)
        case "soak":
            return await _measure_soak(plan.soak_s, say)
        case "systems":
            compared = await measure_systems(plan.systems, plan.rounds, say)
            chart = Chart("systems.svg", systems_chart(compared))
            return Measured([], [], systems_table(compared), (chart,))
        case "sharing":
            return Measured(*await measure_sharing(plan.rounds, say))
        case _:
            measure = {
                "scale": measure_scale,
                "growth": measure_growth,
                "storm": measure_storm,
                "wide": measure_wide,
            }[part]
            scale = await measure(plan.rounds, say)
            return Measured(scale.figures, scale.remarks)


async def _measure_soak(seconds: float, say: Say) -> Measured:
    async with (
        running_site({}, serve=False) as site,
        site.serving(retry_delays_s=retry_delays_s(seconds)) as site.dispatcher,
    ):
        say(f"soak, {seconds:,.0f} s")
        soak = Soak(site, seconds)
        await soak.run()
    return Measured(soak.figures(), [soak.remark()], soak.table(), (Chart("soak.svg", soak_chart(soak)),))


async def _measure_small(rounds: Rounds, say: Say) -> Measured:
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
        (Chart("latency.svg", latency_chart(latency)),),
    )


async def _check(site: Site, throughput: Throughput, latency: Latency) -> tuple[int, int]:
    feeds = (throughput.fast_feed, throughput.slow_feed, latency.feed)
    for feed in feeds:
        await feed.drained()
    verified = sum([await check(site, feed) for feed in feeds])
    return sum(feed.inserted * feed.webhooks for feed in feeds), verified


if __name__ == "__main__":
    main()
