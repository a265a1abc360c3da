"""How many deliveries of a webhook are worth holding in memory: about what it answers in ten seconds.

How this works. Each answer widens the webhook's window by one, for the rest of a stretch of ten seconds and
for the whole of the next one; so it follows how fast the receiver is, and doubles while a backlog is sent.
One that never answers keeps the least window: little room is spent on what waits for it, and the rest stays
free for those who can use it. What does not fit waits in the database. No clock.
"""

from __future__ import annotations

from typing import Final

from dispatcher.core.ids import WebhookId

_STRETCH_NS: Final = 10_000_000_000


class Windows:
    """The windows of all webhooks that answered lately; everybody else has the least one."""

    def __init__(self, least: int = 0) -> None:
        self.least = least
        self.ends_ns = 0  # of this stretch
        self._answers: dict[WebhookId, int] = {}  # in this stretch
        self._before: dict[WebhookId, int] = {}  # in the last one

    def answered(self, webhook_id: WebhookId) -> None:
        """Note an answer."""
        self._answers[webhook_id] = self._answers.get(webhook_id, 0) + 1

    def go_on(self, now_ns: int) -> None:
        """Begin another stretch when this one is over."""
        if now_ns >= self.ends_ns:
            over = now_ns - self.ends_ns >= _STRETCH_NS  # nothing was sent for a whole stretch
            self._before, self._answers = {} if over else self._answers, {}
            self.ends_ns = now_ns + _STRETCH_NS

    def of(self, webhook_id: WebhookId) -> int:
        """Give how many deliveries a lane may hold for a webhook."""
        return self.least + self._answers.get(webhook_id, 0) + self._before.get(webhook_id, 0)
