"""A PostgreSQL of the dispatcher's own, for a machine that has no server: found, made, started, watched.

How this works. `find_binaries` finds PostgreSQL's programs. `EmbeddedServer` keeps one cluster in a
directory and runs it as a foreground child: loopback only, password only, never as root. `borrow` is
for short commands: it uses the daemon's server if there is one and its own for the duration if not.

    data_dir ── home ── lock ── programs ── initdb ── leftovers ── port ── postgres ── ready
                                                         └────────── supervise ──────────┘
"""

from __future__ import annotations

from dispatcher.store.embedded.binaries import Binaries, find_binaries
from dispatcher.store.embedded.borrowing import borrow
from dispatcher.store.embedded.errors import EmbeddedError, InUseError
from dispatcher.store.embedded.home import has_home
from dispatcher.store.embedded.server import EmbeddedServer

__all__ = ["Binaries", "EmbeddedError", "EmbeddedServer", "InUseError", "borrow", "find_binaries", "has_home"]
