"""What `dispatcher emit` makes of its input."""

from __future__ import annotations

import datetime as dt
import io

import pytest

from dispatcher.store.producer import NewEvent
from dispatcher.tools.rows import Defaults, Read, Row, Unreadable, read_rows

NOW = dt.datetime(2024, 1, 15, 14, 32, 50, tzinfo=dt.UTC)


def read(text: str | bytes, defaults: Defaults | None = None) -> list[Read]:
    """Read rows from a file's content."""
    content = text.encode() if isinstance(text, str) else text
    return list(read_rows(io.BytesIO(content), defaults or Defaults()))


def only(rows: list[Read]) -> NewEvent:
    """Give the event of the only row."""
    (row,) = rows
    assert isinstance(row, Row), row
    return row.event


class TestRows:
    """What `dispatcher emit` makes of its input."""

    def test_an_envelope_gives_type_time_and_the_text_of_data(self) -> None:
        """Key order, spacing and the spelling of numbers stay the producer's."""
        data = '{"z": 10.0 , "a":1e400,"n":{"data":2}}'
        event = only(read(f'{{"data": {data} ,"type":"a.b","timestamp":"2024-01-15T14:32:50Z"}}'))
        assert NewEvent("a.b", data, NOW) == event

    def test_bare_data_takes_its_type_from_the_argument(self) -> None:
        """Without an envelope the whole line is `data`."""
        rows = read('{"x": 1.50}\n\n{"type":"T"}\r\n', Defaults("a.b", NOW, "net_1"))
        assert [
            Row(1, NewEvent("a.b", '{"x": 1.50}', NOW, "net_1")),
            Row(3, NewEvent("a.b", '{"type":"T"}', NOW, "net_1")),
        ] == rows

    def test_an_object_with_more_than_an_envelope_is_data(self) -> None:
        """A type of one's own may have fields called type and data."""
        text = '{"type":"x","data":{},"more":1}'
        assert text == only(read(text, Defaults("a.b"))).data

    def test_one_document_may_span_lines(self) -> None:
        """A pretty-printed object is one event, and blank lines in it count."""
        text = '\n{\n  "type": "a.b",\n\n  "data": {\n    "x": 1\n  }\n}\n'
        assert '{\n    "x": 1\n  }' == only(read(text)).data
        (problem,) = read('\n{\n  "type": "a.b",\n\n  "data": oops\n}\n')
        assert isinstance(problem, Unreadable)
        assert 5 == problem.line

    def test_the_dedup_key_comes_from_a_field(self) -> None:
        """A number serves as it is written."""
        defaults = Defaults("a.b", dedup_key_field="id")
        keys = [
            row.event.dedup_key for row in read('{"id":"k"}\n{"id":1.50}', defaults) if isinstance(row, Row)
        ]
        assert ["k", "1.50"] == keys

    @pytest.mark.parametrize(
        ("text", "defaults", "line", "words"),
        [
            ('{}\n{"a":}\n', Defaults("a.b"), 2, "expected JSON"),
            ('{}\n{"a":\n', Defaults("a.b"), 2, "expected JSON"),
            ("{}\n[1]\n", Defaults("a.b"), 2, "expected a JSON object, got [1]"),
            ('{}\n{"a":NaN}\n', Defaults("a.b"), 2, "NaN is not JSON"),
            (b"{}\n\xff\n", Defaults("a.b"), 2, "expected UTF-8"),
            ("{}\n" + "[" * 100_000, Defaults("a.b"), 2, "nested too deeply"),
            ('{"a":1}', Defaults(), 1, 'expected {"type"'),
            ('{"type":1,"data":{}}', Defaults(), 1, "type: expected a string, got 1"),
            ('{"type":"x.y","data":{}}', Defaults("a.b"), 1, 'type: expected a.b, got "x.y"'),
            ('{"type":"\\ud800","data":{}}', Defaults(), 1, "expected UTF-8"),
            ('{"type":"x.y","timestamp":"now","data":{}}', Defaults(), 1, "timestamp: expected an RFC 3339"),
            ('{"type":"x.y","timestamp":5,"data":{}}', Defaults(), 1, "timestamp: expected an RFC 3339"),
            (
                '{"id":null}',
                Defaults("a.b", dedup_key_field="id"),
                1,
                "data.id: expected a string or a number",
            ),
        ],
    )
    def test_what_is_no_event_is_named_by_its_line(
        self, text: str | bytes, defaults: Defaults, line: int, words: str
    ) -> None:
        """And does not hide the lines beside it."""
        rows = read(text, defaults)
        (problem,) = [row for row in rows if isinstance(row, Unreadable)]
        assert line == problem.line
        assert words in problem.problem
        assert line - 1 == len(rows) - 1

    def test_nothing_gives_nothing(self) -> None:
        """An empty input is no error."""
        assert [] == read(" \n\n")
