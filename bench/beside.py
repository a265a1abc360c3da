"""`python -m bench.beside CHECKOUT`: what a delivery costs here beside another checkout's dispatcher.

Both run at the same time on one core, each with a PostgreSQL of its own, and get as many deliveries as they
can take in turns, while the other one idles. So a machine that others share moves both. The schema is this
checkout's: the other one has to be able to work with it.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import uvloop

from bench.figures import Figure
from bench.report import table
from bench.scenarios.throughput import FAST, FAST_WEBHOOKS, Rate, Throughput
from bench.site import running_site


class _Side:
    """One of the two dispatchers, and what was measured of it."""

    def __init__(self, throughput: Throughput) -> None:
        self._throughput = throughput
        self.rates: list[Rate] = []

    async def measure(self) -> None:
        """Take one more measurement."""
        self.rates.append(await self._throughput.recorded_fast())

    @property
    def cpu_us(self) -> list[float]:
        """The dispatcher's CPU a delivery, in each round but the first one, which warms it up."""
        return [rate.cpu_us for rate in self.rates[1:]]

    @property
    def postgresql_cpu_us(self) -> list[float]:
        """The same of PostgreSQL."""
        return [rate.postgresql_cpu_us for rate in self.rates[1:]]


@contextlib.asynccontextmanager
async def _side(checkout: Path | None, seconds: float) -> AsyncIterator[_Side]:
    async with (
        running_site({FAST: FAST_WEBHOOKS}, serve=False) as site,
        site.serving(checkout) as site.dispatcher,
    ):
        yield _Side(Throughput(site, seconds))


async def _measure(checkout: Path, rounds: int, seconds: float) -> list[Figure]:
    async with contextlib.AsyncExitStack() as stack:
        here, there = [await stack.enter_async_context(_side(one, seconds)) for one in (None, checkout)]
        for number in range(rounds + 1):
            for side in (here, there) if number % 2 else (there, here):
                await side.measure()
    return [
        Figure(
            name=f"{whose} CPU a delivery ÷ that of {checkout.name}",
            unit="µs",
            ours=ours,
            beside=beside,
            bound="at most",
            goal=1.0,
        )
        for whose, ours, beside in (
            ("dispatcher's", here.cpu_us, there.cpu_us),
            ("PostgreSQL's", here.postgresql_cpu_us, there.postgresql_cpu_us),
        )
    ]


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(prog="python -m bench.beside", description=__doc__)
    parser.add_argument("checkout", type=Path, help="another commit's files")
    parser.add_argument("--rounds", type=int, default=8, help="measurements of each (default: 8)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement (default: 2)")
    parsed = parser.parse_args()
    if not (parsed.checkout / "dispatcher" / "app.py").exists():
        parser.error(f"{parsed.checkout}: expected a checkout of this repository")
    print(table(uvloop.run(_measure(parsed.checkout.resolve(), parsed.rounds, parsed.seconds))))


if __name__ == "__main__":
    main()
