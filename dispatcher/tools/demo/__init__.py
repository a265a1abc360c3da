"""`dispatcher demo`: a dispatcher, a receiver and real earthquakes on one screen; checks what it shows.

    story ──INSERT──▶ PostgreSQL ──▶ dispatcher serve ──POST──▶ local receiver ──▶ screen, tally

It uses the dispatcher as everybody does: a process, its REST API, and SQL.
"""

from __future__ import annotations

from dispatcher.tools.demo.run import demo

__all__ = ["demo"]
