"""How much of a webhook's is worth holding in memory follows what it answers."""

from __future__ import annotations

from dispatcher.core.ids import WebhookId
from dispatcher.core.window import Windows

SECOND_NS = 1_000_000_000
ONE, OTHER = WebhookId(1), WebhookId(2)


def answer(windows: Windows, count: int, webhook_id: WebhookId = ONE) -> None:
    """Let a webhook answer so often."""
    for _ in range(count):
        windows.answered(webhook_id)


def test_answers_widen_it_for_ten_to_twenty_seconds() -> None:
    """Each by one; those who do not answer keep the least; who answered long ago is as new."""
    windows = Windows(16)
    windows.go_on(SECOND_NS)
    answer(windows, 5)
    assert (21, 16) == (windows.of(ONE), windows.of(OTHER))
    windows.go_on(10 * SECOND_NS)
    answer(windows, 3)
    assert windows.of(ONE) == 24
    windows.go_on(11 * SECOND_NS)
    answer(windows, 1)
    assert windows.of(ONE) == 25
    windows.go_on(21 * SECOND_NS)
    assert windows.of(ONE) == 17
    windows.go_on(31 * SECOND_NS)
    assert windows.of(ONE) == 16


def test_after_a_rest_it_is_the_least() -> None:
    """However the stretches fall: nothing that is older than two of them counts."""
    windows = Windows(16)
    windows.go_on(SECOND_NS)
    answer(windows, 5)
    windows.go_on(40 * SECOND_NS)
    assert windows.of(ONE) == 16
