"""HTTP out: one door, `send(Message) -> Outcome`."""

from __future__ import annotations

from dispatcher.sender.client import HttpSender
from dispatcher.sender.door import Sender

__all__ = ["HttpSender", "Sender"]
