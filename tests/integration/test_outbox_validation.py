"""What the outbox accepts, and what it refuses in words that name the field (PRODUCT, section 1)."""

from __future__ import annotations

import datetime as dt
import json
import random
from collections.abc import Mapping, Sequence
from typing import Any, Final

import asyncpg

from dispatcher.core.body import build_body
from tests import traceparents
from tests.parts import detected, insert, refused
from tests.postgres import Database
from tests.refusals import ACCEPTED, BUILT_IN, misjudged, problem

MAY_BE_ABSENT: Final = {"depth_km", "magnitude_type", "location_description", "network_id"}
MAY_BE_NULL: Final = {*MAY_BE_ABSENT, "magnitude"}
TIMESTAMPS: Final = {"origin_time", "last_seen", "failing_since"}


def wrong_values(value: object, name: str) -> Sequence[object]:
    """Give values of other JSON types than a field's: each of them in the place of a right one."""
    if isinstance(value, str):
        wrong: list[object] = [17, True, [value], {"a": value}]
        if name not in MAY_BE_ABSENT:
            wrong.append("")
        return [*wrong, "yesterday"] if name in TIMESTAMPS else wrong
    if isinstance(value, dict):
        return ["text", 17, True, [value]]
    return [str(value), True, [value], {"a": value}]


