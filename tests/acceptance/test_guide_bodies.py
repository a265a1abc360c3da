"""The guide's own receivers accept every body that we make of real events, and none that was touched."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TypeAlias

import aiohttp
import pytest

from dispatcher.core.body import build_body
from dispatcher.core.signature import Signer
from dispatcher.core.timestamps import parse_rfc3339
from tests.acceptance.receivers import GUIDE, GuideReceiver, express_receiver, flask_receiver

DATA = Path(__file__).parents[1] / "data"
SECRET = "your_shared_secret"
TIMESTAMP = 1_700_000_000
AT_A_TIME = 16

Starter: TypeAlias = Callable[[str], AbstractAsyncContextManager[GuideReceiver]]
both_receivers = pytest.mark.parametrize("start", [express_receiver, flask_receiver])


def real_bodies() -> list[tuple[str, bytes]]:
    """Give the type and the body of every real event, `data` spelled by two kinds of producer in turn."""
    bodies = []
    for name in ("usgs_week_2018.jsonl", "comcat_updates.jsonl"):
        for number, line in enumerate((DATA / name).read_text().splitlines()):
            event = json.loads(line, parse_int=float if number % 2 else int)  # 10, or Python's 10.0
            data = json.dumps(event["data"], ensure_ascii=number % 3 == 0)
            body = build_body(event["type"], parse_rfc3339(event["timestamp"]), data)
            assert body.inexact_integers == (), line
            bodies.append((event["type"], body.content))
    return bodies


async def post_all(url: str, requests: list[tuple[str, bytes, bytes]], signer: Signer) -> list[int]:
    """Post (type, body to sign, body to send), a few at a time, and give each status code in order."""
    slots = asyncio.Semaphore(AT_A_TIME)

    async def post(session: aiohttp.ClientSession, number: int) -> int:
        event, signed, sent = requests[number]
        delivery = f"dlv_{number:026}"
        headers = {
            "Content-Type": "application/json",
            "X-Grillo-Event": event,
            "X-Grillo-Delivery": delivery,
            **dict(signer.sign(delivery, TIMESTAMP, signed)),
        }
        async with slots, session.post(url, data=sent, headers=headers) as response:
            await response.read()
            return response.status

    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
        tasks = [group.create_task(post(session, number)) for number in range(len(requests))]
    return [task.result() for task in tasks]


@both_receivers
@pytest.mark.parametrize(
    "signer", [Signer(SECRET), Signer(SECRET, "the next secret")], ids=["steady", "rotating"]
)
async def test_real_events_are_accepted(start: Starter, signer: Signer) -> None:
    """All 1,724 real events verify in both receivers, also while a secret rotates."""
    requests = [(event, body, body) for event, body in real_bodies()]
    async with start(SECRET) as receiver:
        statuses = await post_all(receiver.url, requests, signer)
        await receiver.wait_requests(len(requests))
        assert receiver.rejected == []
        expected = {f"dlv_{number:026}": 1 for number in range(1_724)}
        assert expected == receiver.verified
    assert {200} == set(statuses)


@both_receivers
async def test_odd_bodies_are_accepted(start: Starter) -> None:
    """What JSON allows and JavaScript would write otherwise verifies too."""
    odd = [
        '{"depth_km": 10.0, "rms": 1e-05, "moment": 1e+16, "energy": 1E21, "zero": -0.0}',
        '{"b": 1, "10": {"z": 1, "2": 2, "1": 3}, "9": 3, "a": 4, "b": 5, "__proto__": {"x": 1}}',
        r'{"place": "\u00c1lvarez \ud83c\udf0b \ud800 \u0000\u001f\u007f\u2028", "raw": "花蓮"}',
        '{"nanoseconds": 1700000000123456789, "huge": 123456789012345678901234567890}',
        '{"deep": ' + "[" * 200 + "1.0" + "]" * 200 + "}",
        "{ }",
        '{"wide": "' + "é" * 120_000 + '"}',
    ]
    at = parse_rfc3339("2024-01-15T14:32:50Z")
    bodies = [build_body("event.detected", at, data, test=number % 2 == 1) for number, data in enumerate(odd)]
    requests = [("event.detected", body.content, body.content) for body in bodies]
    async with start(SECRET) as receiver:
        assert [200] * len(odd) == await post_all(receiver.url, requests, Signer(SECRET))


@both_receivers
async def test_a_touched_body_is_refused(start: Starter) -> None:
    """One bit flipped in any byte of a body, and no receiver accepts it."""
    event, body = real_bodies()[0]
    touched = [body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :] for place in range(len(body))]
    requests = [(event, body, other) for other in touched]
    async with start(SECRET) as receiver:
        statuses = await post_all(receiver.url, requests, Signer(SECRET))
        await receiver.wait_requests(len(requests))
        assert len(body) == len(receiver.rejected)
        assert receiver.verified == {}
    assert 200 not in statuses


@both_receivers
async def test_another_secret_is_refused(start: Starter) -> None:
    """A body signed with a secret that the receiver does not hold is not accepted."""
    event, body = real_bodies()[0]
    async with start(SECRET) as receiver:
        assert [401] == await post_all(receiver.url, [(event, body, body)], Signer("another"))


@pytest.mark.parametrize(
    ("receiver", "block"),
    [("express/server.js", "webhooks.en.node.txt"), ("flask/app.py", "webhooks.en.python.txt")],
)
def test_receivers_hold_the_guides_own_code(receiver: str, block: str) -> None:
    """The receivers run the guide's code line for line; the indentation, which the page lost, is ours."""
    text = (GUIDE / receiver).read_text()
    found: list[str] = re.findall(r"[/#]+ >>> the guide\n(.*?)\n[/#]+ <<< the guide", text, re.DOTALL)
    ours = [[line.strip() for line in code.splitlines() if line.strip()] for code in found]
    assert [(GUIDE / block).read_text().splitlines()] == ours
