"""Our bodies against JavaScript itself: a Node process reads and writes all that Hypothesis thinks of."""

from __future__ import annotations

import base64
import datetime as dt
import json
import math
import shutil
import struct
import subprocess
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dispatcher.core.body import _Careful, build_body, canonical, number_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hypothesis.strategies import SearchStrategy

SCRIPT = Path(__file__).with_name("node_fixed_point.mjs")
AT = dt.datetime(2018, 2, 6, 15, 50, 43, 860_000, tzinfo=dt.UTC)


class Node:
    """A running `node_fixed_point.mjs`: one question and one answer a line."""

    def __init__(self, questions: IO[bytes], answers: IO[bytes]) -> None:
        self._questions = questions
        self._answers = answers

    def ask(self, source: str, body: bytes) -> dict[str, Any]:
        """Give what JavaScript makes of the producer's text and of our body."""
        question = json.dumps({"source": source, "body": base64.b64encode(body).decode()})
        self._questions.write(question.encode() + b"\n")
        self._questions.flush()
        answer = self._answers.readline()
        if not answer:
            pytest.fail(f"Node could not read the body of {source!r}: {body!r}")
        found: dict[str, Any] = json.loads(answer)
        return found


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    """Run Node for the whole module; without it the test fails, for nothing else can judge."""
    program = shutil.which("node")
    if program is None:
        pytest.fail("these tests need Node.js 20 or newer (`node` on the PATH): it is the judge of our bytes")
    with subprocess.Popen([program, SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield Node(process.stdin, process.stdout)
        process.stdin.close()
        assert process.wait(timeout=10) == 0


# Texts are put together from fragments, because a draw is what an example costs: thousands fit into seconds.
PIECES = [
    *("a", "1", "é", "\x7f", "\u2028", "\ufeff", "花", "😀", "<", "'", "0"),
    *(r"\"", r"\\", r"\/", r"\b", r"\f", r"\n", r"\r", r"\t"),
    *(
        r"\ud83d",
        r"\ude00",
        r"\uD800",
        r"\uDFFF",
        r"\u0000",
        r"\u001F",
        r"\u007f",
        r"\u2029",
        r"\u0031",
        r"\u00C1",
    ),
]
ODD_KEYS = [
    *("10", "2", "1", "0", "-1", "01", "1.0", "4294967294", "4294967295", "4294967296", "99999999999", "k1"),
    *("__proto__", "constructor", "toJSON", "length", "a", "b", r"\u0031", r"1\u0030", r"\u0061", "", " 1"),
]
ODD_NUMBERS = [
    *("0", "-0", "-0.0", "0e0", "10.0", "1e-05", "1e-6", "1e-7", "1e+16", "1E21", "5e-324", "1e-400"),
    *("0.30000000000000004", "1.7976931348623157e308", "2.2250738585072011e-308", "123456789012345680000.0"),
]
GAPS = [("", "", ""), ("", " ", " "), ("\n\t", "", ""), (" ", "\r\n", "\t")]  # around members, colons, commas


def numbers() -> SearchStrategy[str]:
    """Numbers in every spelling that JSON allows and a double can hold."""
    near = st.sampled_from([0, 2**53, 2**63, 2**64, 10**15, 10**16, 10**21, 10**22])
    return st.one_of(
        st.sampled_from(ODD_NUMBERS),
        st.builds(lambda base, off: str(base + off), near, st.integers(-999, 999)),
        st.floats(allow_nan=False, allow_infinity=False).map(repr),
        st.floats(-180, 180).map("{:.4f}".format),
        st.builds(
            "{}.{:0>{}}{}{}".format,
            st.integers(-(10**18), 10**18),
            st.integers(0, 10**9),
            st.integers(9, 20),
            st.sampled_from(["e", "E", "e-", "E+"]),
            st.integers(0, 289),
        ),
    )


def strings() -> SearchStrategy[str]:
    """Strings as texts, quotes included: raw characters, short escapes and escapes of any code unit."""
    pieces = st.sampled_from(PIECES)
    unit = st.integers(0, 0xFFFF).map("\\u{:04x}".format)
    return st.one_of(
        st.lists(pieces, max_size=4).map("".join),
        st.builds("{}{}".format, pieces, unit),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=4).map(
            lambda text: json.dumps(text, ensure_ascii=False)[1:-1]
        ),
    ).map('"{}"'.format)


def objects(values: SearchStrategy[str]) -> SearchStrategy[str]:
    """Objects as texts, with gaps anywhere and duplicate keys now and then."""
    keys = st.sampled_from(ODD_KEYS).map('"{}"'.format) | strings() | st.integers(0, 2**33).map('"{}"'.format)

    def joined(members: list[tuple[str, str]], gaps: tuple[str, str, str]) -> str:
        around, colon, comma = gaps
        pairs = [f"{around}{key}{colon}:{around}{value}" for key, value in members]
        return "{" + f"{comma},".join(pairs) + around + "}"

    return st.builds(joined, st.lists(st.tuples(keys, values), max_size=4), st.sampled_from(GAPS))


LEAVES = st.sampled_from(["true", "false", "null", "[]", "{ }"]) | numbers() | strings()
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3).map(lambda items: f"[{' ,'.join(items)}]") | objects(inner),
    max_leaves=4,
)


@settings(max_examples=2_000, deadline=None)
@given(source=objects(VALUES), test=st.booleans())
def test_bodies_are_fixed_points(node: Node, source: str, *, test: bool) -> None:
    """JavaScript writes every body back byte for byte, and reads in it what it reads in the source."""
    body = build_body("event.detected", AT, source, test=test)
    answer = node.ask(source, body.content)
    assert base64.b64decode(answer["stringified"]) == body.content
    assert answer["data"] == answer["delivered"]
    careful = _Careful().rewrite(source)
    assert careful == (canonical(source).content, body.inexact_integers), "the fast way differs"


@settings(max_examples=500, deadline=None)
@given(bits=st.lists(st.integers(0, 2**64 - 1), min_size=16, max_size=64))
def test_doubles_are_written_as_javascript_writes_them(node: Node, bits: list[int]) -> None:
    """Any bit pattern of a finite double, in our spelling, is the spelling of `Number::toString`."""
    doubles = [struct.unpack("<d", struct.pack("<Q", pattern))[0] for pattern in bits]
    ours = [number_text(double) for double in doubles if math.isfinite(double)]
    source = '{"n":[' + ",".join(ours) + "]}"
    assert node.ask(source, build_body("x", AT, source).content)["data"] == source