def cases_of(type_: str, fields: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Give an event of a type, and that event with each field missing, null, and of each wrong type."""
    cases = {"as in the guide": (json.dumps(fields), ACCEPTED)}
    for name, value in fields.items():
        without = {key: other for key, other in fields.items() if key != name}
        missing = ACCEPTED if name in MAY_BE_ABSENT else f"data.{name}: missing; {type_} needs it"
        cases[f"{name} missing"] = (json.dumps(without), missing)
        null = ACCEPTED if name in MAY_BE_NULL else f"data.{name}: expected"
        cases[f"{name} null"] = (json.dumps({**fields, name: None}), null)
        cases[f"{name} [null]"] = (json.dumps({**fields, name: [None]}), f"data.{name}: expected")
        for wrong in wrong_values(value, name):
            cases[f"{name} = {wrong!r}"] = (json.dumps({**fields, name: wrong}), f"data.{name}: expected")
    return cases


async def test_required_fields_of_built_in_types(connection: asyncpg.Connection) -> None:
    """Each is there and of its JSON type, or the error names it; some may be absent, some null."""
    for type_, fields in BUILT_IN.items():
        assert {} == await misjudged(connection, cases_of(type_, fields), type_)


async def test_samples_of_built_in_types(connection: asyncpg.Connection) -> None:
    """The sample that subscribers are shown is an event that the outbox takes."""
    for type_, sample in await connection.fetch("select name, sample::text from event_type"):
        assert ACCEPTED == await problem(connection, sample, type_)
        assert set(json.loads(sample)) >= set(BUILT_IN[type_]) - {"network_id"}


async def test_built_in_types_are_all_here(connection: asyncpg.Connection) -> None:
    """And a type that is not registered is refused, with the known ones."""
    known = [row[0] for row in await connection.fetch("select name from event_type order by name")]
    assert sorted(BUILT_IN) == known
    for unknown in ("event.detect", "EVENT.DETECTED", ""):
        words = f'type: "{unknown}" is not a registered event type; expected one of {", ".join(known)}'
        assert words == await problem(connection, detected(), unknown)


async def test_data_is_an_object(connection: asyncpg.Connection) -> None:
    """Nothing else is, not even an array of one."""
    for text, got in {
        f"[{detected()}]": "array",
        "[]": "array",
        "null": "null",
        "17": "number",
        '"text"': "string",
        "true": "boolean",
    }.items():
        assert f"data: expected a JSON object, got {got}" == await problem(connection, text)
    with refused(asyncpg.NotNullViolationError, "data: expected a JSON object, got null"):
        await connection.execute("insert into outbox (type, data) values ('event.detected', null)")
    with refused(asyncpg.InvalidTextRepresentationError, "json"):
        await connection.execute("""insert into outbox (type, data) values ('event.detected', '{"a":')""")


async def test_nothing_in_the_way_of_a_real_first_solution(connection: asyncpg.Connection) -> None:
    """No magnitude, a depth above sea level, an unheard-of magnitude type, fields that nobody knows."""
    cases = {
        "no magnitude": (detected(magnitude=None, magnitude_type=None, location_description=None), ACCEPTED),
        "empty texts": (detected(magnitude_type="", location_description="", network_id=""), ACCEPTED),
        "above sea level": (detected(depth_km=-3.4), ACCEPTED),
        "of any type": (detected(magnitude_type="Mwpd"), ACCEPTED),
        "extra fields": (detected(nested={"a": [1, {"b": None}]}, note="", more=[]), ACCEPTED),
    }
    assert {} == await misjudged(connection, cases)
    assert not await connection.fetchval("select count(*) from outbox where network_id = ''")


async def test_coordinates(connection: asyncpg.Connection) -> None:
    """Latitudes from -90 to 90, longitudes from -180 to 180, both ends included."""
    latitude, longitude = (
        "data.latitude: expected a number from -90",
        "data.longitude: expected a number from -180",
    )
    cases = {
        **{f"latitude {n}": (detected(latitude=n), ACCEPTED) for n in (-90, 90, 0, -0.0, 89.999999)},
        **{f"latitude {n}": (detected(latitude=n), latitude) for n in (-90.000001, 90.5, 1e300)},
        **{f"longitude {n}": (detected(longitude=n), ACCEPTED) for n in (-180, 180, 179.99)},
        **{f"longitude {n}": (detected(longitude=n), longitude) for n in (-180.01, 180.0001, 360)},
    }
    assert {} == await misjudged(connection, cases)


RIGHT_TIMES: Final = [
    "2024-01-15T14:32:41Z", "2024-01-15T14:32:41.5Z", "2024-01-15T14:32:41.123456789012Z",
    "2024-01-15t14:32:41z", "2024-01-15T14:32:41+00:00", "2024-01-15T14:32:41-05:00",
    "2024-01-15T14:32:41+23:59", "2024-01-15T23:59:60Z", "2024-01-31T00:00:00Z", "2024-04-30T00:00:00Z",
    "2024-12-31T00:00:00Z", "2024-02-29T00:00:00Z", "2000-02-29T00:00:00Z", "2400-02-29T00:00:00Z",
    "2023-02-28T00:00:00Z", "1906-04-18T13:12:21Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z",
]  # fmt: skip
WRONG_TIMES: Final = [
    "2024-01-15", "2024-01-15T14:32Z", "2024-01-15T14:32:41", "2024-01-15T14:32:41.Z",
    "2024-01-15T14:32:41,5Z", "2024-01-15T24:00:00Z", "2024-01-15T14:60:00Z", "2024-01-15T14:32:61Z",
    "2024-01-15T14:32:41+0530", "2024-01-15T14:32:41+24:00", "2024-01-15T14:32:41+05:60",
    "2024-01-15T14:32:41UTC", "24-01-15T14:32:41Z", "2024-00-15T14:32:41Z", "2024-13-15T14:32:41Z",
    "2024-01-00T14:32:41Z", "2024-01-32T14:32:41Z", "2024-04-31T00:00:00Z", "2024-02-30T00:00:00Z",
    "2023-02-29T00:00:00Z", "1900-02-29T00:00:00Z", "2100-02-29T00:00:00Z", "20240115T143241Z",
    "02024-01-15T14:32:41Z", "x2024-01-15T14:32:41Z", "2024-01-15T14:32:41Zx", "1705329161", "infinity",
    "٢٠٢٤-01-15T14:32:41Z",
]  # fmt: skip


async def test_timestamps_are_rfc_3339(connection: asyncpg.Connection) -> None:
    """Months have their length and leap years their day; fractions, offsets, t and z as the RFC has them."""
    words = 'data.origin_time: expected an RFC 3339 timestamp such as "2024-01-15T14:32:50Z", got "'
    wrong = [*WRONG_TIMES, "2024-01-15T14:32:41Z\n", " 2024-01-15T14:32:41Z", "2024-01-15T14:32:41Z "]
    cases = {
        **{time: (detected(origin_time=time), ACCEPTED) for time in [*RIGHT_TIMES, "2024-01-15 14:32:41Z"]},
        **{time: (detected(origin_time=time), words) for time in wrong},
    }
    assert {} == await misjudged(connection, cases)


async def test_size(connection: asyncpg.Connection) -> None:
    """Up to 256 KiB as written, white space included; beyond that the error says how much it was."""
    room = 262_144 - len(detected(note="").encode())
    assert ACCEPTED == await problem(connection, detected(note="x" * room))
    expected = "data: expected at most 262144 bytes (256 KiB), got 262145"
    assert expected == await problem(connection, detected(note="x" * (room + 1)))
    assert expected == await problem(connection, detected(note="x" * (room - 1)) + "  ")
    assert expected == await problem(connection, '{"note":"' + "é" * 131_067 + '"}')


def with_number(text: str) -> str:
    """Give an event that holds a number of this spelling."""
    return detected(extra=0).replace('"extra": 0', f'"extra": {text}')


async def test_numbers_fit_into_a_double(connection: asyncpg.Connection) -> None:
    """However they are spelled, and wherever they stand; too small ones are zero to every reader."""
    right = [
        "1e308", "-1.7976931348623157e308", "1.7976931348623157E+308", "9" * 308, "0." + "1" * 300, "1e-400",
        "1e-0400", "1e0300", "1e00000000005", "-0", "5e-324", "123456789012345678901234567890",
        "0." + "0" * 400 + "1e400", "1" * 209 + "e99", "1" + "0" * 308,
    ]  # fmt: skip
    wrong = [
        "1e309", "1e400", "-1e400", "1E+400", "1e0400", "1e999999", "-1e2147483648", "1.7976931348623159e308",
        "9" * 309, "-" + "9" * 400, "9" * 200_000, "9" * 220 + "e99", "9" * 255 + "e55", "2" * 300 + "e9",
        "9" * 254 + ".5e60", "1e-20000", "0." + "1" * 20_000,
    ]  # fmt: skip
    words = "data: holds a number that JSON readers cannot hold"
    cases = {
        **{f"right {place}": (with_number(text), ACCEPTED) for place, text in enumerate(right)},
        **{f"wrong {place}": (with_number(text), words) for place, text in enumerate(wrong)},
        "deep inside": ('{"a":[{"b":[1,[1e999]]}]}', words),
        "beside U+0000": (with_number(r'"\u0000", "more": 1e999999'), words),
        "in a string": (with_number('"1e999 and 1e999999"'), ACCEPTED),
    }
    assert {} == await misjudged(connection, cases)


async def test_depth(connection: asyncpg.Connection) -> None:
    """64 levels below the object itself, arrays and objects alike."""

    def objects(levels: int) -> str:
        return '{"a":' * levels + "1" + "}" * levels

    words = "data: nested deeper than 64 levels"
    cases = {
        "64 arrays": (with_number("[" * 64 + "]" * 64), ACCEPTED),
        "65 arrays": (with_number("[" * 65 + "]" * 65), words),
        "64 objects": (with_number(objects(63)), ACCEPTED),
        "65 objects": (with_number(objects(64)), words),
        "1000 arrays": (with_number("[" * 1000 + "]" * 1000), words),
    }
    assert {} == await misjudged(connection, cases)
    with refused(asyncpg.StatementTooComplexError, "stack depth"):
        await problem(connection, with_number("[" * 100_000 + "]" * 100_000))


async def test_duplicate_keys_hide_nothing(connection: asyncpg.Connection) -> None:
    """The last of them counts, as for JavaScript; the others are read all the same, by every reader."""
    number, depth = "data: holds a number that JSON readers cannot hold", "data: nested deeper than 64 levels"
    deep = "[" * 500 + "]" * 500
    cases = {
        "harmless": (with_number('1, "extra": 2'), ACCEPTED),
        "a number": (with_number('1e400, "extra": 2'), number),
        "a long one": (with_number("9" * 400 + ', "extra": 2'), number),
        "inside": (with_number('{"a": [1e400]}, "extra": 2'), number),
        "a depth": (with_number(deep + ', "extra": 2'), depth),
        "objects": (with_number('{"a":' * 500 + "1" + "}" * 500 + ', "extra": 2'), depth),
        "brackets": (with_number('"' + "[" * 500 + '"'), ACCEPTED),
        "quotes": (with_number('"' + r"\"" + "[" * 500 + '", "it": "e"'), ACCEPTED),
        "wide": (with_number("[" + "[{}]," * 5000 + "1]"), ACCEPTED),
        "required": (detected()[:-1] + ', "magnitude": "4"}', "data.magnitude: expected a number"),
        "required, but the last": ('{"magnitude": "4",' + detected()[1:], ACCEPTED),
    }
    assert {} == await misjudged(connection, cases)


async def test_unusual_strings_pass(connection: asyncpg.Connection) -> None:
    """What JSON can spell and jsonb cannot hold is kept as it was written, and can be sent."""
    texts = [
        r'"\u0000"', r'"a\u0000b\u0000"', r'"\ud800"', r'"\udc00\ud800"', r'"\ud83d\ude00"', r'"\\u0000"',
        r'"\\\u0000"', r'"\\ud800"', r'"\\\\\udfff\u0000"', '"\u2028\u007f"', r'"\u00e9\/\b"', '"🌋"',
    ]  # fmt: skip
    for text in texts:
        data = with_number(text)
        day, number = await insert(connection, data)
        kept = await connection.fetchval(
            "select data::text from outbox where day = $1 and id = $2", day, number
        )
        assert data == kept
        body = build_body("event.detected", dt.datetime.now(dt.UTC), kept, test=False)
        assert json.loads(data) == json.loads(body.content)["data"]
    # They count as strings where one is required, and for what is required of them.
    unusual = detected(event_id="?").replace('"?"', r'"\ud800\u0000"')
    assert ACCEPTED == await problem(connection, unusual)
    wrong = detected(origin_time="?").replace('"?"', r'"2024-01-15T14:32:41Z\u0000"')
    assert "data.origin_time: expected" in await problem(connection, wrong)


async def test_key_order_and_spelling_are_kept(connection: asyncpg.Connection) -> None:
    """Also of fields that come twice and of numbers: nothing is lost before the body is made."""
    data = '{ "zulu":1.50, "alpha":1e2,' + detected()[1:-1] + ',"alpha":2 }'
    day, number = await insert(connection, data)
    kept = await connection.fetchval("select data::text from outbox where day = $1 and id = $2", day, number)
    assert data == kept


async def test_occurred_at(connection: asyncpg.Connection) -> None:
    """Now, unless the producer knows better: any time that a timestamp of the envelope can tell."""

    async def at(text: str) -> str:
        try:
            async with connection.transaction():
                await connection.execute(
                    "insert into outbox (type, data, occurred_at)"
                    " values ('event.detected', $1, $2::text::timestamptz)",
                    detected(),
                    text,
                )
        except asyncpg.CheckViolationError as error:
            return str(error.message)
        return ACCEPTED

    words = "occurred_at: expected a time in the years 1 to 9999, got "
    for text in ("infinity", "-infinity", "0044-03-15 12:00:00+00 BC", "10000-01-01 00:00:00+00"):
        assert (await at(text)).startswith(words)
    for text in ("0001-01-01 00:00:00+00", "9999-12-31 23:59:59.999999+00", "1906-04-18 05:12:21-08"):
        assert ACCEPTED == await at(text)
    with refused(asyncpg.NotNullViolationError, "occurred_at"):
        await connection.execute(
            "insert into outbox (type, data, occurred_at) values ('event.detected', $1, null)", detected()
        )
    before = await connection.fetchval("select now()")
    day, number = await insert(connection)
    after = await connection.fetchval("select now()")
    default = await connection.fetchval(
        "select occurred_at from outbox where day = $1 and id = $2", day, number
    )
    assert before <= default <= after


async def test_traceparent(connection: asyncpg.Connection) -> None:
    """As W3C Trace Context has it; one of another form refuses no event, and a notice names the field."""
    notices: list[str] = []
    connection.add_log_listener(lambda _, message: notices.append(str(message)))
    kept = "select traceparent from outbox where day = $1 and id = $2"
    for value in (None, *traceparents.ACCEPTED):
        assert value == await connection.fetchval(kept, *await insert(connection, traceparent=value))
    assert [] == notices
    for value in traceparents.LEFT_OUT:
        assert await connection.fetchval(kept, *await insert(connection, traceparent=value)) is None
        assert "traceparent: expected one of W3C Trace Context, such as" in notices.pop()
    assert [] == notices
    with refused(asyncpg.CheckViolationError, "data.latitude"):
        await insert(connection, detected(latitude=91), traceparent="wrong as well")


async def test_a_producer_may_have_settings_of_its_own(database: Database) -> None:
    """Whatever its role, its driver or an old program has set, rows are judged as ever."""
    long = detected(note="x" * 1000, odd="\u0000", more="\ud800", size=12.5e10)
    bad = "data.latitude: expected a number from -90 to 90, got"
    cases = {
        "short": (detected(), ACCEPTED),
        "long": (long, ACCEPTED),
        "wrong": (detected(latitude="x"), bad),
        "wrong and long": (detected(latitude="x", note="x" * 1000), bad),
        "number": (with_number("1e400"), "data: holds a number"),
    }
    for setting in (
        "standard_conforming_strings = off", "transform_null_equals = on", "datestyle = 'SQL, DMY'",
        "timezone = 'Asia/Kathmandu'", "extra_float_digits = -15", "search_path = ''",
        "plpgsql.extra_errors = 'all'", "bytea_output = 'escape'", "quote_all_identifiers = on",
    ):  # fmt: skip
        session = await database.connect()
        await session.execute(f"set {setting}")
        judged = {
            name: await problem(session, data, table="public.outbox") for name, (data, _) in cases.items()
        }
        assert {} == {name: words for name, words in judged.items() if cases[name][1] not in words}, setting
        assert [ACCEPTED, ACCEPTED] == [judged["short"], judged["long"]], setting
        await session.execute(
            "insert into public.event_type (name, description, fields) values ($1, 'x', $2)",
            "a." + setting.partition(" ")[0].replace(".", "_"),
            '{"n": "number", "s": "string?", "t": "timestamp"}',
        )
        await session.close()


async def test_refusal_leaves_nothing(connection: asyncpg.Connection) -> None:
    """One bad row of a statement refuses the statement, inside the producer's own transaction."""
    with refused(asyncpg.CheckViolationError, "data.latitude"):
        await connection.execute(
            "insert into outbox (type, data) select 'event.detected', unnest($1::text[])::json",
            [detected(), detected(latitude=91), detected()],
        )
    assert 0 == await connection.fetchval("select count(*) from outbox")
    with refused(asyncpg.CheckViolationError, "network_id: expected a network's id or null, got an empty"):
        await insert(connection, network_id="")


def any_json(rng: random.Random, depth: int = 0) -> str:
    """Write some JSON as only machines and adversaries do."""
    match rng.randrange(9 if depth < 5 else 6):
        case 0 | 1:
            digits = "".join(rng.choices("0123456789", k=rng.choice([1, 1, 2, 17, 40, 209, 220, 309])))
            number = digits.lstrip("0") or "0"
            number += rng.choice(["", "", "." + digits[::-1]])
            sign, exponent = (
                rng.choice(["", "", "-"]),
                rng.choice(["", "", "e5", "E+17", "e-7", "e88", "e300", "e-400"]),
            )
            return f"{sign}{number}{exponent}"
        case 2 | 3:
            pieces = ["a", "é", "🌋", r"\u0000", r"\ud83d", r"\udf0b", r"\\", r"\n", r"\"", " ", "\u2028"]
            return '"' + "".join(rng.choices(pieces, k=rng.randrange(7))) + '"'
        case 4:
            return rng.choice(["true", "false", "null"])
        case 5:
            return rng.choice(["[]", "{ }", "-0", "0.0", "-0.0e0", "10.0"])
        case 6:
            return "[" + ", ".join(any_json(rng, depth + 1) for _ in range(rng.randrange(5))) + "]"
        case _:
            names = rng.choices(
                ["a", "b", "2", "10", "", r"\u0000", r"\ud800", "__proto__"], k=rng.randrange(6)
            )
            return "{" + ",".join(f'"{name}" :{any_json(rng, depth + 1)}' for name in names) + "}"


async def test_what_is_accepted_can_be_delivered(connection: asyncpg.Connection) -> None:
    """Whatever the outbox took: its body can be written, and a reader finds in it what the producer wrote."""
    rng = random.Random(20261121)
    answers = []
    await connection.execute(
        "insert into event_type (name, description, fields, sample) values ('q.b', 'x', '{}', '{}')"
    )
    for _ in range(400):
        data = '{"it":' + any_json(rng) + "}"
        answers.append(await problem(connection, data, "q.b"))
        if answers[-1] == ACCEPTED:
            body = build_body("q.b", dt.datetime.now(dt.UTC), data, test=False).content
            assert json.loads(data, parse_int=float) == json.loads(body, parse_int=float)["data"]
        else:
            assert answers[-1].startswith("data: holds a number that JSON readers cannot hold"), data
    assert 200 < answers.count(ACCEPTED) < 400
