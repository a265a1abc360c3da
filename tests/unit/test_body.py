from __future__ import annotations

import datetime as dt
import json
import random
import struct

import pytest

from dispatcher.core.body import build_body, canonical, number_text

AT = dt.datetime(2024, 1, 15, 14, 32, 50, tzinfo=dt.UTC)


def written(text: str) -> str:
    """Give the canonical text of an object's text."""
    return canonical(text).content.decode()


def value(token: str, *, careful: bool) -> str:
    """Write one number; a key that is an integer sends the text through the careful way."""
    key = "7" if careful else "a"
    return written(f'{{"{key}": {token} }}').removeprefix(f'{{"{key}":').removesuffix("}")


def test_guide_example() -> None:
    """The guide's first example comes out compact and in its own order."""
    body = build_body(
        "event.detected", AT, '{ "event_id": "evt_abc123",\n\t"depth_km": 10.0, "magnitude": 4.20 }'
    )
    expected = (
        b'{"type":"event.detected","timestamp":"2024-01-15T14:32:50Z",'
        b'"data":{"event_id":"evt_abc123","depth_km":10,"magnitude":4.2}}'
    )
    assert (expected, ()) == (body.content, body.inexact_integers)


def test_a_drill_is_marked_before_its_data() -> None:
    """`"test":true` stands in the envelope, where no producer's field can hide it."""
    body = build_body("webhook.test", AT.replace(microsecond=7_000), '{"test":false}', test=True)
    expected = (
        b'{"type":"webhook.test","timestamp":"2024-01-15T14:32:50.007Z","test":true,"data":{"test":false}}'
    )
    assert expected == body.content


def test_the_type_is_escaped() -> None:
    """A type registered with odd characters cannot break the envelope."""
    expected = r'{"type":"a\"b.é","timestamp":"2024-01-15T14:32:50Z","data":{}}'.encode()
    assert expected == build_body('a"b.é', AT, "{}").content


@pytest.mark.parametrize("careful", [False, True])
@pytest.mark.parametrize(
    ("token", "expected"),
    [
        ("10.0", "10"),
        ("-0", "0"),
        ("-0.0", "0"),
        ("0e7", "0"),
        ("1E2", "100"),
        ("8.50", "8.5"),
        ("-122.4194", "-122.4194"),
        ("0.0001", "0.0001"),
        ("1e-05", "0.00001"),
        ("0.000001", "0.000001"),
        ("0.0000001", "1e-7"),
        ("1.5e-7", "1.5e-7"),
        ("1e15", "1000000000000000"),
        ("1e16", "10000000000000000"),
        ("1e+20", "100000000000000000000"),
        ("1e21", "1e+21"),
        ("-1.25e21", "-1.25e+21"),
        ("123456789012345680000.0", "123456789012345680000"),
        ("0.1e-400", "0"),
        ("5e-324", "5e-324"),
        ("2.2250738585072011e-308", "2.225073858507201e-308"),
        ("1.7976931348623157e308", "1.7976931348623157e+308"),
        ("0.30000000000000004", "0.30000000000000004"),
        ("4.35", "4.35"),
        ("9007199254740991", "9007199254740991"),
        ("999999999999999", "999999999999999"),
        ("-1234567890123456", "-1234567890123456"),
    ],
)
def test_numbers_are_written_as_ecmascript_prints_them(token: str, expected: str, *, careful: bool) -> None:
    """`Number::toString`, whatever the producer's spelling and whichever way the text takes."""
    assert expected == value(token, careful=careful)


def test_msgspec_and_number_text_agree_where_msgspec_writes() -> None:
    """Doubles that the plain way leaves to msgspec come out as the rule says."""
    chance = random.Random(20180206)
    doubles = [struct.unpack("<d", chance.randbytes(8))[0] for _ in range(2_000)]
    doubles += [chance.uniform(-1, 1) * 10.0 ** chance.randint(-6, 17) for _ in range(20_000)]
    doubles += [round(chance.uniform(-180, 180), chance.randint(0, 7)) for _ in range(5_000)]
    finite = [repr(double) for double in doubles if double - double == 0]
    expected = [number_text(float(token)) for token in finite]
    assert expected == [value(token, careful=False) for token in finite]
    assert [float(text) for text in expected] == [float(token) for token in finite]


