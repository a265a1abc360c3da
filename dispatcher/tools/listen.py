"""`dispatcher listen`: a webhook.site on this machine, which can be told to fail, hang or answer slowly."""

from __future__ import annotations

import asyncio
import json
import math
import sys
from typing import TYPE_CHECKING, Any, Final

import msgspec

from dispatcher.core.errors import OperatorError
from dispatcher.core.signature import standard_key
from dispatcher.tools.receipt import Check, Receipt
from dispatcher.tools.receiver import Endpoint, Reply, receiving
from dispatcher.tools.terminal import Paint, clock, complain, duration, printable, say
from dispatcher.tools.words import describe

if TYPE_CHECKING:
    from collections.abc import Sequence

_RECENT_S: Final = 3600  # an event older than this was inserted with a time of its own: no latency


class Manner(msgspec.Struct, frozen=True):
    """How to answer: `status` to the first `fail_first` attempts of each delivery, then 200."""

    fail_first: float = 0  # a whole number, or infinity
    status: int = 500
    hang: bool = False  # those that fail get no answer at all
    delay_s: float = 0.0

    def reply(self, receipt: Receipt) -> Reply:
        """Answer one request, by the attempt number it carries."""
        if receipt.attempt > self.fail_first:
            return Reply(200, self.delay_s)
        return Reply(None if self.hang else self.status, self.delay_s)

    def __str__(self) -> str:
        """Say what the listener answers."""
        bad = "nothing" if self.hang else str(self.status)
        slowly = f", each after {duration(self.delay_s)}" if self.delay_s else ""
        if self.fail_first == math.inf:
            return f"answers {bad}{slowly}"
        if not self.fail_first:
            return f"answers 200{slowly}"
        attempts = "attempt" if self.fail_first == 1 else f"{self.fail_first:g} attempts"
        return f"answers {bad} to the first {attempts} of each delivery, then 200{slowly}"


async def listen(
    *, host: str, port: int, secrets: Sequence[str], manner: Manner, as_json: bool = False
) -> int:
    """Show requests as they come until interrupted; raises `OperatorError` for an unusable secret or port."""
    for secret in secrets:
        try:
            standard_key(secret)
        except ValueError as error:
            raise OperatorError(f"--secret: {error}") from error
    arrived: asyncio.Queue[tuple[Receipt, Reply]] = asyncio.Queue()
    endpoint = Endpoint(tuple(secrets), manner.reply)
    paint = Paint(sys.stdout)
    async with receiving(
        host=host,
        port=port,
        find=lambda _path: endpoint,
        on_request=lambda receipt, reply: arrived.put_nowait((receipt, reply)),
    ) as url:
        # What a program reads stays on stdout alone.
        checking = "checks signatures" if secrets else "checks no signatures: give --secret"
        notice = f"listening on {paint(url, 'bold')}; {manner}; {checking}; Ctrl-C ends it"
        (complain if as_json else say)(notice)
        while True:
            receipt, reply = await arrived.get()
            say(*([json_line(receipt, reply)] if as_json else shown(receipt, reply, paint)))


def shown(receipt: Receipt, reply: Reply, paint: Paint) -> list[str]:
    """Give the lines that show a request to a person."""
    envelope = receipt.envelope()
    answer = "no answer" if reply.status is None else f"answered {reply.status}"
    fine = reply.status is not None and reply.status // 100 == 2
    title = [
        paint(clock(receipt.arrived_at), "dim"),
        paint(printable(receipt.event or f"{receipt.method} {receipt.path}"), "bold"),
        printable(receipt.delivery_id or "without a delivery id"),
        f"attempt {receipt.attempt}",
        paint(answer, "green" if fine else "red"),
    ]
    lines = ["", "  ".join(title)]
    if words := describe(receipt.event, (envelope or {}).get("data")):
        lines.append(f"  {words}")
    age_s = receipt.age_s()
    checks = [
        _mark("X-Grillo-Signature", receipt.grillo, paint),
        _mark("webhook-signature", receipt.standard, paint),
    ]
    if age_s is not None and abs(age_s) < _RECENT_S:
        checks.append(paint(f"{duration(age_s)} after the event", "dim"))
    lines.append("  " + "  ".join(checks))
    lines += [f"  {line}" for line in _pretty(receipt, envelope)]
    return lines


def _mark(name: str, check: Check, paint: Paint) -> str:
    sign, colour = {
        Check.VALID: ("✓", "green"),
        Check.UNCHECKED: ("-", "dim"),
    }.get(check, ("✗", "red"))
    return paint(f"{sign} {name} {check}", colour)


def _pretty(receipt: Receipt, envelope: dict[str, Any] | None) -> list[str]:
    if envelope is None:
        text = receipt.body.decode(errors="backslashreplace")
    else:
        text = json.dumps(envelope, indent=2, ensure_ascii=False)
    return printable(text, keep="\n").split("\n") if text else []


def json_line(receipt: Receipt, reply: Reply) -> str:
    """Give a request as one line of JSON."""
    age_s = receipt.age_s()
    envelope = receipt.envelope()
    return json.dumps(
        {
            "arrived_at": receipt.arrived_at.isoformat().replace("+00:00", "Z"),
            "method": receipt.method,
            "path": receipt.path,
            "event": receipt.event,
            "delivery": receipt.delivery_id,
            "attempt": receipt.attempt,
            "x_grillo_signature": receipt.grillo,
            "webhook_signature": receipt.standard,
            "age_ms": None if age_s is None else round(age_s * 1000, 1),
            "status": reply.status,
            "headers": receipt.headers,
            "body": receipt.body.decode(errors="backslashreplace") if envelope is None else envelope,
        }
    )
