"""docs/reference/facts.md names everything that a fact can say, and docs/reference/outbox.md every type."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dispatcher.core.delivery import STEP, Kind, State, Trigger
from dispatcher.core.outcome import ErrorClass
from dispatcher.store.ledger import FactRow
from dispatcher.store.schema import schema_text

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
FACTS = (REFERENCE / "facts.md").read_text("utf-8")
OUTBOX = (REFERENCE / "outbox.md").read_text("utf-8")


def section(heading: str) -> str:
    """Give a section of the page about facts."""
    return FACTS.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize(
    ("heading", "words"),
    [("Kinds", Kind), ("States", State), ("Triggers", Trigger), ("Error classes", ErrorClass)],
)
def test_every_word_is_explained(heading: str, words: type[Kind | State | Trigger | ErrorClass]) -> None:
    """In the section of its own, and nothing that does not exist."""
    explained = re.findall(r"^\| `(\w+)` \| .+ \|$", section(heading), re.MULTILINE)
    assert {str(word) for word in words} == set(explained) - {heading.lower().rstrip("s"), "error_class"}


def test_every_step_is_right() -> None:
    """The place of each kind of fact."""
    steps = re.findall(r"^\| `(\w+)` \| (\d) \|", section("Kinds"), re.MULTILINE)
    assert {str(kind): step for kind, step in STEP.items()} == {kind: int(step) for kind, step in steps}


def test_every_column_is_explained() -> None:
    """Those of the table, whoever writes them."""
    table = schema_text().partition("create table delivery_event (")[2].partition("primary key")[0]
    columns = set(re.findall(r"^    ([a-z_]+) +[a-z]", table, re.MULTILINE))
    assert set(FactRow.__struct_fields__) <= columns
    assert set() == {column for column in columns if f"`{column}`" not in FACTS}


def test_every_word_is_one_that_the_database_knows() -> None:
    """The checks of `delivery_event` list the same kinds, states and triggers."""
    table = schema_text().partition("create table delivery_event (")[2].partition("primary key")[0]
    for column, words in (("kind", Kind), ("state", State), ("trigger", Trigger)):
        listed = re.search(rf"check \({column} in \(([^)]+)\)\)", table)
        assert listed is not None
        assert {str(word) for word in words} == set(re.findall(r"'(\w+)'", listed[1]))


def test_every_built_in_type_and_kind_of_field_is_documented() -> None:
    """On the page for producers; so is every refusal."""
    schema = schema_text()
    types = re.findall(r"^\('([a-z_.]+)',", schema, re.MULTILINE)
    assert len(types) >= 7
    kinds = re.findall(r"when '(\w+)' then format", schema.partition("create function event_data_problem")[0])
    assert 9 == len(set(kinds))
    assert [] == [word for word in (*types, *kinds) if f"`{word}`" not in OUTBOX]
    messages = [
        "is not a registered event type; expected one of",
        "data: expected a JSON object, got",
        "data: expected at most 262144 bytes (256 KiB), got",
        "data: holds a number that JSON readers cannot hold",
        "data: nested deeper than 64 levels",
        "occurred_at: expected a time in the years 1 to 9999, got",
    ]
    for message in messages:
        assert message in OUTBOX
        assert message in schema
