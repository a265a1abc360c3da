"""Snapshots and positions: what is read between two of them is exact."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.core.snapshot import BEGINNING, Position, Snapshot


def snapshot(xmin: int, xmax: int, *open_xids: int) -> Snapshot:
    """Make a snapshot."""
    return Snapshot(xmin, xmax, frozenset(open_xids))


@st.composite
def histories(draw: st.DrawFn) -> tuple[Snapshot, Snapshot, int]:
    """Give two snapshots of one server, the second not earlier, and how many transactions it has seen."""
    count = draw(st.integers(1, 30))
    first_max = draw(st.integers(1, count))
    finished_first = draw(st.sets(st.integers(1, first_max - 1))) if first_max > 1 else set()
    second_max = draw(st.integers(first_max, count))
    finished_second = finished_first | draw(st.sets(st.integers(1, max(1, second_max - 1))))
    return taken(first_max, finished_first), taken(second_max, finished_second), count


def taken(xmax: int, finished: set[int]) -> Snapshot:
    """Give the snapshot that is taken when these transactions are over and `xmax` was not yet assigned."""
    open_xids = frozenset(range(1, xmax)) - finished
    return Snapshot(min(open_xids, default=xmax), xmax, open_xids)


@given(histories())
def test_difference_of_two_snapshots(history: tuple[Snapshot, Snapshot, int]) -> None:
    """Stragglers and range together are exactly what the later one sees and the earlier one did not."""
    done, target, count = history
    expected = [xid for xid in range(count + 2) if target.sees(xid) and not done.sees(xid)]
    position = Position.after(done)
    late = position.stragglers(target)
    start, _ = position.range_start()
    in_range = [xid for xid in range(start, target.xmax) if target.sees(xid)]
    assert expected == late + in_range


@given(histories(), st.data())
def test_reading_in_pages_misses_and_repeats_nothing(
    history: tuple[Snapshot, Snapshot, int], data: st.DataObject
) -> None:
    """However the reading is cut into pages: as the outbox is read, over rows (xid, id) of one lane."""
    done, target, count = history
    rows = [(xid, xid * 10 + n) for xid in range(1, count + 2) for n in range(data.draw(st.integers(0, 2)))]
    wanted = [row for row in rows if target.sees(row[0]) and not done.sees(row[0])]
    position, read = Position.after(done), list[tuple[int, int]]()
    for _ in range(len(rows) + 2):
        limit = data.draw(st.integers(1, 3))
        start = position.straggler_start()
        xids = position.stragglers(target) if start is not None else []
        late = [row for row in rows if start and row[0] in xids and row > start][:limit]
        in_range = [row for row in rows if row > position.range_start() and target.sees(row[0])][:limit]
        if len(late) == limit:
            in_range = []
        elif len(in_range) < limit:
            read += late + in_range
            break
        read += late + in_range
        position = position.advanced(target, *read[-1])
    assert wanted == read


@given(histories())
def test_text_form_is_postgresqls(history: tuple[Snapshot, Snapshot, int]) -> None:
    """A snapshot is read back as it was written."""
    for one in history[:2]:
        assert one == Snapshot.parse(str(one))


@pytest.mark.parametrize("text", ["1:1:", "10:20:10,14,15", "5:5:", "4294967296:4294967300:4294967296"])
def test_text_form_is_kept(text: str) -> None:
    """The form of pg_snapshot, 64-bit transaction ids included."""
    assert text == str(Snapshot.parse(text))


def test_beginning_sees_nothing() -> None:
    """An installation starts with everything unread."""
    assert not any(BEGINNING.sees(xid) for xid in range(1, 100))
    assert Position.after(BEGINNING).complete
    assert Position.after(BEGINNING).stragglers(snapshot(5, 5)) == []


def test_transaction_without_an_end_is_not_seen() -> None:
    """Open ones are unseen until a later snapshot no longer lists them."""
    before = snapshot(3, 10, 3, 7)
    assert [False, True, False, True, False] == [before.sees(xid) for xid in (3, 4, 7, 9, 10)]


def test_open_transaction_delays_no_other() -> None:
    """What comes after an open transaction is in the range, and the open one comes when it ends."""
    position = Position.after(snapshot(3, 10, 3))
    assert [] == position.stragglers(snapshot(3, 12, 3))
    assert (10, -1) == position.range_start()
    assert [3] == position.stragglers(snapshot(12, 12))


def test_incomplete_position_goes_on_where_it_stopped() -> None:
    """First through the stragglers, then through the range."""
    done, target = snapshot(3, 10, 3, 5), snapshot(20, 20)
    among_late = Position.after(done).advanced(target, 3, 77)
    assert not among_late.complete
    assert ((3, 77), (10, -1)) == (among_late.straggler_start(), among_late.range_start())
    in_range = among_late.advanced(target, 12, 99)
    assert (None, (12, 99)) == (in_range.straggler_start(), in_range.range_start())
