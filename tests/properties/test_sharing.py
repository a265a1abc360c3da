"""Shares become fair whoever comes and goes, and then nothing moves."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dispatcher.core.ids import WebhookId
from dispatcher.core.sharing import MOST_SHARDS, Shard, plan

NAMES = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=6, unique=True)


def step(members: list[str], holders: dict[int, str | None]) -> int:
    """Let each daemon do what it plans, one after the other; give how many shards were moved."""
    moved = 0
    for me in members:
        mine = [shard for shard, holder in holders.items() if holder == me]
        todo = plan(me, members, holders, mine)
        for shard in todo.take:
            assert holders[shard] is None, "it is somebody else's"
            holders[shard] = me
        if todo.release is not None:
            assert todo.release in mine
            holders[todo.release] = None
        moved += len(todo.take) + (todo.release is not None)
    return moved


@given(st.integers(1, MOST_SHARDS), st.lists(NAMES, min_size=1, max_size=4))
def test_shares_become_fair_and_stay(count: int, times: list[list[str]]) -> None:
    """Whoever is there after the last change holds his share, every shard is held, and nothing moves then."""
    holders: dict[int, str | None] = dict.fromkeys(range(count))
    for members in times:
        for shard, holder in holders.items():
            if holder not in members:
                holders[shard] = None
        steps = 0
        while step(members, holders):
            steps += 1
            assert steps <= 2 * count + 2, f"it does not end: {holders}"
        shares = [sum(holder == one for holder in holders.values()) for one in members]
        least = count // len(members)
        assert {True} == {least <= share <= least + 1 for share in shares}
        assert None not in holders.values()


@given(st.integers(1, MOST_SHARDS), st.lists(NAMES, min_size=2, max_size=2))
def test_nobody_loses_more_than_he_must(count: int, times: list[list[str]]) -> None:
    """When somebody comes, a shard moves once or not at all: none goes round in circles."""
    before, newcomers = times
    holders: dict[int, str | None] = dict.fromkeys(range(count))
    while step(before, holders):
        pass
    members = sorted({*before, *newcomers})
    first = dict(holders)
    moves = 0
    while moved := step(members, holders):
        moves += moved
    changed = sum(holders[shard] != first[shard] for shard in holders)
    assert 2 * changed == moves, "each is released once and taken once"


@given(st.integers(1, MOST_SHARDS), st.integers(1, 2**63 - 1))
def test_a_webhook_is_in_one_shard(count: int, number: int) -> None:
    """Whatever its number."""
    owners = [shard for shard in range(count) if Shard(shard, count).owns(WebhookId(number))]
    assert 1 == len(owners)
