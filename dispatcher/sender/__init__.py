"""HTTP out: one door, `send(Message) -> Outcome`."""

from __future__ import annotations

from dispatcher.sender.client import AiohttpSender
from dispatcher.sender.door import Sender

__all__ = ["AiohttpSender", "Sender"]
