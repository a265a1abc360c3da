"""Up to where every delivery of a lane has a fact."""

from __future__ import annotations

from dispatcher.core.pending import Lane
from dispatcher.daemon.progress import Progress


def test_batch_is_open_until_its_last_delivery_has_a_fact() -> None:
    """Batches close in any order; the lowest open one counts."""
    progress = Progress()
    progress.begin(Lane.ALERT, 6)
    assert 6 == progress.low(Lane.ALERT)
    progress.opened(Lane.ALERT, 7, 2)
    progress.opened(Lane.ALERT, 8, 1)
    progress.closed(Lane.ALERT, 8)
    progress.closed(Lane.ALERT, 7)
    assert 6 == progress.low(Lane.ALERT)
    progress.closed(Lane.ALERT, 7)
    assert 8 == progress.low(Lane.ALERT)


def test_batch_of_an_event_in_chunks_is_open_until_the_last_is_written() -> None:
    """Between two chunks nothing of it is in memory; a checkpoint must not pass it all the same."""
    progress = Progress()
    progress.begin(Lane.ALERT, 6)
    progress.begun(Lane.ALERT, 7)
    progress.opened(Lane.ALERT, 7, 1)
    progress.closed(Lane.ALERT, 7)
    assert 6 == progress.low(Lane.ALERT)
    progress.opened(Lane.ALERT, 7, 1)
    progress.ended(Lane.ALERT, 7)
    assert 6 == progress.low(Lane.ALERT)
    progress.closed(Lane.ALERT, 7)
    assert 7 == progress.low(Lane.ALERT)


def test_chunks_that_an_earlier_run_began_count_for_their_batch() -> None:
    """Which is before the one that the run begins with."""
    progress = Progress()
    progress.begin(Lane.EVENT, 9)
    progress.begun(Lane.EVENT, 7)
    progress.opened(Lane.EVENT, 7, 1)
    progress.ended(Lane.EVENT, 7)
    assert 6 == progress.low(Lane.EVENT)
    progress.closed(Lane.EVENT, 7)
    assert 9 == progress.low(Lane.EVENT)
