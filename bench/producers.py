"""`python -m bench.producers`: where it goes what an INSERT costs a producer, without any dispatcher.

PostgreSQL's CPU a row, with eight writers that commit each row, into tables each of which has more of the
outbox than the one before; in turns, so that a machine that others share moves all of them.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from statistics import median
from typing import Final

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


async def _measure(producers: Producers, site: Site, rounds: int, seconds: float) -> dict[str, list[float]]:
    """Give PostgreSQL's CPU a row in microseconds, by table and round."""
    found: dict[str, list[float]] = {table: [] for table in _STAGES}
    for number in range(rounds):
        for table in list(_STAGES) if number % 2 else list(reversed(_STAGES)):
            before = family_cpu_s(site.postmaster_pid)
            event_id = table in {"bench_shaped", "bench_triggered"}
            _, count = await producers.insert(table, seconds, event_id=event_id)
            await asyncio.sleep(_SETTLED_S)
            found[table].append((family_cpu_s(site.postmaster_pid) - before) / count * 1e6)
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
    lines = ["| table | CPU a row | more than the one before | rounds |", "|---|---|---|---|"]
    before: list[float] | None = None
    for table, name in _STAGES.items():
        costs = found[table]
        more = "" if before is None else f"{median(map(float.__sub__, costs, before)):.0f} µs"
        lines.append(
            f"| {name} | {median(costs):.0f} µs | {more} | {min(costs):.0f} to {max(costs):.0f} µs |"
        )
        before = costs
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
