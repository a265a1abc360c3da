"""The outbox's short way (`outbox_accept`) and its long one (`outbox_examine`) say the same of every row."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from typing import Any, Final

import asyncpg
import pytest

from tests.parts import DETECTED, detected, insert, refused
from tests.refusals import ACCEPTED, misjudged

OWN: Final = "odd.fields"
KINDS: Final[Mapping[str, str]] = {
    "q'uote": "string?", "back\\slash": "number", "$.a": "integer|null", "b.c": "timestamp?",
    "%s": "boolean?", "é": "latitude?", "{a,b}": "array?", "": "object?",
    "event_id": "string?", "network_id": "string?",
}  # fmt: skip
RIGHT: Final = {
    "string": ['"x"', '"é"'], "number": ["10.0", "-3", "1e3"], "integer": ["1.0", "1e2"], "boolean": ["true"],
    "timestamp": ['"2024-01-15T14:32:50Z"', '"2024-01-31t14:32:60.5+05:30"'], "latitude": ["-90"],
    "array": ["[ ]"], "object": ['{"a":1}'],
}  # fmt: skip
LONG: Final = (1, 15, 40, 209, 210, 211, 309, 400)  # digits
EXPONENTS: Final = ("", "e5", "E+98", "e99", "e099", "e300", "e-400", "E308")
TIMES: Final = (
    *(None,) * 40, "infinity", "0001-01-01 23:59:59+00", "0001-01-02 00:00:00+00",
    "0001-12-31 00:00:00+00 BC", "9999-12-30 00:00:01+00", "10000-01-01 00:00:00+00",
)  # fmt: skip


def odd_value(rng: random.Random) -> str:
    """Write a value that one of the two ways may look at in another manner."""
    match rng.randrange(7):
        case 0 | 5 | 6:
            digits = rng.choice("123456789") + rng.choice("059") * (rng.choice(LONG) - 1)
            return rng.choice(["", "-"]) + digits + rng.choice(["", ".5"]) + rng.choice(EXPONENTS)
        case 1:
            return rng.choice(['""', r'"\u0000"', r'"\ud800"', r'"\u0031"', "null", "{}", "[null]", "91"])
        case 2:
            return '"' + "".join(rng.choices("[{]}:,1e9", k=rng.choice([3, 40, 210]))) + '"'
        case 3:
            levels = rng.choice([3, 63, 64, 65, 70])
            return rng.choice(["[" * levels + "]" * levels, '{"a":' * levels + "1" + "}" * levels])
        case _:
            return '"' + "é" * rng.choice([0, 1, 90, 200, 500]) + '"'


def odd_row(rng: random.Random) -> str:
    """Write the data of an event of our own type."""
    members = []
    for name, kind in KINDS.items():
        chance = rng.random()
        if chance < 0.9 or not kind.endswith("?"):
            right = RIGHT[kind.rstrip("?").partition("|")[0]]
            members.append((name, odd_value(rng) if chance < 0.06 else rng.choice(right)))
    members += [(rng.choice(["more", "1"]), odd_value(rng)) for _ in range(rng.choice([0, 1, 1, 2]))]
    spelt = {json.dumps(name, ensure_ascii=False): value for name, value in members}
    return "{" + ", ".join(f"{name}:{value}" for name, value in spelt.items()) + "}"


async def said(connection: asyncpg.Connection, statement: str, *values: Any) -> tuple[Any, ...]:
    """Give what a statement returns, or the words and the column of its refusal; nothing is kept."""
    change = connection.transaction()
    await change.start()
    try:
        return tuple(await connection.fetchrow(statement, *values) or ())
    except asyncpg.CheckViolationError as error:
        return str(error.message), error.column_name
    finally:
        await change.rollback()


async def test_both_ways_agree(connection: asyncpg.Connection) -> None:
    """On whether a row may stand, in the words of the refusal, and on what is taken from its data."""
    await connection.execute(
        "insert into event_type (name, description, fields, sample) values ($1, 'x', $2, $3)",
        OWN, json.dumps(KINDS), json.dumps({"back\\slash": 1, "$.a": None}),
    )  # fmt: skip
    rng = random.Random(20261122)
    given = "coalesce($3::text::timestamptz, now()), $4"
    answers = []
    for _ in range(600):
        row = (OWN, odd_row(rng), rng.choice(TIMES), rng.choice([*[None] * 10, "net_a", ""]))
        answers.append(
            await said(
                connection,
                f"insert into outbox (type, data, occurred_at, network_id) values ($1, $2, {given})"
                " returning lane, event_id, network_id",
                *row,
            )
        )
        examined = await said(
            connection,
            "select e.lane, e.event_id, coalesce($4, nullif(e.parsed ->> 'network_id', ''))"
            f" from outbox_examine($1, $2::json::text, {given}) e",
            *row,
        )
        assert examined == answers[-1], row
    assert 200 < sum(len(answer) == 3 for answer in answers) < 500


async def test_names_are_not_too_long_for_an_index(connection: asyncpg.Connection) -> None:
    """And the error names the field, not the index; what is no text is no name."""
    words = "data.event_id: expected at most 2000 bytes, got 2001"
    right = random.Random(1).randbytes(1000).hex()
    wrong = "é" + right[1:]
    cases = {
        "fits": (detected(event_id=right), ACCEPTED),
        "too long": (detected(event_id=wrong), words),
        "no name": (json.dumps({**DETECTED, "network_id": right + wrong}), ACCEPTED),
    }
    assert {} == await misjudged(connection, cases)
    offline = {"sensor_id": "s", "station_code": "c", "last_seen": "2024-01-15T14:30:00Z"}
    extra = {
        "passes through": (json.dumps({**offline, "event_id": [wrong]}), ACCEPTED),
        "too long": (json.dumps({**offline, "event_id": wrong}), words),
    }
    assert {} == await misjudged(connection, extra, "sensor.offline")
    await insert(connection, dedup_key=right)
    with refused(asyncpg.CheckViolationError, "dedup_key: expected at most 2000 bytes, got 2001"):
        await insert(connection, dedup_key=wrong)


@pytest.mark.parametrize("note", ["", "x" * 1000])
async def test_empty_event_id_is_none(connection: asyncpg.Connection, note: str) -> None:
    """What has one is not about the same earthquake: it does not take the network of another such row."""
    offline = {"sensor_id": "s", "station_code": "c", "last_seen": "2024-01-15T14:30:00Z", "note": note}
    data = json.dumps({**offline, "event_id": ""})
    for network_id in ("net_a", None):
        await insert(connection, data, "sensor.offline", network_id=network_id)
    rows = await connection.fetch("select event_id, network_id from outbox order by id")
    assert [(None, "net_a"), (None, None)] == [tuple(row) for row in rows]