def test_integers_that_a_double_cannot_hold_are_reported() -> None:
    """They are written as ECMAScript would, and named as the producer wrote them, in reading order."""
    got = canonical(
        '{"ns":[1700000000123456789,9007199254740993],"ok":[9007199254740994,18014398509481984],'
        '"big":{"a":-123456789012345678901234567890},"float":9007199254740993.0}'
    )
    content = (
        b'{"ns":[1700000000123456800,9007199254740992],"ok":[9007199254740994,18014398509481984],'
        b'"big":{"a":-1.2345678901234568e+29},"float":9007199254740992}'
    )
    inexact = ("1700000000123456789", "9007199254740993", "-123456789012345678901234567890")
    assert (content, inexact) == (got.content, got.inexact_integers)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"b":1,"a":2}', '{"b":1,"a":2}'),
        ('{"b":1,"10":2,"9":3,"a":4,"0":5}', '{"0":5,"9":3,"10":2,"b":1,"a":4}'),
        ('{"a":[{"x":1,"1":2}]}', '{"a":[{"1":2,"x":1}]}'),
        ('{"x":1,"4294967294":2}', '{"4294967294":2,"x":1}'),
        ('{"x":1,"4294967295":2}', '{"x":1,"4294967295":2}'),
        ('{"x":1,"-1":2,"01":3,"1.5":4,"1e3":5,"+1":6,"00":7}',) * 2,
        ('{"x":1,"٣":2}', '{"x":1,"٣":2}'),
        ('{"x":1,"\\u0031" : 2}', '{"1":2,"x":1}'),
        ('{"x":1,"1" \n:2}', '{"1":2,"x":1}'),
        ('{"a":1,"b":2,"a":{"c":3}}', '{"a":{"c":3},"b":2}'),
        ('{"a":1,"1":2,"\\u0061":3,"1":4}', '{"1":4,"a":3}'),
        ('{"__proto__":1,"x":{"__proto__":{"y":2}},"constructor":3}',) * 2,
        ('{"":1}', '{"":1}'),
        ('{"a":[],"b":{},"c":[{}],"d":[[],null,true,false]}',) * 2,
        ('{"a":[],"b":{},"c":[{}],"d":[[],null,true,false],"e9":0}',) * 2,
    ],
)
def test_members_stand_as_javascript_enumerates_them(text: str, expected: str) -> None:
    """Array indices first and ascending, all else as given, the last duplicate at the first one's place."""
    assert expected == written(text)


@pytest.mark.parametrize("other", ["", ',"k1":0'])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r'"\u0041\u00e9\u00E9"', '"Aéé"'),
        (r'"\ud83d\ude00"', '"😀"'),
        (r'"\ud800"', r'"\ud800"'),
        (r'"\uDFFFx\uDBFF"', r'"\udfffx\udbff"'),
        (r'"\ude00\ud83d"', r'"\ude00\ud83d"'),
        (r'"\ud83d\\ude00"', r'"\ud83d\\ude00"'),
        (r'"\u0000\u0001\u001f\u001F"', r'"\u0000\u0001\u001f\u001f"'),
        (r'"\u0008\u0009\u000a\u000b\u000c\u000d"', r'"\b\t\n\u000b\f\r"'),
        (r'"\"\\\/"', r'"\"\\/"'),
        ('"\x7f\u2028\u2029\ufeff\ufffe<>&\'"', '"\x7f\u2028\u2029\ufeff\ufffe<>&\'"'),
        (r'"\u007f\u2028\u2029"', '"\x7f\u2028\u2029"'),
        ('"Hualien 花蓮 Álvarez"', '"Hualien 花蓮 Álvarez"'),
        ('"a\u0301"', '"a\u0301"'),
    ],
)
def test_strings_are_escaped_as_json_stringify_does(text: str, expected: str, other: str) -> None:
    """Only quotes, backslashes, controls and lone surrogates are escaped, in values and in keys."""
    assert f'{{"s":{expected}{other}}}' == written(f'{{"s":{text}{other}}}')
    assert f"{{{expected}:1{other}}}" == written(f"{{{text}:1{other}}}")


@pytest.mark.parametrize("key", ["a", "1"])
@pytest.mark.parametrize("levels", [64, 200])
def test_depth_is_no_limit(key: str, levels: int) -> None:
    """Nesting well beyond the database's 64 levels is written, by both ways."""
    deep = f'{{"{key}":[' * levels + "1.0" + "]}" * levels
    assert deep.replace("1.0", "1") == written(deep)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "1",
        '"{"',
        "null",
        ' [{"1":1}]',
        '{"a":1}{',
        '{"a":1,}',
        '{"a":NaN}',
        '{"1":NaN}',
        '{"a":Infinity}',
        '{"1":-Infinity}',
        '{"a":1e400}',
        '{"1":-1e400}',
        '{"a":' + "9" * 310 + "}",
        '{"a":' + "9" * 5_000 + "}",
        '{"a":"\x01"}',
        '{"1":"\x01"}',
        '{"a":"\ud800"}',
        '{"1":' * 100_000 + "1" + "}" * 100_000,
        '{"a":' * 100_000 + "1" + "}" * 100_000,
    ],
)
def test_what_cannot_be_written_is_a_value_error(text: str) -> None:
    """No text that the database would refuse ends in bytes, or in another kind of error."""
    with pytest.raises(ValueError, match=r"data|number|JSON|Expecting|surrogates|control"):
        canonical(text)


def test_plain_text_comes_out_the_same_either_way() -> None:
    """The careful way and the fast one agree on a text that both may write."""
    data = {"b": 10.0, "a": [1e-5, -0.0, 3, None, True, "Á\n"], "c": {"d": {}, "e": [], "f": 1e22}}
    fast = written(json.dumps(data, ensure_ascii=False))
    careful = written(json.dumps(data | {"z9": 0}, ensure_ascii=False))
    assert careful == fast[:-1] + ',"z9":0}'
