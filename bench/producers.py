"""`python -m bench.producers`: where it goes what an INSERT costs a producer, without any dispatcher.

PostgreSQL's CPU a row, and the rate of eight writers that commit each row, into tables each of which has more
of the outbox than the one before; in turns, so that a machine that others share moves all of them.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from statistics import median
from typing import Final, NamedTuple

import uvloop

from bench.machine import cores, family_cpu_s
from bench.pgbench import Producers, find_pgbench, make_bare_table
from bench.site import Site, running_site

# The months of a new installation, and its indexes.
_SHAPED: Final = """
create table {table} (like outbox including all) partition by range (day);
create table {table}_0 partition of {table} for values from (minvalue) to ('2020-01-01');
create table {table}_1 partition of {table} for values from ('2020-01-01') to ('2200-01-01');
create table {table}_2 partition of {table} for values from ('2200-01-01') to (maxvalue);
create unique index on {table}_1 (dedup_key) where dedup_key is not null;
"""
_EMPTY_TRIGGER: Final = """
create function bench_nothing() returns trigger language plpgsql stable as 'begin return new; end';
create trigger nothing before insert on bench_triggered for each row execute function bench_nothing();
"""
_STAGES: Final = {
    "bench_bare": "a bare table",
    "bench_shaped": "with the outbox's columns, months and indexes",
    "bench_triggered": "and a trigger that does nothing",
    "outbox": "the outbox",
}
_SETTLED_S: Final = 0.3  # until sessions have ended


class _Cost(NamedTuple):
    """What one measurement gave."""

    rate: float  # rows a second
    cpu_us: float  # of PostgreSQL, a row


async def _measure(producers: Producers, site: Site, rounds: int, seconds: float) -> dict[str, list[_Cost]]:
    """Give what rows cost, by table and round."""
    found: dict[str, list[_Cost]] = {table: [] for table in _STAGES}
    for number in range(rounds):
        for table in list(_STAGES) if number % 2 else list(reversed(_STAGES)):
            before = family_cpu_s(site.postmaster_pid)
            event_id = table in {"bench_shaped", "bench_triggered"}
            rate, count = await producers.insert(table, seconds, event_id=event_id)
            await asyncio.sleep(_SETTLED_S)
            cpu_s = family_cpu_s(site.postmaster_pid) - before
            found[table].append(_Cost(rate, cpu_s / count * 1e6))
    return found


async def _bench(rounds: int, seconds: float) -> str:
    pgbench = find_pgbench()
    if pgbench is None:
        sys.exit("pgbench: expected it beside PostgreSQL's programs or on the path")
    async with running_site({}, serve=False) as site:
        os.sched_setaffinity(site.postmaster_pid, set(cores()))  # new sessions inherit it
        await make_bare_table(site.producer)
        for table in ("bench_shaped", "bench_triggered"):
            await site.producer.execute(_SHAPED.format(table=table))
        await site.producer.execute(_EMPTY_TRIGGER)
        found = await _measure(Producers(pgbench, site.database_url), site, rounds, seconds)
    lines = ["| table | CPU a row | more than the one before | rounds | rate ÷ the first's | rounds |"]
    lines.append("|---|---|---|---|---|---|")
    before: list[float] | None = None
    bare = [cost.rate for cost in found["bench_bare"]]
    for table, name in _STAGES.items():
        cpu = [cost.cpu_us for cost in found[table]]
        more = "" if before is None else f"{median(map(float.__sub__, cpu, before)):.0f} µs"
        share = [cost.rate / beside for cost, beside in zip(found[table], bare, strict=True)]
        lines.append(
            f"| {name} | {median(cpu):.0f} µs | {more} | {min(cpu):.0f} to {max(cpu):.0f} µs"
            f" | {median(share):.2f} | {min(share):.2f} to {max(share):.2f} |"
        )
        before = cpu
    return "\n".join(lines)


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(prog="python -m bench.producers", description=__doc__)
    parser.add_argument("--rounds", type=int, default=6, help="measurements of each (default: 6)")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement (default: 4)")
    parsed = parser.parse_args()
    print(uvloop.run(_bench(parsed.rounds, parsed.seconds)))


if __name__ == "__main__":
    main()
