"""`python -m bench.senders [--beside CHECKOUT]`: what a request costs the sender, and others, in one run.

Our sender, aiohttp's `ClientSession` and, where a checkout of another commit is given, the sender of that one
take turns on one core; the receiver is on the other. The figure is CPU time per request.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from pathlib import Path
from statistics import median
from typing import Any, Final

import msgspec
import uvloop

from bench.child import Child, running_child
from bench.machine import cores
from bench.sending import SESSION
from tests.certificates import Authority

_ROOT: Final = Path(__file__).parents[1]
_OURS: Final = "ours"
_BESIDE: Final = "beside"


class Case(msgspec.Struct, frozen=True):
    """One way to send."""

    name: str
    path: str
    in_flight: int
    tls: bool = False
    kept: bool = True


_CASES: Final = (
    Case("64 at a time", "/fast", 64),
    Case("1,000 at a time, receivers take 100 ms", "/slow", 1000),
    Case("TLS, 64 at a time", "/fast", 64, tls=True),
    Case("a fresh connection each", "/fast", 16, kept=False),
    Case("a fresh TLS connection each", "/fast", 16, tls=True, kept=False),
)


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(prog="python -m bench.senders", description=__doc__)
    parser.add_argument("--beside", type=Path, help="folder of another checkout, to compare its sender")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    arguments = parser.parse_args()
    beside = arguments.beside and arguments.beside.resolve()
    uvloop.run(_bench(beside, arguments.rounds, arguments.seconds))


async def _bench(beside: Path | None, rounds: int, seconds: float) -> None:
    measured, other = cores()
    checkouts = {SESSION: SESSION, **({_BESIDE: str(beside)} if beside else {}), _OURS: str(_ROOT)}
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        authority = Authority(folder)
        authority.server("127.0.0.1")
        sink = await stack.enter_async_context(running_child("bench.sink", other))
        plain, tls = await sink.ask("port"), await sink.ask("port", tls=str(folder / "server-1.pem"))
        children = {
            name: await stack.enter_async_context(running_child("bench.sending", measured, where))
            for name, where in checkouts.items()
        }
        print(f"| | {' | '.join(children)} | ours ÷ session |{' ours ÷ beside |' if beside else ''}")
        print("|---" * (len(children) + (3 if beside else 2)) + "|")
        for case in _CASES:
            url = f"https://127.0.0.1:{tls}" if case.tls else f"http://127.0.0.1:{plain}"
            order = {
                "url": url + case.path,
                "ca": authority.file.read_text("ascii") if case.tls else "",
                "in_flight": case.in_flight,
                "kept": case.kept,
                "seconds": seconds,
            }
            answers = await _rounds(children, sink, order, rounds)
            print(_line(case.name, answers), flush=True)


async def _rounds(
    children: dict[str, Child], sink: Child, order: dict[str, Any], rounds: int
) -> dict[str, list[dict[str, float]]]:
    answers: dict[str, list[dict[str, float]]] = {name: [] for name in children}
    for _ in range(rounds):
        for name, child in children.items():
            answers[name].append(await child.ask("flood", **order))
            await sink.ask("forget", series=order["url"].rpartition("/")[2])
    return answers


def _line(name: str, answers: dict[str, list[dict[str, float]]]) -> str:
    """Draw a row: CPU per request and rate, and the ratios of CPU, each the median of the rounds."""
    costs = {
        sender: [one["cpu_s"] / one["requests"] * 1e6 for one in rounds] for sender, rounds in answers.items()
    }
    cells = [
        f"{median(costs[sender]):.1f} µs, {median(one['requests'] / one['seconds'] for one in rounds):,.0f}/s"
        for sender, rounds in answers.items()
    ]
    for other in (SESSION, _BESIDE):
        if other in costs:
            ratios = [ours / its for ours, its in zip(costs[_OURS], costs[other], strict=True)]
            cells.append(f"**{median(ratios):.2f}** ({min(ratios):.2f} to {max(ratios):.2f})")
    return f"| {name} | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
