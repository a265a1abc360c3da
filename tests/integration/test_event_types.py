"""What follows from a row and its type: network, lane, event id; and the types that operators register."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

import asyncpg

from tests.parts import detected, insert, refused
from tests.refusals import ACCEPTED, BUILT_IN, misjudged, problem

MISSING: Final = ...


async def test_network_of_an_event(connection: asyncpg.Connection) -> None:
    """Its column, else its data, else the network of an earlier event with the same event_id."""

    async def network(data: str, type_: str = "event.updated", **columns: Any) -> str | None:
        day, number = await insert(connection, data, type_, **columns)
        row = await connection.fetchrow("select * from outbox where day = $1 and id = $2", day, number)
        found: str | None = row["network_id"]
        return found

    def updated(event_id: str, **more: Any) -> str:
        return json.dumps({"event_id": event_id, "changes": {}, **more})

    first = detected(event_id="evt_1", network_id="net_data")
    assert "net_column" == await network(first, "event.detected", network_id="net_column")
    assert "net_data" == await network(detected(event_id="evt_2", network_id="net_data"), "event.detected")
    assert "net_column" == await network(updated("evt_1"))
    assert "net_data" == await network(updated("evt_2"))
    assert "net_own" == await network(updated("evt_2", network_id="net_own"))
    assert "net_data" == await network(updated("evt_2", network_id=None))
    assert await network(updated("evt_unknown")) is None
    # A drill says nothing about real events.
    assert "net_test" == await network(updated("evt_3", network_id="net_test"), test=True)
    assert await network(updated("evt_3")) is None
    assert await network(detected(event_id="evt_4", network_id=...), "event.detected") is None


async def test_what_the_database_sets_itself(connection: asyncpg.Connection) -> None:
    """Lane, transaction and event_id follow from the row, whoever writes something else there."""
    day, number = await insert(connection, detected(event_id="evt_1"), lane=2, event_id="evt_2")
    row = await connection.fetchrow(
        "select lane, event_id, xid = '1'::xid8 as forged from outbox where day = $1 and id = $2", day, number
    )
    assert (0, "evt_1", False) == tuple(row)
    lanes = {}
    for type_, fields in BUILT_IN.items():
        day, number = await insert(connection, json.dumps(fields), type_)
        query = "select lane from outbox where day = $1 and id = $2"
        lanes[type_] = await connection.fetchval(query, day, number)
    assert {"event.detected": 0, "event.updated": 1} == {
        name: lane for name, lane in lanes.items() if lane < 2
    }
    with refused(asyncpg.GeneratedAlwaysError, "id"):
        await insert(connection, id=7)


async def test_registered_types_are_like_built_in_ones(connection: asyncpg.Connection) -> None:
    """Every kind of field, absent or null where it may be, and the lane that the operator chose."""
    fields = {
        "s": "string", "n": "number", "i": "integer", "b": "boolean", "o": "object", "a": "array",
        "t": "timestamp", "la": "latitude", "lo": "longitude", "nul": "integer|null", "opt": "array?",
        'odd "name"\\': "string?",
    }  # fmt: skip
    sample = {
        "s": "x", "n": 1.5, "i": 3, "b": False, "o": {}, "a": [], "t": "2024-01-15T14:32:50Z", "la": -90,
        "lo": 180, "nul": None,
    }  # fmt: skip
    await connection.execute(
        "insert into event_type (name, description, lane, fields, sample) values ($1, $2, 0, $3, $4)",
        "quarry.blast", "A blast was announced", json.dumps(fields), json.dumps(sample),
    )  # fmt: skip
    odd = 'odd "name"\\'

    def blast(**changes: object) -> str:
        return json.dumps(
            {key: value for key, value in {**sample, **changes}.items() if value is not MISSING}
        )

    wrong: dict[str, Sequence[object]] = {
        "s": [1, "", None, MISSING, ["x"]], "n": ["1", None, [1]], "i": [1.5, "1", True, [1]],
        "b": [0, "true", None, [True]], "o": [[], "x", None, [{}]], "a": [{}, "x", None], "t": ["now", 1],
        "la": [90.1, "1"], "lo": [-180.1], "nul": [1.5, "", MISSING, [None]], "opt": [{}, 1, ""],
        odd: [1, []],
    }  # fmt: skip
    cases = {
        f"{name} = {value!r}": (blast(**{name: value}), f"data.{name}: ")
        for name, values in wrong.items()
        for value in values
    }
    right: dict[str, Sequence[object]] = {
        "i": [3.0, -7, 10**20], "nul": [4], "opt": [None, [], [1], MISSING],
        odd: ["x", "", None], "else": [1],
    }  # fmt: skip
    for name, values in right.items():
        cases |= {f"{name} = {value!r}": (blast(**{name: value}), ACCEPTED) for value in values}
    assert {} == await misjudged(connection, cases, "quarry.blast")
    assert 0 == await connection.fetchval("select distinct lane from outbox")


async def test_registration_is_checked(connection: asyncpg.Connection) -> None:
    """A rule that cannot be, a sample that does not fit, a name that no filter could name: refused."""

    async def registered(name: str = "a.b", fields: str = "{}", sample: str = "{}", lane: int = 1) -> str:
        try:
            async with connection.transaction():
                await connection.execute(
                    "insert into event_type (name, description, lane, fields, sample)"
                    " values ($1, 'x', $2, $3, $4)", name, lane, fields, sample,
                )  # fmt: skip
        except asyncpg.CheckViolationError as error:
            return str(error)
        return ACCEPTED

    assert ACCEPTED == await registered("a.b")
    assert ACCEPTED == await registered("quarry_2.blast.announced")
    for name in ("a", "A.b", "a.", ".b", "a b.c", "a.b-c", "1.b", "a." + "b" * 99, "*", "a.*", "webhook.b"):
        assert "event_type" in await registered(name), name
    for kind in (
        '"strin"',
        '"string|nil"',
        '"string??"',
        "null",
        "17",
        '["string"]',
        '{"type":"string"}',
        '""',
    ):
        assert "fields.f: expected string, number" in await registered(
            "c.d", f'{{"f":{kind}}}', '{"f":"x"}'
        ), kind
    assert "fields: expected an object" in await registered("c.d", "[]")
    assert "sample: does not fit the fields: data.f: missing" in await registered("c.d", '{"f":"string"}')
    for sample, words in {
        '{"f":1e400}': "holds a number that JSON readers cannot hold",
        '{"f":1e999999}': "holds a number that JSON readers cannot hold",
        '{"f":' + "[" * 65 + "]" * 65 + "}": "nested deeper than 64 levels",
        '{"f":"' + "x" * 262_144 + '"}': "expected at most 262144 bytes",
    }.items():
        assert f"sample: does not fit the fields: data: {words}" in await registered("c.d", "{}", sample)
    assert "sample: does not fit the fields: data: expected a JSON object" in await registered(
        "c.d", "{}", "[]"
    )
    assert "lane" in await registered("c.d", lane=3)


async def test_a_sample_is_made_of_the_fields(connection: asyncpg.Connection) -> None:
    """A name and a description suffice; a type without a sample has one that fits, for tests and the API."""
    kinds = (
        "string",
        "number",
        "integer",
        "boolean",
        "object",
        "array",
        "timestamp",
        "latitude",
        "longitude",
    )
    fields = {
        f"{kind}{number}": kind + end for number, end in enumerate(("", "|null", "?")) for kind in kinds
    }
    await connection.execute(
        "insert into event_type (name, description, fields) values ('a.b', 'x', $1)", json.dumps(fields)
    )
    await connection.execute("insert into event_type (name, description) values ('a.c', 'x')")
    samples = dict(
        await connection.fetch("select name, sample::text from event_type where name in ('a.b', 'a.c')")
    )
    assert list(fields) == list(json.loads(samples["a.b"]))
    assert {} == json.loads(samples["a.c"])
    for name, sample in samples.items():
        assert ACCEPTED == await problem(connection, sample, name)


async def test_changed_rule_applies_from_then_on(connection: asyncpg.Connection) -> None:
    """An operator who asks for another field gets it from the next event."""
    blast = (
        "insert into event_type (name, description, fields, sample) values ('q.b', 'x', '{}', '{\"f\":1}')",
    )
    await connection.execute(*blast)
    assert ACCEPTED == await problem(connection, "{}", "q.b")
    await connection.execute("""update event_type set fields = '{"f": "number"}' where name = 'q.b'""")
    assert "data.f: missing; q.b needs it" == await problem(connection, "{}", "q.b")
